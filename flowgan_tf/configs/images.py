"""Your own photos, from 16x16 to 64x64 pixels, in colour or grey: Jet by maximum likelihood.

bin/train --dataset=images/ --config.image_size=32

This configuration is the default for images larger than 10x10: in a folder, in .npz and .npy files, and in all data
sets of TFDS but MNIST and Fashion-MNIST. Its flow is like `jet` of `configs/cifar10.py`. It flips colour photos, but
not grey images, which may be letters. If height or width is not a multiple of 4, `jet.patch_size` must be 2 or 1.
Without --config, bin/train sets the patch size. We have not trained this configuration yet.
"""

from ml_collections import config_dict

from flowgan_tf.errors import UsageError
from flowgan_tf.runs.config import default_config

VARIANTS = ('colour', 'grey')


def get_config(variant: str = 'colour') -> config_dict.ConfigDict:
  """Returns a Jet with one component.

  Args:
    variant: 'colour', which flips half of the images, or 'grey', which does not.

  Raises:
    UsageError: If there is no such variant.
  """
  if variant not in VARIANTS:
    raise UsageError(f'images.py:{variant}: no such variant; expected one of {", ".join(VARIANTS)}')
  config = default_config()
  config.dataset = 'images/'
  config.generator = 'jet'
  config.jet.alpha = 0.05
  config.jet.couplings = 16
  config.batch_size = 64
  config.steps = 2500
  config.eval_every = 500
  config.flip = variant == 'colour'
  config.ema_decay = 0.99
  config.optimizer.learning_rate = 1.5e-3
  config.optimizer.schedule = 'cosine'
  config.optimizer.warmup_steps = 100
  config.optimizer.beta_1 = 0.9
  config.optimizer.beta_2 = 0.99
  config.critic_optimizer.learning_rate = 5e-4
  config.critic_optimizer.beta_1 = 0.0
  config.dcgan_critic.channels = (64, 128)
  config.dcgan_critic.dense_units = 512
  return config

"""Your own photos, from 16x16 to 64x64 pixels, in colour or grey: Jet by maximum likelihood.

bin/train --dataset=images/ --config.image_size=32
bin/train --dataset=photos/ --steps=2000
  25 minutes on 2 CPU cores, beside other work: 3.43 bits/dim, for 5,000 photos of 32x32 pixels

A hybrid's critic has 4.4 million parameters at 32x32, nearly all in its dense layer, and a small flow has far fewer:
--config.dcgan_critic.dense_units=64 divides the critic by 6.

This configuration is the default for images larger than 10x10: in a folder, in .npz and .npy files, and in all data
sets of TFDS but MNIST and Fashion-MNIST. Its flow is like `jet` of `configs/cifar10.py`. It flips images. Without
--config, bin/train sets what else the images need: --config.flip=False for grey images and data sets of TFDS other than
CIFAR-10, which may be letters, and a smaller --config.jet.patch_size if 4 does not divide height and width.
"""

from ml_collections import config_dict

from flowgan_tf.runs.config import default_config


def get_config() -> config_dict.ConfigDict:
  """Returns a Jet with one component."""
  config = default_config()
  config.dataset = 'images/'
  config.generator = 'jet'
  config.jet.alpha = 0.05
  config.jet.couplings = 16
  config.batch_size = 64
  config.steps = 2500
  config.eval_every = 500
  config.flip = True
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

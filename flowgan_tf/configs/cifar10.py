"""CIFAR-10: Real-NVP and critic at the paper's size, for a GPU; and a small version for two CPU cores.

Expects the data prepared by TFDS, or downloads it.

bin/train --config=configs/cifar10.py --objective=mle --config.optimizer.learning_rate=1e-3     the paper: 3.54 bits/dim
"""

from ml_collections import config_dict

from flowgan_tf.errors import UsageError
from flowgan_tf.training.config import default_config

_VARIANTS = ('paper', 'dinh', 'small')


def get_config(variant: str = 'paper') -> config_dict.ConfigDict:
  """The paper's generator, critic and optimizer.

  Args:
    variant: 'paper'; 'dinh', the flow as Dinh et al. 2017 describe it, with batch norm between the couplings, more
      scales and a larger alpha; or 'small', for two CPU cores.

  Raises:
    UsageError: If there is no such variant.
  """
  if variant not in _VARIANTS:
    raise UsageError(f'cifar10.py:{variant}: no such variant; expected one of {", ".join(_VARIANTS)}')
  config = default_config()
  config.dataset = 'cifar10'
  config.batch_size = 64
  config.steps = 200_000
  config.flip = True
  config.jit = False
  config.scorer = 'inception'
  config.generator.name = 'real_nvp'
  config.generator.prior = 'normal'
  config.generator.normalization = 'batch'
  config.generator.upsampling_channels = (512, 256, 128)
  config.critic.channels = (64, 128, 256, 512)
  config.critic.dense_units = 0
  config.critic.layer_norm = True
  config.optimizer.beta_1 = 0.9
  config.optimizer.learning_rate = 1e-4
  config.optimizer.schedule = 'exponential'
  config.optimizer.decay_rate = 0.999995
  config.critic_optimizer.learning_rate = 1e-4
  if variant == 'dinh':
    config.generator.alpha = 0.05
    config.generator.scales = 3
    config.generator.batch_norm_between = True
    config.optimizer.learning_rate = 1e-3
  if variant == 'small':
    config.scorer = 'classifier'
    config.batch_size = 32
    config.steps = 3000
    config.ema_decay = 0.99
    config.generator.alpha = 0.05
    config.generator.normalization = 'layer'
    config.generator.channels = 32
    config.generator.blocks = 2
    config.optimizer.learning_rate = 2e-3
    config.optimizer.schedule = config.critic_optimizer.schedule = 'cosine'
  return config

"""CIFAR-10, Real-NVP and critic at the paper's size: a training for a GPU.

Expects the data prepared by TFDS, or downloads it.

bin/train --config=configs/cifar10.py --objective=mle --config.optimizer.learning_rate=1e-3
bin/train --config=configs/cifar10.py --objective=hybrid --lambda=1

The paper: 3.54 bits/dim by maximum likelihood, 4.21 by the hybrid objective. We have not trained it to the end.
"""

from ml_collections import config_dict

from flowgan_tf.training.config import default_config


def get_config() -> config_dict.ConfigDict:
  """The paper's flow, critic and optimizer."""
  config = default_config()
  config.dataset = 'cifar10'
  config.batch_size = 64
  config.steps = 200_000
  config.flip = True
  config.jit = False
  config.generator.name = 'real_nvp'
  config.generator.prior = 'normal'
  config.generator.normalization = 'batch'
  config.critic.channels = (64, 128, 256, 512)
  config.critic.dense_units = 0
  config.critic.layer_norm = True
  config.optimizer.beta_1 = 0.9
  config.optimizer.learning_rate = 1e-4
  config.optimizer.schedule = 'exponential'
  config.optimizer.decay_rate = 0.999995
  config.critic_optimizer.learning_rate = 1e-4
  return config

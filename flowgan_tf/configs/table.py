"""The rows of a table: an .npz file with `x_train`, floats [n, d], by maximum likelihood.

bin/train --dataset=table.npz
"""

from ml_collections import config_dict

from flowgan_tf.runs.config import default_config


def get_config() -> config_dict.ConfigDict:
  """Returns a flow of 8 affine couplings with dense networks."""
  config = default_config()
  config.dataset = 'table.npz'
  config.generator = 'vectors'
  config.batch_size = 256
  config.steps = 5000
  config.optimizer.learning_rate = 2e-3
  config.optimizer.beta_1 = 0.9
  config.optimizer.beta_2 = 0.999
  config.optimizer.schedule = 'cosine'
  config.score_samples = 0
  config.jit = True
  config.ema_decay = 0.99
  return config

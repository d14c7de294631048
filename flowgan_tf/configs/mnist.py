"""MNIST, NICE at the paper's size."""

from ml_collections import config_dict

from flowgan_tf.training.config import default_config


def get_config() -> config_dict.ConfigDict:
  """The paper's flow and critic."""
  config = default_config()
  config.dataset = 'mnist'
  config.steps = 10_000
  return config

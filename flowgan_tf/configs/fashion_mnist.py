"""Fashion-MNIST with the model of MNIST. Expects it prepared by TFDS, or downloads it.

bin/train --config=configs/fashion_mnist.py --objective=hybrid --lambda=0.1

The paper has no number for it, and neither have we yet.
"""

from ml_collections import config_dict

from flowgan_tf.configs import mnist


def get_config() -> config_dict.ConfigDict:
  """As MNIST."""
  config = mnist.get_config()
  config.dataset = 'fashion_mnist'
  return config

"""Fashion-MNIST with the MNIST model. The data are downloaded unless TFDS has prepared them.

bin/train --config=configs/fashion_mnist.py --objective=hybrid --lambda=0.1

The paper has no numbers for it, and we have not measured it yet.
"""

from ml_collections import config_dict

from flowgan_tf.configs import mnist


def get_config() -> config_dict.ConfigDict:
  """Returns the MNIST configuration, for Fashion-MNIST."""
  config = mnist.get_config()
  config.dataset = 'fashion_mnist'
  return config

"""Fashion-MNIST with the variants of MNIST. The data are downloaded unless TFDS has prepared them.

bin/train --config=configs/fashion_mnist.py --objective=mle
bin/train --config=configs/fashion_mnist.py:hybrid

Each command of configs/mnist.py works here too, with `fashion_mnist` in place of `mnist`: a variant that starts from
another run finds it in runs/fashion_mnist-NAME. Nothing was tuned on these data, and the paper has no numbers for them.
docs/results/fashion-mnist.md has ours.
"""

from ml_collections import config_dict

from flowgan_tf.configs import mnist

VARIANTS = mnist.VARIANTS


def get_config(variant: str = 'default') -> config_dict.ConfigDict:
  """Returns a variant of the MNIST configuration, for Fashion-MNIST.

  Args:
    variant: A variant of `configs/mnist.py`.

  Raises:
    UsageError: If there is no such variant.
  """
  return mnist.for_dataset('fashion_mnist', variant)

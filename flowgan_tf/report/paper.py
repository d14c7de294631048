"""The paper's Tables 1 and 2, to compare with. The published numbers of an analysis are in its own file.

Aditya Grover, Manik Dhar, Stefano Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in Generative
Models. AAAI 2018.
"""

__all__ = ['ADDRESS', 'GENERATORS', 'TABLES', 'nll_unit']

ADDRESS = 'https://arxiv.org/abs/1705.08868'

# The paper's generator for each data set. Its numbers are shown only beside runs of that generator.
GENERATORS = {'mnist': 'nice', 'cifar10': 'real_nvp'}

# Sample score and test NLL, in the unit of the table.
TABLES = {
  'mnist': {
    'number': 1,
    'unit': 'nats',
    'score': 'mode_score',
    'rows': {
      'MLE': {'score': 7.42, 'nll': -3334.56},
      'ADV': {'score': 9.24, 'nll': -1604.09},
      'Hybrid λ = 0.1': {'score': 9.37, 'nll': -3342.95},
    },
  },
  'cifar10': {
    'number': 2,
    'unit': 'bits/dim',
    'score': 'inception_score',
    'rows': {
      'MLE': {'score': 2.92, 'nll': 3.54},
      'ADV': {'score': 5.76, 'nll': 8.53},
      'Hybrid λ = 1': {'score': 3.90, 'nll': 4.21},
    },
  },
}

_IN_BITS = {'cifar10', 'svhn_cropped'}


def nll_unit(dataset: str) -> str:
  """The unit in which likelihoods on a data set are usually reported, 'nats' or 'bits/dim'."""
  return 'bits/dim' if dataset in _IN_BITS else 'nats'

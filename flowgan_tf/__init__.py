"""Flow-GAN: generators with exact likelihoods, trained by maximum likelihood, adversarially, or by both.

Aditya Grover, Manik Dhar, Stefano Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in Generative
Models. AAAI 2018.
"""

import importlib

from flowgan_tf.version import __version__

_ROOMS = (
  'bijectors',
  'data',
  'display',
  'estimators',
  'evaluation',
  'flows',
  'generators',
  'metrics',
  'networks',
  'objectives',
  'report',
  'runs',
  'saved_model',
  'study',
  'training',
)

__all__ = ['__version__', *_ROOMS]


def __getattr__(name: str):
  # Rooms are imported when they are first asked for, so that the programs can check flags and quieten TensorFlow before
  # it is loaded.
  if name in _ROOMS:
    return importlib.import_module(f'flowgan_tf.{name}')
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

"""Flow-GAN: generators with exact likelihoods, trained by maximum likelihood, adversarially, or by both.

Aditya Grover, Manik Dhar, Stefano Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in Generative
Models. AAAI 2018.
"""

import importlib

from flowgan_tf.version import __version__

__all__ = [
  '__version__',
  'bijectors',
  'cores',
  'data',
  'display',
  'errors',
  'evaluation',
  'flows',
  'keras',
  'load_pretrained',
  'metrics',
  'networks',
  'objectives',
  'replicas',
  'report',
  'runs',
  'saved_model',
  'study',
  'training',
]

TYPE_CHECKING = False  # `typing` would take as long to import as all that handles Ctrl-C in the programs.
if TYPE_CHECKING:
  from flowgan_tf import (
    bijectors,
    cores,
    data,
    display,
    errors,
    evaluation,
    flows,
    keras,
    metrics,
    networks,
    objectives,
    replicas,
    report,
    runs,
    saved_model,
    study,
    training,
  )
  from flowgan_tf.runs import load_pretrained
else:
  # Rooms are imported when they are first asked for, so that the programs can check flags and quieten TensorFlow before
  # it is loaded.
  def __getattr__(name: str):
    if name == 'load_pretrained':
      return importlib.import_module('flowgan_tf.runs').load_pretrained
    if name in __all__:
      return importlib.import_module(f'flowgan_tf.{name}')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
  return __all__

"""Flow-GAN: generators with exact likelihoods, trained by maximum likelihood, adversarially, or by both.

Aditya Grover, Manik Dhar, Stefano Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in Generative
Models. AAAI 2018.
"""

import importlib

from flowgan_tf.version import __version__

__all__ = [
  '__version__',
  'bijectors',
  'check',
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
  'soundness',
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
    soundness,
    study,
    training,
  )
  from flowgan_tf.runs import load_pretrained
  from flowgan_tf.soundness import check
else:
  # Rooms are imported when they are first asked for, so that the programs can check flags and quieten TensorFlow before
  # it is loaded.
  _FUNCTIONS = {'check': 'soundness', 'load_pretrained': 'runs'}  # with the rooms where they are

  def __getattr__(name: str):
    if name in _FUNCTIONS:
      return getattr(importlib.import_module(f'flowgan_tf.{_FUNCTIONS[name]}'), name)
    if name in __all__:
      return importlib.import_module(f'flowgan_tf.{name}')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
  return __all__

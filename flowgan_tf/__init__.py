"""Flow-GAN: generators with exact likelihoods, trained by maximum likelihood, adversarially, or by both.

Aditya Grover, Manik Dhar, Stefano Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in Generative
Models. AAAI 2018.
"""

import importlib
from typing import TYPE_CHECKING

from flowgan_tf.version import __version__

__all__ = [
  'UsageError',
  '__version__',
  'bijectors',
  'check',
  'checks',
  'data',
  'devices',
  'display',
  'evaluation',
  'export',
  'flows',
  'keras',
  'load_pretrained',
  'metrics',
  'networks',
  'objectives',
  'report',
  'runs',
  'study',
  'training',
]

if TYPE_CHECKING:
  from flowgan_tf import (
    bijectors,
    checks,
    data,
    devices,
    display,
    evaluation,
    export,
    flows,
    keras,
    metrics,
    networks,
    objectives,
    report,
    runs,
    study,
    training,
  )
  from flowgan_tf.base.errors import UsageError
  from flowgan_tf.checks import check
  from flowgan_tf.runs import load_pretrained
else:
  # Rooms are imported when they are first asked for, so that the programs can check flags and quieten TensorFlow before
  # it is loaded.
  # Names from within a room, and where they are.
  _HOMES = {'UsageError': 'base.errors', 'check': 'checks', 'load_pretrained': 'runs'}

  def __getattr__(name: str):
    if name in _HOMES:
      return getattr(importlib.import_module(f'flowgan_tf.{_HOMES[name]}'), name)
    if name in __all__:
      return importlib.import_module(f'flowgan_tf.{name}')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
  return __all__

"""The weights of a generator under plain names, for programs without TensorFlow."""

import collections
import re

import numpy as np

from flowgan_tf.base.errors import UsageError
from flowgan_tf.flows import Generator


def named_weights(generator: Generator) -> dict[str, np.ndarray]:
  """Returns all variables of a generator, by names such as `coupling_3/mixer_conditioner_0/dense_1/kernel`.

  The layers of one kind within one part are numbered from 0, in the order in which they were made. Keras counts the
  layers of a whole process, so the same network could be `mixer_conditioner_3` or `mixer_conditioner_15`.

  Raises:
    UsageError: If two variables have the same name.
  """
  paths = [variable.name.removesuffix(':0').split('/') for variable in generator.variables]
  parts = dict.fromkeys(tuple(path[:depth]) for path in paths for depth in range(1, len(path)))
  plain, made = {(): ''}, collections.Counter[str]()
  for *parents, name in sorted(parts, key=lambda part: [len(part), *map(_kind_and_number, part)]):
    kind = f'{plain[tuple(parents)]}{_kind_and_number(name)[0]}'
    plain[*parents, name] = f'{kind}_{made[kind]}/'
    made[kind] += 1
  found: dict[str, np.ndarray] = {}
  for (*parents, name), variable in zip(paths, generator.variables, strict=True):
    name = f'{plain[tuple(parents)]}{name}'
    if name in found:
      raise UsageError(f'{variable.name}: two variables of the generator have this name; give them different ones')
    found[name] = variable.numpy()
  return found


def _kind_and_number(name):
  kind, number = re.fullmatch(r'(.*?)(?:_(\d+))?', name).groups()
  return kind, int(number or 0)

"""Modules that are imported at their first use, because TensorFlow takes seconds to load."""

import importlib
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

__all__ = ['keras', 'lazy_exports', 'lazy_import', 'tf', 'tfp']


def lazy_exports(
  package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
  """Makes the functions `__getattr__` and `__dir__` of a package, from the names that it takes from each module.

  ```python
  __getattr__, __dir__ = lazy_exports(__name__, {'run': ['Run', 'load_run']})
  ```
  """
  homes = {name: module for module, names in modules.items() for name in names}

  def get(name: str) -> object:
    if name in modules:
      return importlib.import_module(f'{package}.{name}')
    if name in homes:
      return getattr(importlib.import_module(f'{package}.{homes[name]}'), name)
    raise AttributeError(f'module {package!r} has no attribute {name!r}')

  return get, lambda: sorted({*vars(sys.modules[package]), *homes})


def lazy_import(module: str) -> Any:
  """Returns a stand-in for a module, which is imported when one of its names is first used.

  ```python
  tf = lazy_import('tensorflow')
  ```
  """
  stand_in = types.ModuleType(module)
  vars(stand_in)['__getattr__'] = lambda name: getattr(importlib.import_module(module), name)
  return stand_in


# Import these stand-ins by name, as in `from flowgan_tf.base.lazy import tf`.
if TYPE_CHECKING:
  import keras
  import tensorflow as tf
  import tensorflow_probability as tfp
else:
  keras, tf, tfp = map(lazy_import, ('keras', 'tensorflow', 'tensorflow_probability'))

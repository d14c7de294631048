"""Parts from outside of the package: a registry takes `module:name` wherever it takes the name of a part of its own."""

from __future__ import annotations

import importlib
import os
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from flowgan_tf.base.errors import UsageError, check, did_you_mean

__all__ = ['Registry', 'check_found', 'folders_of', 'is_plugin', 'search_in', 'short_name']

_PLUGIN = re.compile(r'(?!huggingface:)[A-Za-z_][\w.]*:[A-Za-z_]\w*')  # TFDS has names such as huggingface:mnist.

T = TypeVar('T')


def is_plugin(name: object) -> bool:
  """Whether a name has the form `module:name`."""
  return isinstance(name, str) and bool(_PLUGIN.fullmatch(name))


def short_name(name: str) -> str:
  """Returns `name` of `module:name`, under which the settings of a part stand."""
  return name.rpartition(':')[2]


def search_in(folder: str | os.PathLike) -> None:
  """Lets plug-ins be modules of a folder, after those that Python finds already."""
  path = os.path.abspath(folder)
  if path not in sys.path:
    sys.path.append(path)


def folders_of(names: Iterable[str]) -> dict[str, str]:
  """Returns the modules of the plug-ins among names, each with the folder in which Python found it.

  It leaves out installed modules, which Python finds anyway.
  """
  installed = {os.path.realpath(sysconfig.get_path(name)) for name in ('purelib', 'platlib')}
  found = {}
  for module in sorted({name.partition(':')[0] for name in names if is_plugin(name)}):
    if package := sys.modules.get(module.partition('.')[0]):
      # A folder without __init__.py has no file.
      path = next(iter(getattr(package, '__path__', ())), None) or package.__file__
      folder = os.path.dirname(os.path.abspath(str(path)))
      if os.path.realpath(folder) not in installed:
        found[module] = folder
  return found


def check_found(expected: Mapping[str, str], found: Mapping[str, str]) -> None:
  """Checks that Python found the module in the expected folder, and not another one of the same name.

  A module whose folder is gone may have moved. Both arguments are as from `folders_of`.
  """
  for module, folder in found.items():
    wanted = expected.get(module, folder)
    top = os.path.join(wanted, module.partition('.')[0])
    if not (os.path.exists(f'{top}.py') or os.path.isdir(top)):
      continue
    if os.path.realpath(wanted) != os.path.realpath(folder):
      raise UsageError(f'the module {module} must be the one in {wanted}, but Python found it in {folder} first')


class Registry(dict[str, T]):
  """The parts of one kind by name; it imports a part named `module:name` from outside when it is asked for.

  ```python
  GENERATORS['nice'], GENERATORS['my_flow:checkered']
  ```

  `get` and iteration know the parts of the package alone.

  Raises:
    UsageError: If there is no such module or no such name in it, or it is not a part of this kind. What the module
      raises is raised.
  """

  def __init__(
    self,
    kind: str,
    expected: str,
    holds: Callable[[object], bool],
    parts: dict[str, T],
    wrong: Callable[[T], str] = lambda part: '',
  ):
    """Makes the registry.

    Args:
      kind: The setting or flag that names a part, for errors.
      expected: What a part must be, in words.
      holds: Whether an object is such a part.
      parts: The parts of the package.
      wrong: Says what is wrong with such a part from outside; '' if nothing is.
    """
    super().__init__(parts)
    self._kind, self._expected, self._holds, self._wrong = kind, expected, holds, wrong

  def __contains__(self, name: object) -> bool:
    return super().__contains__(name) or is_plugin(name)

  def __missing__(self, name: str) -> T:
    if not is_plugin(name):
      expected = f'one of {", ".join(self)}, or MODULE:NAME of {self._expected}'
      raise UsageError(f'`{self._kind}` must be {expected}. Got: {name!r}.', self._kind)
    module, _, attribute = name.partition(':')
    try:
      found = importlib.import_module(module)
    except ModuleNotFoundError as error:
      if not f'{module}.'.startswith(f'{error.name}.'):  # The module is there, and imports another one.
        raise
      said = f'needs the Python module {module}, beside the config file or on PYTHONPATH ({error})'
      raise UsageError(f'`{self._kind}` {name} {said}', self._kind) from error
    if not hasattr(found, attribute):
      hint = did_you_mean(attribute, dir(found))
      raise UsageError(f'`{self._kind}` {name}: the module {module} has no {attribute}{hint}', self._kind)
    part: Any = getattr(found, attribute)
    check(self._kind, name, f'MODULE:NAME of {self._expected}', self._holds(part))
    if said := self._wrong(part):
      raise UsageError(f'`{self._kind}` {name}: {said}', self._kind)
    if self.get(attribute):  # Their settings would have the same names.
      raise UsageError(f'`{self._kind}` must not be called {attribute}, the name of a part of flowgan_tf.', self._kind)
    return part

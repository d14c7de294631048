"""The error for mistakes that a user can correct, and the checks of arguments that raise it.

Their messages have one form: "`steps` must be an integer of at least 1. Got: 0."
"""

import contextlib
import difflib
import errno
import math
import numbers
import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

__all__ = [
  'LARGEST_IMAGE',
  'LARGEST_TEMPERATURE',
  'UsageError',
  'blaming',
  'check',
  'check_bool',
  'check_choice',
  'check_integer',
  'check_integers',
  'check_memory',
  'check_number',
  'check_range',
  'did_you_mean',
  'is_integer',
  'is_path',
  'printable',
  'renamed',
]

LARGEST_IMAGE = 4096  # pixels on a side, of images that are resized
LARGEST_TEMPERATURE = 1e6  # far above any use, and so small that no network makes infinities of the noise


class UsageError(ValueError):
  """Something is wrong with what the user supplied: an argument, a file, a data set or a setting.

  The message is one line. It names the argument in backticks, or begins with the path of the file, and says what was
  expected and what was found. Programs print it and exit with status 2. Callers of the library can catch it as a
  `ValueError`.

  Attributes:
    argument: Name of the argument or setting that is wrong; None if something else is.
  """

  # Without this, AutoGraph would turn an error raised inside a tf.function into one of another class, many lines long.
  ag_pass_through = True

  def __init__(self, message: str, argument: str | None = None):
    super().__init__(message)
    self.argument = argument


_LONGEST = 200  # characters of a value in a message
_TURNS = ('LRE', 'RLE', 'LRO', 'RLO', 'PDF', 'LRI', 'RLI', 'FSI', 'PDI')  # classes of characters in Unicode


def check(name: str, value: object, expected: str, holds: object) -> None:
  """Raises a `UsageError` that says what the argument must be and what it is, unless `holds`."""
  if not holds:
    raise UsageError(f'`{name}` must be {expected}. Got: {_shown(value)}.', name)


def check_bool(name: str, value: object) -> None:
  """Checks for True or False, of Python or NumPy."""
  check(name, value, 'True or False', isinstance(value, bool | np.bool_))


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
  """Checks for one of several names."""
  check(name, value, f'one of {", ".join(choices)}', isinstance(value, str) and value in choices)


def check_integer(name: str, value: object, at_least: int, at_most: int | None = None) -> None:
  """Checks for an integer of at least `at_least` and, unless it is None, at most `at_most`."""
  expected = f'an integer of at least {at_least}' if at_most is None else f'an integer from {at_least} to {at_most}'
  check(name, value, expected, is_integer(value) and value >= at_least and (at_most is None or value <= at_most))


def check_integers(name: str, value: Sequence[int], at_most: int | None = None) -> None:
  """Checks for a non-empty list or tuple of positive integers, up to `at_most` unless it is None."""
  expected = 'one or more integers ' + ('of at least 1' if at_most is None else f'from 1 to {at_most}')
  holds = isinstance(value, list | tuple) and len(value) > 0
  check(name, value, expected, holds and all(is_integer(v) and v >= 1 and (not at_most or v <= at_most) for v in value))


def check_memory(what: str, size: float) -> None:
  """Checks, before something of `size` bytes is made, that the memory of this machine can hold it.

  `what` is the subject of the message: the thing that takes the memory.
  """
  memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  if size > memory:
    raise UsageError(f'{what} must fit into the {memory / 1e9:,.1f} GB of memory. Got: {size / 1e9:,.1f} GB.')


def check_number(name: str, value: Any, expected: str, holds: Callable[[float], bool]) -> None:
  """Checks for a finite real number that satisfies `holds`."""
  try:
    finite = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
  except OverflowError:  # An integer that no float can hold.
    finite = False
  check(name, value, expected, finite and holds(value))


def check_range(name: str, value: Any, low: float, high: float) -> None:
  """Checks for a number from `low` to `high`."""
  check_number(name, value, f'a number from {low:g} to {high:g}', lambda v: low <= v <= high)


def is_path(value: Any) -> bool:
  """Whether a text is a path that can exist: not too long, and without null characters."""
  try:
    os.stat(os.path.expanduser(value))
  except OSError as error:
    return error.errno != errno.ENAMETOOLONG
  except (TypeError, ValueError):
    return False
  return True


def is_integer(value: object) -> TypeGuard[int]:
  """Whether `value` is an integer of Python or NumPy. A bool is not."""
  return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def did_you_mean(name: str, known: Iterable[str], prefix: str = '') -> str:
  """Returns what a user may have meant by a name that does not exist, such as '; did you mean mnist?'; or ''."""
  near = difflib.get_close_matches(name, list(known), cutoff=0.8)
  return f'; did you mean {" or ".join(prefix + other for other in near)}?' if near else ''


def printable(text: str) -> str:
  """Escapes what would break a line or act on a terminal: control characters, and bytes of a path that are not UTF-8.

  It also escapes characters that turn the direction of the text behind them, which would hide what a line says.
  """

  def escape(character: str) -> str:
    if '\udc80' <= character <= '\udcff':  # A byte of a path that is not UTF-8, as Python reads it.
      return f'\\x{ord(character) - 0xDC00:x}'
    return character.encode('unicode_escape').decode()

  def acts(character: str) -> bool:
    return unicodedata.category(character) in ('Cc', 'Cs', 'Zl', 'Zp') or unicodedata.bidirectional(character) in _TURNS

  return ''.join(escape(c) if acts(c) else c for c in text)


def renamed(error: UsageError, names: Mapping[str, str]) -> UsageError:
  """Returns an error with other names for its arguments, for instance the names of settings."""
  message = str(error)
  for name, other in names.items():
    message = message.replace(f'`{name}`', f'`{other}`')
  return UsageError(message, error.argument and names.get(error.argument, error.argument))


@contextlib.contextmanager
def blaming(argument: str) -> Iterator[None]:
  """Within this block, a `UsageError` names first the argument, such as the run that is read in the block."""
  try:
    yield
  except UsageError as error:
    raise UsageError(f'`{argument}`: {error}', argument) from error


def _shown(value):
  try:
    text = repr(value)
  except ValueError:  # Python writes no integer of more than 4,300 digits.
    return f'an integer of {value.bit_length():,} bits' if isinstance(value, int) else f'a {type(value).__name__}'
  return text if len(text) <= _LONGEST else f'{text[: _LONGEST // 2]}...{text[-_LONGEST // 2 :]}'

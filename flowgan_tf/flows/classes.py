"""The names of classes beside their labels, which are ints from 0. All that turns one into the other is here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import SupportsIndex

from flowgan_tf.base.errors import UsageError, check, did_you_mean, is_integer

_LISTED = 20  # names in a message


def as_class_names(name: str, names: Iterable[str] | None, classes: int | None) -> tuple[str, ...] | None:
  """Checks names of classes, in the order of their labels; names that only repeat the labels become None.

  `name` is the argument or the file that holds them, for errors.
  """
  if names is None:
    return None
  expected = f'{classes} different strings, a name for each class' if classes else 'None without classes'
  is_list = isinstance(names, Iterable) and not isinstance(names, str) and getattr(names, 'ndim', 1) == 1
  found = tuple(names) if is_list else ()
  check(name, names, expected, all(isinstance(n, str) for n in found) and len(found) == len({*found}) == classes)
  return None if found == tuple(map(str, range(len(found)))) else tuple(map(str, found))


def class_name(label: SupportsIndex, names: Sequence[str] | None) -> str:
  """Returns the name of a class, or its label in digits if the classes have no names."""
  return names[int(label)] if names else str(label)


def listed_names(names: Sequence[str]) -> str:
  """Returns names with commas between them, the first 20 if there are more."""
  return ', '.join(names[:_LISTED]) + ' ...' * (len(names) > _LISTED)


def as_label(label: int | str, classes: int, names: Sequence[str] | None) -> int:
  """Returns the label of a class: an int, its digits, or the name of the class.

  If one of the names is a number, as of folders called 2, 5 and 7, a text is always a name.

  Raises:
    UsageError: If there is no such class.
  """
  names = names or ()
  takes_digits, hint = not any(name.isdecimal() for name in names), ''
  if isinstance(label, str):
    if label in names:
      return names.index(label)
    hint = did_you_mean(label, names)
    label = int(label) if takes_digits and label.isdecimal() and len(label) < 10 else label
  if is_integer(label) and 0 <= label < classes:
    return int(label)
  numbers = f'an integer from 0 to {classes - 1}'
  expected = f'one of {listed_names(names)}' + f', or {numbers}' * takes_digits if names else numbers
  raise UsageError(f'`label` must be {expected}. Got: {label}{hint or "."}', 'label')

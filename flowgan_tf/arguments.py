"""Checks of arguments. Their messages have one form: "`steps` must be an integer of at least 1. Got: 0."."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Collection, Sequence

__all__ = ['check', 'check_bool', 'check_choice', 'check_integer', 'check_integers', 'check_number', 'is_integer']


def check(name: str, value: object, expected: str, holds: bool) -> None:
  """Raises a ValueError that says what the argument must be and what it is, unless `holds`."""
  if not holds:
    raise ValueError(f'`{name}` must be {expected}. Got: {value!r}.')


def check_bool(name: str, value: object) -> None:
  """Checks for True or False."""
  check(name, value, 'True or False', isinstance(value, bool))


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
  """Checks for one of several names."""
  check(name, value, f'one of {", ".join(choices)}', isinstance(value, str) and value in choices)


def check_integer(name: str, value: object, at_least: int) -> None:
  """Checks for an integer of at least `at_least`."""
  check(name, value, f'an integer of at least {at_least}', is_integer(value) and value >= at_least)


def check_integers(name: str, value: Sequence[int]) -> None:
  """Checks for a non-empty list or tuple of positive integers."""
  holds = isinstance(value, list | tuple) and len(value) > 0 and all(is_integer(v) and v >= 1 for v in value)
  check(name, value, 'one or more integers of at least 1', holds)


def check_number(name: str, value: object, expected: str, holds: Callable[[float], bool]) -> None:
  """Checks for a finite real number that satisfies `holds`."""
  is_number = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
  check(name, value, expected, is_number and holds(value))


def is_integer(value: object) -> bool:
  """Whether `value` is an integer of Python or NumPy. A bool is not."""
  return isinstance(value, numbers.Integral) and not isinstance(value, bool)

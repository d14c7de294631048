"""How a part declares its settings: name, default, range and meaning of each stand in one place, with the owner."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Self

from flowgan_tf.base.errors import check, check_choice, check_number
from flowgan_tf.base.plugins import Registry

__all__ = ['Settings', 'check_kind', 'setting', 'wrong_settings']

_SMALLEST_FLOAT, _LARGEST_FLOAT = 1.2e-38, 3.4e38  # of float32, in which trainings compute

# What a number must be, and whether it is.
Range = tuple[str, Callable[[Any], bool]]
BELOW_ONE: Range = ('a number of at least 0 and below 1', lambda v: 0 <= v < 1)
NOT_NEGATIVE: Range = ('a finite number of at least 0', lambda v: v >= 0)
POSITIVE: Range = ('a positive number', lambda v: v > 0)

# What a value must be, and whether it is, for each type of setting.
_KINDS: dict[type, Range] = {
  bool: ('True or False', lambda v: isinstance(v, bool)),
  int: ('an integer', lambda v: isinstance(v, numbers.Integral) and not isinstance(v, bool)),
  float: ('a number', lambda v: isinstance(v, numbers.Real) and not isinstance(v, bool)),
  str: ('a text', lambda v: isinstance(v, str)),
  tuple: ('a tuple', lambda v: isinstance(v, tuple | list)),
}


def setting(
  default: Any,
  description: str,
  minimum: float | None = None,
  maximum: float | None = None,
  *,
  kind: type | None = None,
  choices: Collection[str] | None = None,
  must: Range | None = None,
  short: bool = False,
  free: bool = False,
  training_only: bool = False,
) -> Any:
  """Declares a field of `Settings`.

  Args:
    default: The default. A setting with the default None may be None.
    description: What it means, for the help of the programs.
    minimum, maximum: The range of a number. None leaves an end open.
    kind: Type of the values, by default the default's.
    choices: The texts that are allowed.
    must: What else a value must be, in words, and the function that tells whether it is.
    short: Whether the programs have a flag `--NAME` for it, besides `--config.NAME`.
    free: Whether a run that is resumed may change it.
    training_only: Whether only a training uses a setting of a term, so that `flowgan_tf.objectives.make` refuses it.

  Raises:
    UsageError: If the type is unknown, or a range is given although the type is not a number. The class that has the
      field refuses a default that is not allowed.
  """
  kind = kind or type(default)
  metadata = dict(locals())
  check('kind', kind, 'bool, int, float, str or tuple; a default of None needs one', kind in _KINDS)
  is_ranged = (minimum, maximum) != (None, None)
  check('minimum', minimum, f'left out, like `maximum`, for a {kind.__name__}', not is_ranged or kind in (int, float))
  return dataclasses.field(default=default, metadata=metadata)


def check_kind(name: str, value: Any, kind: type) -> None:
  """Checks the type of a setting's value, and that float32 can hold a number; raises a `UsageError`."""
  expected, holds = _KINDS[kind]
  check(name, value, expected, holds(value))
  if kind is float:
    held = value == 0 or _SMALLEST_FLOAT <= abs(value) <= _LARGEST_FLOAT or math.isnan(value)
    check(name, value, f'0 or a finite number from {_SMALLEST_FLOAT} to {_LARGEST_FLOAT} in absolute value', held)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """The settings of one part, as a subclass whose fields are made by `setting`.

  A field `lambda_` is the setting `lambda`: the underscore only avoids a keyword of Python.

  Raises:
    UsageError: If a value has the wrong type or is out of range.
  """

  def __init_subclass__(cls):
    super().__init_subclass__()
    for name, field in vars(cls).items():
      if isinstance(field, dataclasses.Field) and 'kind' in field.metadata:
        _check(name.rstrip('_'), field.default, field)
        is_float = vars(cls).get('__annotations__', {}).get(name) in (float, 'float')
        check(name, field.default, 'a float such as 0.0', not is_float or field.metadata['kind'] is float)

  def __post_init__(self):
    for name, field in self.fields():
      _check(name, getattr(self, field.name), field)

  @classmethod
  def fields(cls) -> Iterator[tuple[str, dataclasses.Field]]:
    """Yields each setting's name and field."""
    for field in dataclasses.fields(cls):
      yield field.name.rstrip('_'), field

  @classmethod
  def of(cls, values: Mapping[str, Any]) -> Self:
    """Takes the settings of this part out of more, such as a configuration, and checks each by itself."""
    return cls(**{field.name: values[name] for name, field in cls.fields()})

  @classmethod
  def check(cls, config: Any) -> None:
    """Checks how the settings of this part suit each other and all others; raises a `UsageError`."""

  @classmethod
  def idle(cls, name: str, config: Any) -> str:
    """Says why a setting of this part has no effect, such as 'objective mle'; '' if it has one."""
    return ''


def wrong_settings(part: Any) -> str:
  """Says what is wrong with how a part from outside declares its settings; '' if nothing is."""
  kind = part.Settings
  if not (isinstance(kind, type) and issubclass(kind, Settings)):
    return 'its `Settings` must be a subclass of `Settings` of the same package as `setting`'
  if '__dataclass_fields__' not in vars(kind):
    return 'its `Settings` must be below @dataclasses.dataclass(frozen=True, kw_only=True)'
  bare = [field.name for field in dataclasses.fields(kind) if 'kind' not in field.metadata]
  return f'its setting `{bare[0]}` must be made by `setting(...)`' if bare else ''


def _check(name, value, field):
  metadata = field.metadata
  if value is None and field.default is None:
    return
  check_kind(name, value, metadata['kind'])
  if isinstance(metadata['choices'], Registry):
    metadata['choices'][value]  # It imports a plug-in, or refuses what is not a plug-in.
  elif metadata['choices'] is not None:
    check_choice(name, value, metadata['choices'])
  if metadata['must'] is not None:
    expected, holds = metadata['must']
    if isinstance(value, str | bool | tuple | list):
      check(name, value, expected, holds(value))
    else:
      check_number(name, value, expected, holds)
  if metadata['kind'] in (int, float):
    _check_range(name, value, metadata['kind'], metadata['minimum'], metadata['maximum'])


def _check_range(name, value, kind, minimum, maximum):
  of_ends = {(True, True): 'from {} to {}', (True, False): 'of at least {}', (False, True): 'of at most {1}'}
  ends = of_ends.get((minimum is not None, maximum is not None), '').format(minimum, maximum)
  least, most = (-math.inf if minimum is None else minimum), (math.inf if maximum is None else maximum)
  what = 'an integer' if kind is int else 'a finite number'
  check_number(name, value, f'{what} {ends}'.rstrip(), lambda v: least <= v <= most)

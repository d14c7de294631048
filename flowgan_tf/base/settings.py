"""How a part declares its settings: name, default, range and meaning of each stand in one place, with the owner."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import keyword
import math
import numbers
import textwrap
import types
import typing
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, Self, TypeVar

from flowgan_tf.base.errors import check, check_choice, check_number, is_integer, is_path
from flowgan_tf.base.plugins import Registry

__all__ = ['Setting', 'Settings', 'check_kind', 'setting', 'settings_of', 'with_settings', 'wrong_settings']

_SMALLEST_FLOAT, _LARGEST_FLOAT = 1.2e-38, 3.4e38  # of float32, in which trainings compute

# What a value must be, and whether it is.
Range = tuple[str, Callable[[Any], bool]]
BELOW_ONE: Range = ('a number of at least 0 and below 1', lambda v: 0 <= v < 1)
NOT_NEGATIVE: Range = ('a finite number of at least 0', lambda v: v >= 0)
POSITIVE: Range = ('a positive number', lambda v: v > 0)
PATH: Range = ('a path', is_path)

# The largest sizes of a network: far above any model, and small enough that it can be built, or rejected for memory.
MOST_UNITS = 65_536
MOST_LAYERS = 256

# What bijectors allow, and the builders that take them by name.
ALPHAS = 0, 0.499
LOG_SCALE_BOUNDS = 1e-30, 1e30
MOST_BINS = 1024
SPLINE_BINS = 2, 256
SPLINE_BOUNDS = 1e-3, 10**6


def sizes(most: int) -> Range:
  """Returns what the sizes of up to `most` layers must be."""

  def holds(value):
    return 1 <= len(value) <= most and all(is_integer(size) and 1 <= size <= MOST_UNITS for size in value)

  return f'1 to {most} integers from 1 to {MOST_UNITS}', holds


# Former dotted names of settings, and those of today: {'nice.units': 'nice.hidden_units'}. Flags, config files, the
# keywords of builders and what earlier versions wrote may use them.
RENAMED: dict[str, str] = {}


def former_names(block: str) -> dict[str, str]:
  """Returns the former names of the settings in a block, '' for the top, each with the name of today."""
  names = {tuple(old.rpartition('.')[::2]): new.rpartition('.')[2] for old, new in RENAMED.items()}
  return {old: new for (owner, old), new in names.items() if owner == block}


def with_current_names(block: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
  """Returns keywords that are settings of a block by their names of today, and warns of former names."""
  names = former_names(block)
  for name in names.keys() & arguments.keys():
    warnings.warn(f'`{name}` is called `{names[name]}` now.', DeprecationWarning, stacklevel=3)
  return {names.get(name, name): value for name, value in arguments.items()}


# What a value must be, and whether it is, for each type of setting.
_KINDS: dict[type, Range] = {
  bool: ('True or False', lambda v: isinstance(v, bool)),
  int: ('an integer', is_integer),
  float: ('a number', lambda v: isinstance(v, numbers.Real) and not isinstance(v, bool)),
  str: ('a string', lambda v: isinstance(v, str)),
  tuple: ('a tuple', lambda v: isinstance(v, tuple | list)),
}


@dataclasses.dataclass(frozen=True)
class Setting:
  """What a setting means, and which values it may have.

  `setting` makes a field of `Settings` with it. A function that builds generators or critics has it in the annotation
  of a keyword, whose default is the setting's:

  ```python
  filters: Annotated[int, fg.flows.Setting('Filters of the convolutions.', 1, 1024)] = 8
  ```
  """

  description: str  #: What it means, for the help of the programs.
  minimum: float | None = None  #: The smallest number; None leaves this end open.
  maximum: float | None = None  #: The largest number; None leaves this end open.
  _: dataclasses.KW_ONLY
  kind: type = object  #: Type of the values, by default the default's.
  choices: Collection[str] | None = None  #: The allowed strings.
  must: Range | None = None  #: What else a value must be, in words, and the function that tells whether it is.
  short: bool = False  #: Whether the programs have a flag `--NAME` for it, besides `--config.NAME`.
  free: bool = False  #: Whether a run that is resumed may change it.
  #: Whether only a training uses a setting of a term, so that `flowgan_tf.objectives.make` rejects it.
  training_only: bool = False
  default: Any = None  #: The default. A setting with the default None may be None.

  def with_default(self, default: Any) -> Setting:
    """Returns the setting with a default.

    Raises:
      UsageError: If the type is unknown, or a range is given although the type is not a number.
    """
    kind = type(default) if self.kind is object else self.kind
    check('kind', kind, 'bool, int, float, str or tuple; a default of None needs one', kind in _KINDS)
    is_ranged = (self.minimum, self.maximum) != (None, None)
    expected = f'left out, like `maximum`, for a {kind.__name__}'
    check('minimum', self.minimum, expected, not is_ranged or kind in (int, float))
    return dataclasses.replace(self, default=default, kind=kind)

  @property
  def values(self) -> str:
    """The values that it may have, in words."""
    if self.choices is not None:
      plug_in = ', or your own' if isinstance(self.choices, Registry) else ''
      return ', '.join(f'`{choice}`' for choice in self.choices) + plug_in
    if self.must is not None:
      return self.must[0]
    if (self.minimum, self.maximum) != (None, None):
      return ' to '.join('any' if end is None else f'{end:,}' for end in (self.minimum, self.maximum))
    return 'names with commas between them' if self.kind is tuple else _KINDS[self.kind][0]

  def check(self, name: str, value: Any) -> None:
    """Checks a value; raises a `UsageError` that names the setting."""
    if value is None and self.default is None:
      return
    check_kind(name, value, self.kind)
    if isinstance(self.choices, Registry):
      self.choices[value]  # It imports a plug-in, or rejects what is not a plug-in.
    elif self.choices is not None:
      check_choice(name, value, self.choices)
    if self.must is not None:
      expected, holds = self.must
      if isinstance(value, str | bool | tuple | list):
        check(name, value, expected, holds(value))
      else:
        check_number(name, value, expected, holds)
    if self.kind in (int, float):
      self._check_range(name, value)

  def _check_range(self, name, value):
    given = self.minimum is not None, self.maximum is not None
    of_ends = {(True, True): 'from {} to {}', (True, False): 'of at least {}', (False, True): 'of at most {1}'}
    ends = of_ends.get(given, '').format(self.minimum, self.maximum)
    least, most = (self.minimum if given[0] else -math.inf), (self.maximum if given[1] else math.inf)
    what = 'an integer' if self.kind is int else 'a finite number'
    check_number(name, value, f'{what} {ends}'.rstrip(), lambda v: least <= v <= most)


def setting(default: Any, description: str, *range_: float | None, **declared: Any) -> Any:
  """Declares a field of `Settings`: its default, and what `Setting` takes.

  ```python
  few: int = fg.objectives.setting(10, 'Samples.', 1, 10**6)
  ```

  Raises:
    UsageError: If the type is unknown, or a range is given although the type is not a number. The class that has the
      field rejects a default that is not allowed.
  """
  return _field(Setting(description, *range_, **declared), default)


def _field(declared, default):
  return dataclasses.field(default=default, metadata={'setting': declared.with_default(default)})


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
      if isinstance(field, dataclasses.Field) and (declared := field.metadata.get('setting')):
        taken = hasattr(Settings, name)
        check(name, field.default, 'a setting with another name than a method of `Settings`', not taken)
        declared.check(_shown(name), field.default)
        is_float = vars(cls).get('__annotations__', {}).get(name) in (float, 'float')
        check(name, field.default, 'a float such as 0.0', not is_float or declared.kind is float)

  def __post_init__(self):
    for field in dataclasses.fields(self):
      field.metadata['setting'].check(_shown(field.name), getattr(self, field.name))

  @classmethod
  def declared(cls) -> dict[str, Setting]:
    """Returns the settings by name."""
    return {_shown(field.name): field.metadata['setting'] for field in dataclasses.fields(cls)}

  @classmethod
  def of(cls, values: Mapping[str, Any]) -> Self:
    """Takes the settings of this part out of more, such as a configuration, and checks each by itself."""
    return cls(**{field.name: values[_shown(field.name)] for field in dataclasses.fields(cls)})

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
  bare = [field.name for field in dataclasses.fields(kind) if 'setting' not in field.metadata]
  return f'its setting `{bare[0]}` must be made by `setting(...)`' if bare else ''


def _shown(name):
  return name[:-1] if keyword.iskeyword(name[:-1]) else name


# What precision and data determine are arguments of a builder, but not settings.
_FROM_ELSEWHERE = ('dtype', 'name', 'classes', 'condition_shape', 'bounds')


def _keywords(build: Callable) -> dict[str, tuple[inspect.Parameter, Any]]:
  """Returns the keywords of a builder that are settings, each with what its annotation means."""
  function = inspect.unwrap(build)
  parameters = inspect.signature(function).parameters
  found = {n: p for n, p in parameters.items() if p.kind == p.KEYWORD_ONLY and n not in _FROM_ELSEWHERE}
  written = {name: p.annotation for name, p in found.items() if p.annotation is not p.empty}
  # Other annotations, such as the return type, may need TensorFlow.
  scope = getattr(function, '__globals__', None) or getattr(inspect.getmodule(function), '__dict__', {})
  hints = typing.get_type_hints(types.SimpleNamespace(__annotations__=written), scope, include_extras=True)
  return {name: (parameter, hints.get(name)) for name, parameter in found.items()}


def _declaration(hint: Any) -> Setting | None:
  return next((part for part in getattr(hint, '__metadata__', ()) if isinstance(part, Setting)), None)


@functools.cache
def settings_of(build: Callable) -> type[Settings]:
  """Returns the settings of a function that builds generators or critics, from its keywords.

  A keyword without a `Setting` in its annotation is a setting of any value of its default's type.

  Raises:
    UsageError: If a keyword has no default of a type that a setting can have, or one that its `Setting` rejects.
  """
  owner, fields = getattr(build, '__name__', 'builder'), []
  for name, (parameter, hint) in _keywords(build).items():
    shown = 'no default' if parameter.default is parameter.empty else parameter.default
    expected = 'a keyword whose default is True, False, a number, a string or a tuple'
    check(f'{owner}.{name}', shown, expected, type(parameter.default) in _KINDS)
    declared = _declaration(hint) or Setting(f'The argument `{name}` of `{owner}`.')
    kind = getattr(hint, '__origin__', hint if isinstance(hint, type) else Any)
    fields.append((name, kind, _field(declared, parameter.default)))
  made = dataclasses.make_dataclass('Settings', fields, bases=(Settings,), frozen=True, kw_only=True)
  made.__doc__ = f'The arguments of `{owner}`.'
  return made


F = TypeVar('F', bound=Callable)


def with_settings(build: F) -> F:
  """Decorates a function that builds generators or critics: checks each keyword that declares a `Setting`.

  The section `Args` of its docstring needs only the other arguments. The settings are added to it.
  """
  keywords = _keywords(build)
  declared = {n: found.with_default(p.default) for n, (p, hint) in keywords.items() if (found := _declaration(hint))}

  @functools.wraps(build)
  def checked(*args, **kwargs):
    kwargs = with_current_names(getattr(build, '__name__', ''), kwargs)
    for name in declared.keys() & kwargs.keys():
      declared[name].check(name, kwargs[name])
    return build(*args, **kwargs)

  lines = [f'{name}: {s.description} Default: {s.default!r}; allowed: {s.values}.' for name, s in declared.items()]
  filled = [textwrap.fill(line, 118, initial_indent='  ', subsequent_indent='    ') for line in lines]
  before, args, after = inspect.cleandoc(build.__doc__ or '').partition('\nArgs:\n')
  others, blank, rest = after.partition('\n\n')
  checked.__doc__ = before + args + '\n'.join([others, *(filled if args else ())]) + blank + rest
  # The help shows the types of the keywords without their declarations.
  signature = inspect.signature(build)
  types_of = {name: keywords[name][1].__origin__ for name in declared}
  shown = [p.replace(annotation=types_of.get(p.name, p.annotation)) for p in signature.parameters.values()]
  vars(checked)['__signature__'] = signature.replace(parameters=shown)
  return typing.cast(F, checked)

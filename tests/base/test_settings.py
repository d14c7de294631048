"""How a part declares its settings."""

import dataclasses
import inspect
from typing import TYPE_CHECKING, Annotated

import pytest

from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.plugins import Registry
from flowgan_tf.base.settings import POSITIVE, Setting, Settings, setting, settings_of, with_settings

if TYPE_CHECKING:
  import tensorflow as tf


@dataclasses.dataclass(frozen=True, kw_only=True)
class Toy(Settings):
  """Settings of all kinds."""

  lambda_: float = setting(0.5, 'A number.', must=POSITIVE)
  few: int = setting(3, 'An integer.', 2, 5)
  left_open: float | None = setting(None, 'A number, or nothing.', kind=float)
  colour: str = setting('red', 'A name.', choices=Registry('colour', 'a text', lambda _: True, {'red': 1, 'blue': 2}))
  even: int = setting(0, 'An even number.', must=('even', lambda v: v % 2 == 0))
  share: float = setting(0.5, 'A number.', 0, 1)
  count: int = setting(0, 'An integer.')
  low: float = setting(-1.0, 'A number.', maximum=0.0)
  names: tuple[str, ...] = setting(('a',), 'Names.', must=('not empty', lambda v: len(v) > 0))


def test_settings_are_taken_out_of_more_by_their_names():
  made = Toy.of(
    {'lambda': 2.0, 'few': 5, 'left_open': 1.5, 'colour': 'blue', 'even': 4, 'other': 'x'}
    | {'share': 1, 'count': -2, 'low': 0.0, 'names': ['b']}
  )
  assert dataclasses.astuple(made) == (2.0, 5, 1.5, 'blue', 4, 1, -2, 0.0, ['b'])
  names = ['lambda', 'few', 'left_open', 'colour', 'even', 'share', 'count', 'low', 'names']
  assert list(Toy.declared()) == names
  Toy(left_open=None)


@pytest.mark.parametrize(
  ('name', 'value', 'expected'),
  [
    ('lambda_', 0.0, '`lambda` must be a positive number'),
    ('lambda_', float('nan'), '`lambda` must be a positive number'),
    ('lambda_', True, '`lambda` must be a number'),
    ('few', 6, '`few` must be an integer from 2 to 5'),
    ('few', None, '`few` must be an integer'),
    ('left_open', 1e39, '`left_open` must be 0 or a finite number'),
    ('colour', 'green', '`colour` must be one of red, blue'),
    ('colour', 'no_such_module:green', '`colour` no_such_module:green needs the Python module no_such_module'),
    ('even', 3, '`even` must be even'),
    ('share', 1.5, '`share` must be a finite number from 0 to 1. Got: 1.5'),
    ('share', float('nan'), '`share` must be a finite number from 0 to 1'),
    ('low', 0.1, '`low` must be a finite number of at most 0.0'),
    ('left_open', float('nan'), '`left_open` must be a finite number. Got'),
    ('count', 0.5, '`count` must be an integer'),
    ('names', [], '`names` must be not empty'),
  ],
)
def test_a_wrong_value_is_named(name, value, expected):
  with pytest.raises(UsageError, match=f'^{expected}'):
    Toy(**{name: value})


@pytest.mark.parametrize(
  ('declare', 'expected'),
  [
    (lambda: setting(0, 'An integer.', 1, 3), '`few` must be an integer from 1 to 3. Got: 0'),
    (lambda: setting(-0.1, 'A number.', 0), '`few` must be a finite number of at least 0. Got: -0.1'),
    (lambda: setting('red', 'A name.', choices=('blue',)), '`few` must be one of blue'),
    (lambda: setting(None, 'A number.'), '`kind` must be bool, int, float, str or tuple; a default of None needs one'),
    (lambda: setting('red', 'A name.', 3), '`minimum` must be left out, like `maximum`, for a str. Got: 3'),
  ],
)
def test_a_wrong_declaration_is_rejected(declare, expected):
  with pytest.raises(UsageError, match=f'^{expected}'):
    dataclasses.make_dataclass('Wrong', [('few', int, declare())], bases=(Settings,), frozen=True, kw_only=True)


def test_the_default_of_a_float_is_one():
  """A flag for integers would reject 0.5."""
  with pytest.raises(UsageError, match=r'^`weight` must be a float such as 0\.0\. Got: 0\.'):

    class Wrong(Settings):
      weight: float = setting(0, 'A weight.')


Few = Annotated[int, Setting('An integer.', 2, 5)]


@with_settings
def build(
  image_shape,
  *,
  few: Few = 3,
  colour: 'Annotated[str, Setting("A name.", choices=("red", "blue"))]' = 'red',
  lambda_: Annotated[float, Setting('A number.', must=POSITIVE)] = 0.5,
  plain=(1, 2),
  condition_shape=None,
  dtype='float32',
  name='build',
) -> 'tf.Tensor':
  """Builds something.

  Args:
    image_shape: The shape.

  Returns:
    The keywords.
  """
  return few, colour, lambda_, plain


def test_keywords_are_settings_like_fields():
  kind = settings_of(build)
  found = {name: (s.kind, s.default, s.description, s.values) for name, s in kind.declared().items()}
  assert found == {
    'few': (int, 3, 'An integer.', '2 to 5'),
    'colour': (str, 'red', 'A name.', '`red`, `blue`'),
    'lambda': (float, 0.5, 'A number.', 'a positive number'),
    'plain': (tuple, (1, 2), 'The argument `plain` of `build`.', 'names with commas between them'),
  }
  taken = kind.of({'few': 5, 'colour': 'blue', 'lambda': 2.0, 'plain': (), 'other': 1})
  assert build((4, 4, 1), **vars(taken)) == (5, 'blue', 2.0, ())
  with pytest.raises(UsageError, match=r"^`colour` must be one of red, blue\. Got: 'green'\.$"):
    build((4, 4, 1), colour='green')


@pytest.mark.parametrize(
  ('name', 'value', 'said'),
  [
    ('few', 6, '`few` must be an integer from 2 to 5. Got: 6.'),
    ('few', True, '`few` must be an integer. Got: True.'),
  ],
)
def test_a_wrong_keyword_is_rejected_in_the_words_of_a_field(name, value, said):
  for reject in (build, settings_of(build), Toy):
    with pytest.raises(UsageError) as caught:
      reject(*([(4, 4, 1)] if reject is build else []), **{name: value})
    assert str(caught.value) == said


def test_the_help_of_a_builder_has_what_its_keywords_declare():
  assert inspect.getdoc(build).splitlines()[2:9] == [
    'Args:',
    '  image_shape: The shape.',
    '  few: An integer. Default: 3; allowed: 2 to 5.',
    "  colour: A name. Default: 'red'; allowed: `red`, `blue`.",
    '  lambda_: A number. Default: 0.5; allowed: a positive number.',
    '',
    'Returns:',
  ]
  assert [inspect.signature(build).parameters[name].annotation for name in ('few', 'colour')] == [int, str]


def test_wrong_keywords_are_rejected_when_they_are_settings():
  def out_of_range(*, few: Few = 7):
    pass

  def no_float(*, weight: Annotated[float, Setting('A weight.')] = 0):
    pass

  def method(*, check=True):
    pass

  for wrong, said in (
    (out_of_range, '`few` must be an integer from 2 to 5. Got: 7.'),
    (no_float, '`weight` must be a float such as 0.0. Got: 0.'),
    (method, '`check` must be a setting with another name than a method of `Settings`'),
  ):
    with pytest.raises(UsageError) as caught:
      settings_of(wrong)
    assert str(caught.value).startswith(said)

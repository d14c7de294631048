"""How a part declares its settings."""

import dataclasses

import pytest

from flowgan_tf.errors import UsageError
from flowgan_tf.plugins import Registry
from flowgan_tf.settings import POSITIVE, Settings, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Toy(Settings):
  """Settings of all kinds."""

  lambda_: float = setting(0.5, 'A number.', must=POSITIVE)
  few: int = setting(3, 'An integer.', 2, 5)
  left_open: float | None = setting(None, 'A number, or nothing.', kind=float)
  colour: str = setting('red', 'A name.', choices=Registry('colour', 'a text', lambda _: True, {'red': 1, 'blue': 2}))
  even: int = setting(0, 'An even number.', must=('even', lambda v: v % 2 == 0))


def test_settings_are_taken_out_of_more_by_their_names():
  made = Toy.of({'lambda': 2.0, 'few': 5, 'left_open': 1.5, 'colour': 'blue', 'even': 4, 'other': 'x'})
  assert dataclasses.astuple(made) == (2.0, 5, 1.5, 'blue', 4)
  assert [name for name, _ in Toy.fields()] == ['lambda', 'few', 'left_open', 'colour', 'even']
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
  ],
)
def test_a_wrong_value_is_named(name, value, expected):
  with pytest.raises(UsageError, match=f'^{expected}'):
    Toy(**{name: value})

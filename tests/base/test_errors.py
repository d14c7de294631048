"""Checks say in one line what an argument must be and what it is."""

import math

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.base.errors import (
  UsageError,
  check,
  check_bool,
  check_choice,
  check_integer,
  check_integers,
  check_memory,
  check_number,
  is_path,
  renamed,
)


def test_what_holds_is_no_error():
  for value in (2, 4, np.int64(2)):
    check_integer('n', value, 2, 4)
    check_integers('n', [value, 1], 4)
  for value in (0.5, np.float32(0.5), -1):
    check_number('x', value, 'below 1', lambda v: v < 1)
  check_choice('c', 'b', {'a': 1, 'b': 2})
  check_bool('flag', np.True_)
  check('x', 3, 'odd', True)
  check_memory('`n` images', 1e3)


@pytest.mark.parametrize(
  ('values', 'check_value', 'expected'),
  [
    ((1, 2.0, True, '2', None, math.nan), lambda v: check_integer('n', v, 2), 'an integer of at least 2'),
    ((1, 5, 10**5000), lambda v: check_integer('n', v, 2, 4), 'an integer from 2 to 4'),
    (((), 3, (1, 0), [1, True], '12'), lambda v: check_integers('n', v), 'one or more integers of at least 1'),
    (((1, 5), (2, 10**5000)), lambda v: check_integers('n', v, 4), 'one or more integers from 1 to 4'),
    ((1.5, True, '0.5', math.nan, -math.inf, 10**400), lambda v: check_number('n', v, 'low', lambda v: v < 1), 'low'),
    (('d', 1, None, ['a']), lambda v: check_choice('n', v, ('a', 'b')), 'one of a, b'),
    ((1, 'True', None), lambda v: check_bool('n', v), 'True or False'),
  ],
)
def test_what_does_not_hold_is_named(values, check_value, expected):
  for value in values:
    with pytest.raises(ValueError) as caught:
      check_value(value)
    message = str(caught.value)
    assert message.startswith(f'`n` must be {expected}. Got: ') and len(message) < 300 and '\n' not in message
    assert type(caught.value) is UsageError and caught.value.argument == 'n'


def test_a_path_can_exist_whether_or_not_it_does(tmp_path):
  assert all(map(is_path, ('', 'missing', tmp_path, '~', 'a/b', '\udcff')))
  assert not any(map(is_path, ('x' * 5000, 'a\0b', '~a\0b', None, 3)))


def test_memory_that_is_not_there():
  with pytest.raises(UsageError, match=r'^`n` images must fit into the [\d.]+ GB of memory\. Got: 1,000,000\.0 GB\.$'):
    check_memory('`n` images', 1e15)


def test_an_error_may_name_its_argument_otherwise():
  error = renamed(UsageError('`a` must be below `b`, not `a.b` or a.', 'a'), {'a': 'block.a', 'must': 'x'})
  assert (str(error), error.argument) == ('`block.a` must be below `b`, not `a.b` or a.', 'block.a')
  assert renamed(error, {'b': 'c'}).argument == 'block.a'


def test_stays_as_it_is_inside_a_graph():
  """AutoGraph turns other errors into ones of its own, over many lines."""
  with pytest.raises(UsageError) as caught:
    tf.function(lambda: check('x', 3, 'short', False))()
  assert type(caught.value) is UsageError and str(caught.value) == '`x` must be short. Got: 3.'

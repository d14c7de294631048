"""Checks say in one line what an argument must be and what it is."""

import math

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.errors import (
  UsageError,
  check,
  check_bool,
  check_choice,
  check_integer,
  check_integers,
  check_memory,
  check_number,
  check_path,
  renamed,
)


@pytest.mark.parametrize('value', [1, 2.0, True, '2', None, math.nan])
def test_integers(value):
  for holds in (2, 3, np.int64(2)):
    check_integer('n', holds, 2)
    check_integers('n', (holds, 1))
  with pytest.raises(ValueError) as caught:
    check_integer('n', value, 2)
  assert str(caught.value) == f'`n` must be an integer of at least 2. Got: {value!r}.'
  for several in ((), 3, (1, 0), [1, value] if value != 1 else '12'):
    with pytest.raises(ValueError, match=r'^`n` must be one or more integers of at least 1\. Got: '):
      check_integers('n', several)


@pytest.mark.parametrize('value', [1.5, True, '0.5', None, math.nan, math.inf])
def test_numbers_that_do_not_hold(value):
  check_number('x', 0.5, 'below 1', lambda v: v < 1)
  check_number('x', np.float32(0.5), 'below 1', lambda v: v < 1)
  with pytest.raises(ValueError, match=r'^`x` must be below 1\. Got: '):
    check_number('x', value, 'below 1', lambda v: v < 1)


def test_choices():
  for choices in ({'a': 1, 'b': 2}, ('a', 'b')):
    check_choice('c', 'b', choices)
    for value in ('d', 1, None, ['a']):
      with pytest.raises(ValueError, match=r'^`c` must be one of a, b\. Got: '):
        check_choice('c', value, choices)


def test_truth_and_anything():
  for value in (False, True, np.False_, np.True_):
    check_bool('flag', value)
  with pytest.raises(ValueError, match=r'^`flag` must be True or False\. Got: 1\.$'):
    check_bool('flag', 1)
  check('x', 3, 'odd', True)
  with pytest.raises(ValueError, match=r"^`x` must be odd\. Got: '4'\.$"):
    check('x', '4', 'odd', False)


@pytest.mark.parametrize('value', [1, 5, 10**400, 10**5000], ids=lambda value: f'{value.bit_length()} bits')
def test_integers_out_of_bounds(value):
  check_integer('n', 2, 2, 4)
  check_integers('n', (1, 4), 4)
  with pytest.raises(ValueError, match=r'^`n` must be an integer from 2 to 4\. Got: ') as caught:
    check_integer('n', value, 2, 4)
  assert len(str(caught.value)) < 300
  with pytest.raises(ValueError, match=r'^`n` must be one or more integers from 1 to 4\. Got: '):
    check_integers('n', (2, value, 7), 4)


def test_an_integer_that_no_float_holds_is_not_a_number():
  with pytest.raises(ValueError, match=r'^`x` must be positive\. Got: 1000'):
    check_number('x', 10**400, 'positive', lambda v: v > 0)


def test_paths(tmp_path):
  for path in ('', 'missing', tmp_path, str(tmp_path), '~', 'a/b', '\udcff'):
    check_path('out', path)
  for path in ('x' * 5000, f'{tmp_path}/{"x" * 300}', 'a\0b', '~a\0b', None, 3):
    with pytest.raises(ValueError, match=r'^`out` must be a path\. Got: '):
      check_path('out', path)


def test_memory():
  check_memory('`n` images', 1e3)
  with pytest.raises(UsageError, match=r'^`n` images must fit into the [\d.]+ GB of memory\. Got: 1,000,000\.0 GB\.$'):
    check_memory('`n` images', 1e15)


def test_an_error_names_its_argument_and_may_name_it_otherwise():
  with pytest.raises(ValueError) as caught:
    check('a', 3, 'below `b`, not `a.b` or a', False)
  assert caught.value.argument == 'a' and UsageError('text').argument is None
  error = renamed(caught.value, {'a': 'block.a', 'Got': 'x'})
  assert (str(error), error.argument) == ('`block.a` must be below `b`, not `a.b` or a. Got: 3.', 'block.a')
  assert renamed(error, {'b': 'c'}).argument == 'block.a'


@pytest.mark.parametrize('compiled', [False, True])
def test_stays_as_it_is_inside_a_graph(compiled):
  """AutoGraph turns other errors into ones of its own, over many lines."""

  @tf.function(jit_compile=compiled)
  def step(x):
    if x.shape[0] > 2:
      raise UsageError('`x` must be short. Got: 3.')
    return x

  with pytest.raises(UsageError) as error:
    step(tf.zeros(3))
  assert type(error.value) is UsageError and str(error.value) == '`x` must be short. Got: 3.'

import pytest
import tensorflow as tf

from flowgan_tf.errors import UsageError


def test_is_an_ordinary_value_error_to_library_callers():
  with pytest.raises(ValueError, match=r'^`steps` must be at least 1\. Got: 0\.$'):
    raise UsageError('`steps` must be at least 1. Got: 0.')


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

import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.bijectors import AdditiveCoupling, masks
from flowgan_tf.networks import KerasModule, dense_conditioner


@pytest.fixture(autouse=True)
def seeded_initial_weights():
  keras.utils.set_random_seed(0)


def untrainable():
  layer = keras.layers.Dense(3)
  layer.trainable = False
  return layer


class WithoutVariables(tf.Module):
  def __call__(self, x, training=False):
    return x


class NotCallable(tf.Module):
  def __init__(self):
    super().__init__()
    self.weight = tf.Variable(1.0)


@pytest.mark.parametrize(
  'conditioner',
  [
    lambda x, training=False: x,
    None,
    untrainable(),
    keras.layers.ReLU(),
    keras.Sequential([keras.layers.BatchNormalization(center=False, scale=False)]),
    WithoutVariables(),
    NotCallable(),
    tf.Variable(1.0),
  ],
  ids=['function', 'None', 'untrainable', 'ReLU', 'statistics only', 'empty module', 'not callable', 'variable'],
)
def test_what_could_not_be_trained_is_refused(conditioner):
  with pytest.raises(ValueError, match=r'`(conditioner|layer)`.*Got: '):
    AdditiveCoupling(conditioner, masks.even_odd(6))


@pytest.mark.parametrize('units', [1, 4])
def test_another_output_shape_is_refused(units):
  # One unit would broadcast, and pass for a coupling.
  with pytest.raises(ValueError, match=rf'`conditioner` must return shape \(3,\).*Got: \({units},\)'):
    AdditiveCoupling(keras.layers.Dense(units), masks.even_odd(6))


def layer_with_statistics():
  return keras.Sequential([keras.layers.BatchNormalization(), keras.layers.Dense(4), keras.layers.Dense(3)])


def test_each_variable_is_tracked_once_however_deep_the_module_is_held():
  layer = layer_with_statistics()
  coupling = AdditiveCoupling(layer, masks.even_odd(6))

  class Holder(tf.Module):
    def __init__(self):
      super().__init__()
      self.parts = {'a': [coupling]}

  holder = Holder()
  assert len(layer.trainable_variables) == 6 and len(layer.variables) >= 8
  assert {id(v) for v in holder.trainable_variables} == {id(v.value) for v in layer.trainable_variables}
  assert {id(v) for v in holder.variables} == {id(v.value) for v in layer.variables}
  assert len(holder.variables) == len(layer.variables)


def test_checkpoint_brings_back_statistics_too(tmp_path):
  first, second = (KerasModule(layer_with_statistics(), (3,)) for _ in range(2))
  x = tf.random.stateless_normal((8, 3), seed=(0, 0), mean=3.0)
  for _ in range(3):
    first(x, training=True)
  path = tf.train.Checkpoint(module=first).write(str(tmp_path / 'checkpoint'))
  assert np.abs(first(x) - second(x)).max() > 0.1
  status = tf.train.Checkpoint(module=second).read(path)
  status.assert_consumed()
  status.assert_existing_objects_matched()
  np.testing.assert_array_equal(first(x), second(x))
  # Each variable is stored once, under a name of ours, not one of Keras' as well.
  keys = [key for key, _ in tf.train.list_variables(path) if key.startswith('module/')]
  assert len(keys) == len(first.variables)
  assert all(key.startswith('module/_tf_variables/') for key in keys)


@pytest.mark.parametrize('batch_shape', [(), (5,), (2, 3), (1, 2, 2)])
def test_any_number_of_batch_dimensions(batch_shape):
  module = KerasModule(keras.layers.Conv2D(3, 1), (2, 2, 4))
  x = tf.random.stateless_normal((*batch_shape, 2, 2, 4), seed=(0, 0))
  kernel, bias = module.layer.kernel.numpy()[0, 0], module.layer.bias.numpy()
  assert module.output_event_shape == (2, 2, 3)
  y = module(x)
  assert y.shape == (*batch_shape, 2, 2, 3)
  np.testing.assert_allclose(y, x.numpy() @ kernel + bias, rtol=1e-5, atol=1e-6)


def test_batches_of_unknown_size():
  module = KerasModule(keras.layers.Dense(3), (4,))
  for spec in ([None, 4], [None, None, 4], [2, None, 4]):
    function = tf.function(module, input_signature=[tf.TensorSpec(spec)])
    x = tf.random.stateless_normal([5 if side is None else side for side in spec], seed=(0, 0))
    np.testing.assert_allclose(function(x), module(x), rtol=1e-6)


@pytest.mark.parametrize('policy', ['mixed_bfloat16', 'mixed_float16'])
def test_the_output_has_the_dtype_of_the_input(policy):
  network = dense_conditioner(3, 8, 1, dtype=policy)
  module = KerasModule(network, (4,))
  x = tf.ones((2, 4))
  assert network(x).dtype != 'float32'
  assert module(x).dtype == module(x[0]).dtype == tf.float32
  assert all(v.dtype == tf.float32 for v in module.variables)


def test_training_is_passed_on():
  module = KerasModule(layer_with_statistics(), (3,))
  x = tf.random.stateless_normal((8, 3), seed=(0, 0), mean=3.0)
  evaluated, trained = module(x), module(x, training=True)
  assert np.abs(evaluated - trained).max() > 0.1
  np.testing.assert_allclose(trained, module.layer(x, training=True), rtol=1e-5, atol=1e-6)


def test_a_layer_may_be_wrapped_inside_a_function():
  made = []

  @tf.function
  def f(x):
    if not made:
      made.append(KerasModule(keras.layers.Dense(2), (3,)))
    return made[0](x)

  assert f(tf.ones((1, 3))).shape == (1, 2)

import copy
import importlib.util
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import flowgan_tf as fg
from flowgan_tf.bijectors import AdditiveCoupling, masks
from flowgan_tf.networks import KerasModule, dense_conditioner
from tests.tiny import MODES


def test_another_backend_of_keras_is_rejected():
  spec = importlib.util.find_spec('flowgan_tf.networks.adapter')
  module = importlib.util.module_from_spec(spec)
  said = r"set KERAS_BACKEND to 'tensorflow'\. Got: 'jax'\."
  with mock.patch('keras.backend.backend', return_value='jax'), pytest.raises(ImportError, match=said):
    spec.loader.exec_module(module)


def test_wrong_conditioners_are_rejected():
  without_weights = keras.Sequential([keras.layers.BatchNormalization(center=False, scale=False)])
  for conditioner, message in (
    (lambda x, training=False: x, r'be a Keras layer or .* trainable variables\. Got: '),
    (without_weights, r'be a Keras layer or .* trainable variables\. Got: '),
    # One unit would broadcast, and pass for a coupling.
    (keras.layers.Dense(1), r'return shape \(batch, 3\).*Got: \(2, 1\)'),
  ):
    with pytest.raises(ValueError, match=f'`conditioner` must {message}'):
      AdditiveCoupling(conditioner, masks.even_odd(6)).forward(tf.ones((2, 6)))


def test_a_network_that_would_leave_out_the_condition_is_rejected():
  """Keras only warns of it."""
  network = keras.Sequential([keras.layers.Dense(4, 'relu'), keras.layers.Dense(3)])
  with pytest.raises(
    ValueError, match=r'^`layer` must be a network of a list of two inputs, an image and its condition\. Got'
  ):
    AdditiveCoupling(network, masks.even_odd(6), condition_shape=(2,)).forward(
      tf.ones((2, 6)), condition=tf.ones((2, 2))
    )


def layer_with_statistics():
  return keras.Sequential([keras.layers.BatchNormalization(), keras.layers.Dense(4), keras.layers.Dense(3)])


def test_a_checkpoint_holds_each_variable_once_under_a_name_of_ours(tmp_path):
  module = KerasModule(layer_with_statistics(), (3,))
  path = tf.train.Checkpoint(module=module).write(str(tmp_path / 'checkpoint'))
  keys = [key for key, _ in tf.train.list_variables(path) if key.startswith('module/')]
  names = [f'{i:03d}_{v.name}' for i, v in enumerate(module.layer.variables)]
  assert [key.split('/')[:3] for key in keys] == [['module', '_tf_variables', name] for name in names]


@pytest.mark.parametrize('batch_spec', [(), (5,), (2, 3), (None,), (2, None), ('rank',)])
def test_any_number_of_batch_dimensions(batch_spec):
  module = KerasModule(keras.layers.Conv2D(3, 1, dtype='mixed_bfloat16'), (2, 2, 4))
  batch_shape = [side if isinstance(side, int) else 5 for side in batch_spec]
  x = tf.random.stateless_normal((*batch_shape, 2, 2, 4), seed=(0, 0))
  kernel, bias = module.layer.kernel.numpy()[0, 0], module.layer.bias.numpy()
  assert module.output_event_shape == (2, 2, 3)
  spec = [None] * 4 if 'rank' in batch_spec else [*batch_spec, 2, 2, 4]
  for call in (module, tf.function(module, input_signature=[tf.TensorSpec(spec)])):
    y = call(x)
    assert y.shape == (*batch_shape, 2, 2, 3) and y.dtype == tf.float32  # as the input
    np.testing.assert_allclose(y, x.numpy() @ kernel + bias, rtol=0.05, atol=0.05)


def test_freezing_after_building_is_seen_wherever_the_module_is_held():
  layer = layer_with_statistics()
  coupling = AdditiveCoupling(layer, masks.even_odd(6))
  held = tfp.bijectors.Chain([tfp.bijectors.Invert(coupling), tfp.bijectors.Shift(1.0)])
  names = {id(v.value): v.name for v in layer.variables}
  assert sorted(map(id, held.variables)) == sorted(names)

  def trainable():
    return sorted(names[id(v)] for v in held.trainable_variables)

  def watched():
    with tf.GradientTape() as tape:
      held.forward(tf.ones((1, 6)))
    return len(tape.watched_variables())

  assert trainable() == ['beta', 'bias', 'bias', 'gamma', 'kernel', 'kernel']
  layer.layers[1].trainable = False
  assert trainable() == ['beta', 'bias', 'gamma', 'kernel']
  coupling.conditioner.trainable = False
  assert not layer.trainable and trainable() == [] and watched() == 0
  layer.layers[1].trainable = True  # Keras: whatever is inside of a frozen layer is frozen.
  assert trainable() == []
  layer.trainable = True
  assert watched() == 6 and coupling.conditioner.trainable is True  # Before `trainable_variables` is read.
  layer.layers[0].gamma.trainable = False
  assert trainable() == ['beta', 'bias', 'bias', 'kernel', 'kernel']


def test_constraints_of_a_layer_apply_in_optimizers():
  module = KerasModule(keras.layers.Dense(3, kernel_constraint=keras.constraints.NonNeg()), (3,))
  for each in (module, copy.deepcopy(module)):
    kernel, bias = each.trainable_variables
    keras.optimizers.SGD(1.0).apply([3 * tf.eye(3), tf.ones(3)], [kernel, bias])
    assert np.min(kernel) == 0 < np.max(kernel)
    np.testing.assert_array_equal(bias, -np.ones(3))
  with tf.distribute.MirroredStrategy(['CPU:0']).scope():
    mirrored = KerasModule(keras.layers.Dense(3, kernel_constraint=keras.constraints.NonNeg()), (3,))
  assert mirrored.trainable_variables[0].constraint is mirrored.layer.kernel.constraint is not None


def test_constraints_that_are_set_later_apply_in_modules_and_their_copies():
  module = KerasModule(keras.layers.Dense(3), (3,))
  module.layer.kernel.constraint = keras.constraints.NonNeg()
  for each in (module, copy.deepcopy(module)):
    kernel, bias = each.trainable_variables
    keras.optimizers.SGD(1.0).apply([3 * tf.eye(3), tf.ones(3)], [kernel, bias])
    assert np.min(kernel) == 0 < np.max(kernel)


def test_copied_couplings_share_a_network_as_the_originals_do():
  layer = keras.layers.Dense(3)
  frozen = keras.layers.Dense(3)
  pair = [AdditiveCoupling(net, masks.even_odd(6)) for net in (layer, layer, frozen, frozen)]
  frozen.trainable = layer.bias.trainable = False
  first, second, third, fourth = copy.deepcopy(pair)
  assert first.conditioner.layer is second.conditioner.layer is not layer
  assert third.conditioner.layer is fourth.conditioner.layer is not first.conditioner.layer
  first.variables[0].assign_add(tf.ones((3, 3)))
  x = tf.ones((1, 6))
  np.testing.assert_array_equal(first.forward(x), second.forward(x))
  assert np.abs(first.forward(x) - pair[0].forward(x)).max() > 0.1
  assert third.trainable_variables == () and len(first.trainable_variables) == 1


def test_networks_with_a_part_in_common_are_not_copied():
  shared = keras.layers.Dense(3)
  networks = [keras.Sequential([shared, keras.layers.Dense(3)]) for _ in range(2)]
  with pytest.raises(TypeError, match='cannot be copied: it shares a layer with another network'):
    copy.deepcopy([AdditiveCoupling(network, masks.even_odd(6)) for network in networks])


class Owner(keras.Model):
  """A Keras model that holds a bijector in a list, where no attribute gives it away, and uses it."""

  def __init__(self, held):
    super().__init__()
    self.held = held

  def call(self, x):
    return self.held[0].forward(x)


def test_a_keras_layer_neither_holds_nor_calls_what_it_would_not_train():
  module = KerasModule(keras.layers.Dense(3), (3,))
  coupling = AdditiveCoupling(module, masks.even_odd(6))
  message = r'is a Keras layer and does not see the variables.*FlowModel\(flow\)'
  flow = fg.flows.nice((2, 2, 1), hidden_units=4, hidden_layers=1)
  for part in (module, fg.bijectors.DiagonalScaling((4,)), flow, fg.flows.dcgan((4, 4, 1), channels=(2,))):
    with pytest.raises(ValueError, match=message):
      keras.layers.Layer().part = part
  for owner in (Owner([coupling]), keras.layers.Lambda(coupling.forward)):
    with pytest.raises(ValueError, match=message):
      owner(tf.ones((2, 6)))
  coupling.forward(tf.ones((2, 6)))  # Nothing is left behind.
  seeing = Owner([coupling])
  seeing.layer = module.layer
  seeing.part = coupling  # Which is no error for a layer that sees the variables.
  assert seeing(tf.ones((2, 6))).shape == (2, 6) and len(seeing.trainable_variables) == 2


@pytest.mark.parametrize(
  ('mode', 'policy', 'training'),
  [
    ('eager', 'mixed_bfloat16', True),
    ('graph', 'float32', False),
    ('graph', 'float32', True),
    ('XLA', 'float32', True),
  ],
)
def test_recomputed_networks_have_the_same_gradients_and_side_effects(mode, policy, training):
  def passes(recompute):
    keras.utils.set_random_seed(0)
    layers = [
      keras.layers.Dense(8, 'tanh', dtype=policy),
      keras.layers.BatchNormalization(momentum=0.5, dtype=policy),
      keras.layers.Dropout(0.5, seed=3, dtype=policy),
      keras.layers.Dense(3, dtype=policy),
    ]
    layers[0].trainable = not training
    network = KerasModule(keras.Sequential(layers), (3,))
    network.recompute = recompute
    x = tf.constant(np.random.default_rng(0).normal(size=(4, 5, 3)), tf.float32)

    def gradients():
      with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([x, *network.trainable_variables])
        loss = tf.reduce_sum(tf.square(network(x, training=training)))
      return loss, tape.gradient(loss, [x, *network.trainable_variables])

    run = MODES[mode](gradients)
    results = [run() for _ in range(2)]  # The second pass has other random numbers.
    return tf.nest.map_structure(lambda t: t.numpy(), results), [v.numpy() for v in network.variables]

  (kept, kept_variables), (again, again_variables) = passes(False), passes(True)
  assert (kept[0][0] != kept[1][0]) == training
  assert len(kept[0][1]) == (5 if training else 7)
  tolerance = {'rtol': 1e-5, 'atol': 1e-6} if policy == 'float32' else {'rtol': 0.03, 'atol': 0.03}
  for a, b in zip(tf.nest.flatten(kept), tf.nest.flatten(again), strict=True):
    np.testing.assert_allclose(b, a, **tolerance)
  for a, b in zip(kept_variables, again_variables, strict=True):
    np.testing.assert_allclose(b, a, rtol=1e-6)


def test_recomputing_runs_a_network_once_more_for_the_gradient():
  network = KerasModule(keras.layers.Dense(2), (2,))
  network.recompute = True
  with mock.patch.object(keras.layers.Dense, 'call', autospec=True, side_effect=keras.layers.Dense.call) as call:
    with tf.GradientTape() as tape:
      y = network(tf.ones((1, 2)))
    assert call.call_count == 1
    tape.gradient(y, network.trainable_variables)
    assert call.call_count == 2
  assert copy.deepcopy(network).recompute


def test_recomputed_networks_have_the_same_gradients_by_the_condition():
  network = KerasModule(dense_conditioner(2, 4, 1, conditional=True), (3,), condition_shape=(2,))
  rng = np.random.default_rng(0)
  for variable in network.trainable_variables:
    variable.assign(variable + rng.normal(0.0, 0.3, variable.shape))
  x, c = (tf.constant(rng.normal(size=(5, size)), tf.float32) for size in (3, 2))
  gradients = []
  for network.recompute in (False, True):
    with tf.GradientTape() as tape:
      tape.watch([x, c])
      loss = tf.reduce_sum(tf.square(network(x, c)))
    gradients.append(tape.gradient(loss, [x, c, *network.trainable_variables]))
  for kept, again in zip(*gradients, strict=True):
    assert np.any(kept)
    np.testing.assert_allclose(again, kept, rtol=1e-5, atol=1e-6)

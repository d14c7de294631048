"""A flow as a Keras model."""

import functools
import gc
import re
import types
import weakref

import keras
import numpy as np
import pytest
import scipy.stats
import sklearn.svm
import tensorflow as tf
import tensorflow_probability as tfp

import flowgan_tf as fg
from flowgan_tf.devices.replicas import SINGLE, make_replicas
from flowgan_tf.flows import builder
from tests import processes
from tests.processes import status_of

SHAPE = (2, 2, 1)


def make_flow(**arguments):
  tiny = {'couplings': 2, 'hidden_units': 4, 'hidden_layers': 1, 'normalization': 'batch', 'alpha': 0.05}
  return fg.flows.nice(SHAPE, **(tiny | {'prior': 'normal'} | arguments))


def make_images(*shape):
  return np.random.default_rng(0).uniform(0.2, 0.6, shape or (40, *SHAPE)).astype(np.float32)


def numbers(variables):
  return [variable.numpy() for variable in variables]


def assert_equal_lists(first, second):
  for a, b in zip(first, second, strict=True):
    np.testing.assert_array_equal(a, b)


def dataset(data, batch_size=20):
  return tf.data.Dataset.from_tensor_slices(data).batch(batch_size)


def saved_and_loaded(model, tmp_path, **arguments):
  model.save(tmp_path / 'flow.keras')
  return keras.saving.load_model(tmp_path / 'flow.keras', **arguments)


def moved(flow):
  for variable in flow.variables:
    variable.assign_add(tf.random.stateless_uniform(variable.shape, (0, 0)))
  return flow


def fit_on(replicas):
  """Returns the loss that Keras reports, and the weights after one step."""
  keras.utils.set_random_seed(0)
  with replicas.scope():
    model = fg.keras.FlowModel(make_flow(normalization='none'))
    model.compile(keras.optimizers.SGD(1e-2), jit_compile=False)
  model.fit(make_images(), batch_size=40, shuffle=False, verbose=0)
  loss = model.evaluate(make_images(), batch_size=40, verbose=0)
  np.testing.assert_allclose(loss, -model.flow.log_prob(make_images()).numpy().mean(), rtol=1e-5)
  return numbers(model.trainable_variables)


def fit_on_two_devices():
  replicas = make_replicas('mirrored:2')  # before TensorFlow makes its devices
  for one, two in zip(fit_on(SINGLE), fit_on(replicas), strict=True):
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_two_devices_train_as_one():
  assert status_of(processes._started(fit_on_two_devices, ())) == 0


def test_fit_warns_of_images_that_are_not_dequantised():
  model = fg.keras.FlowModel(make_flow())
  model.compile(run_eagerly=True)
  with pytest.warns(UserWarning, match=r'`fg\.data\.dequantize\(') as caught:
    model.fit(np.round(make_images() * 255) / 255, verbose=0)
  assert [warning.filename for warning in caught] == [__file__]


@pytest.fixture(scope='module')
def trained():
  keras.utils.set_random_seed(0)
  model = fg.keras.FlowModel(make_flow())
  before = numbers(model.flow.variables)
  model.compile(optimizer=keras.optimizers.Adam(0.05), run_eagerly=True)
  losses = model.fit(make_images(), batch_size=20, epochs=4, shuffle=False, verbose=0).history['loss']
  assert losses[-1] < losses[0] - 0.5
  for old, new in zip(before, model.flow.variables, strict=True):
    assert np.abs(new - old).max() > 1e-3, new.name  # `training=True` has reached the batch norms.
  return model


def test_a_step_is_that_of_gradient_descent_on_the_mean():
  first, images = make_flow(dtype='float64'), make_images(8, *SHAPE)
  second = first.with_dtype('float64')
  model = fg.keras.FlowModel(first)
  model.compile(optimizer=keras.optimizers.SGD(0.1))
  assert model.predict(images, verbose=0).dtype == 'float64'
  model.fit(images, batch_size=8, verbose=0)
  with tf.GradientTape() as tape:
    loss = -tf.reduce_sum(second.log_prob(images, training=True)) / 8
  gradients = tape.gradient(loss, second.trainable_variables)
  for variable, gradient in zip(second.trainable_variables, gradients, strict=True):
    variable.assign_sub(0.1 * gradient)
  for a, b in zip(first.variables, second.variables, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_evaluate_is_the_negative_log_likelihood_with_running_statistics(trained):
  model, images = trained, make_images()
  log_probs = model.flow.log_prob(images).numpy()
  assert abs(np.mean(log_probs) - np.mean(model.flow.with_dtype('float32').log_prob(images, training=True))) > 0.01
  statistics = numbers(model.flow.non_trainable_variables)
  np.testing.assert_allclose(model.evaluate(images, batch_size=16, verbose=0), -log_probs.mean(), rtol=1e-5)
  labelled = dataset((images, np.arange(40)), 40)
  np.testing.assert_allclose(model.evaluate(labelled, verbose=0), -log_probs.mean(), rtol=1e-5)
  np.testing.assert_allclose(model.predict(labelled, verbose=0), log_probs, rtol=1e-4, atol=1e-5)
  shapeless = tf.data.Dataset.from_generator(lambda: [images], output_signature=tf.TensorSpec(None))
  np.testing.assert_allclose(model.evaluate(shapeless, verbose=0), -log_probs.mean(), rtol=1e-5)
  assert_equal_lists(statistics, numbers(model.flow.non_trainable_variables))
  np.testing.assert_array_equal(model.sample(3, seed=(0, 1)), model.flow.sample(3, seed=(0, 1)))


def test_accuracy_is_of_the_running_statistics():
  flow, images, labels = moved(make_flow(classes=3)), make_images(), np.arange(40) % 3
  model = fg.keras.FlowModel(flow)
  model.compile(metrics=['accuracy'], run_eagerly=True)
  before = numbers(flow.non_trainable_variables)
  _, accuracy = model.evaluate(images, labels, batch_size=20, verbose=0)
  guesses = model.predict(images, verbose=0).argmax(axis=1)
  assert accuracy == pytest.approx(np.mean(guesses == labels))
  assert_equal_lists(before, numbers(flow.non_trainable_variables))
  in_training = flow.class_log_probs(images, training=True).numpy().argmax(axis=1)
  assert np.mean(in_training == labels) != pytest.approx(accuracy)


@pytest.mark.slow
def test_weights_of_images(trained):
  """With and without labels, and with an axis of their own, which must not be broadcast."""
  model, images = trained, make_images(20, *SHAPE)
  weights = np.arange(20, dtype=np.float32) % 3
  expected = -np.mean(weights * model.flow.log_prob(images))
  for labels, given in ((None, weights), (np.zeros(20), weights), (np.zeros(20), weights[:, np.newaxis])):
    loss = model.evaluate(images, labels, batch_size=20, sample_weight=given, verbose=0)
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-5)
  other, none = fg.keras.FlowModel(make_flow()), 0 * weights
  other.compile('sgd')
  history = other.fit(images, sample_weight=none, validation_data=(images, None, none), verbose=0).history
  assert (history['loss'], history['val_loss']) == ([0.0], [0.0])
  with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
    model.evaluate(dataset((images, np.zeros(20), np.ones((20, 4), np.float32)), 4), verbose=0)


@pytest.mark.slow
def test_a_flow_is_let_go_after_fit_and_export(tmp_path):
  def used():
    model = fg.keras.FlowModel(make_flow())
    model.compile()
    model.fit(make_images(), epochs=1, verbose=0)
    fg.export.write_saved_model(model.flow, tmp_path)
    return weakref.ref(model.flow.trainable_variables[0])

  variable = used()
  keras.backend.clear_session()
  gc.collect()
  assert variable() is None


def test_a_keras_file_holds_model_and_optimizer(trained, tmp_path):
  model, loaded = trained, saved_and_loaded(trained, tmp_path)
  assert loaded.name == loaded.flow.name == 'nice'
  assert not {id(v) for v in loaded.flow.variables} & {id(v) for v in model.flow.variables}
  assert_equal_lists(numbers(loaded.flow.variables), numbers(model.flow.variables))
  assert_equal_lists(numbers(loaded.optimizer.variables), numbers(model.optimizer.variables))
  np.testing.assert_array_equal(loaded.flow.log_prob(make_images()), model.flow.log_prob(make_images()))
  # It can be saved again.
  assert loaded.get_config() == model.get_config()


def test_a_keras_file_holds_a_flow_of_nested_layers(tmp_path):
  tiny = {'couplings': 2, 'patch_size': 2, 'width': 4, 'hidden_units': 3}
  flow = moved(fg.flows.jet((4, 2, 3), conditioner='transformer', **tiny))
  loaded, images = saved_and_loaded(fg.keras.FlowModel(flow), tmp_path), np.full((2, 4, 2, 3), 0.3, np.float32)
  np.testing.assert_array_equal(loaded.flow.log_prob(images), flow.log_prob(images))


def by_hand(conditioner=None, name='by_hand'):
  mask = fg.bijectors.masks.even_odd(4)
  couplings = [
    fg.bijectors.AffineCoupling(conditioner or keras.layers.Dense(4), mask, name='first'),
    fg.bijectors.AffineCoupling(keras.layers.Dense(4), ~mask, name='second'),
  ]
  prior = tfp.distributions.Sample(tfp.distributions.Normal(0.0, 1.0), 4)
  return fg.flows.Flow(prior, tfp.bijectors.Chain([tfp.bijectors.Sigmoid(), *couplings]), name=name)


def test_weights_and_checkpoints_of_a_flow_put_together_by_hand(tmp_path):
  first, second, third = moved(by_hand()), fg.keras.FlowModel(by_hand()), by_hand()
  # What is frozen has no influence on where a weight is kept.
  first.bijector.bijectors[1].conditioner.layer.trainable = False
  model = fg.keras.FlowModel(first)
  model.save_weights(tmp_path / 'by_hand.weights.h5')
  second.load_weights(tmp_path / 'by_hand.weights.h5')
  assert_equal_lists(numbers(first.variables), numbers(second.flow.variables))
  with pytest.raises(ValueError, match=r'`flow`.*`save_weights`'):
    model.save(tmp_path / 'by_hand.keras')
  with pytest.raises(ValueError, match=r'\b25\b.*\b8\b'):
    fg.keras.FlowModel(make_flow()).load_weights(tmp_path / 'by_hand.weights.h5')
  wider = by_hand(keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(4)]))
  narrower = fg.keras.FlowModel(by_hand(keras.Sequential([keras.layers.Dense(2), keras.layers.Dense(4)])))
  fg.keras.FlowModel(wider).save_weights(tmp_path / 'wider.weights.h5')
  before = numbers(narrower.flow.variables)
  with pytest.raises(ValueError, match='shapes'):
    narrower.load_weights(tmp_path / 'wider.weights.h5')
  assert_equal_lists(numbers(narrower.flow.variables), before)
  # A checkpoint of the model is one of its flow.
  path = tf.train.Checkpoint(model=model).write(str(tmp_path / 'checkpoint'))
  tf.train.Checkpoint(model=tf.train.Checkpoint(flow=third)).read(path).assert_existing_objects_matched()
  assert_equal_lists(numbers(first.variables), numbers(third.variables))


@builder
def own_builder(image_shape, *, dtype=tf.float32, name='own'):
  flow = by_hand()
  to_image = tfp.bijectors.Chain([tfp.bijectors.Reshape(image_shape, (4,)), flow.bijector])
  return fg.flows.Flow(flow.distribution, to_image, name)


@keras.saving.register_keras_serializable('tests', 'registered')
@builder
def registered_builder(image_shape, *, scale=tf.exp, dtype='float32', name='own'):
  return own_builder(image_shape, name=name)


def test_builders_of_ones_own(tmp_path):
  model = fg.keras.FlowModel(registered_builder(SHAPE, name='mine'), name='outer')
  loaded = saved_and_loaded(model, tmp_path)
  assert (loaded.name, loaded.flow.name) == ('outer', 'mine')
  assert_equal_lists(numbers(loaded.flow.variables), numbers(model.flow.variables))
  model = fg.keras.FlowModel(own_builder(SHAPE))
  with pytest.raises(ValueError, match=r'`builder`.*`custom_objects`.*own_builder'):
    saved_and_loaded(model, tmp_path)

  def nice(image_shape, *, dtype='float32', name='nice'):
    return own_builder(image_shape, name=name)

  with pytest.raises(ValueError, match="Got: 'nice'"):
    saved_and_loaded(fg.keras.FlowModel(builder(nice)(SHAPE)), tmp_path)
  loaded = saved_and_loaded(model, tmp_path, custom_objects={'own_builder': own_builder})
  assert_equal_lists(numbers(loaded.flow.variables), numbers(model.flow.variables))


def test_the_components_of_a_prior_are_trained_and_saved(tmp_path):
  flow, images = make_flow(components=3, normalization='layer'), make_images(8, *SHAPE)
  prior, model = flow.distribution, fg.keras.FlowModel(flow)
  model.compile('adam', run_eagerly=True)
  with pytest.warns(UserWarning, match='`flowgan_tf.flows.initialize_prior'):
    model.fit(images, batch_size=8, verbose=0)
  fg.flows.initialize_prior(flow, make_images())
  means, prototypes = prior.means.numpy(), prior.prototypes.numpy()
  model.fit(images, batch_size=8, verbose=0)  # Another warning would be an error.
  assert not np.array_equal(prior.means, means)
  np.testing.assert_array_equal(prior.prototypes, prototypes)
  loaded = saved_and_loaded(model, tmp_path).flow
  assert [v.trainable for v in loaded.variables] == [v.trainable for v in flow.variables]
  assert_equal_lists(numbers(loaded.distribution.variables), numbers(prior.variables))


def test_what_is_frozen_stays_so_in_training_and_in_a_file(tmp_path):
  """Also what belongs to bijectors and not to networks: the log-scales of NICE's last layer."""
  model = fg.keras.FlowModel(make_flow())
  other = fg.keras.FlowModel(model.flow)
  for name in ('trainable_variables', 'non_trainable_variables'):
    assert sorted(id(v.value) for v in getattr(model, name)) == sorted(map(id, getattr(model.flow, name)))
  model.trainable = False
  assert model.flow.trainable_variables == () and model.trainable_variables == []
  images = make_images(8, *SHAPE)
  np.testing.assert_array_equal(model(images, training=True), model.flow.log_prob(images))  # Its batch norms, too.
  assert not any(v.trainable for v in other.variables)
  assert saved_and_loaded(model, tmp_path).trainable_variables == []
  model.trainable = True
  assert len(model.flow.trainable_variables) == len(other.trainable_variables) == 17
  coupling = next(m for m in model.flow.submodules if isinstance(m, fg.bijectors.AdditiveCoupling))
  coupling.conditioner.trainable = False
  left = len(model.trainable_variables)
  assert left == len(saved_and_loaded(model, tmp_path).trainable_variables) < 17
  model.trainable = False
  model.trainable = True  # This frees a network that was frozen by itself, as in Keras.
  assert len(model.flow.trainable_variables) == 17
  scaling = next(v for v in model.variables if v.name == 'log_scale')
  frozen = [coupling.conditioner.layer.trainable_variables[0], scaling]
  for variable in frozen:
    variable.trainable = False
  before = numbers(frozen)
  model.compile('adam', run_eagerly=True)
  model.fit(make_images(8, *SHAPE), batch_size=8, verbose=0)
  assert_equal_lists(numbers(frozen), before)
  loaded = saved_and_loaded(model, tmp_path)
  assert [v.trainable for v in loaded.flow.variables] == [v.trainable for v in model.flow.variables]
  assert len(loaded.trainable_variables) == len(model.flow.trainable_variables) == 15


def test_a_keras_file_does_not_depend_on_later_defaults(tmp_path, monkeypatch):
  """Neither alpha nor the prior is in the shape of a weight, by which an error would be noticed."""
  model = fg.keras.FlowModel(fg.flows.nice(SHAPE, couplings=2, hidden_units=4, hidden_layers=1))
  expected, config = model.flow.log_prob(make_images()), model.get_config()
  model.save(tmp_path / 'flow.keras')
  later = builder(functools.partial(fg.flows.nice.__wrapped__, alpha=0.2, prior='normal', couplings=3))
  monkeypatch.setitem(fg.flows.GENERATORS, 'nice', later)
  loaded = keras.saving.load_model(tmp_path / 'flow.keras')
  np.testing.assert_array_equal(loaded.flow.log_prob(make_images()), expected)
  assert loaded.get_config() == config
  with pytest.raises(ValueError, match='`version`'):
    fg.keras.FlowModel.from_config(config | {'version': 2})


class Larger(keras.Model):
  """A model that owns a flow, through its model or bare."""

  def __init__(self, model=None, flow=None):
    super().__init__()
    self.model, self.flow = model, flow

  def call(self, images):
    return (self.model or self).flow.log_prob(images)

  def train_step(self, images):
    with tf.GradientTape() as tape:
      nll = -tf.reduce_mean(self(images))
      loss = self.optimizer.scale_loss(nll)
    self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
    return {'nll': nll}


def test_a_flow_inside_of_a_larger_model(tmp_path):
  first, second = (Larger(fg.keras.FlowModel(by_hand())) for _ in range(2))
  images = tf.constant(make_images(3, 4))
  assert len(first.trainable_variables) == 8
  np.testing.assert_array_equal(first(images), first.model.flow.log_prob(images))
  second(images)
  first.save_weights(tmp_path / 'larger.weights.h5')
  second.load_weights(tmp_path / 'larger.weights.h5')
  assert_equal_lists(numbers(first.variables), numbers(second.variables))
  with pytest.raises(ValueError, match=r'`larger_\d+`'):
    Larger(flow=by_hand())
  Larger(first.model, first.model.flow)  # Its variables are seen.


def test_each_of_two_devices_has_half_of_the_loss(monkeypatch):
  """Keras adds the gradients of all devices."""
  model, two = fg.keras.FlowModel(by_hand()), types.SimpleNamespace(num_replicas_in_sync=2)
  monkeypatch.setattr(tf.distribute, 'get_strategy', lambda: two)
  assert model.compute_loss(y_pred=tf.constant([1.0, 3.0])) == -1.0


def test_regularizers_of_weights_count():
  layer = keras.layers.Dense(4, kernel_regularizer=keras.regularizers.L2(0.5))
  model = fg.keras.FlowModel(by_hand(layer))
  expected = -2.0 + 0.5 * np.sum(layer.kernel.numpy() ** 2)
  np.testing.assert_allclose(model.compute_loss(y_pred=tf.constant([1.0, 3.0])), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
  ('average', 'jit'), [(False, False), (True, False), pytest.param(False, True, marks=pytest.mark.slow)]
)
def test_masks_of_tfp_keep_the_density_normalised(average, jit):
  """TFP's networks keep their masks by constraints. Without them, the integrals are 36, 1.6 and 36."""
  keras.utils.set_random_seed(0)
  made = tfp.bijectors.AutoregressiveNetwork(2, event_shape=2, hidden_units=[8], activation='tanh')
  made.build((None, 2))
  prior = tfp.distributions.Sample(tfp.distributions.Normal(0.0, 1.0), 2)
  model = fg.keras.FlowModel(fg.flows.Flow(prior, tfp.bijectors.MaskedAutoregressiveFlow(made)))
  model.compile(keras.optimizers.Adam(0.05, use_ema=average), run_eagerly=not jit, jit_compile=jit)
  points = np.random.default_rng(0).normal(size=(80, 2)).astype(np.float32)
  model.fit(points, batch_size=10, epochs=2, verbose=0)
  step = 0.1
  grid = np.stack(np.meshgrid(*2 * [np.arange(-6, 6, step, np.float32)]), axis=-1).reshape(-1, 2)
  np.testing.assert_allclose(step**2 * tf.reduce_sum(model.flow.prob(grid)), 1, atol=1e-2)


@pytest.mark.parametrize('owner', [lambda model: model, lambda model: Larger(model, model.flow)])
def test_constraints_apply_after_each_step_to_what_is_trained(owner):
  prior, mask = tfp.distributions.Sample(tfp.distributions.Normal(0.0, 1.0), 2), np.array([1, 0], np.float32)
  free, frozen = (tf.Variable([0.0, start], constraint=lambda value: value * mask) for start in (0.0, 1.0))
  chain = tfp.bijectors.Chain([tfp.bijectors.Shift(free), tfp.bijectors.Shift(frozen)])
  model = fg.keras.FlowModel(fg.flows.Flow(prior, chain))
  next(variable for variable in model.variables if variable.value is frozen).trainable = False
  owner = owner(model)
  owner.compile(optimizer=keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)), run_eagerly=True)
  owner.fit(np.full((20, 2), 3.0, np.float32), batch_size=10, verbose=0)
  assert free[0] > 0.5 and free[1] == 0  # The gradients for both are the same.
  np.testing.assert_array_equal(frozen, [0, 1])


def test_weights_that_break_a_constraint_are_named(tmp_path):
  prior = tfp.distributions.Sample(tfp.distributions.Normal(0.0, 1.0), 2)
  first, second = (
    fg.keras.FlowModel(fg.flows.Flow(prior, tfp.bijectors.Shift(tf.Variable([0.0, 3.0], constraint=constraint))))
    for constraint in (None, lambda value: tf.clip_by_value(value, -1.0, 1.0))
  )
  first.save_weights(tmp_path / 'flow.weights.h5')
  with pytest.warns(UserWarning, match='000_Variable'):
    second.load_weights(tmp_path / 'flow.weights.h5')


def test_variables_that_come_after_the_model_are_rejected():
  class Lazy(tf.Module):
    @functools.cached_property
    def late(self):
      return tf.Variable(0.0)

    def __call__(self, x, units):
      return tfp.bijectors.Shift(self.late)

  prior = tfp.distributions.Sample(tfp.distributions.Normal(0.0, 1.0), 2)
  parts = [tfp.bijectors.RealNVP(1, bijector_fn=Lazy()), tfp.bijectors.Shift(tf.Variable(0.0))]
  flow = fg.flows.Flow(prior, tfp.bijectors.Chain(parts))
  early = fg.keras.FlowModel(flow)
  early.compile('sgd', run_eagerly=True)
  with pytest.raises(ValueError, match=r'`flow`.*`flow\.sample\(1\)`'):
    early.fit(np.zeros((4, 2), np.float32), verbose=0)
  model = fg.keras.FlowModel(flow)
  assert len(model.variables) == 2 and np.isfinite(model.compute_loss(y_pred=tf.zeros(1)))


def test_the_loss_of_float16_is_scaled(tmp_path):
  """Gradients of 1e-8 are zero in float16."""
  arguments = {'dtype': 'mixed_float16', 'normalization': 'none', 'initial_weights': 'paper'}
  model, weight = fg.keras.FlowModel(make_flow(**arguments)), 1e-6
  wide = fg.keras.FlowModel(model.flow.with_dtype('float32'))
  start = numbers(model.flow.trainable_variables)
  for each in (model, wide):
    each.compile(keras.optimizers.SGD(1 / weight), run_eagerly=True)
    each.fit(make_images(8, *SHAPE), batch_size=8, sample_weight=np.full(8, weight, np.float32), verbose=0)
  assert (type(wide.optimizer), model.optimizer.initial_scale) == (keras.optimizers.SGD, 2.0**12)
  for before, v, w in zip(start, model.flow.trainable_variables, wide.flow.trainable_variables, strict=True):
    assert np.linalg.norm(v - w) < 0.1 * np.linalg.norm(w - before), v.name
  loaded = saved_and_loaded(model, tmp_path)
  assert_equal_lists(numbers(loaded.optimizer.variables), numbers(model.optimizer.variables))
  model.compile('adam', auto_scale_loss=False)
  model.optimizer.build(model.trainable_variables)
  for bare in (model, saved_and_loaded(model, tmp_path)):
    assert isinstance(bare.optimizer, keras.optimizers.Adam)


@pytest.mark.slow
def test_an_exported_model_takes_any_number_of_images(tmp_path):
  model = fg.keras.FlowModel(make_flow())  # It has never been called.
  model.export(tmp_path / 'exported', verbose=False)
  loaded = tf.saved_model.load(tmp_path / 'exported')
  for images in (make_images(1, *SHAPE), make_images()):
    np.testing.assert_allclose(loaded.serve(images), model.flow.log_prob(images), rtol=1e-5, atol=1e-5)


def test_a_flow_put_together_by_hand_may_have_another_support():
  prior = tfp.distributions.Sample(tfp.distributions.Normal(0.0, 1.0), 2)
  model = fg.keras.FlowModel(fg.flows.Flow(prior, tfp.bijectors.Shift(tf.Variable([1.0, 2.0]))))
  model.compile('adam')
  points = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
  assert np.isfinite(model.fit(points, verbose=0).history['loss'])[0]


def labelled(count=40):
  """Images of three classes, of which the last is as frequent as the others together; it is the brightest."""
  labels = np.array([0, 2, 1, 2])[np.arange(count) % 4]
  return make_images(count, *SHAPE) / 2 + labels.reshape(-1, 1, 1, 1).astype(np.float32) / 5, labels


def by_bayes(flow, images, class_probs):
  joint = np.stack([flow.prob(images, condition=y) for y in range(len(class_probs))], axis=-1) * class_probs
  return joint / joint.sum(axis=-1, keepdims=True)


@pytest.mark.slow
def test_a_flow_with_classes_learns_from_labels_and_predicts_them(tmp_path):
  keras.utils.set_random_seed(0)
  images, labels = labelled()
  model = fg.keras.FlowModel(make_flow(classes=3, normalization='layer'))
  model.flow.class_names = ('a', 'b', 'c')
  model.compile(keras.optimizers.Adam(0.02), metrics=['accuracy'])
  valid = dataset((images, labels))
  history = model.fit(images, labels[:, np.newaxis], validation_data=valid, batch_size=20, epochs=8, verbose=0).history
  assert history['loss'][-1] < history['loss'][0] - 0.3 and history['val_accuracy'][-1] > 0.8
  np.testing.assert_allclose(model.flow.class_probs, [0.25, 0.25, 0.5])
  expected = -np.mean(model.flow.log_prob(images, condition=labels))
  probs = by_bayes(model.flow, images, [0.25, 0.25, 0.5])
  np.testing.assert_allclose(model.predict(images, verbose=0), probs, rtol=1e-3, atol=1e-5)
  accuracy = np.mean(np.argmax(probs, axis=1) == labels)
  np.testing.assert_allclose(model.evaluate(valid, verbose=0), [expected, accuracy], rtol=1e-5, atol=1e-5)
  weights = np.arange(40, dtype=np.float32) % 3
  loss, _ = model.evaluate(images, labels, 40, sample_weight=weights, verbose=0)
  expected = -np.mean(weights * model.flow.log_prob(images, condition=labels))
  np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-5)
  samples = model.sample(3, seed=(0, 1), condition=1)
  np.testing.assert_array_equal(samples, model.flow.sample(3, seed=(0, 1), condition=1))
  loaded = saved_and_loaded(model, tmp_path)
  assert_equal_lists(numbers(loaded.flow.variables), numbers(model.flow.variables))
  assert loaded.get_compile_config()['metrics'] == ['accuracy'] and loaded.flow.class_names == ('a', 'b', 'c')
  # A dataset is not counted.
  model.fit(valid.take(1), verbose=0)
  np.testing.assert_allclose(model.flow.class_probs, [0.25, 0.25, 0.5])


def test_a_fit_counts_labels_and_an_evaluation_weighs_images():
  images, labels = labelled()
  model = fg.keras.FlowModel(make_flow(classes=3, normalization='none'))
  model.compile('sgd', run_eagerly=True)
  model.fit(images, labels, batch_size=40, verbose=0)
  np.testing.assert_allclose(model.flow.class_probs, [0.25, 0.25, 0.5])
  weights = np.arange(40, dtype=np.float32) % 3
  expected = -np.mean(weights * model.flow.log_prob(images, condition=labels))
  loss = model.evaluate(images, labels, batch_size=40, sample_weight=weights, verbose=0)
  np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-5)
  samples = model.sample(3, seed=(0, 1), condition=1)
  np.testing.assert_array_equal(samples, model.flow.sample(3, seed=(0, 1), condition=1))


@pytest.mark.slow
def test_an_exported_flow_with_classes_predicts_them(tmp_path):
  flow, (images, labels) = (
    make_flow(classes=3, components=6, normalization='layer', condition_networks=False),
    labelled(),
  )
  fg.flows.initialize_prior(flow, images, labels=labels)
  model = fg.keras.FlowModel(flow)
  model.compile('adam', jit_compile=True)
  model.fit(images, labels, verbose=0)  # A warning of the prior would be an error.
  model.export(tmp_path / 'exported', verbose=False)
  loaded, probs = tf.saved_model.load(tmp_path / 'exported'), by_bayes(flow, images, [0.25, 0.25, 0.5])
  np.testing.assert_allclose(loaded.serve(images), probs, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('shape', [(2,), SHAPE])
def test_a_flow_with_other_conditions_learns_from_pairs(shape, tmp_path):
  keras.utils.set_random_seed(0)
  images, labels = labelled()
  conditions = np.stack([np.full(shape, label, np.float32) for label in labels])
  model = fg.keras.FlowModel(make_flow(condition_shape=shape, normalization='layer'))
  model.compile(keras.optimizers.Adam(0.02))
  losses = model.fit(images, conditions, batch_size=20, epochs=8, verbose=0).history['loss']
  assert losses[-1] < losses[0] - 0.2
  log_probs, pairs = model.flow.log_prob(images, condition=conditions).numpy(), dataset((images, conditions))
  assert np.max(np.abs(log_probs - model.flow.log_prob(images, condition=2 - conditions))) > 0.1
  np.testing.assert_allclose(model.evaluate(pairs, verbose=0), -log_probs.mean(), rtol=1e-5, atol=1e-5)
  for data in ([images, conditions], pairs):
    np.testing.assert_allclose(model.predict(data, verbose=0), log_probs, rtol=1e-4, atol=1e-5)
  loaded = saved_and_loaded(model, tmp_path)
  np.testing.assert_array_equal(loaded.flow.log_prob(images, condition=conditions), log_probs)
  model.export(tmp_path / 'exported', verbose=False)
  served = tf.saved_model.load(tmp_path / 'exported')
  np.testing.assert_allclose(served.serve([images, conditions]), log_probs, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('shuffled', [False, True])
def test_samples_have_the_labels_that_a_flow_learned_and_shuffled_labels_by_chance(shuffled):
  keras.utils.set_random_seed(0)
  digits = fg.data.load('digits')
  images = fg.data.dequantize(digits.train.images, digits.levels, seed=0)
  labels = np.random.default_rng(0).permutation(digits.train.labels) if shuffled else digits.train.labels
  flow = fg.flows.nice(digits.image_shape, classes=10, hidden_units=128, hidden_layers=2)
  model = fg.keras.FlowModel(flow)
  model.compile(keras.optimizers.Adam(3e-3), jit_compile=True)
  model.fit(images, labels, batch_size=70, epochs=12, verbose=0)
  asked = np.repeat(np.arange(10), 100)
  samples = flow.sample(1000, seed=(0, 1), condition=asked).numpy()
  classifier = sklearn.svm.SVC().fit(images.reshape(len(images), -1), digits.train.labels)
  right = np.count_nonzero(classifier.predict(samples.reshape(1000, -1)) == asked)
  if shuffled:
    assert scipy.stats.binomtest(right, 1000, 1 / 10).pvalue > 1e-3
  else:
    assert right > 800


def test_conditions_of_another_form_are_rejected():
  of_classes, of_vectors = (
    fg.keras.FlowModel(make_flow(normalization='layer', **kind)) for kind in ({'classes': 3}, {'condition_shape': (2,)})
  )
  images, labels = labelled()
  vectors, before = np.zeros((40, 2), np.float32), of_classes.flow.class_probs.numpy()
  for model, data, found in (
    (of_classes, (images,), 'None'),
    (of_classes, (dataset(images),), 'None'),
    (of_classes, (images, labels + 1), '3'),
    (of_classes, (images, labels[1:]), '39'),
    (of_classes, (images, np.eye(3)[labels]), '(40, 3)'),
    (of_classes, (images, labels / 1), 'float64'),
    (of_vectors, (images,), 'None'),
    (of_vectors, (images, labels), 'int64'),
    (of_vectors, (dataset((images, vectors[:, :1])),), '1)'),
    (of_vectors, (images, vectors + np.inf), 'infinity'),
  ):
    for method in (model.fit, model.evaluate):
      with pytest.raises(ValueError, match=f'^`y`.*{re.escape(found)}'):
        method(*data, verbose=0)
  with pytest.raises(ValueError, match='`y`'):
    of_classes.fit(images, labels, validation_data=(images,), verbose=0)
  np.testing.assert_array_equal(of_classes.flow.class_probs, before)
  with pytest.raises(ValueError, match='`y`'):
    of_vectors.predict(images, verbose=0)
  with pytest.raises(ValueError, match='`metrics`'):
    of_vectors.compile('adam', metrics=['accuracy'])
  of_classes.compile('adam', run_eagerly=True)
  with pytest.raises(tf.errors.InvalidArgumentError, match='`y`'):
    of_classes.fit(dataset((images, labels + 1)), verbose=0)


def test_wrong_arguments_are_rejected(trained, tmp_path):
  for call, name in (
    (lambda: fg.keras.FlowModel(fg.flows.dcgan(SHAPE, channels=(2,))), 'flow'),
    (lambda: trained.compile('sgd', metrics=['accuracy']), 'metrics'),
    (lambda: trained.save(tmp_path / 'flow.h5'), 'filepath'),
  ):
    with pytest.raises(ValueError, match=f'`{name}`'):
      call()
  unknown = tf.function(fg.keras.FlowModel(by_hand()), input_signature=[tf.TensorSpec([None, None])])
  with pytest.raises(tf.errors.InvalidArgumentError):
    unknown(tf.fill([3, 1], 0.5))


@pytest.mark.parametrize('method', ['fit', 'evaluate', 'predict'])
def test_data_of_another_form_are_rejected(trained, method):
  for data, named in (
    (make_images(2, 3, *SHAPE), '`images`.*3'),
    (dataset(make_images(6, 2, 2, 3)), '`images`.*3'),
    (np.full((6, *SHAPE), 200, np.uint8), '`images`.*`flowgan_tf.data.dequantize`.*uint8'),
    (dataset({'image': make_images()}), 'Batches'),
    ({'image': make_images()}, 'Batches.*dict'),
    (make_images().tolist(), 'Batches.*list'),
    (None, '`x`'),
    (make_images(0, *SHAPE), '`images`.*0'),
    (dataset(make_images()).take(0), '`x`'),
  ):
    with pytest.raises(ValueError, match=f'^{named}'):
      getattr(trained, method)(data, verbose=0)


@pytest.mark.parametrize(
  'weights', [np.full(40, np.nan), np.arange(40) - 1.0, np.ones((40, 2)), np.ones(39), [1] * 40, np.full(40, 'a')]
)
def test_weights_of_another_form_are_rejected(trained, weights):
  for method in (trained.fit, trained.evaluate):
    with pytest.raises(ValueError, match=r'^`sample_weight`'):
      method(make_images(), sample_weight=weights, verbose=0)


def test_masked_values_are_rejected(trained):
  images, weights = make_images(), np.ones(40, np.float32)

  def masked(values, mask=True):
    values = np.ma.array(values)
    values[3] = np.ma.masked if mask else values[3]
    return values

  for name, call in (
    ('x', lambda: trained.fit(masked(images), verbose=0)),
    ('x', lambda: trained.predict(masked(images), verbose=0)),
    ('y', lambda: trained.evaluate(images, masked(weights), verbose=0)),
    ('sample_weight', lambda: trained.fit(images, sample_weight=masked(weights), verbose=0)),
    ('sample_weight', lambda: trained.fit(images, validation_data=(images, None, masked(weights)), verbose=0)),
  ):
    with pytest.raises(ValueError, match=f'^`{name}`.*mask'):
      call()
  assert np.isfinite(trained.evaluate(masked(images, mask=False), verbose=0))


def test_wrong_numbers_of_a_dataset_are_rejected():
  vectors = fg.flows.vectors(2, couplings=2, hidden_units=4, condition_shape=(1,))
  rows, given, nan = np.zeros((4, 2), np.float32), np.zeros((4, 1), np.float32), np.float32(np.nan)
  model = fg.keras.FlowModel(vectors)
  model.compile('sgd', run_eagerly=True)
  for name, data in (
    ('images', (rows + nan, given)),
    ('y', (rows, given + nan)),
    ('sample_weight', (rows, given, given[:, 0] + nan)),
    ('sample_weight', (rows, given, given[:, 0] - 1)),
  ):
    for method in (model.fit, model.evaluate):
      with pytest.raises(tf.errors.InvalidArgumentError, match=f'`{name}`'):
        method(dataset(data), verbose=0)


@pytest.mark.parametrize('value', [-1.0, *(pytest.param(value, marks=pytest.mark.slow) for value in (1.5, np.nan))])
def test_values_outside_of_the_unit_interval_are_rejected(value):
  model, images = fg.keras.FlowModel(make_flow()), make_images()
  images[9, 0, 1] = value
  before = numbers(model.flow.variables)
  for call in (
    lambda: model.fit(images, verbose=0),
    lambda: model.evaluate(tf.constant(images), verbose=0),
    lambda: model.fit(make_images(), validation_data=(images,), verbose=0, epochs=0),
    lambda: model.fit(dataset((images, np.zeros(40)), 40), verbose=0),  # Batch by batch, in eager mode and in a graph.
    lambda: model.evaluate(dataset(images), verbose=0),
  ):
    model.compile('adam', run_eagerly=not np.isnan(value), jit_compile=False)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match='`images`'):
      call()
  assert_equal_lists(before, numbers(model.flow.variables))  # Also running statistics.
  log_probs = model.predict(images, verbose=0)
  assert np.isfinite(np.delete(log_probs, 9)).all() and not np.isfinite(log_probs[9])
  with pytest.warns(UserWarning, match='grey levels'):
    model.fit(np.round(make_images()), verbose=0)  # Both ends are inside.
  model.fit(((make_images(4, *SHAPE),) for _ in range(3)), steps_per_epoch=3, verbose=0)  # As generators are.


@pytest.mark.slow
def test_a_step_that_xla_compiles_takes_the_checks():
  model = fg.keras.FlowModel(make_flow())
  model.compile('adam', jit_compile=True)
  assert np.isfinite(model.fit(dataset(make_images()), verbose=0).history['loss']).all()

"""A flow as a Keras model."""

import functools
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import flowgan_tf as fg
from flowgan_tf.flows import builder

SHAPE = (2, 2, 1)


def make_flow(**arguments):
  tiny = {'couplings': 2, 'hidden_units': 4, 'hidden_layers': 1, 'normalization': 'batch', 'alpha': 0.05}
  return fg.flows.nice(SHAPE, **(tiny | {'prior': 'normal'} | arguments))


def make_images(count=40):
  return np.random.default_rng(0).uniform(0.2, 0.6, (count, *SHAPE)).astype(np.float32)


def numbers(variables):
  return [variable.numpy() for variable in variables]


def assert_equal_lists(first, second):
  for a, b in zip(first, second, strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.fixture(scope='module')
def trained():
  """A model after some epochs, the weights it started from, and its history."""
  keras.utils.set_random_seed(0)
  model = fg.keras.FlowModel(make_flow())
  before = numbers(model.flow.trainable_variables), numbers(model.flow.non_trainable_variables)
  model.compile(optimizer=keras.optimizers.Adam(0.02))
  history = model.fit(make_images(), batch_size=16, epochs=6, shuffle=False, verbose=0)
  return model, before, history.history['loss']


def test_every_variable_of_the_flow_is_in_the_model_once():
  flow = fg.flows.real_nvp((4, 4, 1), channels=2, blocks=0, batch_norm_between=True)
  model = fg.keras.FlowModel(flow)
  for name in ('trainable_variables', 'non_trainable_variables', 'variables'):
    shown = [id(v.value) for v in getattr(model, name)]
    assert sorted(shown) == sorted(map(id, getattr(flow, name))) and len(set(shown)) == len(shown) > 0
  assert model.count_params() == sum(int(np.prod(v.shape)) for v in flow.variables)


def test_fit_maximises_the_likelihood(trained):
  model, (before, statistics), losses = trained
  assert losses[-1] < losses[0] - 0.5
  for old, new in zip(before, model.flow.trainable_variables, strict=True):
    assert np.abs(new - old).max() > 1e-3, new.name
  for old, new in zip(statistics, model.flow.non_trainable_variables, strict=True):
    assert np.abs(new - old).max() > 1e-3, new.name  # `training=True` has reached the batch norms.


def test_a_step_is_that_of_gradient_descent_on_the_mean():
  first, images = make_flow(), make_images(8)
  second = first.with_dtype('float32')
  model = fg.keras.FlowModel(first)
  model.compile(optimizer=keras.optimizers.SGD(0.1), run_eagerly=True)
  model.fit(images, batch_size=8, verbose=0)
  with tf.GradientTape() as tape:
    loss = -tf.reduce_sum(second.log_prob(images, training=True)) / 8
  for variable, gradient in zip(
    second.trainable_variables, tape.gradient(loss, second.trainable_variables), strict=True
  ):
    variable.assign_sub(0.1 * gradient)
  for a, b in zip(first.variables, second.variables, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_evaluate_is_the_negative_log_likelihood_with_running_statistics(trained):
  model, _, _ = trained
  images = make_images()
  log_probs = model.flow.log_prob(images).numpy()
  assert abs(np.mean(log_probs) - np.mean(model.flow.with_dtype('float32').log_prob(images, training=True))) > 0.01
  statistics = numbers(model.flow.non_trainable_variables)
  np.testing.assert_allclose(model.evaluate(images, batch_size=16, verbose=0), -log_probs.mean(), rtol=1e-5)
  dataset = tf.data.Dataset.from_tensor_slices((images, np.arange(40))).batch(16)
  np.testing.assert_allclose(model.evaluate(dataset, verbose=0), -log_probs.mean(), rtol=1e-5)
  np.testing.assert_allclose(model.predict(dataset.map(lambda x, label: x), verbose=0), log_probs, rtol=1e-4, atol=1e-5)
  weights = np.arange(40) % 2
  weighted = model.compute_loss(images, None, tf.constant(log_probs), tf.constant(weights))
  np.testing.assert_allclose(weighted, -np.sum(weights * log_probs) / 40, rtol=1e-5)
  assert_equal_lists(statistics, numbers(model.flow.non_trainable_variables))
  np.testing.assert_array_equal(model.sample(3, seed=(0, 1)), model.flow.sample(3, seed=(0, 1)))


def test_a_keras_file_holds_model_and_optimizer(trained, tmp_path):
  model, _, _ = trained
  model.save(tmp_path / 'flow.keras')
  loaded = keras.saving.load_model(tmp_path / 'flow.keras')
  assert isinstance(loaded, fg.keras.FlowModel) and loaded.name == loaded.flow.name == 'nice'
  assert not {id(v) for v in loaded.flow.variables} & {id(v) for v in model.flow.variables}
  assert_equal_lists(numbers(loaded.flow.variables), numbers(model.flow.variables))
  assert loaded.optimizer.iterations == model.optimizer.iterations
  assert_equal_lists(numbers(loaded.optimizer.variables), numbers(model.optimizer.variables))
  np.testing.assert_array_equal(loaded.flow.log_prob(make_images()), model.flow.log_prob(make_images()))
  # The flow is whole: it knows its builder, and can be trained and saved again.
  assert loaded.flow.with_dtype('float64').dtype == tf.float64
  assert loaded.get_config() == model.get_config()


def test_a_keras_file_holds_a_flow_of_nested_layers(tmp_path):
  flow = fg.flows.jet((4, 2, 3), conditioner='transformer', couplings=2, patch_size=2, width=4, hidden_units=3)
  model, images = fg.keras.FlowModel(flow), np.full((2, 4, 2, 3), 0.3, np.float32)
  for variable in flow.variables:
    variable.assign_add(tf.random.stateless_uniform(variable.shape, (0, 0)))
  model.save(tmp_path / 'flow.keras')
  loaded = keras.saving.load_model(tmp_path / 'flow.keras')
  assert_equal_lists(numbers(loaded.flow.variables), numbers(flow.variables))
  np.testing.assert_array_equal(loaded.flow.log_prob(images), flow.log_prob(images))


@pytest.mark.slow
def test_a_keras_file_is_loaded_by_a_fresh_process(trained, tmp_path):
  model, _, _ = trained
  model.save(tmp_path / 'flow.keras')
  np.save(tmp_path / 'images.npy', make_images(3))
  code = f"""
import keras, numpy as np, flowgan_tf.keras
model = keras.saving.load_model({str(tmp_path / 'flow.keras')!r}, compile=False)
np.save({str(tmp_path / 'log_probs.npy')!r}, model(np.load({str(tmp_path / 'images.npy')!r})))
"""
  subprocess.run([sys.executable, '-c', code], check=True, cwd=pathlib.Path(fg.__file__).parent.parent)
  np.testing.assert_allclose(np.load(tmp_path / 'log_probs.npy'), model(make_images(3)), rtol=1e-5)


def by_hand(units=4, name='by_hand'):
  mask = fg.bijectors.masks.even_odd(4)
  couplings = [
    fg.bijectors.AffineCoupling(keras.layers.Dense(units), mask, name='first'),
    fg.bijectors.AffineCoupling(keras.layers.Dense(4), ~mask, name='second'),
  ]
  prior = tfp.distributions.Sample(tfp.distributions.Normal(0.0, 1.0), 4)
  return fg.flows.Flow(prior, tfp.bijectors.Chain([tfp.bijectors.Sigmoid(), *couplings]), name=name)


def test_weights_of_a_flow_put_together_by_hand(tmp_path):
  first, second = fg.keras.FlowModel(by_hand()), fg.keras.FlowModel(by_hand())
  for variable in first.flow.variables:
    variable.assign_add(tf.random.stateless_uniform(variable.shape, (0, 0)))
  # What is frozen has no influence on where a weight is kept.
  first.flow.bijector.bijectors[1].conditioner.layer.trainable = False
  fg.keras.FlowModel(first.flow).save_weights(tmp_path / 'by_hand.weights.h5')
  second.load_weights(tmp_path / 'by_hand.weights.h5')
  assert_equal_lists(numbers(first.flow.variables), numbers(second.flow.variables))
  with pytest.raises(ValueError, match=r'`flow` must come from a builder.*put together by hand: use `save_weights`'):
    first.save(tmp_path / 'by_hand.keras')
  with pytest.raises(ValueError, match=r"must come from a flow like 'nice', with 25 variables\. Got: 8 variables"):
    fg.keras.FlowModel(make_flow()).load_weights(tmp_path / 'by_hand.weights.h5')


@builder
def own_builder(image_shape, *, units=4, scale=tf.exp, dtype='float32', name='own'):
  flow = by_hand(units)
  to_image = tfp.bijectors.Chain([tfp.bijectors.Reshape(image_shape, (4,)), flow.bijector])
  return fg.flows.Flow(flow.distribution, to_image, name)


registered_builder = keras.saving.register_keras_serializable('tests', 'registered')(own_builder)


@builder
def unregistered_builder(image_shape, *, dtype=tf.float32, name='own'):
  return own_builder(image_shape, name=name)


def test_builders_of_ones_own(tmp_path):
  model = fg.keras.FlowModel(registered_builder(SHAPE, units=4, name='mine'), name='outer')
  model.save(tmp_path / 'registered.keras')
  loaded = keras.saving.load_model(tmp_path / 'registered.keras')
  assert (loaded.name, loaded.flow.name) == ('outer', 'mine')
  assert_equal_lists(numbers(loaded.flow.variables), numbers(model.flow.variables))

  model = fg.keras.FlowModel(unregistered_builder(SHAPE))
  model.save(tmp_path / 'unregistered.keras')
  with pytest.raises(
    ValueError, match=r"`builder` must be one of nice, .*`custom_objects`\. Got: 'unregistered_builder'"
  ):
    keras.saving.load_model(tmp_path / 'unregistered.keras')
  known = {'unregistered_builder': unregistered_builder}
  loaded = keras.saving.load_model(tmp_path / 'unregistered.keras', custom_objects=known)
  assert_equal_lists(numbers(loaded.flow.variables), numbers(model.flow.variables))

  unregistered_builder.__name__ = 'nice'
  with pytest.raises(
    ValueError, match=r'`flow` must come from a builder whose name this package does not use.*Got: nice'
  ):
    model.save(tmp_path / 'nice.keras')
  unregistered_builder.__name__ = 'unregistered_builder'


def test_the_components_of_a_prior_are_trained_and_saved(tmp_path):
  flow = make_flow(components=3, normalization='layer')
  fg.flows.initialize_prior(flow, make_images())
  prior = flow.distribution
  means, prototypes = prior.means.numpy(), prior.prototypes.numpy()
  model = fg.keras.FlowModel(flow)
  model.compile('adam', run_eagerly=True)
  model.fit(make_images(8), batch_size=8, verbose=0)
  assert not np.array_equal(prior.means, means)
  np.testing.assert_array_equal(prior.prototypes, prototypes)
  model.save(tmp_path / 'flow.keras')
  loaded = keras.saving.load_model(tmp_path / 'flow.keras').flow
  assert [v.trainable for v in loaded.variables] == [v.trainable for v in flow.variables]
  assert_equal_lists(numbers(loaded.distribution.variables), numbers(prior.variables))


def test_components_at_random_places_are_warned_of():
  flow = make_flow(components=3, normalization='layer')
  model = fg.keras.FlowModel(flow)
  model.compile('adam', run_eagerly=True)
  with pytest.warns(UserWarning, match='^the 3 components of the prior are at random places; call `flowgan_tf'):
    model.fit(make_images(8), batch_size=8, verbose=0)
  fg.flows.initialize_prior(flow, make_images())
  model.fit(make_images(8), batch_size=8, verbose=0)  # Another warning would be an error.


def test_a_single_frozen_variable_stays_frozen_in_a_file(tmp_path):
  model = fg.keras.FlowModel(make_flow())
  coupling = next(m for m in model.flow.submodules if isinstance(m, fg.bijectors.AdditiveCoupling))
  layer = coupling.conditioner.layer
  layer.trainable_variables[0].trainable = False
  scaling = next(v for v in model.variables if v.name == 'log_scale')
  scaling.trainable = False
  names = [v.name for v in model.flow.trainable_variables]
  assert len(names) == 15 and 'diagonal_scaling/log_scale:0' not in names
  before = [layer.variables[0].numpy(), scaling.numpy()]
  model.compile('adam', run_eagerly=True)
  model.fit(make_images(8), batch_size=8, verbose=0)
  assert_equal_lists([layer.variables[0].numpy(), scaling.numpy()], before)
  model.save(tmp_path / 'frozen.keras')
  loaded = keras.saving.load_model(tmp_path / 'frozen.keras')
  assert [v.trainable for v in loaded.flow.variables] == [v.trainable for v in model.flow.variables]
  assert len(loaded.trainable_variables) == 15
  assert_equal_lists(numbers(loaded.optimizer.variables), numbers(model.optimizer.variables))


def test_the_flow_of_a_frozen_model_is_frozen_whole(tmp_path):
  """Also what belongs to bijectors and not to networks: the log-scales of NICE's last layer."""
  model = fg.keras.FlowModel(make_flow())
  other = fg.keras.FlowModel(model.flow)
  model.trainable = False
  assert model.flow.trainable_variables == () and model.trainable_variables == []
  assert not any(v.trainable for v in other.variables)
  with tf.GradientTape() as tape:
    model.flow.log_prob(make_images(2))
  assert tape.watched_variables() == ()
  model.save(tmp_path / 'frozen.keras')
  assert keras.saving.load_model(tmp_path / 'frozen.keras').trainable_variables == []
  model.trainable = True
  assert len(model.flow.trainable_variables) == len(other.trainable_variables) == 17


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


def test_a_config_of_another_version_is_refused():
  config = fg.keras.FlowModel(make_flow()).get_config()
  for version in (None, config['version'] + 1):
    with pytest.raises(ValueError, match=rf'`version` must be 1, .*Got: {version}\.$'):
      fg.keras.FlowModel.from_config(config | {'version': version})


def test_a_checkpoint_of_the_model_is_one_of_its_flow(tmp_path):
  model, flow = fg.keras.FlowModel(by_hand()), by_hand()
  path = tf.train.Checkpoint(model=model).write(str(tmp_path / 'checkpoint'))
  status = tf.train.Checkpoint(model=tf.train.Checkpoint(flow=flow)).read(path)
  status.assert_existing_objects_matched()
  assert_equal_lists(numbers(flow.variables), numbers(model.flow.variables))


class Larger(keras.Model):
  """A model that owns a flow, through its model or bare."""

  def __init__(self, model=None, flow=None):
    super().__init__()
    self.model, self.flow = model, flow

  def call(self, images):
    return (self.model or self).flow.log_prob(images)


def test_a_flow_inside_of_a_larger_model(tmp_path):
  first, second = (Larger(fg.keras.FlowModel(by_hand())) for _ in range(2))
  images = tf.constant(make_images(3).reshape(3, 4))
  assert len(first.trainable_variables) == 8
  np.testing.assert_array_equal(first(images), first.model.flow.log_prob(images))
  second(images)
  first.save_weights(tmp_path / 'larger.weights.h5')
  second.load_weights(tmp_path / 'larger.weights.h5')
  assert_equal_lists(numbers(first.variables), numbers(second.variables))
  with pytest.raises(ValueError, match=r"`larger_\d+` is a Keras layer and does not see the variables of '"):
    Larger(flow=by_hand())
  Larger(first.model, first.model.flow)  # Its variables are seen.


def test_a_float64_flow_gets_float64_images():
  model = fg.keras.FlowModel(make_flow(dtype='float64'))
  model.compile(optimizer='sgd', run_eagerly=True)
  assert model.predict(make_images(2), verbose=0).dtype == np.float64
  before = numbers(model.flow.trainable_variables)[0]
  model.fit(make_images(8), batch_size=8, verbose=0)
  assert np.abs(numbers(model.flow.trainable_variables)[0] - before).max() > 0


def test_regularizers_count():
  flow = by_hand()
  layer = flow.bijector.bijectors[1].conditioner.layer
  model = fg.keras.FlowModel(flow)
  log_probs = tf.constant([1.0, 3.0])
  assert model.compute_loss(y_pred=log_probs) == -2.0
  layer.kernel.regularizer = keras.regularizers.L2(0.5)
  expected = -2.0 + 0.5 * np.sum(layer.kernel.numpy() ** 2)
  np.testing.assert_allclose(model.compute_loss(y_pred=log_probs), expected, rtol=1e-6)


class AddedLoss(keras.layers.Dense):
  def call(self, x):
    self.add_loss(0.25 * tf.reduce_sum(x**2))
    return super().call(x)


def test_losses_of_activities_count():
  """In a call of the model and in that of a larger one, and none of an earlier call."""
  flow, x = by_hand(), make_images(1).reshape(1, 4)  # Keras divides the loss of an activity by the size of the batch.
  regular = keras.layers.Dense(4, activity_regularizer=keras.regularizers.L1(0.5))
  networks = [AddedLoss(4), keras.Sequential([keras.layers.Dense(4), regular])]
  mask = fg.bijectors.masks.even_odd(4)
  couplings = [fg.bijectors.AffineCoupling(n, mask, name=f'coupling_{i}') for i, n in enumerate(networks)]
  flow = fg.flows.Flow(flow.distribution, tfp.bijectors.Chain([tfp.bijectors.Sigmoid(), *couplings]), name='added')
  kept = mask.split(tf.math.log(x) - tf.math.log1p(-x))[0]  # Neither coupling changes it.
  expected = 0.25 * np.sum(np.square(kept)) + 0.5 * np.sum(np.abs(networks[1](kept)))
  model = fg.keras.FlowModel(flow)
  for _ in range(2):
    log_probs = model(x)
  np.testing.assert_allclose(model.compute_loss(y_pred=log_probs), expected - np.mean(log_probs), rtol=1e-5)
  larger = Larger(model)
  for _ in range(2):
    larger(x)
  np.testing.assert_allclose(sum(larger.losses), expected, rtol=1e-5)
  model.compile('sgd')
  np.testing.assert_allclose(model.evaluate(x, verbose=0), expected - np.mean(log_probs), rtol=1e-5)


def test_the_loss_of_float16_is_scaled(tmp_path):
  """Gradients of 1e-8 are zero in float16."""
  arguments = {'dtype': 'mixed_float16', 'normalization': 'none', 'initial_weights': 'paper'}
  model, weight = fg.keras.FlowModel(make_flow(**arguments)), 1e-6
  wide = fg.keras.FlowModel(model.flow.with_dtype('float32'))
  start = numbers(model.flow.trainable_variables)
  for each in (model, wide):
    each.compile(keras.optimizers.SGD(1 / weight))
    # Keras drops weights that come without labels.
    each.fit(make_images(8), np.zeros(8), 8, sample_weight=np.full(8, weight, np.float32), verbose=0)
  assert type(wide.optimizer) is keras.optimizers.SGD
  assert model.optimizer.initial_scale == 2.0**12
  for before, v, w in zip(start, model.flow.trainable_variables, wide.flow.trainable_variables, strict=True):
    assert np.linalg.norm(v - w) < 0.1 * np.linalg.norm(w - before), v.name

  model.save(tmp_path / 'scaled.keras')
  loaded = keras.saving.load_model(tmp_path / 'scaled.keras')
  assert isinstance(loaded.optimizer.inner_optimizer, keras.optimizers.SGD)
  assert_equal_lists(numbers(loaded.optimizer.variables), numbers(model.optimizer.variables))
  model.compile('adam', auto_scale_loss=False)
  model.optimizer.build(model.trainable_variables)
  model.save(tmp_path / 'bare.keras')
  for bare in (model, keras.saving.load_model(tmp_path / 'bare.keras')):
    assert isinstance(bare.optimizer, keras.optimizers.Adam)
  own = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())
  model.compile(own)
  assert model.optimizer is own


def test_wrong_arguments_are_refused():
  for wrong in (fg.flows.dcgan(SHAPE, channels=(2,)), tfp.distributions.Normal(0.0, 1.0), None):
    with pytest.raises(
      ValueError, match=r'`flow` must be a `flowgan_tf\.flows\.Flow`, which has a log-density\. Got: '
    ):
      fg.keras.FlowModel(wrong)
  model = fg.keras.FlowModel(by_hand())
  with pytest.raises(ValueError, match=r'expected shape=\(None, 4\), found shape=\(3, 5\)'):
    model(np.full((3, 5), 0.5, np.float32))
  unknown = tf.function(model, input_signature=[tf.TensorSpec([None, None])])
  with pytest.raises(tf.errors.InvalidArgumentError, match=r'is not compatible with expected shape \[\?,4\]'):
    unknown(tf.fill([3, 1], 0.5))
  for name, value in {'loss': 'mse', 'metrics': ['accuracy'], 'weighted_metrics': ['mae'], 'loss_weights': [2]}.items():
    message = f'`{name}` must be left out: a flow is trained and judged on its likelihood. Got: {value!r}.'
    with pytest.raises(ValueError, match=f'^{re.escape(message)}$'):
      model.compile(optimizer='sgd', **{name: value})


def test_a_file_of_hdf5_is_refused(tmp_path):
  model = fg.keras.FlowModel(make_flow())
  for name in ('flow.h5', 'flow.hdf5'):
    with pytest.raises(ValueError, match=r'^`filepath` must be a `\.keras` file\. Got: '):
      model.save(tmp_path / name)
  assert list(tmp_path.iterdir()) == []


def test_an_exported_model_takes_any_number_of_images(tmp_path):
  model = fg.keras.FlowModel(make_flow())  # It has never been called.
  model.export(tmp_path / 'exported', verbose=False)
  loaded = tf.saved_model.load(tmp_path / 'exported')
  for count in (1, 3):
    np.testing.assert_allclose(loaded.serve(make_images(count)), model.flow.log_prob(make_images(count)), rtol=1e-5)


def test_weights_with_an_axis_of_their_own_are_those_of_the_images():
  model, images = fg.keras.FlowModel(make_flow()), make_images(20)
  model.compile('adam')
  weights = np.zeros(20, np.float32)
  weights[0] = 20
  expected = -model.flow.log_prob(images[:1]).numpy()[0]
  for given in (weights, weights[:, np.newaxis]):
    loss = model.evaluate(images, np.zeros(20), batch_size=20, sample_weight=given, verbose=0)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
  data = tf.data.Dataset.from_tensor_slices((images, np.zeros(20), np.ones((20, 4), np.float32))).batch(4)
  with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
    model.evaluate(data, verbose=0)


def test_a_flow_put_together_by_hand_may_have_another_support():
  mask = fg.bijectors.masks.even_odd(2)
  coupling = fg.bijectors.AdditiveCoupling(fg.networks.dense_conditioner(1, 4, 1), mask)
  flow = fg.flows.Flow(tfp.distributions.Sample(tfp.distributions.Normal(0.0, 1.0), 2), coupling)
  model = fg.keras.FlowModel(flow)
  model.compile('adam')
  points = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
  assert np.isfinite(model.fit(points, verbose=0).history['loss'])[0]

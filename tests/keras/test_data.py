"""What a flow in Keras refuses of its data, in each way in which Keras takes data."""

import re

import numpy as np
import pytest
import tensorflow as tf

import flowgan_tf as fg

SHAPE = (2, 2, 1)
FORM = '`images` must be floats of shape [batch, 2, 2, 1]'
HINT = '; grey levels become such images by `flowgan_tf.data.dequantize`'
LAYOUT = 'Batches must be images, (images, labels) or (images, labels, weights)'


def make_images(*shape):
  return np.random.default_rng(0).uniform(0.2, 0.6, shape or (12, *SHAPE)).astype(np.float32)


def dataset(data, batch_size=4):
  return tf.data.Dataset.from_tensor_slices(data).batch(batch_size)


def generator(*shape):
  return ((make_images(*shape),) for _ in range(3))


@pytest.fixture(scope='module')
def model():
  flow = fg.flows.nice(SHAPE, couplings=2, hidden_units=4, hidden_layers=1, normalization='batch')
  model = fg.keras.FlowModel(flow)
  model.compile('adam')
  return model


def fails(call, message):
  with pytest.raises(ValueError, match=f'^{re.escape(message)}'):
    call()


@pytest.mark.parametrize('method', ['fit', 'evaluate', 'predict'])
def test_data_of_another_form_are_refused(model, method):
  for data, message in {
    'flat': (make_images(6, 4), f'{FORM}. Got: float32 of shape (6, 4).'),
    'taller': (make_images(6, 3, 2, 1), f'{FORM}. Got: float32 of shape (6, 3, 2, 1).'),
    'more batches': (make_images(2, 3, *SHAPE), f'{FORM}. Got: float32 of shape (2, 3, 2, 2, 1).'),
    'channels': (dataset(make_images(6, 2, 2, 3)), f'{FORM}. Got: float32 of shape (None, 2, 2, 3).'),
    'one image': (tf.data.Dataset.from_tensor_slices(make_images()), f'{FORM}. Got: float32 of shape (2, 2, 1).'),
    'booleans': (np.ones((6, *SHAPE), bool), f'{FORM}. Got: bool of shape (6, 2, 2, 1).'),
    'grey levels': (np.full((6, *SHAPE), 200, np.uint8), f'{FORM}{HINT}. Got: uint8 of shape (6, 2, 2, 1).'),
    'dicts': (
      dataset({'image': make_images(), 'label': np.zeros(12)}),
      f"{LAYOUT}. Got: a dict with 'image', 'label'.",
    ),
    'nothing': (None, '`x` must be images, or a dataset of them. Got: None.'),
    'no images': (make_images(0, *SHAPE), '`images` must be at least one image. Got: 0.'),
    'an empty dataset': (dataset(make_images()).take(0), '`x` must be a dataset with images in it. Got: '),
  }.values():
    fails(lambda data=data: getattr(model, method)(data, verbose=0), message)


def test_what_only_the_step_knows(model):
  """TensorFlow forgets the shape between two traces. After a failure the model takes good data."""
  model.compile('adam')
  wrong = f'{FORM}. Got: float32 of shape (None, 2, 2).'
  fails(lambda: model.fit(generator(4, 2, 2), steps_per_epoch=3, verbose=0), wrong)
  model.fit(generator(4, *SHAPE), steps_per_epoch=3, verbose=0)
  with pytest.raises(tf.errors.InvalidArgumentError, match=r'\[4,3,2,1\] is not compatible with .* \[\?,2,2,1\]'):
    model.fit(generator(4, 3, 2, 1), steps_per_epoch=3, verbose=0)
  fails(lambda: model.predict(generator(4, 4), verbose=0), f'{FORM}. Got: float32 of shape (4, 4).')
  with pytest.raises(ValueError, match=rf'^{re.escape(LAYOUT)}\. Got: list\.$'):
    model.predict_step([[1.0]])


@pytest.mark.parametrize(('value', 'found'), [(1.5, r'0\.2\d* to 1\.5'), (-1.0, r'-1 to 0\.\d+'), (np.nan, '.*')])
def test_values_outside_of_the_unit_interval_are_refused(model, value, found):
  images = make_images()
  images[9, 0, 1] = value
  before = [v.numpy() for v in model.flow.variables]
  message = r'`images` must have values in \[0, 1\]; grey levels become .*Got: '
  for call in (
    lambda: model.fit(images, verbose=0),
    lambda: model.evaluate(tf.constant(images), verbose=0),
    lambda: model.fit(make_images(), validation_data=(images,), verbose=0, epochs=0),
    lambda: model._batch((tf.constant(images), np.zeros(12))),  # A step in eager mode.
    *([lambda: model.fit(dataset((images, np.zeros(12)), 12), verbose=0)] if value != -1 else []),  # In a graph.
  ):
    with pytest.raises(ValueError, match=f'^{message}{found}\\.$'):
      call()
  for variable, expected in zip(model.flow.variables, before, strict=True):  # Also running statistics.
    np.testing.assert_array_equal(variable, expected)
  log_probs = model.predict(images, verbose=0)
  assert np.isfinite(np.delete(log_probs, 9)).all() and not np.isfinite(log_probs[9])
  model.fit(np.round(make_images()), verbose=0)  # Both ends are inside.


@pytest.mark.slow
def test_a_step_that_xla_compiles_takes_the_checks(model):
  model.compile('adam', jit_compile=True)
  fails(lambda: model.fit(2 * make_images(), verbose=0), '`images` must have values in [0, 1]')
  assert np.isfinite(model.fit(dataset(make_images()), verbose=0).history['loss']).all()
  model.compile('adam')


def test_weights_without_labels_count(model):
  images = make_images()
  weights = np.arange(12, dtype=np.float32) % 2
  expected = -np.sum(weights * model.flow.log_prob(images).numpy()) / 12
  np.testing.assert_allclose(model.evaluate(images, sample_weight=weights, verbose=0), expected, rtol=1e-5)
  history = model.fit(images, sample_weight=0 * weights, validation_data=(images, None, 0 * weights), verbose=0).history
  assert (history['loss'], history['val_loss']) == ([0.0], [0.0])

"""What a flow in Keras refuses of its data, in every way in which Keras is given data."""

import re

import numpy as np
import pytest
import tensorflow as tf

import flowgan_tf as fg
from flowgan_tf.keras.image_batches import check_data, check_values, to_images

SHAPE = (2, 2, 1)
FORM = '`images` must be of a floating-point dtype and shape [batch, 2, 2, 1]'
VALUES = '`images` must have values in [0, 1]; grey levels become such images by `flowgan_tf.data.dequantize`'
LAYOUT = 'Batches must be images, (images, labels) or (images, labels, weights)'


def make_images(*shape):
  return np.random.default_rng(0).uniform(0.2, 0.6, shape or (12, *SHAPE)).astype(np.float32)


def with_pixel(value):
  images = make_images()
  images[9, 0, 1] = value
  return images


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


def test_data_of_another_form_are_refused(model):
  for call in (model.fit, model.evaluate, model.predict):
    for images, found in {
      'rank 3': (make_images(6, 2, 2), 'float32 and (6, 2, 2)'),
      'flat': (make_images(6, 4), 'float32 and (6, 4)'),
      'taller': (make_images(6, 3, 2, 1), 'float32 and (6, 3, 2, 1)'),
      'channels': (dataset(make_images(6, 2, 2, 3)), 'float32 and (None, 2, 2, 3)'),
      'no batches': (tf.data.Dataset.from_tensor_slices(make_images()), 'float32 and (2, 2, 1)'),
      'booleans': (np.ones((6, *SHAPE), bool), 'bool and (6, 2, 2, 1)'),
    }.values():
      fails(lambda call=call, images=images: call(images, verbose=0), f'{FORM}. Got: {found}.')
    dicts = dataset({'image': make_images(), 'label': np.zeros(12)})
    fails(lambda call=call, dicts=dicts: call(dicts, verbose=0), f"{LAYOUT}. Got: a dict with 'image', 'label'.")
    raw = np.full((6, *SHAPE), 200, np.uint8)
    hint = 'grey levels become such images by `flowgan_tf.data.dequantize`'
    fails(lambda call=call, raw=raw: call(raw, verbose=0), f'{FORM}; {hint}. Got: uint8 and (6, 2, 2, 1).')


def test_what_is_known_in_the_step_alone(model):
  """TensorFlow forgets the shape between two traces. A failure leaves the model able to take good data."""
  model.compile('adam')
  fails(lambda: model.fit(generator(4, 2, 2), steps_per_epoch=3, verbose=0), f'{FORM}. Got: float32 and (None, 2, 2).')
  model.fit(generator(4, *SHAPE), steps_per_epoch=3, verbose=0)
  fails(lambda: model.fit(generator(4, 3, 2, 1), steps_per_epoch=3, verbose=0), f'{FORM}. Got: (4, 3, 2, 1).')
  fails(lambda: model.predict(generator(4, 4), verbose=0), f'{FORM}. Got: float32 and (4, 4).')
  fails(lambda: to_images([1.0], SHAPE), f'{LAYOUT}. Got: list.')


@pytest.mark.parametrize(('value', 'found'), [(1.5, r'0\.2\d* to 1\.5'), (-1.0, r'-1 to 0\.\d+'), (np.nan, '.*')])
def test_values_outside_of_the_unit_interval_are_refused(model, value, found):
  images = with_pixel(value)
  before = [v.numpy() for v in model.flow.variables]
  message = f'^{re.escape(VALUES)}\\. Got: {found}\\.$'
  calls = [(model.fit, images), (model.evaluate, images), (model.fit, tf.constant(images))]
  calls += (
    [(model.fit, dataset((images, np.zeros(12)), 12))] if value != -1 else [(model.evaluate, dataset(images, 12))]
  )
  for call, data in calls:
    with pytest.raises(ValueError, match=message):
      call(data, verbose=0)
  with pytest.raises(ValueError, match=message):
    model.fit(make_images(), validation_data=(images,), verbose=0, epochs=0)
  for variable, expected in zip(model.flow.variables, before, strict=True):  # Also running statistics.
    np.testing.assert_array_equal(variable, expected)
  log_probs = model.predict(images, verbose=0)
  assert np.isfinite(np.delete(log_probs, 9)).all() and not np.isfinite(log_probs[9])


def test_the_check_of_an_eager_step():
  fails(lambda: check_values(tf.constant(with_pixel(2.0))), f'{VALUES}. Got: 0.2')
  ends = tf.constant([0.0, 1.0])
  assert check_values(ends) is ends
  check_data(np.zeros((0, *SHAPE), np.float32), SHAPE, True)


def test_a_step_that_xla_compiles_takes_the_checks(model):
  model.compile('adam', jit_compile=True)
  fails(lambda: model.fit(with_pixel(1.5), verbose=0), VALUES)
  assert np.isfinite(model.fit(dataset(make_images()), verbose=0).history['loss']).all()
  model.compile('adam')


def test_weights_without_labels_count(model):
  images = make_images()
  weights = np.arange(12, dtype=np.float32) % 2
  expected = -np.sum(weights * model.flow.log_prob(images).numpy()) / 12
  np.testing.assert_allclose(model.evaluate(images, sample_weight=weights, verbose=0), expected, rtol=1e-5)
  history = model.fit(images, sample_weight=0 * weights, validation_data=(images, None, 0 * weights), verbose=0).history
  assert (history['loss'], history['val_loss']) == ([0.0], [0.0])

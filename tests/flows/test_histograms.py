import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf import bijectors, data, flows
from flowgan_tf.flows.histograms import histogram_logits, make_networks
from flowgan_tf.keras import FlowModel
from flowgan_tf.training.initialization import TrainingImages, initialize_from_data
from tests.tiny import make_config, make_state

TINY = {'couplings': 2, 'hidden_units': 4, 'hidden_layers': 1}


def binary_images(n, shape=(2, 3, 1), seed=0):
  """Black pixels with a few grey ones, dequantized."""
  rng = np.random.default_rng(seed)
  return data.dequantize(rng.integers(1, 256, (n, *shape)).astype('uint8') * (rng.random((n, *shape)) < 0.2), 256, seed)


def test_a_new_flow_has_the_density_of_independent_pixels():
  """With as many images as make the borrowed ones negligible."""
  images = binary_images(20_000)
  flow = flows.nice((2, 3, 1), histogram_bins=4, **TINY)
  flows.fit_histograms(flow, images)
  expected = np.stack([np.histogram(images[:, i // 3, i % 3, 0], 4, (0, 1))[0] for i in range(6)]) / len(images)
  [logit] = histogram_logits(flow)
  found = logit.histograms.numpy().reshape(6, 4)
  np.testing.assert_allclose(found, expected, atol=1e-3)
  np.testing.assert_allclose(np.sum(found, axis=1), 1, rtol=1e-6)
  fresh = binary_images(2000, seed=1)
  bins = np.minimum(np.floor(fresh.reshape(-1, 6) * 4).astype(int), 3)
  independent = np.log(4 * found[np.arange(6), bins]).sum(axis=1)
  np.testing.assert_allclose(flow.log_prob(tf.constant(fresh)), independent, rtol=1e-4, atol=1e-4)


def test_rare_levels_borrow_from_other_pixels():
  """Pixel 0 is always black here. A level that other pixels have is more likely than a level that none has."""
  images = np.zeros((100, 1, 2, 1), np.float32)
  images[:, 0, 1] = 0.6
  flow = flows.nice((1, 2, 1), histogram_bins=10, **TINY)
  flows.fit_histograms(flow, images)
  first_pixels = tf.constant([0.05, 0.65, 0.35])
  tried = tf.reshape(tf.stack([first_pixels, tf.fill([3], 0.65)], axis=1), (3, 1, 2, 1))
  black, level_of_other_pixel, unknown = flow.prob(tried)
  assert black > 5 * level_of_other_pixel > 50 * unknown > 0


def test_keras_warns_of_a_flow_without_its_histograms():
  flow, images = flows.nice((2, 3, 1), histogram_bins=4, **TINY), binary_images(8)
  model = FlowModel(flow)
  model.compile('sgd')
  with pytest.warns(UserWarning, match='^all bins are equally probable; call `flowgan_tf.flows.fit_histograms` first'):
    model.fit(images, epochs=0)
  flows.fit_histograms(flow, images)
  model.fit(images, epochs=0)


def test_wrong_flows_and_images_are_rejected():
  flow = flows.nice((2, 3, 1), histogram_bins=4, **TINY)
  images = binary_images(3)
  for wrong, said in (
    (images[:0], '`images` must be at least one image'),
    (images[:, :1], '`images` must be floats of shape'),
    (images + 1, r'`images` must have values in \[0, 1\]'),
  ):
    with pytest.raises(ValueError, match=said):
      flows.fit_histograms(flow, wrong)
  with pytest.raises(ValueError, match='`flow` must be a flow with `histogram_bins`'):
    flows.fit_histograms(flows.nice((2, 3, 1), **TINY), images)
  with pytest.raises(ValueError, match='`flow` must be a flow with `histogram_bins`'):
    flows.fit_histograms(None, images)
  for wrong, said in (
    ({'histogram_bins': 1}, '`histogram_bins` must be 0 or an integer from 2 to 1024'),
    ({'histogram_bins': 5000}, '`histogram_bins` must be '),
    ({'histogram_networks': 1}, '`histogram_networks` must be 0 without `histogram_bins`'),
    (
      {'histogram_bins': 4, 'histogram_networks': 7},
      r'`histogram_networks` must be at most 6 for images of shape \(4, ',
    ),
  ):
    with pytest.raises(ValueError, match=said):
      flows.jet((4, 4, 1), patch_size=2, **wrong)
  with pytest.raises(ValueError, match='`histogram_bins` must be 0 if the condition is a smaller image'):
    flows.jet((4, 4, 1), patch_size=2, condition_shape=(2, 2, 1), histogram_bins=4)


@pytest.mark.parametrize(
  ('shape', 'sizes', 'channels'),
  [
    ((28, 28, 1), [2, 2, 2, 4, 4, 4, 4], [6, 6, 6, 12, 12, 12, 12]),
    ((32, 24, 3), [2, 2, 2, 4, 4, 4, 8], [6, 6, 6, 12, 12, 12, 24]),
    ((9, 6, 3), [1] * 7, [6] * 7),
  ],
)
def test_networks_work_at_the_resolution_of_what_they_see(shape, sizes, channels):
  networks = make_networks(shape, 256, 7, 6, 3, 'float32')
  assert [network.patch_size for network in networks] == sizes
  assert [network.channels for network in networks] == channels


def test_networks_that_cannot_be_are_rejected():
  for wrong, said in (
    ({'histogram_networks': 10}, r'`histogram_networks` must be at most 9 for images of shape \(9, 9, 1\) and 3 `hist'),
    ({'histogram_networks': 4, 'histogram_blocks': 0}, r'`histogram_networks` must be at most 3 for images'),
    ({'histogram_channels': 0}, '`histogram_channels` must be an integer from 1'),
    ({'histogram_channels': 32}, '`histogram_channels` must be 64 without `histogram_networks`'),
    ({'histogram_blocks': 2}, '`histogram_blocks` must be 3 without `histogram_networks`'),
  ):
    with pytest.raises(ValueError, match=said):
      flows.jet((9, 9, 1), patch_size=3, histogram_bins=4, **wrong)


def test_the_memory_that_is_checked_is_that_of_the_kernels(monkeypatch):
  counts = []
  monkeypatch.setattr('flowgan_tf.flows.histograms.check_memory', lambda what, size: counts.append(size))
  networks, kernels = make_networks((8, 8, 3), 5, 3, 6, 2, 'float32'), []
  for network in networks:
    network.build((None, 8, 8, 6))
    kernels += [v for v in network.trainable_variables if v.name == 'direction']
  assert counts == [4 * sum(np.prod(v.shape) for v in kernels)]


def test_a_training_fits_them_once():
  """In both generators, before the clusters, and the step does not take them for running statistics."""
  config = make_config({'nice.histogram_bins': 16, 'nice.components': 2})
  dataset = data.load('digits')
  state = make_state(config, dataset.image_shape)
  initialize_from_data(state, TrainingImages(config, dataset, dataset.train))
  [first], [second] = map(histogram_logits, (state.generator, state.ema))
  np.testing.assert_array_equal(first.histograms, second.histograms)
  # Seventeen levels share sixteen bins, so the first bin holds all black pixels and some of level 1.
  middle = dataset.train.images[:, 4, 4, 0]
  assert np.mean(middle == 0) <= first.histograms[4, 4, 0, 0] + 0.02 <= np.mean(middle <= 1) + 0.04
  noise = state.generator.encode(tf.constant(data.dequantize(dataset.train.images, dataset.levels, seed=1)))
  assert float(tf.math.reduce_std(noise)) == pytest.approx(np.pi / 3**0.5, abs=0.1)  # Logistic.
  assert state.generator.distribution.is_placed


@pytest.mark.parametrize(('values', 'images'), [(2**26, 1437), (64 * 100, 100)])
def test_each_image_counts_at_most_once_and_few_are_in_memory(values, images, monkeypatch):
  config, dataset, counted = make_config({'nice.histogram_bins': 4}), data.load('digits'), []
  monkeypatch.setattr('flowgan_tf.training.initialization._VALUES', values)
  monkeypatch.setattr(bijectors.HistogramLogit, 'fit', lambda _, found, inverse: counted.append(len(found)))
  start = TrainingImages(config, dataset, dataset.train)
  initialize_from_data(make_state(config, dataset.image_shape), start)
  assert counted == [images]

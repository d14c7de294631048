import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import special, stats

from flowgan_tf.base.errors import UsageError
from flowgan_tf.bijectors import AlphaLogit, HistogramLogit
from flowgan_tf.networks import ResidualConditioner
from tests.tiny import MODES


def histogram_logit(histograms, alpha=1e-7, dtype='float64'):
  *event_shape, bins = np.shape(histograms)
  bijector = HistogramLogit(event_shape, bins, alpha, dtype)
  bijector.histograms.assign(np.asarray(histograms, dtype))
  return bijector


def rough(bins=256, entries=3, seed=0):
  """Returns histograms like MNIST's: one bin has most of the mass, and many bins have hardly any."""
  histograms = np.random.default_rng(seed).dirichlet(np.full(bins, 0.02), entries)
  return 0.999 * histograms + 0.001 / bins


def test_a_new_bijector_is_the_alpha_logit():
  x = tf.constant(np.random.default_rng(0).uniform(size=(4, 2, 3)))
  bijector, expected = HistogramLogit((2, 3), 7, 0.01, tf.float64), AlphaLogit(0.01)
  np.testing.assert_allclose(bijector.forward(x), expected.forward(x), rtol=1e-10, atol=1e-12)
  log_det = np.sum(expected.forward_log_det_jacobian(tf.identity(x)), axis=(1, 2))
  np.testing.assert_allclose(bijector.forward_log_det_jacobian(tf.identity(x), event_ndims=2), log_det, rtol=1e-10)


@pytest.mark.parametrize('bins', [2, 17, 256])
def test_against_interpolation_and_scipy(bins):
  histograms, alpha = rough(bins), 1e-5
  bijector, x = histogram_logit(histograms, alpha), np.random.default_rng(1).uniform(size=(200, 3))
  cumulative = np.concatenate([np.zeros((3, 1)), np.cumsum(histograms, axis=1)], axis=1)
  edges = np.linspace(0, 1, bins + 1)
  f = np.stack([np.interp(x[:, i], edges, cumulative[i]) for i in range(3)], axis=1)
  y = special.logit(alpha + (1 - 2 * alpha) * f)
  np.testing.assert_allclose(bijector.forward(tf.constant(x)), y, rtol=1e-8, atol=1e-8)
  np.testing.assert_allclose(bijector.inverse(tf.constant(y)), x, rtol=0, atol=1e-8)
  density = bins * np.take_along_axis(histograms, np.floor(x * bins).astype(int).T, axis=1).T
  log_det = np.sum(np.log((1 - 2 * alpha) * density) - stats.logistic.logpdf(y), axis=1)
  np.testing.assert_allclose(bijector.forward_log_det_jacobian(tf.constant(x)), log_det, rtol=1e-8)


def test_the_density_is_exact():
  """With logistic noise the density is the histogram's, a little shrunk, and integrates to 1 with what lies beyond."""
  [histogram], alpha = rough(8, 1), 0.05
  flow = tfp.bijectors.Invert(histogram_logit([histogram], alpha))(
    tfp.distributions.Independent(tfp.distributions.Logistic(np.zeros(1), 1.0), 1)
  )
  edges = np.linspace(0, 1, 9)
  np.testing.assert_allclose(flow.prob((edges[:-1, None] + edges[1:, None]) / 2), 0.9 * 8 * histogram, rtol=1e-10)
  ends = -0.05 / 0.9, 1 + 0.05 / 0.9
  np.testing.assert_allclose(flow.prob([[-0.01], [1.02]]), 0.9, rtol=1e-10)
  np.testing.assert_allclose(flow.bijector.forward(np.array([[-200.0], [200.0]])), np.transpose([ends]), rtol=1e-6)
  borders = np.sort([*ends, *edges])
  nodes, weights = special.roots_legendre(20)
  points = borders[:-1, None] + np.diff(borders)[:, None] * (nodes + 1) / 2
  mass = flow.prob(points[..., None]).numpy() @ weights * np.diff(borders) / 2
  assert mass.sum() == pytest.approx(1, abs=1e-6)


def test_pixels_of_the_histograms_become_logistic():
  histograms, rng = rough(), np.random.default_rng(2)
  levels = np.stack([rng.choice(256, 5000, p=histogram / histogram.sum()) for histogram in histograms], axis=1)
  y = histogram_logit(histograms).forward(tf.constant((levels + rng.uniform(size=levels.shape)) / 256)).numpy()
  for i in range(3):
    assert stats.kstest(y[:, i], stats.logistic.cdf).pvalue > 1e-3


@pytest.mark.parametrize(
  ('mode', 'dtype', 'tolerance'),
  [
    ('eager', 'float64', 1e-11),
    ('graph', 'float32', 5e-4),
    pytest.param('XLA', 'float32', 5e-4, marks=pytest.mark.slow),  # XLA compiles the search for bins for a minute.
  ],
)
def test_every_value_comes_back_and_is_finite(mode, dtype, tolerance):
  bijector, run = histogram_logit(rough(entries=1), dtype=dtype), MODES[mode]
  y = np.concatenate([-np.geomspace(1e-3, 1e4, 500), np.linspace(-30, 30, 5001), np.geomspace(1e-3, 1e4, 500)])
  y = tf.constant(y[:, np.newaxis], dtype)
  x, log_det = run(lambda y: (bijector.inverse(y), bijector.inverse_log_det_jacobian(tf.identity(y))))(y)
  again, log_det_again, x_again = run(
    lambda x: (bijector.forward(x), bijector.forward_log_det_jacobian(x), bijector.inverse(bijector.forward(x) + 0.0))
  )(tf.identity(x))
  for values in (x, log_det, again, log_det_again):
    assert np.all(np.isfinite(values))
  inside = np.abs(y[:, 0]) < 10
  np.testing.assert_allclose(x_again, x, rtol=0, atol=tolerance / 4)
  np.testing.assert_allclose(again[inside], y[inside], rtol=0, atol=tolerance)
  np.testing.assert_allclose(log_det_again[inside], -log_det[inside], rtol=0, atol=tolerance)
  assert np.all(np.diff(x.numpy()[np.argsort(y[:, 0]), 0]) >= 0)


@pytest.mark.parametrize('mode', ['eager', 'XLA'])
def test_outside_the_range_there_is_no_density_and_no_nan(mode):
  bijector = histogram_logit(rough(5, 1), dtype='float32')
  x = tf.constant([[-np.inf], [-3.0], [0.5], [4.0], [np.inf], [np.nan]], tf.float32)

  def values_and_gradients(x):
    with tf.GradientTape(persistent=True) as tape:
      tape.watch(x)
      y, log_det = bijector.forward(x), bijector.forward_log_det_jacobian(x)
    return y, log_det, tape.gradient(y, x), tape.gradient(log_det, x)

  y, log_det, *gradients = (values.numpy() for values in MODES[mode](values_and_gradients)(x))
  assert np.isnan(y[5, 0]) and np.isnan(log_det[5])
  assert np.all(np.isneginf(log_det[[0, 1, 3, 4]])) and np.isfinite(log_det[2])
  np.testing.assert_allclose(y[[0, 1, 3, 4], 0], [y[0, 0], y[0, 0], -y[0, 0], -y[0, 0]], rtol=1e-6)
  for gradient in gradients:
    assert np.all(gradient[[0, 1, 3, 4]] == 0) and np.isfinite(gradient[2])
  assert np.isnan(bijector.inverse([[np.nan]]))


@pytest.mark.parametrize('bins', [49, 256])
def test_rounding_moves_no_pixel_to_another_bin(bins):
  """One bin has most of the mass. At both of its ends, the density of the inverse is the density of its result."""
  bijector, k = HistogramLogit((1,), bins), bins // 2
  probs = np.full(bins, 1e-4)
  probs[k] = 1 - probs[:-1].sum()
  bijector.histograms.assign(probs[np.newaxis])
  for end in (probs[:k].sum(), probs[: k + 1].sum()):
    y = tf.constant(special.logit(end + np.linspace(-1e-6, 1e-6, 20_000)[:, np.newaxis]), tf.float32)
    x, log_det = bijector.inverse(y), bijector.inverse_log_det_jacobian(y)
    np.testing.assert_allclose(bijector.forward_log_det_jacobian(tf.identity(x)), -log_det, atol=0.1)


def given_coarser_pixels(shape, bins, count, dtype='float64', condition_shape=None):
  """Histograms and networks of random weights."""
  keras.utils.set_random_seed(0)
  outputs = shape[-1] * HistogramLogit.group_count(bins)
  networks = [ResidualConditioner(outputs, 4, 1, dtype=dtype) for _ in range(count)]
  bijector = HistogramLogit(shape, bins, dtype=dtype, conditioners=networks, condition_shape=condition_shape)
  rng = np.random.default_rng(0)
  bijector.histograms.assign(rng.dirichlet(np.ones(bins), shape))
  for variable in bijector.trainable_variables:
    variable.assign_add(rng.normal(0, 0.5, variable.shape))
  return bijector


@pytest.mark.parametrize('condition', [None, [1.0, -1.0]])
def test_densities_of_all_images_sum_to_one(condition):
  """With logistic noise the density is constant within bins. These are all images of 2 x 2 x 2 values in three bins."""
  shape, bins = (2, 2, 2), 3
  bijector = given_coarser_pixels(shape, bins, 3, condition_shape=None if condition is None else (2,))
  given = {} if condition is None else {'condition': tf.constant(condition, tf.float64)[tf.newaxis]}
  levels = np.stack(np.meshgrid(*[np.arange(bins)] * 8, indexing='ij'), axis=-1).reshape(-1, *shape)
  x = tf.constant((levels + 0.3) / bins)
  if given:
    given['condition'] = tf.repeat(given['condition'], len(levels), axis=0)
  y, log_det = bijector.forward(x, **given), bijector.forward_log_det_jacobian(tf.identity(x), event_ndims=3, **given)
  densities = np.exp(stats.logistic.logpdf(y).sum(axis=(1, 2, 3)) + log_det)
  assert densities.sum() / bins**8 == pytest.approx(1, abs=1e-5)
  assert densities.std() > 0.5 * densities.mean()  # Not the uniform distribution.


def test_the_bins_of_one_turn_after_the_other_have_the_density():
  bijector, bins = given_coarser_pixels((4, 4, 1), 8, 4), 8
  x, known = np.random.default_rng(1).uniform(size=(2, 3, 16)), np.zeros(16, bool)
  events = tf.constant(x[0].reshape(3, 4, 4, 1))
  log_prob = stats.logistic.logpdf(bijector.forward(events)).sum(axis=(1, 2, 3))
  log_prob += bijector.forward_log_det_jacobian(tf.identity(events), event_ndims=3)
  for turn in range(bijector.turns):
    entries, probs = bijector.bin_probs(tf.constant(np.where(known, *x).reshape(3, 4, 4, 1)), turn)
    np.testing.assert_allclose(tf.reduce_sum(probs, axis=-1), 1, rtol=1e-12)
    own = np.take_along_axis(probs.numpy(), np.floor(x[0][:, entries, np.newaxis] * bins).astype(int), -1)
    log_prob -= np.log(bins * own).sum(axis=(1, 2))
    assert not known[entries].any()
    known[entries] = True
  assert known.all()
  np.testing.assert_allclose(log_prob, 16 * np.log(1 - 2 * bijector.alpha), atol=1e-9)


def test_bins_in_a_graph_of_any_batch_size():
  bijector, x = given_coarser_pixels((4, 4, 1), 8, 4), np.random.default_rng(1).uniform(size=(3, 4, 4, 1))
  spec = tf.TensorSpec((None, 4, 4, 1), tf.float64)
  # AutoGraph would also give tensors of unknown size a length.
  probs = tf.function(lambda x: bijector.bin_probs(x, 0)[1], input_signature=[spec], autograph=False)(x)
  np.testing.assert_allclose(probs, bijector.bin_probs(tf.constant(x), 0)[1], rtol=1e-12)


def test_pixels_depend_on_coarser_ones_alone():
  bijector = given_coarser_pixels((4, 4, 1), 8, 4)
  numbers = np.array([[4, 0, 3, 0], [1, 2, 1, 2], [4, 0, 4, 0], [1, 2, 1, 2]])
  x = np.random.default_rng(1).uniform(size=(4, 4, 1))
  y = bijector.forward(tf.constant(x)).numpy()
  for number in range(5):
    moved = np.where(numbers[..., np.newaxis] == number, 1 - x, x)
    changed = (bijector.forward(tf.constant(moved)).numpy() != y)[..., 0]
    assert changed[numbers == number].all() and not changed[numbers > number].any()
    assert number == 0 or changed[numbers < number].mean() > 0.5


def test_networks_tell_levels_near_the_ends_apart():
  """Two neighbouring levels have the same probability if they belong to one group."""
  bijector = given_coarser_pixels((2, 2, 1), 256, 1)
  bijector.histograms.assign(tf.fill(bijector.histograms.shape, tf.constant(1 / 256, tf.float64)))
  x = np.full((2, 6, 2, 2, 1), 0.3)
  x[:, :, 0, 1, 0] = np.add.outer([0.5, 1.5], [0, 5, 100, 248, 249, 254]) / 256
  y, log_det = bijector.forward(tf.constant(x)), bijector.forward_log_det_jacobian(tf.constant(x), event_ndims=3)
  log_probs = log_det + stats.logistic.logpdf(y).sum(axis=(2, 3, 4))
  assert (np.abs(log_probs[0] - log_probs[1]) > 1e-3).tolist() == [True, True, False, False, True, True]


def test_each_group_of_bins_keeps_a_thousandth_of_its_probability():
  """The network puts all mass on the first of four groups, which are single bins."""
  bijector = given_coarser_pixels((2, 2, 1), 4, 1)
  for variable in bijector.trainable_variables:
    variable.assign(tf.zeros_like(variable))
  bijector.trainable_variables[-1].assign([1e4, 0.0, 0.0, 0.0])
  shares, x = bijector.histograms.numpy()[0, 1, 0], np.full((4, 2, 2, 1), 0.1)
  x[:, 0, 1, 0] = (np.arange(4) + 0.3) / 4
  y, log_det = bijector.forward(tf.constant(x)), bijector.forward_log_det_jacobian(tf.constant(x), event_ndims=3)
  densities = np.exp(stats.logistic.logpdf(y).sum(axis=(1, 2, 3)) + log_det)
  np.testing.assert_allclose(densities / densities.sum(), 0.999 * np.array([1, 0, 0, 0]) + 0.001 * shares, rtol=1e-5)


def test_networks_see_the_middle_of_a_bin():
  bijector = given_coarser_pixels((2, 2, 1), 4, 2)
  x = tf.constant(np.array([[0.3, 0.6], [0.6, 0.9]])[..., np.newaxis])
  moved = tf.constant(np.array([[0.4, 0.6], [0.6, 0.8]])[..., np.newaxis])
  for i, j in ((0, 1), (1, 0)):
    np.testing.assert_array_equal(bijector.forward(x)[i, j], bijector.forward(moved)[i, j])
  gradients = []
  for bijector.surrogate_gradients in (False, True):
    with tf.GradientTape() as tape:
      tape.watch(x)
      dependent = bijector.forward(tf.identity(x))[1, 0, 0]
    gradients.append(tape.gradient(dependent, x).numpy()[..., 0])
  assert gradients[0][0, 0] == 0 and gradients[1][0, 0] != 0 and gradients[1][0, 1] == 0
  assert gradients[0][1, 0] == gradients[1][1, 0] != 0


def test_gradients_of_images_are_bounded_in_adversarial_training():
  """A bin with a density below 0.1 gets the gradient of a density of 0.1. Nothing else changes."""
  bijector = histogram_logit([[0.5, 0.0001, 0.4999]])
  y = tf.constant(np.concatenate([np.linspace(-8, 8, 200), np.linspace(-1e-4, 5e-4, 200)])[:, np.newaxis])
  images, gradients = [], []
  for bijector.surrogate_gradients in (False, True):
    with tf.GradientTape() as tape:
      tape.watch(y)
      images.append(bijector.inverse(tf.identity(y)))
    gradients.append(tape.gradient(images[-1], y).numpy())
  np.testing.assert_array_equal(*images)
  slope = special.expit(y) * special.expit(-y)
  density = 3 * np.array([0.5, 0.0001, 0.4999])[np.minimum(np.floor(images[0].numpy() * 3), 2).astype(int)]
  np.testing.assert_allclose(gradients[0], slope / density, rtol=1e-5)
  np.testing.assert_allclose(gradients[1], slope / np.maximum(density, 0.1), rtol=1e-5)
  assert gradients[0].max() > 500 and gradients[1].max() < 2.6


def test_values_outside_the_unit_interval_do_not_spread():
  """To other pixels, by way of the networks."""
  bijector = given_coarser_pixels((2, 2, 1), 4, 1)
  x = np.full((2, 2, 2, 1), 0.5)
  x[0, 0, 0], x[1, 0, 0] = np.inf, -3.0
  y, log_det = bijector.forward(tf.constant(x)), bijector.forward_log_det_jacobian(tf.constant(x), event_ndims=3)
  assert np.all(np.isfinite(y)) and np.all(np.isneginf(log_det))


def test_conditions_are_broadcast_and_must_fit():
  bijector = given_coarser_pixels((2, 2, 1), 4, 1, condition_shape=(3,))
  x = tf.constant(np.random.default_rng(0).uniform(size=(5, 4, 2, 2, 1)))
  condition = tf.constant(np.arange(12.0).reshape(4, 3))
  y = bijector.forward(x, condition=condition)
  np.testing.assert_allclose(y[3, 2], bijector.forward(x[3, 2], condition=condition[2]), rtol=1e-10)
  with pytest.raises(ValueError, match='`condition` must be given if and only if there is a `condition_shape`'):
    bijector.forward(x)
  with pytest.raises(ValueError, match=r'expects events of shape \(3,\)'):
    bijector.forward(x, condition=condition[:, :1])
  with pytest.raises(ValueError, match='`condition_shape` must be None without `conditioners`'):
    HistogramLogit((2,), 4, condition_shape=(3,))


def test_arguments_out_of_range_are_rejected():
  for wrong in ({'bins': 1}, {'bins': 2.5}, {'alpha': 0.0}, {'alpha': 0.2}):
    with pytest.raises(ValueError, match=rf'`{next(iter(wrong))}`.*Got: '):
      HistogramLogit((2,), **wrong)
  network = ResidualConditioner(8, 4, 1)
  with pytest.raises(ValueError, match=r'`conditioners` must be networks that return the shape \(4, 4, 2\)'):
    HistogramLogit((4, 4, 1), 2, conditioners=[network])
  with pytest.raises(ValueError, match=r'`conditioners` must be at most 3 for events of shape \(2, 2, 1\)'):
    HistogramLogit((2, 2, 1), conditioners=[network] * 4)
  with pytest.raises(ValueError, match=r'`conditioners` must be at most 0 for events of shape \(4,\)'):
    HistogramLogit((4,), conditioners=[network])
  with pytest.raises(ValueError, match=r'expects events of shape \(2,\)'):
    HistogramLogit((2,), 4).forward(tf.zeros((5, 3)))


@pytest.mark.parametrize('wrong', [-1e-3, 1.5, np.nan])
def test_only_images_in_the_unit_interval_are_counted(wrong):
  images = np.full((3, 2, 2, 1), 0.5)
  images[1, 0, 1] = wrong
  with pytest.raises(UsageError, match=r'`values` must be images in \[0, 1\]\. Got: '):
    HistogramLogit((2, 2, 1), bins=4).fit(images)


@pytest.mark.parametrize('shape', [(0, 2, 2, 1), (3, 2, 4, 1), (3, 4)])
def test_only_images_of_its_shape_are_counted(shape):
  with pytest.raises(UsageError, match=r'`values` must be images \[n, \*\(2, 2, 1\)\]\. Got: '):
    HistogramLogit((2, 2, 1), bins=4).fit(np.zeros(shape))


@pytest.mark.parametrize('alpha', [1e-7, 1e-5, 0.05])
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_both_directions_see_black_and_white_alike(dtype, alpha):
  """Rounding puts an exact 0 or 1 just outside of the interval."""
  bijector = HistogramLogit((4, 4, 1), 16, alpha=alpha, dtype=dtype)
  bijector.fit(np.random.default_rng(0).uniform(size=(64, 4, 4, 1)))
  x = tf.constant(np.arange(2.0).reshape(2, 1, 1, 1) * np.ones((1, 4, 4, 1)), dtype)
  y = bijector.forward(x)
  forward = bijector.forward_log_det_jacobian(x, event_ndims=3)
  inverse = bijector.inverse_log_det_jacobian(tf.identity(y), event_ndims=3)
  np.testing.assert_allclose(forward, -inverse, rtol=1e-3)

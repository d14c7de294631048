"""Flows of vectors: their units, their masks, and what is rejected."""

import copy
import types

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from flowgan_tf import bijectors, flows
from flowgan_tf.base.errors import UsageError
from flowgan_tf.keras import FlowModel
from tests.bijectors.test_bijectors_all import log_det_by_autodiff

MEAN, STD = np.array([1000.0, 0.5, -3.0]), np.array([20.0, 0.001, 4.0])


def rows(n=200, seed=0):
  return np.random.default_rng(seed).normal(MEAN, STD, (n, 3)).astype(np.float32)


def tiny(columns=3, **arguments):
  return flows.vectors(columns, **{'couplings': 4, 'hidden_units': 8, 'hidden_layers': 1} | arguments)


def randomise(flow, scale=0.3):
  rng = np.random.default_rng(0)
  for variable in flow.trainable_variables:
    variable.assign(variable + rng.normal(0.0, scale, variable.shape))
  return flow


def test_a_new_flow_is_the_normal_distribution_of_each_column():
  flow, data = tiny(dtype='float64'), rows()
  flows.standardize(flow, data)
  of_columns = scipy.stats.norm(data.mean(axis=0, dtype=np.float64), data.std(axis=0, dtype=np.float64))
  expected = of_columns.logpdf(data.astype(np.float64)).sum(axis=1)
  np.testing.assert_allclose(flow.log_prob(data.astype(np.float64)), expected, rtol=1e-10)


def test_a_training_of_a_new_flow_starts_from_the_units_of_all_rows():
  flow, data = tiny(dtype='float64'), rows().astype(np.float64)
  flow.initialize(types.SimpleNamespace(labels=None, seed=0, trained=lambda n=None: (data[:n], None)))
  expected = scipy.stats.norm(data.mean(axis=0), data.std(axis=0)).logpdf(data).sum(axis=1)
  np.testing.assert_allclose(flow.log_prob(data), expected, rtol=1e-10)


def test_classes_that_are_drawn_do_not_depend_on_the_noise():
  """Labels and noise of one seed would be made of the same bits, so that each 1/16 of the noise has its own labels."""
  flow = tiny(2, classes=3, prior='logistic')
  _, labels, seed = flow._condition_of_samples(2_000, None, (0, 1))
  noise = scipy.stats.logistic.cdf(flow.distribution.sample(2_000, seed=seed))
  for column in noise.T:
    assert scipy.stats.chi2_contingency(np.histogram2d(column, labels, [16, 3])[0]).pvalue > 1e-3


def test_the_density_is_that_of_the_noise_times_the_jacobian():
  flow = randomise(tiny(dtype='float64', prior='logistic'))
  flows.standardize(flow, rows())
  x = tf.constant(rows(1, seed=1), tf.float64)
  z = tf.identity(flow.encode(x))
  np.testing.assert_allclose(flow.decode(z), x, rtol=1e-12)
  expected = scipy.stats.logistic.logpdf(z).sum() + log_det_by_autodiff(flow.encode, x)
  np.testing.assert_allclose(flow.log_prob(tf.identity(x)), expected, rtol=1e-9)


@pytest.mark.parametrize(
  ('columns', 'arguments'), [(16, {}), *((n, {'couplings': 2 * (n - 1).bit_length()}) for n in (2, 3, 5, 8, 17))]
)
def test_each_two_columns_are_in_different_parts_of_some_coupling(columns, arguments):
  flow = flows.vectors(columns, hidden_units=1, **arguments)
  couplings = [m for m in flow.submodules if isinstance(m, bijectors.AffineCoupling)]
  ones = np.array([c.mask.split(tf.ones(columns))[0] for c in sorted(couplings, key=lambda c: c.name)])
  np.testing.assert_array_equal(ones[::2] + ones[1::2], 1)
  parted = (ones[:, :, np.newaxis] != ones[:, np.newaxis]).any(axis=0)
  np.testing.assert_array_equal(parted, ~np.eye(columns, dtype=bool))


@pytest.mark.slow
def test_copies_and_files_keep_the_units_and_train(tmp_path):
  keras.utils.set_random_seed(0)
  flow, data = tiny(couplings=2), rows()
  data[:, 2] = MEAN[2] + STD[2] * np.sin(data[:, 0] / 10)
  flows.standardize(flow, data)
  assert len(flow.trainable_variables) == len(flow.variables) - 2
  model = FlowModel(flow)
  model.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
  before = model.evaluate(data, verbose=0)
  model.fit(data, batch_size=50, epochs=5, verbose=0)
  assert model.evaluate(data, verbose=0) < before - 0.01
  model.save(tmp_path / 'flow.keras')
  expected = flow.log_prob(data)
  for other in (keras.saving.load_model(tmp_path / 'flow.keras').flow, copy.deepcopy(flow)):
    np.testing.assert_array_equal(other.log_prob(data), expected)
  np.testing.assert_allclose(flow.with_dtype('float64').log_prob(data.astype(np.float64)), expected, atol=1e-2)


@pytest.mark.parametrize('given', [{'classes': 2}, {'condition_shape': (2,)}])
def test_a_conditional_density_integrates_to_1(given):
  flow = randomise(tiny(2, **given), scale=0.2)
  flows.standardize(flow, rows()[:, 1:])
  axes = [mean + std * np.linspace(-15, 15, 250) for mean, std in zip(MEAN[1:], STD[1:], strict=True)]
  grid = np.stack(np.meshgrid(*axes), axis=-1).astype(np.float32)
  area = np.prod([axis[1] - axis[0] for axis in axes])
  conditions = [0, 1] if 'classes' in given else np.float32([[0, 1], [2, -1]])
  one, other = (np.exp(flow.log_prob(grid, condition=condition)) * area for condition in conditions)
  assert one.sum() == pytest.approx(1, abs=1e-2) and other.sum() == pytest.approx(1, abs=1e-2)
  assert np.abs(one - other).sum() > 0.05


def test_columns_within_bounds_have_exact_densities():
  """A new flow is logit-normal, log-normal and normal; with random weights, its density still integrates to 1."""
  rng = np.random.default_rng(0)
  noise = rng.normal([0.3, 1.0, -0.5, 0.1], [0.5, 0.3, 0.2, 2.0], (300, 4))
  data = np.column_stack([2 + 3 * scipy.special.expit(noise[:, 0]), np.exp(noise[:, 1]), 5 - np.exp(noise[:, 2])])
  data = np.column_stack([data, noise[:, 3]])
  flow = tiny(4, bounds=[(2, 5), (0, None), (None, 5), (None, None)], dtype='float64')
  flows.standardize(flow, data)
  mean, std = noise.mean(axis=0), noise.std(axis=0)
  share = (data[:, 0] - 2) / 3
  expected = scipy.stats.norm.logpdf(scipy.special.logit(share), mean[0], std[0]) - np.log(3 * share * (1 - share))
  for i, positive in ((1, data[:, 1]), (2, 5 - data[:, 2])):
    expected += scipy.stats.lognorm.logpdf(positive, std[i], scale=np.exp(mean[i]))
  expected += scipy.stats.norm.logpdf(data[:, 3], mean[3], std[3])
  np.testing.assert_allclose(flow.log_prob(data), expected, rtol=1e-9, atol=1e-9)
  samples = randomise(flow).sample(200, seed=(0, 1)).numpy()
  assert samples[:, 0].min() > 2 and samples[:, :3].max() > 2
  assert samples[:, 0].max() < 5 and samples[:, 1].min() > 0 and samples[:, 2].max() < 5


@pytest.mark.parametrize('wrapped', [lambda function: function, tf.function])
def test_the_density_beyond_bounds_is_0_as_in_scipy(wrapped):
  """Its gradient is finite there, and inside that of a logit-normal and a log-normal density."""
  flow = tiny(2, bounds=[(0, 1), (2, None)], dtype='float64')
  rows = [[0.3, 2.5], [0.0, 2.5], [1.0, 2.5], [1.5, 3.0], [-1.0, 1.0], [0.3, 2.0], [0.3, np.nan]]
  rows = tf.constant(rows, tf.float64)
  with tf.GradientTape() as tape:
    tape.watch(rows)
    log_prob = wrapped(flow.log_prob)(rows)
  gradient = tape.gradient(log_prob, rows).numpy()
  expected = scipy.stats.beta.logpdf(rows[:, 0], 2, 2) + scipy.stats.gamma.logpdf(rows[:, 1], 2, loc=2)
  for found in (np.isneginf, np.isnan):
    np.testing.assert_array_equal(found(log_prob), found(expected))
  share, positive = 0.3, 0.5
  inside = [-(scipy.special.logit(share) + 1 - 2 * share) / (share * (1 - share)), -(np.log(positive) + 1) / positive]
  np.testing.assert_allclose(gradient[0], inside, rtol=1e-9)
  assert np.isfinite(gradient[:6]).all()


def test_the_density_within_bounds_integrates_to_1():
  flow = randomise(tiny(2, bounds=[(0, 1), (0, None)], dtype='float64'))
  way = np.linspace(-25, 25, 701)
  share, positive = scipy.special.expit(way), np.exp(way)
  points = np.stack(np.meshgrid(share, positive, indexing='ij'), axis=-1).reshape(-1, 2)
  widths = np.outer(share * (1 - share), positive).ravel() * (way[1] - way[0]) ** 2
  assert np.exp(flow.log_prob(points).numpy()) @ widths == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
  ('bounds', 'data', 'argument'),
  [
    ([(0, 1)], None, 'bounds'),
    ([(0, 1), (2, 1)], None, 'bounds'),
    ([(0, 1), (0, None)], [[0.5, 1.0], [1.0, 2.0]], 'rows'),
    ([(0, 1), (0, None)], [[0.5, 1.0], [0.6, -2.0]], 'rows'),
  ],
)
def test_wrong_bounds_and_rows_outside_are_rejected(bounds, data, argument):
  with pytest.raises(UsageError, match=f'^`{argument}` must be ') as raised:
    flows.standardize(tiny(2, bounds=bounds), np.array(data, np.float32))
  assert raised.value.argument == argument


@pytest.mark.parametrize('prior', ['normal', 'logistic'])
def test_a_row_that_overflows_has_density_0(prior):
  flow = randomise(tiny(prior=prior))
  values = flow.log_prob(np.float32([[3e38, 3e38, 3e38], [0, -np.inf, 0], [np.nan, 0, 0], [0, 0, 0]])).numpy()
  np.testing.assert_array_equal(values[:3], [-np.inf, -np.inf, np.nan])
  assert np.isfinite(values[3])


@pytest.mark.parametrize('shape', [1, (1,), 2.5, 'ab', (2, 2), None])
def test_wrong_shapes_are_rejected(shape):
  with pytest.raises(UsageError, match=r'`vector_shape` must be a number of at least 2 columns d, or \(d,\)\. Got: '):
    flows.vectors(shape)


@pytest.mark.parametrize(
  ('build', 'data', 'message'),
  [
    (tiny, rows()[:, :2], r'`rows` must be floats of shape \[n, 3\]. Got: float32 of shape \(200, 2\)'),
    (tiny, rows() * [1, 0, 1], 'Got: column 1 with mean 0 and standard deviation 0'),
    (tiny, np.float32([0, 1, 1e7]) + rows() / [20, 1, 4], 'more than float32 resolves. Got: column 2 with mean 1e'),
    (tiny, np.where(rows() > 1040, np.nan, rows()), '`rows` must be finite numbers'),
    (tiny, rows() * 1e30, '`rows` must be finite numbers, of at most 1e\\+30 in absolute value'),
    (tiny, rows() * [1, 1, 1e-39], 'Got: column 2 with mean'),
    (tiny, np.where(rows() == rows()[5], np.float32([1e12, 0, 0]), rows()), 'Got: 1e\\+12 in column 0, beside which'),
    (tiny, rows()[:1], '`rows` must be at least two rows. Got: 1'),
    (lambda: flows.nice((1, 3, 1)), rows(), '`flow` must be a flow made by `vectors`. Got: '),
    (lambda: None, rows(), '`flow` must be a flow made by `vectors`. Got: None'),
  ],
)
def test_rows_that_cannot_be_standardised_are_rejected(build, data, message):
  with pytest.raises(UsageError, match=message):
    flows.standardize(build(), data)


def test_numbers_of_numpy_are_numbers():
  flow = flows.vectors(np.int64(3), couplings=np.int32(2), hidden_units=np.int64(4))
  assert flow.event_shape == (3,) and flow.log_prob(rows(2)).shape == (2,)

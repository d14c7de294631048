"""Densities integrate to 1, by midpoint sums in float64 and to 1e-2."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf import bijectors, flows
from flowgan_tf.bijectors import masks
from flowgan_tf.networks import dense_conditioner

tfb, tfd = tfp.bijectors, tfp.distributions


@pytest.fixture(autouse=True)
def seeded_initial_weights():
  keras.utils.set_random_seed(0)


def randomise(module, scale, seed=0):
  rng = np.random.default_rng(seed)
  for variable in module.trainable_variables:
    variable.assign(variable + rng.normal(0.0, scale, variable.shape))


def midpoints(low, high, n):
  edges = np.linspace(low, high, n + 1)
  return (edges[1:] + edges[:-1]) / 2, (high - low) / n


def integral_over_square(log_prob, low, high, n, shape):
  points, width = midpoints(low, high, n)
  grid = np.stack(np.meshgrid(points, points), axis=-1).reshape(n * n, *shape)
  return np.exp(log_prob(tf.constant(grid))).sum() * width**2


@pytest.mark.parametrize('prior', ['logistic', 'normal'])
@pytest.mark.parametrize('alpha', [1e-7, 0.05])
def test_one_dimension(alpha, prior):
  """A scaled prior on the line, taken to the interval, which ends `alpha / (1 - 2 alpha)` beyond [0, 1]."""
  scaling = bijectors.DiagonalScaling((1,), dtype=tf.float64)
  scaling.trainable_variables[0].assign([-0.7])
  chain = tfb.Chain([tfb.Invert(bijectors.AlphaLogit(alpha)), scaling])
  flow = flows.Flow(flows.flow.prior(prior, (1,), tf.float64), chain, name='line')
  margin = alpha / (1 - 2 * alpha)
  points, width = midpoints(-margin, 1 + margin, 20_000)
  density = np.exp(flow.log_prob(tf.constant(points[:, np.newaxis])))
  assert np.ptp(density) > 0.5
  assert density.sum() * width == pytest.approx(1.0, abs=1e-2)


@pytest.mark.parametrize('kind', [bijectors.AdditiveCoupling, bijectors.AffineCoupling])
def test_two_dimensions(kind):
  outputs = 2 if kind is bijectors.AffineCoupling else 1
  parts = []
  for i in range(4):
    network = dense_conditioner(outputs, 8, 1, 'none', 'float64')
    parts.append(kind(network, masks.even_odd(2, swap=i % 2 == 1), name=f'coupling_{i}'))
    parts.append(bijectors.BatchNormalization((2,), dtype=tf.float64, name=f'norm_{i}'))
    parts[-1].variables[0].assign([0.3, -0.2])
    parts[-1].variables[1].assign([0.8, 1.2])
  chain = tfb.Chain(parts)
  randomise(chain, 0.25)
  flow = tfd.TransformedDistribution(flows.flow.prior('normal', (2,), tf.float64), chain)
  samples = flow.sample(2000, seed=(0, 1)).numpy()
  bound = 1.5 * np.abs(samples).max()
  assert bound < 30 and np.abs(np.corrcoef(samples.T)[0, 1]) > 0.05
  total = integral_over_square(flow.log_prob, -bound, bound, 500, (2,))
  assert total == pytest.approx(1.0, abs=1e-2)


@pytest.mark.parametrize('name', ['nice', 'real_nvp'])
def test_images_of_two_pixels(name):
  """Over the unit square, which is all that alpha = 1e-7 leaves."""
  if name == 'nice':
    flow = flows.nice((1, 2, 1), hidden_units=8, hidden_layers=1, normalization='scalar_batch', dtype='float64')
  else:
    flow = flows.real_nvp((1, 2, 1), 1, channels=4, blocks=1, batch_norm_between=True, dtype='float64')
  randomise(flow, 0.3)
  for variable in flow.variables:
    if variable.name.endswith('log_scale:0'):
      # Towards noise NICE stretches: without that its density has poles at the borders, where a midpoint sum is poor.
      variable.assign([0.5, 0.7])
  assert len(flow.trainable_variables) > 10
  x = flow.sample(1000, seed=(0, 1)).numpy().reshape(1000, 2)
  assert np.abs(np.corrcoef(x.T)[0, 1]) > 0.01
  total = integral_over_square(flow.log_prob, 0.0, 1.0, 400, (1, 2, 1))
  assert total == pytest.approx(1.0, abs=1e-2)


@pytest.mark.parametrize('name', ['nice', 'real_nvp'])
def test_samples_follow_the_density(name):
  """The share of samples in each quarter of the square is its integral, to four standard deviations of the counts."""
  if name == 'nice':
    flow = flows.nice((1, 2, 1), hidden_units=8, hidden_layers=1, normalization='none', dtype='float64')
  else:
    flow = flows.real_nvp((1, 2, 1), 1, channels=4, blocks=0, normalization='none', dtype='float64')
  randomise(flow, 0.4, seed=3)
  for variable in flow.variables:
    if variable.name.endswith('log_scale:0'):
      variable.assign([0.5, 0.7])
  x = flow.sample(10_000, seed=(0, 1)).numpy().reshape(-1, 2)
  points, width = midpoints(0.0, 1.0, 200)
  grid = np.stack(np.meshgrid(points, points), axis=-1).reshape(-1, 2)
  density = np.exp(flow.log_prob(tf.constant(grid.reshape(-1, 1, 2, 1))))
  for first in (True, False):
    for second in (True, False):
      share = np.mean(((x[:, 0] < 0.5) == first) & ((x[:, 1] < 0.5) == second))
      mass = density[((grid[:, 0] < 0.5) == first) & ((grid[:, 1] < 0.5) == second)].sum() * width**2
      assert share == pytest.approx(mass, abs=4 * np.sqrt(0.25 / 10_000))

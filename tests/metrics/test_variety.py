"""Precision, recall, density and coverage, and the test for copies."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.spatial.distance import cdist

from flowgan_tf.base.errors import UsageError
from flowgan_tf.metrics import variety
from flowgan_tf.metrics.variety import near_copies, nearest_distances, prdc


@pytest.fixture
def rng():
  return np.random.default_rng(0)


def features(rng, n=120, m=90, d=6):
  """Samples that are partly inside and partly outside the real images, with more of one kind."""
  samples = rng.normal(size=(n, d)).astype(np.float32)
  samples[: n // 3] *= 0.2
  return samples + 0.5, rng.normal(size=(m, d)).astype(np.float32)


def by_definition(samples, references, k):
  """The formulas of Naeem et al., with a loop for each sum."""
  distances = cdist(samples, references)
  radii = [np.sort(np.delete(row, i))[k - 1] for i, row in enumerate(cdist(references, references))]
  sample_radii = [np.sort(np.delete(row, j))[k - 1] for j, row in enumerate(cdist(samples, samples))]
  n, m = distances.shape
  inside = [[distances[j, i] < radii[i] for i in range(m)] for j in range(n)]
  return (
    sum(any(row) for row in inside) / n,
    sum(any(distances[j, i] < sample_radii[j] for j in range(n)) for i in range(m)) / m,
    sum(sum(row) for row in inside) / (k * n),
    sum(min(distances[:, i]) < radii[i] for i in range(m)) / m,
  )


@pytest.mark.parametrize(('k', 'block'), [(1, 7), (3, 50), (5, 1024)])
def test_prdc_is_what_the_definitions_give(rng, monkeypatch, k, block):
  monkeypatch.setattr(variety, '_BLOCK_ROWS', block)
  samples, references = features(rng)
  found = prdc(samples, references, k)
  assert found == pytest.approx(by_definition(samples.astype(float), references.astype(float), k), abs=1e-12)
  assert len(set(found)) == 4 and min(found) > 0.1


@pytest.mark.parametrize('k', [3, 5])
def test_prdc_agrees_with_the_package_of_naeem_et_al(rng, k):
  package = pytest.importorskip('prdc')
  samples, references = (x.astype(np.float64) for x in features(rng, 700, 500, 16))
  assert prdc(samples, references, k)._asdict() == pytest.approx(package.compute_prdc(references, samples, k), abs=1e-6)


def test_prdc_by_hand():
  """On a line, with k = 1. Balls are open.

  Real images at 0, 1 and 10 have the radii 1, 1 and 9. The sample at 0.5 lies in two balls, that at 1 in one and on the
  border of two, that at 20.5 in none. The samples have the radii 0.5, 0.5 and 19.5, which miss the real image at 0.
  """
  samples, references = (np.array([x]).T for x in ([0.5, 1.0, 20.5], [0.0, 1.0, 10.0]))
  assert prdc(samples, references, 1) == pytest.approx((2 / 3, 2 / 3, 1.0, 2 / 3))


def test_equal_distributions_have_the_density_and_coverage_of_the_paper(rng):
  """1, and nearly 1 - 2^-k."""
  found = np.mean([prdc(*rng.normal(size=(2, 400, 4)), 3) for _ in range(4)], axis=0)
  assert found[2] == pytest.approx(1.0, abs=0.05) and found[3] == pytest.approx(1 - 2**-3, abs=0.03)


def test_a_mode_that_is_lost_and_samples_of_no_mode(rng):
  """Coverage and recall see the first, precision and density the second."""
  modes = rng.normal(size=(400, 4)) + np.repeat([[0.0], [20.0]], 200, axis=0)
  lost = prdc(rng.normal(size=(400, 4)), modes)
  assert lost.coverage == pytest.approx(0.5, abs=0.05) and lost.recall < 0.55 and lost.precision > 0.9
  poor = rng.normal(size=(400, 4)) + np.repeat([[0.0], [50.0]], 200, axis=0)
  assert prdc(poor, modes).precision == pytest.approx(0.5, abs=0.05) and prdc(poor, modes).density < 0.6


@pytest.mark.parametrize(
  ('samples', 'references', 'k', 'message'),
  [
    (np.zeros((9, 2)), np.zeros((9, 3)), 1, r'^`references` must be of the width of `samples`, 2\. Got: 3\.$'),
    (np.full((9, 2), np.nan), np.zeros((9, 2)), 1, '^`samples` must be finite'),
    (np.zeros((9, 2)), np.zeros((5, 2)), 5, r'^`k` must be an integer from 1 to 4\. Got: 5\.$'),
  ],
)
def test_prdc_rejects(samples, references, k, message):
  with pytest.raises(UsageError, match=message):
    prdc(samples, references, k)


# Copies.


def test_copies_have_no_distance_and_no_recall(rng):
  """The search for neighbours finds small distances between equal rows."""
  real = rng.normal(size=(600, 128))
  copies = np.repeat(real[:20], 30, axis=0)
  assert prdc(copies, real, 5) == by_definition(copies, real, 5) and prdc(copies, real, 5).recall == 0.0
  found = nearest_distances(tf.constant(copies, tf.float32), tf.constant(real, tf.float32))
  np.testing.assert_array_equal(found, np.zeros(600))


def test_near_copies_by_hand():
  """Of 199 held-out images at 1 to 199, 1 % are below 2: a new image has that rank or less with probability 2 / 200."""
  share, error = near_copies(np.array([0.5, 1.5, 2.5, 300.0]), np.arange(1.0, 200.0))
  assert share == 0.5
  # One standard error of the rank further, three of the four samples are nearer.
  assert error == pytest.approx(np.hypot(np.sqrt(0.5 * 0.5 / 3), 0.75 - 0.5))


def test_exact_copies_are_found_among_duplicates():
  held_out = np.where(np.arange(200) < 100, 0.0, 1.0)  # Half of the images occur twice.
  assert near_copies(np.array([0.0, 0.0, 0.5, 2.0]), held_out).share == 0.5


@pytest.mark.parametrize(('mean', 'share'), [(10, 0.01), (8, 0.37)])
def test_new_samples_are_near_copies_in_1_percent_and_the_error_is_the_spread(rng, mean, share):
  """Samples that are nearer than new ones depend more on the threshold."""
  found = np.array([near_copies(rng.normal(mean, size=800), rng.normal(10, size=1000)) for _ in range(600)])
  assert found[:, 0].mean() == pytest.approx(share, rel=0.1)
  assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=0.15)


def test_a_tenth_of_copies_is_found_among_poor_samples(rng):
  """The mean rank, as in Meehan et al., says that there are none."""
  training, held_out, samples = rng.normal(size=(3, 1000, 4))
  samples *= 3
  samples[:100] = training[:100] + 0.001
  distances, of_new = nearest_distances(samples, training), nearest_distances(held_out, training)
  np.testing.assert_allclose(of_new, cdist(held_out, training).min(axis=1), rtol=1e-12)
  assert np.mean(distances[:, np.newaxis] < of_new) < 0.4
  share, error = near_copies(distances, of_new)
  assert share == pytest.approx(0.1, abs=0.01) and share > 0.01 + 5 * error


@pytest.mark.parametrize(
  ('distances', 'held_out', 'message'),
  [
    (np.ones(1), np.ones(99), r'^`distances` must be at least 2 numbers\. Got: \(1,\)\.$'),
    (np.ones(9), np.ones(98), r'^`held_out` must be at least 99 numbers\. Got: \(98,\)\.$'),
    (np.ones((9, 2)), np.ones(99), '^`distances` must be at least 2 numbers'),
    (np.full(9, np.nan), np.ones(99), '^`distances` must be finite'),
  ],
)
def test_near_copies_rejects(distances, held_out, message):
  with pytest.raises(UsageError, match=message):
    near_copies(distances, held_out)

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import optimize, special, stats

from flowgan_tf.errors import UsageError
from flowgan_tf.metrics.scores import inception_score, mode_score


def _softmax_rows(samples, classes, seed=0, temperature=1.0):
  return special.softmax(np.random.default_rng(seed).normal(size=[samples, classes]) / temperature, axis=1)


@st.composite
def _probability_rows(draw):
  """Distributions with exact zeros, one-hot rows and values down to the smallest float among them."""
  shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 6)))
  weights = draw(hnp.arrays(np.float64, shape, elements=st.floats(0, 1) | st.sampled_from([0.0, 1.0])))
  weights[:, 0] += weights.sum(axis=1) < 1e-3
  return weights / weights.sum(axis=1, keepdims=True)


# Values known in closed form.


@pytest.mark.parametrize(
  ('probabilities', 'expected'),
  [
    (np.tile(np.eye(17), [3, 1]), 17),  # Certain and balanced predictions: the number of classes.
    (np.eye(10)[np.full(50, 3)], 1),
    # p(y) = (1/2, 1/2); each KL is 3/4 log(3/2) + 1/4 log(1/2) = log(3^(3/4) / 2).
    ([[0.75, 0.25], [0.25, 0.75]], 3**0.75 / 2),
  ],
)
def test_inception_score_by_hand(probabilities, expected):
  np.testing.assert_allclose(inception_score(probabilities), (expected, 0), rtol=1e-14)


def test_mode_score_of_certain_predictions_that_follow_the_label_distribution_is_exp_entropy():
  probabilities = np.repeat(np.eye(4), [4, 2, 1, 1], axis=0)
  np.testing.assert_allclose(mode_score(probabilities, [0.5, 0.25, 0.125, 0.125]).mean, 2**1.75, rtol=1e-14)


def test_mode_score_punishes_a_nearly_missing_class():
  # Certain predictions of two classes, seen 999 times and once; p* uniform, p(y) = (0.999, 0.001).
  probabilities = np.repeat(np.eye(2), [999, 1], axis=0)
  penalty = 0.5 / np.sqrt(0.999 * 0.001)  # exp(KL(p* || p(y))) = (1/2) (0.999 * 0.001)^(-1/2), about 15.8
  mode = mode_score(probabilities, [0.5, 0.5]).mean
  np.testing.assert_allclose(mode, 2 / penalty, rtol=1e-12)  # 2 = exp(E KL(one-hot || uniform))
  assert mode < 0.2 < 1 < inception_score(probabilities).mean


def test_vanishing_probabilities():
  """A class that no sample can be of makes a MODE score of 0. A subnormal probability counts as zero."""
  assert mode_score(np.tile(np.eye(3)[:2], [5, 1]), np.full(3, 1 / 3)) == (0.0, 0.0)
  # The mean of the first column rounds to 0, which taken literally makes KL(p(y|x) || p(y)) infinite.
  assert inception_score([[5e-324, 1.0], [0.0, 1.0], [0.0, 1.0]]) == (1.0, 0.0)


def test_mode_score_has_the_documented_maximum():
  labels = np.array([0.7, 0.2, 0.1])

  def score(marginal):  # of certain predictions with these frequencies, without the rounding to whole samples
    return np.exp(special.rel_entr(1, labels) @ marginal - special.rel_entr(labels, marginal).sum())

  c = optimize.brentq(lambda c: (labels / (c + np.log(labels))).sum() - 1, -np.log(labels.min()) + 1e-9, 50)
  best = labels / (c + np.log(labels))
  reached = mode_score(np.repeat(np.eye(3), np.round(best * 20_000).astype(int), axis=0), labels).mean
  np.testing.assert_allclose(reached, score(best), rtol=1e-6)
  assert reached > np.exp(stats.entropy(labels)) * (1 + 1e-6)
  assert all(score(marginal) <= score(best) for marginal in np.random.default_rng(0).dirichlet(np.ones(3), 300))


# Against SciPy, and properties that hold for any probabilities.


@pytest.mark.parametrize(('samples', 'splits'), [(300, 1), (997, 10), (23, 7)])
def test_splits_have_the_boundaries_of_torch_fidelity(samples, splits):
  """Part i of k holds the samples from i n // k to (i + 1) n // k. Here each sample finds its part for itself."""
  probabilities, labels = _softmax_rows(samples, 10, temperature=0.2), np.arange(1, 11) / 55
  part_of = [next(k for k in range(splits) if i < (k + 1) * samples // splits) for i in range(samples)]
  inception, mode = [], []
  for k in range(splits):
    part = probabilities[np.equal(part_of, k)]
    marginal = part.mean(axis=0)
    inception.append(np.exp(np.mean([stats.entropy(p, marginal) for p in part])))
    mode.append(np.exp(np.mean([stats.entropy(p, labels) for p in part]) - stats.entropy(labels, marginal)))
  for found, scores in (
    (inception_score(probabilities, splits), inception),
    (mode_score(probabilities, labels, splits), mode),
  ):
    np.testing.assert_allclose(found, (np.mean(scores), np.std(scores)), rtol=1e-12, atol=1e-12)


@hypothesis.settings(deadline=None, max_examples=40)
@hypothesis.given(probabilities=_probability_rows(), data=st.data())
def test_scores_differ_by_the_marginals_and_the_inception_score_has_its_range(probabilities, data):
  classes = probabilities.shape[1]
  labels = np.array(data.draw(st.lists(st.floats(0.01, 1), min_size=classes, max_size=classes)))
  labels /= labels.sum()
  marginal = probabilities.mean(axis=0)
  marginal[marginal < 1e-300] = 0  # as the documented flushing of subnormal probabilities has it
  inception = inception_score(probabilities).mean
  assert 1 - 1e-12 <= inception <= classes * (1 + 1e-12)
  expected = inception * np.exp(special.rel_entr(marginal, labels).sum() - special.rel_entr(labels, marginal).sum())
  np.testing.assert_allclose(mode_score(probabilities, labels).mean, expected, rtol=1e-9, atol=1e-100)


# What is refused.


@pytest.mark.parametrize(
  ('score', 'message'),
  [
    (lambda: inception_score([0.5, 0.5]), r'`probabilities` must be of shape \[samples, classes\]'),
    (lambda: inception_score([[0.5, 0.5], [np.nan, 1.0], [1.5, -0.5], [0.5, 0.49]]), 'Got: 3 of 4 rows'),
    (lambda: inception_score(np.eye(3), 4), '`splits` must be an integer from 1 to 3'),
    (lambda: mode_score([[0.5, 0.5]], [1.0]), '`label_distribution` must'),
    (lambda: mode_score([[0.5, 0.5]], [1.0, 0.0]), '`label_distribution` must'),
    (lambda: mode_score([[0.5, 0.5]], [0.6, 0.6]), '`label_distribution` must'),
  ],
)
def test_refuses_what_has_no_score(score, message):
  with pytest.raises(UsageError, match=message):
    score()

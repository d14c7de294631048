import math

import numpy as np
import pytest
from scipy import stats
from sklearn.neighbors import KernelDensity

from flowgan_tf.study import GaussianMixture, bandwidth_study, winning_range
from flowgan_tf.study import gmm as module
from flowgan_tf.study.gmm import Gmm
from tests.summaries import gmm, summary


def images(number: int, seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).random((number, 4, 3, 2), dtype=np.float32)


def sklearn_log_prob(x, centers, bandwidth):
  density = KernelDensity(bandwidth=bandwidth, leaf_size=len(centers)).fit(centers.reshape(len(centers), -1))
  return density.score_samples(x.reshape(len(x), -1))


def test_study():
  mixture, x, bandwidths = GaussianMixture(images(40)), images(15, seed=1), [0.4, 0.01]
  scored = []

  def score(samples):
    scored.append(samples)
    return {'spread': float(samples.std()), 'score_samples': len(samples)}

  records = bandwidth_study(mixture, x, score, bandwidths, samples=30, seed=5)
  for h, record, samples in zip(bandwidths, records, scored, strict=True):
    log_prob = sklearn_log_prob(x, images(40), h)
    assert record['bandwidth'] == h and record['n'] == 15
    assert record['nll'] == pytest.approx(-log_prob.mean(), rel=1e-9)
    assert record['standard_error'] == pytest.approx(stats.sem(log_prob), rel=1e-6)
    np.testing.assert_array_equal(samples, np.clip(mixture.sample(30, h, seed=5), 0, 1))
    assert record['spread'] == float(samples.std()) and record['score_samples'] == 30
  assert mixture.sample(30, 0.4, seed=5).max() > 1 >= scored[0].max()


def test_study_without_scores():
  (record,) = bandwidth_study(GaussianMixture(images(40)), images(1, seed=1), None, [0.2], samples=0, seed=0)
  assert list(record) == ['bandwidth', 'nll', 'standard_error', 'n']
  assert math.isnan(record['standard_error'])


@pytest.mark.parametrize(
  ('nlls', 'scores', 'nll', 'score', 'expected'),
  [
    # NLL falls through 50 halfway between 1e-3 and 1e-2, the score through 7 a third of the way from 0.1 to 1.
    ([100, 0, -10, 40], [9, 9, 8, 5], 50, 7, (-2.5, -1 + 1 / 3)),
    # NLL wins between log10 h = -2.5 and -0.5, the score below -1.5.
    ([100, 0, 0, 100], [9, 9, 5, 5], 50, 7, (-2.5, -1.5)),
    # Between two bandwidths visited: NLL wins above log10 h = -1.75, the score below -1.25.
    ([100, 100, 0, 0], [9, 9, 1, 1], 75, 3, (-1.75, -1.25)),
    # Everything wins, as far as was visited.
    ([1, 2, 3, 4], [9, 9, 9, 9], 5, 8, (-3, 0)),
    # The widest of several ranges: the score wins below -2.5 and above -1.5.
    ([0, 0, 0, 0], [9, 5, 9, 9], 1, 7, (-1.5, 0)),
    # Nothing wins: by NLL, by score, by both but elsewhere, with an equal NLL, with an equal score.
    ([200, 150, 100, -10], [9, 8, 3, 2], -20, 0, None),
    ([200, 150, 100, -10], [9, 8, 3, 2], 1000, 10, None),
    ([200, 150, 100, -10], [9, 8, 3, 2], 50, 8.5, None),
    ([200, 150, 100, -10], [9, 8, 3, 2], -10, 0, None),
    ([200, 150, 100, -10], [9, 8, 3, 2], 1000, 9, None),
  ],
)
def test_winning_range_by_hand(nlls, scores, nll, score, expected):
  rows = zip([1e-3, 1e-2, 1e-1, 1.0], nlls, scores, strict=True)
  records = [{'bandwidth': h, 'nll': n, 'mode_score': s} for h, n, s in rows]
  found = winning_range(records, nll, score, 'mode_score')
  assert found == (expected and pytest.approx((10 ** expected[0], 10 ** expected[1])))
  assert winning_range(records[::-1], nll, score, 'mode_score') == found


def test_the_analysis(subject, monkeypatch):
  monkeypatch.setattr(module, '_BANDWIDTHS', np.array([0.05, 0.3]))
  numbers, arrays = Gmm().measure(subject, Gmm.Settings(samples=40))
  train, validation, test = map(subject.images, ('train', 'validation', 'test'))
  best = numbers['best_bandwidth']
  np.testing.assert_allclose(numbers['test_nll'], -sklearn_log_prob(test, train, best).mean(), rtol=1e-5)
  np.testing.assert_allclose(numbers['test_standard_error'], stats.sem(sklearn_log_prob(test, train, best)), rtol=1e-5)
  np.testing.assert_allclose(numbers['best_nll'], -sklearn_log_prob(validation, train, best).mean(), rtol=1e-5)
  for record in numbers['bandwidths']:
    expected = -sklearn_log_prob(validation, train, record['bandwidth']).mean()
    np.testing.assert_allclose(record['nll'], expected, rtol=1e-5)
  assert numbers['best_nll'] <= min(record['nll'] for record in numbers['bandwidths'])
  assert numbers['model']['nll'] == subject.evaluator.likelihood('validation').nll
  # Mixture and model are scored alike.
  keys = ('scorer', 'scorer_hash', 'score_samples')
  assert [numbers['model'][key] for key in keys] == [numbers['bandwidths'][0][key] for key in keys]
  assert numbers['selection'] == 'mode_score' and numbers['centers'] == 160 and numbers['test_n'] == len(test)
  assert arrays['samples'].shape == (64, 4, 4, 1) and 0 <= arrays['samples'].min() <= arrays['samples'].max() <= 1


def test_models_scored_by_other_networks_are_not_drawn_beside_it():
  alike, other = gmm(-50.0, 2.0), gmm(-60.0, 3.0)
  other.record['model']['scorer_hash'] = 'another'
  runs = [summary('mle', studies={'gmm': alike}), summary('hybrid', studies={'gmm': other})]
  curve = Gmm().figures(runs)['gmm']
  assert 'horizontal lines for MLE.' in curve.alt
  assert 'Shaded: bandwidths from 0.14 to 0.28' in curve.caption
  assert Gmm().records(alike.record)['']['winning'] == '0.14 to 0.28'


def test_without_a_scorer_there_is_no_curve_but_a_grid():
  study = gmm(-50.0, 2.0)
  study.record['selection'] = None
  assert list(Gmm().figures([summary('mle', studies={'gmm': study})])) == ['gmm_samples']
  assert 'winning' not in Gmm().records(study.record)['']

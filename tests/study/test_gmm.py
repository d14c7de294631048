import numpy as np
import pytest
from scipy import stats
from sklearn.neighbors import KernelDensity

from flowgan_tf.base.errors import UsageError
from flowgan_tf.display import plots
from flowgan_tf.study import GaussianMixture, Study, Subject
from flowgan_tf.study.gmm import Gmm, winning_range
from tests.summaries import gmm, summary


def sklearn_log_prob(x, centers, bandwidth):
  density = KernelDensity(bandwidth=bandwidth, leaf_size=len(centers)).fit(centers.reshape(len(centers), -1))
  return density.score_samples(x.reshape(len(x), -1))


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
    # Nothing wins on both: each elsewhere, with an equal NLL, with an equal score.
    ([200, 150, 100, -10], [9, 8, 3, 2], 50, 8.5, None),
    ([5, 5, 5, 5], [9, 9, 9, 9], 5, 8, None),
    ([1, 2, 3, 4], [8, 8, 8, 8], 5, 8, None),
  ],
)
def test_winning_range_by_hand(nlls, scores, nll, score, expected):
  rows = zip([1e-3, 1e-2, 1e-1, 1.0], nlls, scores, strict=True)
  records = [{'bandwidth': h, 'nll': n, 'mode_score': s} for h, n, s in rows]
  found = winning_range(records, nll, score, 'mode_score')
  assert found == (expected and pytest.approx((10 ** expected[0], 10 ** expected[1])))
  assert winning_range(records[::-1], nll, score, 'mode_score') == found


def test_the_analysis(subject):
  scored = []

  def score(samples, splits=1):
    scored.append(samples)
    return {'mode_score': float(samples.mean())}

  score.selection = 'mode_score'
  other = Subject(subject.run)
  other.scorer = score
  numbers, found = Gmm().measure(other, Gmm.Settings(samples=40, seed=5))
  train, validation, test = map(subject.images, ('train', 'validation', 'test'))
  records, best, mixture = numbers['bandwidths'], numbers['best_bandwidth'], GaussianMixture(train)
  np.testing.assert_allclose([b['bandwidth'] for b in records], np.geomspace(0.01, 1, 17))
  at_best = {name.removeprefix('best_'): value for name, value in numbers.items()}
  at_test = {name.removeprefix('test_'): value for name, value in numbers.items()}
  for images, record in ((test, at_test), (validation, at_best), *((validation, record) for record in records[::8])):
    log_prob = sklearn_log_prob(images, train, record.get('bandwidth', best))
    np.testing.assert_allclose(record['nll'], -log_prob.mean(), rtol=1e-5)
    np.testing.assert_allclose(record['standard_error'], stats.sem(log_prob), rtol=1e-5)
    assert record['n'] == len(images)
  assert numbers['best_nll'] <= min(record['nll'] for record in records)
  # The run itself is scored like the mixture.
  for record, samples in zip(records, scored[:-1], strict=True):
    np.testing.assert_array_equal(samples, np.clip(mixture.sample(40, record['bandwidth'], seed=5), 0, 1))
    assert record['mode_score'] == samples.mean()
  np.testing.assert_array_equal(scored[-1], subject.samples(40, 5))
  assert numbers['model']['mode_score'] == scored[-1].mean()
  assert numbers['model']['nll'] == subject.evaluator.likelihood('validation').nll
  assert (numbers['selection'], numbers['centers']) == ('mode_score', 160)
  np.testing.assert_array_equal(found['samples'], np.clip(mixture.sample(64, best, 5), 0, 1))


def test_models_scored_by_other_networks_are_not_drawn_beside_it():
  alike, other = gmm(-50.0, 2.0), gmm(-60.0, 3.0)
  other.record['model']['scorer_hash'] = 'another'
  runs = [summary('mle', studies={'gmm': alike}), summary('hybrid', studies={'gmm': other})]
  curve = Gmm().figures(runs)['gmm']
  assert 'horizontal lines for MLE.' in curve.alt
  assert 'Shaded: bandwidths from 0.14 to 0.28' in curve.caption
  assert Gmm().records(alike.record)['']['winning'] == '0.14 to 0.28'


def test_without_a_scorer_there_are_likelihoods_and_a_grid(subject):
  other = Subject(subject.run)
  other.scorer = None
  numbers, arrays = Gmm().measure(other, Gmm.Settings(samples=40))
  assert list(numbers['bandwidths'][0]) == ['bandwidth', 'nll', 'standard_error', 'n']
  assert numbers['selection'] is None and Gmm().records(numbers) == {'': numbers}
  runs = [summary('mle', studies={'gmm': Study(numbers, arrays)})]
  assert list(Gmm().figures(runs)) == ['gmm_samples']


def test_wrong_arguments_of_a_mixture_are_rejected():
  mixture = GaussianMixture(np.zeros((3, 2, 2, 1), np.float32))
  for images, bandwidths, said in (
    (np.zeros((1, 2, 2, 1)), [0.1, 0.0], '`bandwidths` must be above 0'),
    (np.zeros((1, 2, 2, 1)), [-0.1], '`bandwidths` must be above 0'),
    (np.zeros((1, 4, 1, 1)), [0.1], '`images` must be of the shape of the centres'),
  ):
    with pytest.raises(UsageError, match=said):
      mixture.log_prob(images, bandwidths)


def test_the_curves_of_the_figure_are_nll_and_score(monkeypatch):
  drawn, draw = [], plots.bandwidth_study
  monkeypatch.setattr(plots, 'bandwidth_study', lambda *arguments: drawn.append(arguments) or draw(*arguments))
  Gmm().figures([summary('mle', studies={'gmm': gmm(-50.0, 2.0)})])
  [(bandwidths, nll, scores, score, lines, winning)] = drawn
  assert (bandwidths, nll, scores) == ([0.1, 0.2, 0.4], [0.0, -100.0, 0.0], [1.0, 5.0, 9.0])
  assert (score, lines) == ('MODE score', {'MLE': (-50.0, 2.0)})
  assert winning == pytest.approx((0.1 * 2**0.5, 0.1 * 2**1.5))

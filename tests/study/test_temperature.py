import numpy as np
import pytest
import tensorflow_probability as tfp

from flowgan_tf.flows import nice
from flowgan_tf.metrics.samples import score_samples
from flowgan_tf.study import temperature as module
from flowgan_tf.study.temperature import Temperature, tempered_log_prob
from tests.summaries import summary, temperature

tfd = tfp.distributions


@pytest.mark.parametrize('t', [0.5, 1.7])
def test_the_flow_at_a_temperature_has_a_scaled_prior(t):
  flow = nice((4, 4, 1), couplings=2, hidden_units=8, hidden_layers=1, initial_weights='paper')
  images = np.random.default_rng(0).uniform(0.05, 0.95, (20, 4, 4, 1)).astype(np.float32)
  expected = flow.copy(distribution=tfd.Sample(tfd.Logistic(0.0, t), flow.event_shape)).log_prob(images)
  found = tempered_log_prob(flow, images, [0.3, t])
  np.testing.assert_allclose(found[:, 1], expected, rtol=1e-5, atol=1e-3)
  assert not np.allclose(found[:, 0], expected, atol=1.0)


def test_the_analysis(subject, monkeypatch):
  monkeypatch.setattr(module, '_TEMPERATURES', (0.5, 1.0))

  def scorer(images, splits):
    return {'mode_score': float(images.mean()), 'splits': splits}

  scorer.selection = 'mode_score'
  monkeypatch.setattr(subject, 'scorer', scorer, raising=False)
  numbers, arrays = Temperature().measure(subject, Temperature.Settings(samples=40))
  rows = Temperature().records(numbers)
  assert list(rows) == ['t = 0.5', 't = 1'] and len(Temperature().lines(numbers)) == 5
  # At a temperature of 1, likelihoods and samples are the run's own.
  own = rows['t = 1']
  for split, prefix in (('validation', 'validation_'), ('test', '')):
    exact = subject.evaluator.likelihood(split)
    assert own[f'{prefix}nll'] == pytest.approx(exact.nll, abs=1e-3)
    assert own[f'{prefix}standard_error'] == pytest.approx(exact.standard_error, rel=1e-3)
    assert own[f'{prefix}n'] == exact.n
  images = subject.samples(40, 0)
  np.testing.assert_array_equal(arrays['samples'][1], images[:12])
  assert own.items() >= score_samples(images, scorer, 10).items() and own['splits'] == 10
  noise, unscaled = (subject.run.generator.encode(samples) for samples in arrays['samples'])
  np.testing.assert_allclose(noise, 0.5 * unscaled, atol=1e-3)


def test_figures_show_runs_scored_by_the_same_network_and_a_grid_of_each():
  other = temperature()
  other.record['temperatures'][0]['scorer_hash'] = 'another'
  for second, drawn in ((temperature(), 'MLE and Hybrid λ = 0.1'), (other, 'MLE')):
    runs = [summary('mle', studies={'temperature': temperature()}), summary('hybrid', studies={'temperature': second})]
    figures = Temperature().figures(runs)
    assert list(figures) == ['temperature', 'temperature_samples', 'temperature_samples_1']
    assert f' of {drawn}, a line ' in figures['temperature'].alt


def test_without_scores_there_is_a_grid_only():
  """There are none without a scorer, or if pixels were not finite."""
  no_scorer, not_finite = temperature(), temperature()
  no_scorer.record['selection'] = None
  for own in not_finite.record['temperatures']:
    del own['mode_score']
  for study in (no_scorer, not_finite):
    assert list(Temperature().figures([summary('mle', studies={'temperature': study})])) == ['temperature_samples']


def test_the_ends_and_1_are_named_beside_their_points():
  rest = {'standard_error': 1.0, 'mode_score': 2.0, 'mode_score_std': 0.1}
  numbers = [{'temperature': t, 'nll': nll} | rest for t, nll in ((0.4, None), (0.7, 5.0), (1.0, 4.0), (1.1, 6.0))]
  points = module._points('MLE', numbers, 'mode_score')
  assert [point[-1] for point in points] == ['t = 0.4', '', 't = 1', 't = 1.1']
  assert points[1][:-1] == ('MLE', 0.7, 5.0, 2.0, 1.0, 0.1) and np.isnan(points[0][2])

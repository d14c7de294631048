import dataclasses

import numpy as np
import pytest

from flowgan_tf.metrics.scorer import score_samples
from flowgan_tf.study.temperature import Temperature
from tests.summaries import summary, temperature


@pytest.fixture(scope='module')
def measured(subject):
  return Temperature().measure(subject, Temperature.Settings(samples=40))


def test_likelihoods_at_a_temperature_of_1_are_those_of_the_run(subject, measured):
  (own,) = [record for record in measured[0]['temperatures'] if record['temperature'] == 1]
  for split, prefix in (('validation', 'validation_'), ('test', '')):
    exact = subject.evaluator.likelihood(split)
    assert own[f'{prefix}nll'] == pytest.approx(exact.nll, abs=1e-3)
    assert own[f'{prefix}standard_error'] == pytest.approx(exact.standard_error, rel=1e-3)
    assert own[f'{prefix}n'] == exact.n


def test_samples_are_those_of_the_scaled_noise(subject, measured):
  numbers, arrays = measured
  (at_1,) = [i for i, record in enumerate(numbers['temperatures']) if record['temperature'] == 1]
  images = subject.samples(40, 0)
  np.testing.assert_array_equal(arrays['samples'][at_1], images[:12])
  assert numbers['temperatures'][at_1].items() >= score_samples(images, subject.scorer, 10).items()
  noise = subject.run.generator.encode(arrays['samples'][0])
  unscaled = subject.run.generator.encode(arrays['samples'][at_1])
  np.testing.assert_allclose(noise, numbers['temperatures'][0]['temperature'] * unscaled, atol=1e-3)


def test_a_row_for_each_temperature(measured):
  rows = Temperature().records(measured[0])
  assert list(rows) == [f't = {t}' for t in ('0.4', '0.5', '0.6', '0.7', '0.8', '0.9', '1', '1.1')]
  assert len(Temperature().lines(measured[0])) == len(rows) + 3


def test_a_line_and_a_grid_for_each_run():
  runs = [
    summary('mle', studies={'temperature': temperature()}),
    summary('hybrid', studies={'temperature': temperature()}),
  ]
  figures = Temperature().figures(runs)
  assert list(figures) == ['temperature', 'temperature_samples', 'temperature_samples_1']
  assert 'MODE score against test NLL of MLE and Hybrid' in figures['temperature'].alt
  assert figures['temperature_samples'].alt == 'Samples of MLE, a row for each of the temperatures 0.5, 1.'


def test_runs_scored_by_other_networks_are_not_drawn_together():
  other = temperature()
  other.record['temperatures'][0]['scorer_hash'] = 'another'
  runs = [summary('mle', studies={'temperature': temperature()}), summary('hybrid', studies={'temperature': other})]
  assert Temperature().figures(runs)['temperature'].alt.endswith('of MLE, a line through the temperatures of each.')


def test_without_scores_there_is_a_grid_only():
  study = temperature()
  unscored = dataclasses.replace(study, record=study.record | {'selection': None})
  assert list(Temperature().figures([summary('mle', studies={'temperature': unscored})])) == ['temperature_samples']
  for own in study.record['temperatures']:  # Pixels that were not finite have no scores.
    del own['mode_score']
  assert list(Temperature().figures([summary('mle', studies={'temperature': study})])) == ['temperature_samples']

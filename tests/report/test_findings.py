"""Sentences about runs, which claim no difference within two standard errors."""

import numpy as np
import pytest

from flowgan_tf.report.findings import about_length, findings
from tests.summaries import conditional, evaluated, summary


def run(objective, nll, mode, **more):
  return summary(objective, evaluation=[evaluated('best_score', 5, nll, mode) | more])


def test_the_best_run_is_named_if_the_errors_allow_it():
  """The NLLs have errors of 1.5, so that 4.3 nats count and 4.2 do not. The scores of 10 splits deviate by 0.1."""
  runs = [run('mle', -3304.3, 9.0), run('hybrid', -3300.0, 9.10)]
  assert findings(runs, 'nats') == [
    'MLE has the best likelihood: a test NLL of −3,304.3 ± 1.5 nats, 4.3 below Hybrid λ = 0.1.',
    'Hybrid λ = 0.1 has the best MODE score: 9.10 ± 0.10, 0.10 above MLE.',
  ]
  assert findings([run('mle', -3304.2, 9.0), run('hybrid', -3300.0, 9.09)], 'nats') == [
    'No run has the best likelihood: all are within two standard errors of MLE, which has a test NLL of −3,304.2 ± 1.5 '
    'nats.',
    'No run has the best MODE score: all are within two standard errors of Hybrid λ = 0.1, which has 9.09 ± 0.10.',
  ]
  runs = [run('mle', -3304.0, 9.0), run('hybrid', -3303.0, 9.5), run('adversarial', -1000.0, 9.42)]
  assert findings(runs, 'nats') == [
    'MLE and Hybrid λ = 0.1 have the best likelihood, within two standard errors of a test NLL of −3,304.0 ± 1.5 nats.',
    'Hybrid λ = 0.1 and ADV have the best MODE score, within two standard errors of 9.50 ± 0.10.',
  ]


def test_runs_that_are_not_evaluated_are_named():
  runs = [run('mle', -3300.0, 9.0), summary('hybrid'), summary('adversarial')]
  assert findings(runs, 'nats')[-1] == 'Hybrid λ = 0.1 and ADV have not been evaluated on the test images.'
  assert findings(runs[:2], 'nats')[-1] == 'Hybrid λ = 0.1 has not been evaluated on the test images.'
  assert findings(runs[1:], 'nats') == []


def test_one_run_and_real_images():
  real = {'real_mode_score': 9.7, 'real_mode_score_std': 0.05, 'fid': 4.44}
  assert findings([run('mle', -3300.0, 9.0, **real)], 'nats') == [
    'MLE has a test NLL of −3,300.0 ± 1.5 nats.',
    'MLE has a MODE score of 9.00 ± 0.10.',
    'Real test images score 9.70 ± 0.05.',
    'The FID is 4.4 for MLE.',
  ]
  [first, *_] = findings([run('mle', -3300.0, 9.0)], 'bits/dim')
  assert first == 'MLE has a test NLL of 1.927 ± 0.003 bits/dim.'


def test_noise_and_class_accuracy_are_named():
  noise, digits = run('mle', -3300.0, 1.3), run('hybrid', -3300.0, 9.0, class_accuracy=0.975)
  said = findings([noise, digits], 'nats')
  assert 'The samples of MLE are noise to the network behind the scores.' in said
  assert said[-1] == 'The class accuracy is 97.5% for Hybrid λ = 0.1.'
  assert not any('noise' in sentence for sentence in findings([digits], 'nats'))


def test_small_errors_have_two_digits_and_the_likelihood_is_the_best():
  records = [
    evaluated(name, 5, nll, 9.0) | {'standard_error': 0.017} for name, nll in (('best_score', 0.9), ('best_nll', 0.86))
  ]
  [first, second, *_] = findings([summary('mle', evaluation=records)], 'nats')
  assert first == 'MLE has a test NLL of 0.860 ± 0.017 nats.' and second.startswith('MLE has a MODE score of 9.00')


@pytest.mark.parametrize(
  ('more', 'said'),
  [
    ({'score_samples': 999}, []),
    ({'scorer_hash': 'def'}, ['The sample scores come from different networks or numbers']),
  ],
)
def test_scores_that_cannot_be_compared_are_not(more, said):
  runs = [run('mle', -3300.0, 9.0), run('hybrid', -3000.0, 9.5, **more)]
  assert [sentence[: len(said[0])] for sentence in findings(runs, 'nats')[1:]] == said


def test_an_nll_of_what_images_are_given_is_no_likelihood_of_images():
  assert findings([conditional('mask:half')], 'nats')[0].startswith('MLE (given mask:half) has a MODE score')
  assert findings([summary('mle')], 'nats') == []


@pytest.mark.parametrize(
  ('objective', 'nll', 'said'),
  [
    ('mle', [0.0, -70.0, -80.0, -81.2], 'MLE still improved at the end of training: more steps may help.'),
    ('mle', [0.0, -70.0, -80.0, -80.9], None),
    ('mle', [0.0, -70.0, -80.0, -79.0], None),
    ('mle', [0.0, -50.0, -80.0, -60.0, -65.0], None),
    ('mle', [0.0, -80.0, -70.0, -75.0], None),
    # Ten evaluations, of which the last two gain a tenth together.
    ('mle', [0.0, *np.linspace(-70, -79, 8), -79.6, -80.2], 'MLE still improved at the end of training: more steps'),
    ('adversarial', [0.0, -70.0, -80.0, -90.0], None),
    ('adversarial', [0.0, -70.0, -80.0], 'The evaluations of ADV are too few to show whether more steps would help.'),
    ('mle', [0.0], None),
  ],
)
def test_trainings_that_were_too_short_are_named(objective, nll, said):
  """The first evaluation is of the untrained flow."""
  metrics = [{'kind': 'validation', 'step': 10 * i, 'seconds': 1.0, 'nll': value} for i, value in enumerate(nll)]
  found = about_length([summary(objective, metrics=metrics)])
  assert len(found) == bool(said) and all(sentence.startswith(said) for sentence in found)

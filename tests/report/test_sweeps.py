import dataclasses

import pytest

from flowgan_tf.display import plots
from flowgan_tf.report import sweeps
from tests.summaries import evaluated, jacobian, summary


@pytest.fixture
def swept():
  return [
    summary(
      'hybrid',
      weight,
      evaluation=[evaluated('best_score', 5, -3000.0 - weight, 7.0 - weight)],
      studies={'jacobian': jacobian([[3, 2, 1], [9, 3, 1]])},
    )
    for weight in (0.1, 1.0)
  ]


def test_front_and_condition_numbers_need_several_lambdas(swept):
  runs = [summary('mle'), summary('adversarial')]
  assert sweeps.front(runs, 'nats') is None and sweeps.condition_numbers(runs) is None
  assert sweeps.front(swept[:1], 'nats') is None and sweeps.condition_numbers(swept[:1]) is None


def test_front_and_condition_numbers(swept, monkeypatch):
  drawn = []
  for name in ('likelihood_quality_front', 'condition_numbers'):
    draw = getattr(plots, name)
    monkeypatch.setattr(plots, name, lambda *arguments, draw=draw: drawn.append(arguments) or draw(*arguments))
  assert 'a point for each of 2 runs' in sweeps.front(swept, 'nats').alt
  assert sweeps.condition_numbers(swept).alt == 'Condition number of the Jacobian at 2 values of λ.'
  (points, unit, score), (weights, values) = drawn
  assert points[0] == ('Hybrid', 0.1, -3000.1, 6.9, 1.5, 0.1) and (unit, score) == ('nats', 'MODE score')
  assert weights == [0.1, 1.0] and [list(v) for v in values] == [[3, 9], [3, 9]]


def test_a_generator_without_a_likelihood_is_in_neither(swept):
  for run in swept:
    del run.evaluation[0]['nll']
    del run.studies['jacobian'].record['largest_relative_difference']
  assert sweeps.front(swept, 'nats') is None and sweeps.condition_numbers(swept) is None


def test_the_table_of_the_terminal(swept):
  header, _, first, _ = str(sweeps.sweep_table(swept)).splitlines()
  shown = [cell.strip() for cell in header.split('  ') if cell.strip()]
  assert shown == ['run', 'seed', 'iteration', 'test NLL (nats)', 'MODE', 'condition number']
  assert [cell.strip() for cell in first.split('  ') if cell.strip()] == [
    'Hybrid λ = 0.1',
    '0',
    '5',
    '-3,000.10 +- 1.50',
    '6.90 +- 0.10',
    '10',
  ]


def test_a_run_with_one_checkpoint_or_none(swept):
  """A training that was interrupted, or evaluated by hand, has no best score."""
  alone = summary('mle', evaluation=[evaluated('best_nll', 5, -3000.0, 7.0)])
  _, _, *lines = str(sweeps.sweep_table([alone, summary('adversarial'), *swept])).splitlines()
  assert [line.split()[:3] for line in lines[:2]] == [['MLE', '0', '-'], ['ADV', '0', '-']]
  assert sweeps.front([alone, summary('adversarial')], 'nats') is None


def test_runs_on_different_data(swept):
  other = summary('hybrid', 3.0, dataset='cifar10', shape=(32, 32, 3), studies={'jacobian': jacobian([[2, 1]])})
  other.studies['jacobian'].record['d'] = 2
  scored = evaluated('best_score', 5, -3000.0, 7.0) | {'inception_score': 3.0}
  other = dataclasses.replace(other, evaluation=[{n: v for n, v in scored.items() if n != 'mode_score'}])
  runs = [*swept, other]
  assert len(str(sweeps.sweep_table(runs)).splitlines()) == 5
  assert sweeps.front(runs, 'nats') is None  # They have no score in common.
  assert sweeps.condition_numbers(runs).alt == 'Condition number of the Jacobian at 3 values of λ.'

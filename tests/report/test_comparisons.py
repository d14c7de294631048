"""Tables and figures that compare runs."""

import dataclasses

import numpy as np
import pytest

from flowgan_tf.display import plots
from flowgan_tf.display.figure import Figure
from flowgan_tf.report import comparisons
from tests.summaries import evaluated, jacobian, summary
from tests.tables import cells

METRICS = [
  {'kind': 'validation', 'step': 0, 'seconds': 1.0, 'nll': 0.0},
  {'kind': 'train', 'step': 3, 'seconds': 20.0, 'nll': -80.0},
  {'kind': 'train', 'step': 5, 'seconds': 30.0, 'nll': -100.0},
  {'kind': 'validation', 'step': 5, 'seconds': 90.0, 'nll': -90.0},
]


@pytest.fixture
def runs():
  return [summary('mle', metrics=METRICS), summary('adversarial'), summary('hybrid')]


def test_wall_time_seed_and_steps(runs):
  mle, adv, _ = cells(comparisons.runs_table(runs))
  assert (mle['wall time (min)'], mle['iterations'], mle['seed']) == ('1.5', '5', '0')
  assert (adv['wall time (min)'], adv['iterations'], adv['critic steps']) == ('', '', '5')
  assert mle['critic steps'] == ''


def test_the_start_of_a_training_has_a_column_if_one_has_a_start(runs):
  assert 'starts from' not in cells(comparisons.runs_table(runs))[0]
  start = {'run': '/somewhere/mnist-mle', 'checkpoint': 'best_nll', 'step': 5000}
  table = cells(comparisons.runs_table([runs[0], dataclasses.replace(runs[2], start=start)]))
  assert [row['starts from'] for row in table] == ['', 'mnist-mle, iteration 5,000']


def test_learning_curves_pair_training_with_validation(runs, monkeypatch):
  drawn = []
  learning_curves = plots.learning_curves
  monkeypatch.setattr(
    plots, 'learning_curves', lambda *arguments: drawn.append(arguments) or learning_curves(*arguments)
  )
  figure = comparisons.learning_curves(runs, 'nats')
  assert 'MLE' in figure.alt and 'ADV' not in figure.alt and 'validation and training images' in figure.caption
  [(series, unit, critic)] = drawn
  steps, train, validation = series['MLE']
  assert (steps, validation, unit, critic) == ([0, 5], [0.0, -90.0], 'nats', {})
  np.testing.assert_equal(train, [np.nan, -90.0])  # the mean of the batches since the validation before
  assert 'components' not in figure.caption
  config = runs[0].config.copy_and_resolve_references()
  config.pseudo_labels = True
  figure = comparisons.learning_curves([dataclasses.replace(runs[0], config=config)], 'nats')
  assert '(of training images with `pseudo_labels`: together with their components)' in figure.caption
  assert comparisons.learning_curves(runs[1:], 'nats') is None


def test_score_curves_need_a_score_that_all_have(runs):
  scored = {'kind': 'validation', 'seconds': 1.0, 'scorer': 'classifier', 'scorer_hash': 'abc', 'score_samples': 500}
  first = dataclasses.replace(runs[0], metrics=[scored | {'step': 5, 'inception_score': 3.0, 'mode_score': 2.0}])
  second = dataclasses.replace(runs[1], metrics=[scored | {'step': 5, 'inception_score': 3.0}])
  assert comparisons.score_curves(runs) is None
  assert comparisons.score_curves([first]).caption.startswith('MODE score of 500 samples')
  assert comparisons.score_curves([first, second]).caption.startswith('Inception score of 500 samples')


def test_sample_grids(runs):
  png = Figure.of_pixels(np.zeros((3, 4, 1), np.uint8), 'a', 'b').data
  [figure] = comparisons.sample_grids([dataclasses.replace(runs[0], sample_grid=(40, png)), runs[1]])
  assert (figure.data, figure.width, figure.height) == (png, 4, 3)
  assert figure.caption == 'MLE, iteration 40.' and figure.command.startswith('bin/train')


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
  assert comparisons.front(runs, 'nats') is None and comparisons.condition_numbers(runs) is None
  assert comparisons.front(swept[:1], 'nats') is None and comparisons.condition_numbers(swept[:1]) is None


def test_front_and_condition_numbers(swept, monkeypatch):
  drawn = []
  for name in ('likelihood_quality_front', 'condition_numbers'):
    draw = getattr(plots, name)
    monkeypatch.setattr(plots, name, lambda *arguments, draw=draw: drawn.append(arguments) or draw(*arguments))
  assert 'a point for each of 2 runs' in comparisons.front(swept, 'nats').alt
  assert comparisons.condition_numbers(swept).alt == 'Condition number of the Jacobian at 2 values of λ.'
  (points, unit, score), (weights, values) = drawn
  assert points[0] == ('Hybrid', 0.1, -3000.1, 6.9, 1.5, 0.1) and (unit, score) == ('nats', 'MODE score')
  assert weights == [0.1, 1.0] and [list(v) for v in values] == [[3, 9], [3, 9]]


def test_a_generator_without_a_likelihood_is_in_neither(swept):
  for run in swept:
    del run.evaluation[0]['nll']
    del run.studies['jacobian'].record['largest_relative_difference']
  assert comparisons.front(swept, 'nats') is None and comparisons.condition_numbers(swept) is None


def test_the_table_of_the_terminal(swept):
  header, _, first, _ = str(comparisons.sweep_table(swept)).splitlines()
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
  _, _, *lines = str(comparisons.sweep_table([alone, summary('adversarial'), *swept])).splitlines()
  assert [line.split()[:3] for line in lines[:2]] == [['MLE', '0', '-'], ['ADV', '0', '-']]
  assert comparisons.front([alone, summary('adversarial')], 'nats') is None


def test_runs_on_different_data(swept):
  other = summary('hybrid', 3.0, dataset='cifar10', shape=(32, 32, 3), studies={'jacobian': jacobian([[2, 1]])})
  other.studies['jacobian'].record['d'] = 2
  scored = evaluated('best_score', 5, -3000.0, 7.0) | {'inception_score': 3.0}
  other = dataclasses.replace(other, evaluation=[{n: v for n, v in scored.items() if n != 'mode_score'}])
  runs = [*swept, other]
  assert len(str(comparisons.sweep_table(runs)).splitlines()) == 5
  assert comparisons.front(runs, 'nats') is None  # They have no score in common.
  assert comparisons.condition_numbers(runs).alt == 'Condition number of the Jacobian at 3 values of λ.'

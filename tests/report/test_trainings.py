import dataclasses

import numpy as np
import pytest

from flowgan_tf.display import plots
from flowgan_tf.display.figure import Figure
from flowgan_tf.programs import command_lines
from flowgan_tf.report import trainings
from tests.summaries import summary
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
  mle, adv, _ = cells(trainings.runs_table(runs, command_lines))
  assert (mle['wall time (min)'], mle['iterations'], mle['seed']) == ('1.5', '5', '0')
  assert (adv['wall time (min)'], adv['iterations'], adv['critic steps']) == ('', '', '5')
  assert mle['critic steps'] == ''


def test_the_start_of_a_training_has_a_column_if_one_has_a_start(runs):
  assert 'starts from' not in cells(trainings.runs_table(runs, command_lines))[0]
  start = {'run': '/somewhere/mnist-mle', 'checkpoint': 'best_nll', 'step': 5000}
  table = cells(trainings.runs_table([runs[0], dataclasses.replace(runs[2], start=start)], command_lines))
  assert [row['starts from'] for row in table] == ['', 'mnist-mle, iteration 5,000']


def test_learning_curves_pair_training_with_validation(runs, monkeypatch):
  drawn = []
  learning_curves = plots.learning_curves
  monkeypatch.setattr(
    plots, 'learning_curves', lambda *arguments: drawn.append(arguments) or learning_curves(*arguments)
  )
  figure = trainings.learning_curves(runs, 'nats')
  assert 'MLE' in figure.alt and 'ADV' not in figure.alt and 'validation and training images' in figure.caption
  [(series, unit, critic)] = drawn
  steps, train, validation = series['MLE']
  assert (steps, validation, unit, critic) == ([0, 5], [0.0, -90.0], 'nats', {})
  np.testing.assert_equal(train, [np.nan, -90.0])  # the mean of the batches since the validation before
  assert 'components' not in figure.caption
  config = runs[0].config.copy_and_resolve_references()
  config.pseudo_labels = True
  figure = trainings.learning_curves([dataclasses.replace(runs[0], config=config)], 'nats')
  assert '(of training images with `pseudo_labels`: together with their components)' in figure.caption
  assert trainings.learning_curves(runs[1:], 'nats') is None


def test_score_curves_need_a_score_that_all_have(runs):
  scored = {'kind': 'validation', 'seconds': 1.0, 'scorer': 'classifier', 'scorer_hash': 'abc', 'score_samples': 500}
  first = dataclasses.replace(runs[0], metrics=[scored | {'step': 5, 'inception_score': 3.0, 'mode_score': 2.0}])
  second = dataclasses.replace(runs[1], metrics=[scored | {'step': 5, 'inception_score': 3.0}])
  assert trainings.score_curves(runs) is None
  assert trainings.score_curves([first]).caption.startswith('MODE score of 500 samples')
  assert trainings.score_curves([first, second]).caption.startswith('Inception score of 500 samples')


def test_sample_grids(runs):
  png = Figure.of_pixels(np.zeros((3, 4, 1), np.uint8), 'a', 'b').data
  [figure] = trainings.sample_grids([dataclasses.replace(runs[0], sample_grid=(40, png)), runs[1]], command_lines)
  assert (figure.data, figure.width, figure.height) == (png, 4, 3)
  assert figure.caption == 'MLE, iteration 40.' and figure.command.startswith('bin/train')

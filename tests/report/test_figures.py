"""Figures of runs."""

import dataclasses
import math

import numpy as np
import pytest

from flowgan_tf.display import plots
from flowgan_tf.display.figure import Figure
from flowgan_tf.report import figures
from flowgan_tf.study.jacobian import condition_numbers
from tests.summaries import conditional, evaluated, jacobian, summary

METRICS = [
  {'kind': 'validation', 'step': 0, 'seconds': 1.0, 'nll': 0.0},
  {'kind': 'train', 'step': 3, 'seconds': 20.0, 'nll': -80.0},
  {'kind': 'train', 'step': 5, 'seconds': 30.0, 'nll': -100.0},
  {'kind': 'validation', 'step': 5, 'seconds': 90.0, 'nll': -90.0},
]


@pytest.fixture
def runs():
  return [summary('mle', metrics=METRICS), summary('adversarial'), summary('hybrid')]


def test_learning_curves_pair_training_with_validation(runs, monkeypatch):
  drawn = []
  learning_curves = plots.learning_curves
  monkeypatch.setattr(
    plots, 'learning_curves', lambda *arguments: drawn.append(arguments) or learning_curves(*arguments)
  )
  figure = figures.learning_curves(runs, 'nats')
  assert 'MLE' in figure.alt and 'ADV' not in figure.alt and 'validation and training images' in figure.caption
  [(series, unit, critic)] = drawn
  steps, train, validation = series['MLE']
  assert (steps, list(validation), unit, critic) == ([0, 5], [0.0, -90.0], 'nats', {})
  np.testing.assert_equal(train, [np.nan, -90.0])  # the mean of the batches since the validation before
  assert 'components' not in figure.caption
  config = runs[0].config.copy_and_resolve_references()
  config.pseudo_labels = True
  figure = figures.learning_curves([dataclasses.replace(runs[0], config=config)], 'nats')
  assert '(of training images with `pseudo_labels`: together with their components)' in figure.caption
  assert figures.learning_curves(runs[1:], 'nats') is None
  assert figures.learning_curves([summary('mle', metrics=METRICS[:3])], 'nats') is None  # One point is no line.


def test_curves_of_conditional_runs(monkeypatch):
  """The figure of the NLL says which runs have p(x | c)."""
  drawn = []
  score_curves = plots.score_curves
  monkeypatch.setattr(plots, 'score_curves', lambda *arguments: drawn.append(arguments) or score_curves(*arguments))
  numbers = ({'class_accuracy': 0.9, 'label_share': 0.8}, {'consistency': 30.5})
  metrics = [[{'kind': 'validation', 'step': s, 'seconds': 1.0, 'nll': 1.0} | of for s in (0, 5)] for of in numbers]
  runs = [conditional(c, metrics=m) for c, m in zip(('label', 'mask:half'), metrics, strict=True)]
  assert len(figures.conditional_curves(runs)) == 3
  assert [name for _, name in drawn] == ['class accuracy (%)', 'label as asked (%)', 'consistency (dB)']
  (series, _), (shares, _), (images, _) = drawn
  steps, values = series['MLE (given label)']
  assert list(steps) == [0, 5] and list(values) == [90, 90] and shares['MLE (given label)'][1][0] == 80
  assert [list(values) for _, values in images.values()] == [[30.5, 30.5]] and 'MLE (given mask:half)' in images
  caption = figures.learning_curves(runs, 'nats').caption
  assert 'for MLE (given mask:half) it is the mean of -log p(x | c), which cannot be compared with -log p(x)' in caption
  assert 'p(x | c)' not in figures.learning_curves(runs[:1], 'nats').caption
  assert figures.conditional_curves([summary('mle', metrics=METRICS)]) == []


def test_numbers_of_terms_have_curves(monkeypatch):
  drawn = []
  score_curves = plots.score_curves
  monkeypatch.setattr(plots, 'score_curves', lambda *arguments: drawn.append(arguments) or score_curves(*arguments))
  rest = {'kind': 'train', 'seconds': 1.0, 'nll': 1.0, 'critic_gap': 3.0, 'loss': 2.0, 'learning_rate': 1e-3}
  plain = [rest | {'step': s, 'bright': value} for s, value in ((1, 0.5), (3, None), (5, 0.25))]
  declared = [rest | {'step': s, 'class_loss': value} for s, value in ((1, 0.75), (3, 0.5))]
  runs = [summary('mle', metrics=plain), summary('hybrid', metrics=declared)]
  captions = [figure.caption for figure in figures.term_curves(runs)]
  assert [axis for _, axis in drawn] == ['class loss (nats)', 'bright']
  (of_labels, _), (of_others, _) = drawn
  np.testing.assert_array_equal(of_others['MLE'], [[1, 3, 5], [0.5, np.nan, 0.25]])
  np.testing.assert_array_equal(of_labels['Hybrid λ = 0.1'], [[1, 3], [0.75, 0.5]])
  assert captions[0].startswith('Mean of -log p(y | x)') and captions[1].startswith('bright, a number of a term')
  assert figures.term_curves([summary('mle', metrics=METRICS)]) == []


def test_score_curves_need_a_score_that_all_have(runs):
  scored = {'kind': 'validation', 'seconds': 1.0, 'scorer': 'classifier', 'scorer_hash': 'abc', 'score_samples': 500}
  both, one = {'inception_score': 3.0, 'mode_score': 2.0}, {'inception_score': 3.0}
  first = dataclasses.replace(runs[0], metrics=[scored | {'step': step} | both for step in (5, 10)])
  second = dataclasses.replace(runs[1], metrics=[scored | {'step': 5} | one])
  assert figures.score_curves(runs) is None
  assert figures.score_curves([first]).caption.startswith('MODE score of 500 samples')
  assert figures.score_curves([first, second]).caption.startswith('Inception score of 500 samples')
  assert figures.score_curves([second]) is None  # One point is no line.
  edited = [{k: v for k, v in record.items() if k != 'score_samples'} for record in first.metrics]
  assert figures.score_curves([dataclasses.replace(first, metrics=edited)]) is None


def test_sample_grids(runs):
  png = Figure.of_pixels(np.zeros((3, 4, 1), np.uint8), 'a', 'b').data
  [grid] = figures.sample_grids(
    [dataclasses.replace(runs[0], sample_grid=(40, png), commands=[['--steps=40']]), runs[1]]
  )
  assert (grid.data, grid.width, grid.height) == (png, 4, 3)
  assert grid.caption == 'MLE, iteration 40.' and grid.command == 'bin/train --steps=40'
  given = [conditional(kind, sample_grid=(40, png)) for kind in ('vector', 'mask:half')]
  assert [grid.caption.partition(': a row for each condition')[2] for grid in figures.sample_grids(given)] == [
    '; originals on the right.',
    ', which is on the left; originals on the right.',
  ]
  [grid] = figures.sample_grids([conditional('label', sample_grid=(40, png), class_names=['cat', 'dog'])])
  assert grid.caption.endswith(': a row for each class, cat and dog.')


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


def test_front_and_condition_numbers(swept, monkeypatch):
  drawn = []
  for name in ('front', 'condition_numbers'):
    draw = getattr(plots, name)
    monkeypatch.setattr(plots, name, lambda *arguments, draw=draw: drawn.append(arguments) or draw(*arguments))
  assert 'a point for each of 2 runs' in figures.front(swept, 'nats').alt
  assert condition_numbers(swept).alt == 'Condition number of the Jacobian at 2 values of λ.'
  (points, score, unit), (weights, values) = drawn
  assert points[0] == ('Hybrid', 0.1, -3000.1, 6.9, 1.5, 0.1, 'λ = 0.1') and (unit, score) == ('nats', 'MODE score')
  assert weights == [0.1, 1.0] and [list(v) for v in values] == [[3, 9], [3, 9]]


@pytest.mark.parametrize(('scores', 'axis'), [((6.70, 6.77), 'FID'), ((6.70, 7.10), 'MODE score')])
def test_the_front_shows_fid_where_scores_are_within_their_errors(monkeypatch, scores, axis):
  """Scores of 10 splits that deviate by 0.2 have standard errors of 0.07, and their difference one of 0.09."""
  drawn, found = drawn_by(monkeypatch, 'front'), zip(scores, (24.0, 17.5), ('mle', 'hybrid'), strict=True)
  records = [(o, evaluated('best_score', 5, -3000.0, s) | {'mode_score_std': 0.2, 'fid': fid}) for s, fid, o in found]
  figure = figures.front([summary(objective, evaluation=[record]) for objective, record in records], 'nats')
  [(points, name, _)] = drawn
  assert name == axis and [point[3] for point in points] == ([24.0, 17.5] if axis == 'FID' else list(scores))
  assert ('down and to the left' in figure.caption) == (axis == 'FID')


def test_front_and_condition_numbers_need_several_lambdas_and_a_likelihood(swept):
  for runs in ([summary('mle'), summary('adversarial')], swept[:1]):
    assert figures.front(runs, 'nats') is None and condition_numbers(runs) is None
  assert figures.front([*swept[:1], conditional('mask:half')], 'nats') is None
  swept[0].evaluation[0]['scorer_hash'] = 'def'
  assert figures.front(swept, 'nats') is None  # Scores of different networks cannot be compared.
  swept[0].evaluation[0]['scorer_hash'] = 'abc'
  assert figures.front(swept, 'nats')
  for run in swept:
    del run.evaluation[0]['nll']
    del run.studies['jacobian'].record['largest_relative_difference']
  assert figures.front(swept, 'nats') is None and condition_numbers(swept) is None


def test_runs_on_different_data(swept):
  other = summary('hybrid', 3.0, dataset='cifar10', shape=(32, 32, 3), studies={'jacobian': jacobian([[2, 1]])})
  scored = evaluated('best_score', 5, -3000.0, 7.0) | {'inception_score': 3.0}
  other = dataclasses.replace(other, evaluation=[{n: v for n, v in scored.items() if n != 'mode_score'}])
  assert figures.front([*swept, other], 'nats') is None  # They have no score in common.
  assert condition_numbers([*swept, other]).alt == 'Condition number of the Jacobian at 3 values of λ.'


def drawn_by(monkeypatch, name):
  drawn, draw = [], getattr(plots, name)
  monkeypatch.setattr(plots, name, lambda *arguments: drawn.append(arguments) or draw(*arguments))
  return drawn


def test_curves_and_points_are_in_the_unit_of_their_axis(monkeypatch):
  """An image of 32 x 32 x 3 numbers with one bit each has 3072 ln 2 nats; a grey level is 2^-8 wide."""
  bit, of_cifar10 = 3072 * math.log(2), {'dataset': 'cifar10', 'shape': (32, 32, 3)}
  curves, points = drawn_by(monkeypatch, 'learning_curves'), drawn_by(monkeypatch, 'front')
  metrics = [record | {'nll': k * bit} for record, k in zip(METRICS, (0, -1, -3, -2), strict=True)]
  figures.learning_curves([summary('mle', metrics=metrics, **of_cifar10)], 'bits/dim')
  [(series, unit, _)] = curves
  _, train, validation = series['MLE']
  assert unit == 'bits/dim' and list(validation) == pytest.approx([8, 6]) and train[1] == pytest.approx(6)
  runs = [
    summary('hybrid', w, evaluation=[evaluated('best_score', 5, -4 * bit, 7.0 - w)], **of_cifar10) for w in (0.1, 1.0)
  ]
  figures.front(runs, 'bits/dim')
  [((first, _), _, unit)] = points
  assert unit == 'bits/dim' and first[2] == pytest.approx(4) and first[4] == pytest.approx(1.5 / bit)


def test_curves_of_many_batches_are_means_of_neighbours(monkeypatch):
  drawn = drawn_by(monkeypatch, 'learning_curves')
  gaps = [{'kind': 'train', 'step': s, 'seconds': 1.0, 'critic_gap': s / 2} for s in range(1, 301)]
  figures.learning_curves([summary('hybrid', metrics=[METRICS[0], *gaps, METRICS[3]])], 'nats')
  [(_, _, critic)] = drawn
  np.testing.assert_allclose(critic['Hybrid λ = 0.1'], [np.arange(2, 300, 3), np.arange(2, 300, 3) / 2])

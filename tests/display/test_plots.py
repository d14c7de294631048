import math

import numpy as np
import pytest
from scipy import stats

from flowgan_tf.display import plots
from flowgan_tf.display.figure import Figure

STEPS = np.array([0, 1000, 2000, 3000])
FALLING = np.array([0.0, -2000.0, -3000.0, -3300.0])
RISING = np.array([0.0, 9000.0, 40000.0, 100312.5])


def labels(figure):
  return [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]


def line(axes, label):
  (found,) = [line for line in axes.lines if line.get_label() == label]
  return found


def legend(figure):
  return [text.get_text() for text in figure.legends[0].texts]


def test_learning_curves():
  series = {'MLE': (STEPS, FALLING - 50, FALLING), 'ADV': (STEPS, None, RISING)}
  figure = plots.learning_curves(series, 'nats', {'ADV': (STEPS[1:], [3.0, 2.0, 1.5])})
  nll, critic = figure.axes
  assert labels(figure) == [('', 'NLL (nats)'), ('training iteration', 'critic gap (critic units)')]
  for expected, drawn in zip([FALLING - 50, FALLING, RISING], nll.lines, strict=True):
    np.testing.assert_array_equal(drawn.get_xydata(), np.stack([STEPS, expected], axis=1))
  (gap,) = critic.lines
  np.testing.assert_array_equal(gap.get_xydata(), [[1000, 3], [2000, 2], [3000, 1.5]])
  train, mle, adv = nll.lines
  assert train.get_color() == mle.get_color() != adv.get_color() == gap.get_color()
  assert train.get_linestyle() != mle.get_linestyle()
  assert legend(figure) == ['MLE', 'ADV', 'validation', 'train']


@pytest.mark.parametrize(
  ('curves', 'scale'),
  [
    ([RISING], 'linear'),
    ([FALLING, RISING], 'asinh'),
    ([FALLING, [np.nan] * 4], 'linear'),
    # Near 0 is not small: 270 nats are as far from -3,300 as from 3,840.
    ([FALLING, [900, -1373, -400, 270]], 'linear'),
    ([[9.8, 2.3, 2.0, 1.9]], 'linear'),
  ],
)
def test_a_diverging_model_leaves_the_others_apart(curves, scale):
  series = {f'run {i}': (STEPS, None, values) for i, values in enumerate(curves)}
  figure = plots.learning_curves(series, 'nats')
  (axes,) = figure.axes
  assert axes.get_yscale() == scale
  figure.draw_without_rendering()
  if scale == 'asinh':
    # The power of ten below the largest value of the smaller curve, 3,300.
    assert axes.yaxis.get_transform().linear_width == 1000
    assert {'−1,000', '0', '1,000', '10,000', '100,000'} <= {tick.get_text() for tick in axes.get_yticklabels()}


def test_score_curves():
  figure = plots.score_curves({'MLE': (STEPS, [1, 5, 7, 7.42]), 'ADV': (STEPS[:2], [2, 9])}, 'Inception score')
  (axes,) = figure.axes
  assert labels(figure) == [('training iteration', 'Inception score')] and legend(figure) == ['MLE', 'ADV']
  np.testing.assert_array_equal(line(axes, 'MLE').get_xydata(), np.stack([STEPS, [1, 5, 7, 7.42]], axis=1))
  np.testing.assert_array_equal(line(axes, 'ADV').get_xydata(), [[0, 2], [1000, 9]])


def test_bandwidth_study():
  bandwidths, nlls, scores = np.geomspace(0.01, 1, 5), [5e4, 2e3, -900, -500, 100], [9.9, 9.8, 9.5, 5, 1]
  lines = {'ADV': (26350.3, 9.24)}
  figure = plots.bandwidth_study(bandwidths, nlls, scores, 'MODE score', lines, (0.03, 0.1))
  nll, score = figure.axes
  assert labels(figure) == [('', 'validation NLL (nats)'), ('bandwidth σ (pixel values in [0, 1])', 'MODE score')]
  np.testing.assert_array_equal(line(nll, 'GMM').get_xydata(), np.stack([bandwidths, nlls], 1))
  np.testing.assert_array_equal(line(score, 'GMM').get_xydata(), np.stack([bandwidths, scores], 1))
  assert set(line(nll, 'ADV').get_ydata()) == {26350.3} and set(line(score, 'ADV').get_ydata()) == {9.24}
  for axes in figure.axes:
    (shade,) = axes.patches
    assert (shade.get_x(), shade.get_x() + shade.get_width()) == pytest.approx((0.03, 0.1))
    assert axes.get_xscale() == 'log'
  # The curve does not end at the frame.
  assert nll.get_ylim()[1] > 5.5e4
  assert legend(figure) == ['GMM', 'ADV', 'GMM better on both']


def test_singular_values():
  values = np.exp(np.random.default_rng(0).normal(-5, 2, (4, 25)))
  figure = plots.singular_values({'MLE': values, 'ADV': values * 1e-3})
  (axes,) = figure.axes
  assert labels(figure) == [('singular value s of the Jacobian', 'fraction of values below s')]
  assert axes.get_xscale() == 'log' and legend(figure) == ['MLE', 'ADV']
  for label, sample in [('MLE', values), ('ADV', values * 1e-3)]:
    x, y = line(axes, label).get_data()
    expected = stats.ecdf(sample.ravel()).cdf
    np.testing.assert_allclose(x[1:], expected.quantiles)
    np.testing.assert_allclose(y[1:], expected.probabilities)


def test_of_singular_values_zeros_count_and_those_that_are_not_finite_do_not():
  (axes,) = plots.singular_values({'MLE': [np.nan, 1.0, np.inf, 2.0], 'ADV': [0.0, 0.0, 1e-3, 1.0], 'x': [np.nan]}).axes
  np.testing.assert_array_equal(line(axes, 'MLE').get_xdata()[1:], [1, 2])
  x, y = line(axes, 'ADV').get_data()
  assert y[np.searchsorted(x, 1e-3) - 1] == 0.5 and 0 < axes.get_xlim()[0] <= 1e-3
  assert legend(axes.figure) == ['MLE', 'ADV', 'x'] and line(axes, 'x').get_xdata().size == 0


@pytest.mark.parametrize(
  ('values', 'ticks'), [([0.09, 0.16], {'0.1', '0.12', '0.14'}), ([0.1, 3.0], {'0.1', '0.5', '2'})]
)
def test_short_spans_of_singular_values_have_ticks(values, ticks):
  figure = plots.singular_values({'MLE': values})
  figure.draw_without_rendering()
  assert ticks <= {t.get_text() for t in figure.axes[0].get_xticklabels()}


def test_likelihood_histograms():
  figure = plots.likelihood_histograms([-3, -2, 0, 1], {'train': [10, 20, 10], 'test': [0, 1, 3]}, 'bits/dim')
  (axes,) = figure.axes
  assert labels(figure) == [('NLL of an image (bits/dim)', 'share of images')]
  outlines = {patch.get_label(): patch.get_data() for patch in axes.patches if not patch.get_label().startswith('_')}
  np.testing.assert_array_equal(outlines['train'].values, [0.25, 0.5, 0.25])
  np.testing.assert_array_equal(outlines['test'].values, [0, 0.25, 0.75])
  np.testing.assert_array_equal(outlines['test'].edges, [-3, -2, 0, 1])


def test_front():
  points = [
    ('Hybrid', 1.0, -3300.0, 8.0, 3.0, 0.1, 'λ = 1'),
    ('ADV', 0.0, -1604.0, 9.2, 9.0, 0.2, ''),
    ('Hybrid', 0.1, -3200.0, 9.0, 4.0, 0.3, 'λ = 0.1'),
    ('Hybrid', 2.0, np.nan, 9.0, 4.0, 0.3, 'λ = 2'),
    ('seeds', 1.0, -3000.0, 5.0, 1.0, 0.5, ''),
    ('seeds', 1.0, -3001.0, 5.0, 1.0, 0.5, ''),
  ]
  figure = plots.front(points, 'MODE score')
  (axes,) = figure.axes
  assert labels(figure) == [('test NLL (nats)', 'MODE score')] and legend(figure) == ['Hybrid', 'ADV', 'seeds']
  drawn = {c.get_label(): c for c in axes.containers}
  # Joined in their order, which seeds have not.
  np.testing.assert_array_equal(drawn['Hybrid'].lines[0].get_xydata()[:2], [[-3200, 9], [-3300, 8]])
  assert drawn['Hybrid'].lines[0].get_linestyle() != drawn['seeds'].lines[0].get_linestyle() == 'None'
  horizontal, vertical = (bars.get_segments() for bars in drawn['ADV'].lines[2])
  np.testing.assert_allclose(horizontal, [[[-1613, 9.2], [-1595, 9.2]]])
  np.testing.assert_allclose(vertical, [[[-1604, 9.0], [-1604, 9.4]]])
  assert {text.get_text(): text.xy for text in axes.texts} == {'λ = 0.1': (-3200, 9), 'λ = 1': (-3300, 8)}


def sweep(adversarial):
  """What a sweep over lambda gives on MNIST, with adversarial training's NLL."""
  nll = {0.001: -1800, 0.01: -2900, 0.1: -3222, 1: -3260, 10: -3282, 100: -3288}
  scores = [5.2, 6.2, 6.63, 6.4, 6.0, 5.7]
  points = [('Hybrid', w, x, y, 2.0, 0.1, f'λ = {w:g}') for (w, x), y in zip(nll.items(), scores, strict=True)]
  return [*points, ('MLE', 0, -3290, 5.63, 1.7, 0.14, 'λ = ∞'), ('ADV', 0, adversarial, 4.65, 8.1, 0.08, 'λ = 0')]


@pytest.mark.parametrize('adversarial', [270, 1e5])
def test_a_sweep_fills_the_axis_however_far_its_ends_and_its_notes_stand_apart(adversarial):
  figure = plots.front(sweep(adversarial), 'MODE score')
  (axes,) = figure.axes
  figure.draw_without_rendering()
  drawn = np.concatenate([container.lines[0].get_xydata() for container in axes.containers])
  np.testing.assert_allclose(sorted(drawn[:, 0]), sorted(p[2] + 3290 for p in sweep(adversarial)))
  x = axes.transAxes.inverted().transform(axes.transData.transform(drawn))[:, 0]
  # On a linear axis, all but two or three would be within 0.02.
  assert np.diff(np.sort(x))[1:].min() > 0.03 and x.min() > 0.05 and x.max() < 0.95
  ticks = dict(zip([t.get_text() for t in axes.get_xticklabels()], axes.get_xticks(), strict=True))
  assert ticks['0'] == 0 and ticks['100'] == 100
  assert axes.get_xlabel() == 'test NLL above the lowest, −3,290 (nats)'
  boxes = [text.get_window_extent() for text in axes.texts]
  assert len(boxes) == 8 and not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
  assert all(axes.bbox.contains(*corner) for box in boxes for corner in box.corners())


def test_condition_numbers_may_be_infinite_or_missing():
  figure = plots.condition_numbers([0, 0.1, 1, math.inf], [[np.inf] * 3, [1e4, 1e5, 1e6], [np.nan, 3000.0], [np.nan]])
  (axes,) = figure.axes
  figure.draw_without_rendering()
  assert labels(figure) == [('λ', 'condition number of the Jacobian')] and axes.get_yscale() == 'log'
  assert [t.get_text().strip() for t in axes.get_xticklabels()] == ['0\nADV', '0.1', '1', '∞\nMLE']
  ticks = dict(zip([t.get_text() for t in axes.get_yticklabels()], axes.get_yticks(), strict=True))
  (drawn,) = axes.containers
  np.testing.assert_allclose(drawn.lines[0].get_ydata(), [ticks['∞'], 1e5, 3000, np.nan])
  np.testing.assert_allclose(drawn.lines[2][0].get_segments()[1][:, 1], [5.5e4, 5.5e5])
  assert ticks['∞'] >= 1e6 and max(ticks.values()) == ticks['∞']
  assert axes.get_xlim()[1] > 3


def test_names_that_no_font_can_write():
  """Matplotlib warns about each glyph, which is an error here and noise on a terminal."""
  series = {f'{name} (犬 \N{BRAHMI LETTER A} $x^2_$)': (STEPS, [1, 5, 7, 7.42]) for name in ('MLE', 'ADV')}
  assert Figure.of_plot(plots.score_curves(series, '猫'), 'a', 'b').data.startswith(b'<?xml')
  points = [('犬', 0.1, -3.0, 4.0, 1.0, 1.0, 'λ = 0.1'), ('犬', 1.0, -2.0, 5.0, 1.0, 1.0, '')]
  assert Figure.of_plot(plots.front(points, '猫'), 'a', 'b').data.startswith(b'<?xml')

import math

import numpy as np
import pytest

from flowgan_tf.display import axes as looks


@pytest.mark.parametrize(
  ('value', 'text'),
  [
    (0, '0'),
    (0.001, '0.001'),
    (-3290.0, '−3,290'),
    (1e6, '10⁶'),
    (-1e7, '−10⁷'),
    (2.5e-7, '2.5·10⁻⁷'),
    (math.inf, '∞'),
  ],
)
def test_numbers_have_no_computer_notation(value, text):
  assert looks.format_number(value) == looks.PLAIN(value) == text


def test_an_objective_keeps_its_colour():
  alone, among = looks.choose_looks(['ADV']), looks.choose_looks(['Hybrid λ = 1', 'DCGAN', 'ADV', 'MLE'])
  assert alone['ADV'] == among['ADV']
  assert len({look['color'] for look in among.values()}) == 4


@pytest.mark.parametrize(
  ('labels', 'columns'),
  [(['MLE', 'ADV', 'Hybrid λ = 0.1'], 3), ([f'Hybrid λ = 0.1, seed {i}' for i in range(12)], 2), (['long ' * 20], 1)],
)
def test_legend_has_as_many_columns_as_fit_and_leaves_room_for_the_panel(labels, columns):
  figure, (axes,) = looks.make_panels(1)
  for label in labels:
    axes.plot([0, 1], [0, 1], label=label)
  looks.draw_legend(figure)
  figure.draw_without_rendering()
  (legend,) = figure.legends
  assert len({round(text.get_window_extent().x0) for text in legend.texts}) == columns
  assert columns == 1 or legend.get_window_extent().x1 <= figure.bbox.x1
  assert axes.bbox.height > 150
  assert legend.get_window_extent().y0 >= axes.bbox.y1


def test_texts_cover_neither_each_other_nor_lines():
  figure, (axes,) = looks.make_panels(1)
  x, y = np.linspace(0, 1, 4), np.array([0.3, 0.5, 0.72, 0.9])
  axes.plot(x, y)
  axes.margins(0.25)
  notes = [(a, b, f'text {i}') for a, b in zip(x, y, strict=True) for i in range(2)]
  looks.annotate(figure, axes, notes)
  figure.draw_without_rendering()
  boxes = [text.get_window_extent() for text in axes.texts]
  line = axes.lines[0].get_path().transformed(axes.transData)
  assert len(boxes) == 8
  assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
  assert not any(line.intersects_bbox(box, filled=False) for box in boxes)

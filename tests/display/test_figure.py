import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.figure import Figure as Plot
from PIL import Image

from flowgan_tf.display.figure import Figure

SVG = '{http://www.w3.org/2000/svg}'
PIXELS = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)


def plot(title='a title'):
  plot = Plot(figsize=(4, 2.5))
  axes = plot.subplots()
  axes.plot([1, 2, 3], [1, 4, 9], marker='o')
  axes.set_title(title)
  return plot


def test_svg():
  """It needs no font of a reader's, does not say when or by what it was drawn, and shows what is behind it."""
  first, again = (Figure.of_plot(plot('</svg><script>alert("1")</script> & --'), 'a', 'b') for _ in range(2))
  assert first == again
  assert (first.suffix, first.width, first.height) == ('svg', 384, 240)
  root = ET.fromstring(first.data)
  assert root.tag == f'{SVG}svg' and root.attrib['viewBox'] == '0 0 288 180'
  assert not [tag for tag in ('script', 'text') if list(root.iter(SVG + tag))]
  assert not [word for word in (b'<script', b'metadata', b'#ffffff') if word in first.data]


@pytest.mark.parametrize('pixels', [PIXELS, PIXELS[:, :, :1]])
def test_pixels(pixels):
  figure = Figure.of_pixels(pixels, 'a', 'b')
  assert (figure.suffix, figure.width, figure.height) == ('png', 5, 2)
  np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(figure.data))).reshape(pixels.shape), pixels)


def test_save(tmp_path):
  for figure in (Figure.of_plot(plot(), 'a', 'b'), Figure.of_pixels(PIXELS, 'a', 'b')):
    # A dot in the name is no suffix.
    path = figure.save(tmp_path / 'sweep_0.1')
    assert path == tmp_path / f'sweep_0.1.{figure.suffix}' and path.read_bytes() == figure.data


@pytest.mark.parametrize('change', [lambda data: data[:-40], lambda data: data[:60] + bytes(60)])
def test_a_png_that_is_not_whole_is_rejected(change):
  data = Figure.of_pixels(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8), 'a', 'b').data
  with pytest.raises(ValueError, match=r'^`data` must be the bytes of a PNG file\. Got: .*Error\)\.$'):
    Figure.of_png(change(data), 'a', 'b')

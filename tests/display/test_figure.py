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
  figure = Figure.of_plot(plot('</svg><script>alert("1")</script> & --'), 'a line', 'Figure 1.', 'bin/report')
  assert (figure.suffix, figure.width, figure.height) == ('svg', 384, 240)
  assert (figure.alt, figure.caption, figure.command) == ('a line', 'Figure 1.', 'bin/report')
  root = ET.fromstring(figure.data)
  assert root.tag == f'{SVG}svg' and root.attrib['viewBox'] == '0 0 288 180'
  assert not list(root.iter(f'{SVG}script')) and b'<script' not in figure.data
  # No font of a reader's is needed, nothing says when or by what it was drawn, and what is behind it shows through.
  assert figure == Figure.of_plot(
    plot('</svg><script>alert("1")</script> & --'), figure.alt, figure.caption, figure.command
  )
  assert not list(root.iter(f'{SVG}text')) and b'metadata' not in figure.data and b'#ffffff' not in figure.data


@pytest.mark.parametrize('pixels', [PIXELS, PIXELS[:, :, :1]])
def test_pixels(pixels):
  figure = Figure.of_pixels(pixels, 'a', 'b')
  assert (figure.suffix, figure.width, figure.height) == ('png', 5, 2)
  shown = np.asarray(Image.open(io.BytesIO(figure.data)))
  np.testing.assert_array_equal(shown.reshape(pixels.shape), pixels)
  assert figure == Figure.of_pixels(pixels, 'a', 'b')


def test_save(tmp_path):
  for figure in (Figure.of_plot(plot(), 'a', 'b'), Figure.of_pixels(PIXELS, 'a', 'b')):
    # A dot in the name is no suffix.
    path = figure.save(tmp_path / 'sweep_0.1')
    assert path == tmp_path / f'sweep_0.1.{figure.suffix}' and path.read_bytes() == figure.data


@pytest.mark.parametrize('change', [lambda data: data[:-40], lambda data: data[:60] + bytes(60)])
def test_a_png_that_is_not_whole_is_refused(change):
  data = Figure.of_pixels(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8), 'a', 'b').data
  with pytest.raises(ValueError, match=r'^`data` must be the bytes of a PNG file\. Got: .*Error\)\.$'):
    Figure.of_png(change(data), 'a', 'b')

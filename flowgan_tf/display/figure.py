"""A picture with its caption: an SVG made from a plot, or a PNG."""

from __future__ import annotations

import base64
import dataclasses
import io
import os
import pathlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from flowgan_tf.base.files import write_atomically
from flowgan_tf.base.lazy import lazy_import
from flowgan_tf.data.images import open_image

if TYPE_CHECKING:
  import matplotlib.figure

mpl = lazy_import('matplotlib')  # Only plots need it, and a training draws none.
axes = lazy_import('flowgan_tf.display.axes')

# Paths instead of text look the same whatever fonts a reader has. Without a salt, ids would differ from run to run.
_STYLE = {'svg.fonttype': 'path', 'svg.hashsalt': 'flowgan_tf', 'path.simplify_threshold': 0.3}


@dataclasses.dataclass(frozen=True)
class Figure:
  """A picture with its caption. Equal plots and pixels give equal bytes."""

  data: bytes  #: The file's bytes.
  suffix: str  #: Its format, 'svg' or 'png'.
  width: int  #: In CSS pixels.
  height: int  #: In CSS pixels.
  alt: str  #: What the picture shows, for those who cannot see it.
  caption: str  #: The text below it.
  command: str | None = None  #: The command that made it, if there is one.

  @classmethod
  def of_plot(cls, plot: matplotlib.figure.Figure, alt: str, caption: str, command: str | None = None) -> Figure:
    """Draws a plot as an SVG with a transparent background."""
    file = io.BytesIO()
    with mpl.rc_context(_STYLE), axes.glyphs_may_be_missing():
      plot.savefig(file, format='svg', transparent=True, metadata=dict.fromkeys(['Creator', 'Date', 'Format', 'Type']))
    # CSS has 96 pixels to the inch.
    width, height = (round(96 * inches) for inches in plot.get_size_inches())
    return cls(file.getvalue(), 'svg', width, height, alt, caption, command)

  @classmethod
  def of_pixels(cls, pixels: np.ndarray, alt: str, caption: str, command: str | None = None) -> Figure:
    """Writes pixels, uint8 `[height, width, channels]` with 1 channel or 3, as a PNG."""
    return cls.of_png(_png(pixels), alt, caption, command)

  @classmethod
  def of_png(cls, data: bytes, alt: str, caption: str, command: str | None = None) -> Figure:
    """Takes the bytes of a PNG file as they are."""
    return cls(data, 'png', *png_size(data), alt, caption, command)

  @property
  def data_uri(self) -> str:
    """The picture as the address of an `<img>`."""
    kind = {'svg': 'svg+xml', 'png': 'png'}[self.suffix]
    return f'data:image/{kind};base64,{base64.b64encode(self.data).decode()}'

  def save(self, path: pathlib.Path) -> pathlib.Path:
    """Writes the picture alone to the path, with the suffix added, and returns that path."""
    path = path.with_name(f'{path.name}.{self.suffix}')
    write_atomically(path, self.data)
    return path


def save_png(pixels: np.ndarray, path: str | os.PathLike) -> None:
  """Writes a uint8 picture `[height, width, channels]` as a PNG file, whole or not at all.

  Raises:
    UsageError: If the file cannot be written.
  """
  write_atomically(pathlib.Path(path), _png(pixels))


def _png(pixels):
  file = io.BytesIO()
  Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, 'PNG')
  return file.getvalue()


def png_size(data: bytes) -> tuple[int, int]:
  """Returns the width and the height of a PNG file in pixels, or raises a ValueError if it is damaged or not a PNG."""
  try:
    with open_image(io.BytesIO(data), formats=['PNG']) as image:
      image.verify()  # By checksums, since the pixels may take a thousand times as many bytes as the file.
      return image.size
  except Exception as error:  # A damaged file can raise anything.
    raise ValueError(f'`data` must be the bytes of a PNG file. Got: {data[:20]!r} ({type(error).__name__}).') from error

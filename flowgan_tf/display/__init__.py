"""What tables, figures and grids of images look like. It does not know runs."""

from typing import TYPE_CHECKING

from flowgan_tf.base.lazy import lazy_exports

__all__ = ['Column', 'Figure', 'Row', 'Table', 'image_grid', 'save_png']

if TYPE_CHECKING:
  from flowgan_tf.display.figure import Figure, save_png
  from flowgan_tf.display.grids import image_grid
  from flowgan_tf.display.tables import Column, Row, Table
else:
  # Only plots need Matplotlib, and a training draws none. Tables need nothing.
  _MODULES = {
    'axes': [],
    'figure': ['Figure', 'save_png'],
    'grids': ['image_grid'],
    'plots': [],
    'tables': ['Column', 'Row', 'Table'],
  }
  __getattr__, __dir__ = lazy_exports(__name__, _MODULES)

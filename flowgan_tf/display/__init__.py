"""What tables, figures and grids of images look like. It does not know runs."""

from flowgan_tf.base.lazy import lazy_exports
from flowgan_tf.display.figure import Figure, save_png
from flowgan_tf.display.grids import image_grid
from flowgan_tf.display.tables import Column, Row, Table

__all__ = ['Column', 'Figure', 'Row', 'Table', 'image_grid', 'save_png']

# Only plots need Matplotlib, and a training draws none.
__getattr__, __dir__ = lazy_exports(__name__, {'axes': [], 'plots': []})

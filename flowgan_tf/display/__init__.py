"""What tables, figures and grids of images look like. It does not know runs."""

from flowgan_tf.display.figure import Figure, save_png
from flowgan_tf.display.grids import image_grid
from flowgan_tf.display.tables import Column, Row, Table

__all__ = ['Column', 'Figure', 'Row', 'Table', 'image_grid', 'save_png']

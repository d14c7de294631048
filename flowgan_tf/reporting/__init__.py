"""Pictures and tables of runs."""

from flowgan_tf.evaluation.grids import image_grid, save_png
from flowgan_tf.reporting.tables import evaluation_table, text_table

__all__ = ['evaluation_table', 'image_grid', 'save_png', 'text_table']

"""How things look: tables, figures, and the plots in them. It knows nothing of runs."""

from flowgan_tf.display.figure import Figure
from flowgan_tf.display.tables import Column, Row, Table

__all__ = ['Column', 'Figure', 'Row', 'Table']

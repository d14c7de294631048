"""How things look: tables, figures, and the plots in them. Knows no runs."""

from flowgan_tf.display.figure import Figure
from flowgan_tf.display.tables import Column, Row, Table

__all__ = ['Column', 'Figure', 'Row', 'Table']

"""Tables for the terminal, and one HTML page of runs."""

from flowgan_tf.report.tables import evaluation_table, text_table

__all__ = ['evaluation_table', 'text_table']

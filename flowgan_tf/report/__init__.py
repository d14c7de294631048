"""One HTML page about runs, and the table of an evaluation for the terminal."""

from flowgan_tf.report.page import render
from flowgan_tf.report.sections import make_report
from flowgan_tf.report.tables import evaluation_table

__all__ = ['evaluation_table', 'make_report', 'render']

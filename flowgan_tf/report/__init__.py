"""One HTML page about runs, and the table of an evaluation for the terminal."""

from flowgan_tf.report.contents import make_report
from flowgan_tf.report.evaluations import evaluation_table
from flowgan_tf.report.page import render

__all__ = ['evaluation_table', 'make_report', 'render']

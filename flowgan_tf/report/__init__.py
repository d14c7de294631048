"""Tables for the terminal, and one HTML page of runs."""

from flowgan_tf.report.evaluations import evaluation_table
from flowgan_tf.report.page import render
from flowgan_tf.report.study_page import make_report

__all__ = ['evaluation_table', 'make_report', 'render']

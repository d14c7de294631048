"""Evaluation of a run: likelihood, scores, samples and pictures."""

from flowgan_tf.evaluation.evaluate import Evaluator, evaluate_run, read_evaluation
from flowgan_tf.evaluation.pictures import image_grid, save_png

__all__ = ['Evaluator', 'evaluate_run', 'image_grid', 'read_evaluation', 'save_png']

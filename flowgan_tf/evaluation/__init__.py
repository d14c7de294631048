"""Evaluation of a run: likelihood, scores, samples and pictures."""

from flowgan_tf.evaluation.evaluate import evaluate_run
from flowgan_tf.evaluation.evaluator import Evaluator
from flowgan_tf.evaluation.grids import image_grid, save_png
from flowgan_tf.evaluation.scoring import make_scorer, score_samples

__all__ = ['Evaluator', 'evaluate_run', 'image_grid', 'make_scorer', 'save_png', 'score_samples']

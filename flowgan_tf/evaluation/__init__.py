"""Evaluation of a run: likelihood, scores, samples and pictures."""

from flowgan_tf.evaluation.evaluate import Evaluator, evaluate_run, read_evaluation
from flowgan_tf.evaluation.scorer import make_scorer

__all__ = ['Evaluator', 'evaluate_run', 'make_scorer', 'read_evaluation']

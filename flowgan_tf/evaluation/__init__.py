"""Evaluation of a run: likelihood, scores, samples and pictures."""

from typing import TYPE_CHECKING

from flowgan_tf.base.lazy import lazy_exports

__all__ = ['Evaluator', 'evaluate_run', 'make_scorer', 'read_evaluation']

if TYPE_CHECKING:
  from flowgan_tf.evaluation.evaluate import Evaluator, evaluate_run, read_evaluation
  from flowgan_tf.evaluation.scorer import make_scorer
else:
  _MODULES = {
    'evaluate': ['Evaluator', 'evaluate_run', 'read_evaluation'],
    'scorer': ['make_scorer'],
  }
  __getattr__, __dir__ = lazy_exports(__name__, _MODULES)

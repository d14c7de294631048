"""Evaluation of a run: likelihood, scores, samples and pictures, and the tables of the results."""

from typing import TYPE_CHECKING

from flowgan_tf.base.lazy import lazy_exports

__all__ = ['Evaluator', 'evaluate_run', 'evaluation_table', 'make_scorer', 'read_evaluation']

if TYPE_CHECKING:
  from flowgan_tf.evaluation.evaluate import Evaluator, evaluate_run
  from flowgan_tf.evaluation.results import read_evaluation
  from flowgan_tf.evaluation.scorer import make_scorer
  from flowgan_tf.evaluation.tables import evaluation_table
else:
  __getattr__, __dir__ = lazy_exports(
    __name__,
    {
      'evaluate': ['Evaluator', 'evaluate_run'],
      'results': ['read_evaluation'],
      'scorer': ['make_scorer'],
      'tables': ['evaluation_table'],
    },
  )

"""Evaluation of a run: likelihood, scores, samples and pictures, and the tables of the results."""

from typing import TYPE_CHECKING

from flowgan_tf.base.lazy import lazy_exports

__all__ = [
  'Evaluator',
  'Statistics',
  'evaluate_run',
  'evaluation_table',
  'images_table',
  'judge_images',
  'make_scorer',
  'measure_held_out',
  'read_evaluation',
]

if TYPE_CHECKING:
  from flowgan_tf.evaluation.evaluate import Evaluator, evaluate_run
  from flowgan_tf.evaluation.outliers import Statistics, images_table, judge_images, measure_held_out
  from flowgan_tf.evaluation.results import read_evaluation
  from flowgan_tf.evaluation.scorer import make_scorer
  from flowgan_tf.evaluation.tables import evaluation_table
else:
  __getattr__, __dir__ = lazy_exports(
    __name__,
    {
      'evaluate': ['Evaluator', 'evaluate_run'],
      'outliers': ['Statistics', 'images_table', 'judge_images', 'measure_held_out'],
      'results': ['read_evaluation'],
      'scorer': ['make_scorer'],
      'tables': ['evaluation_table'],
    },
  )

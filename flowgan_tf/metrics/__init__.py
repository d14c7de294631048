"""Measures of a model: its likelihood, scores of its samples, and signs of memorisation."""

from typing import TYPE_CHECKING

from flowgan_tf.base.lazy import lazy_exports

__all__ = [
  'PRDC',
  'Classifier',
  'Copies',
  'FeatureStatistics',
  'Inception',
  'Likelihood',
  'Neighbors',
  'Reference',
  'Score',
  'ScoreNetwork',
  'Scorer',
  'bits_per_dim',
  'calibration_error',
  'class_distances',
  'consistency',
  'feature_statistics',
  'frechet_distance',
  'inception_score',
  'kernel_distance',
  'label_agreement',
  'load_classifier',
  'load_inception',
  'load_reference',
  'make_likelihood_fn',
  'mode_score',
  'near_copies',
  'nearest_distances',
  'nearest_neighbors',
  'prdc',
  'psnr',
  'sample_spread',
  'score_samples',
  'ssim',
]

if TYPE_CHECKING:
  from flowgan_tf.metrics.classifier import Classifier, load_classifier
  from flowgan_tf.metrics.conditional import (
    class_distances,
    consistency,
    label_agreement,
    psnr,
    sample_spread,
    ssim,
  )
  from flowgan_tf.metrics.inception import Inception, load_inception
  from flowgan_tf.metrics.likelihood import Likelihood, bits_per_dim, calibration_error, make_likelihood_fn
  from flowgan_tf.metrics.neighbors import Neighbors, nearest_neighbors
  from flowgan_tf.metrics.samples import (
    Reference,
    ScoreNetwork,
    Scorer,
    load_reference,
    score_samples,
  )
  from flowgan_tf.metrics.scores import (
    FeatureStatistics,
    Score,
    feature_statistics,
    frechet_distance,
    inception_score,
    kernel_distance,
    mode_score,
  )
  from flowgan_tf.metrics.variety import PRDC, Copies, near_copies, nearest_distances, prdc
else:
  _MODULES = {
    'classifier': ['Classifier', 'load_classifier'],
    'conditional': ['class_distances', 'consistency', 'label_agreement', 'psnr', 'sample_spread', 'ssim'],
    'inception': ['Inception', 'load_inception'],
    'likelihood': ['Likelihood', 'bits_per_dim', 'calibration_error', 'make_likelihood_fn'],
    'neighbors': ['Neighbors', 'nearest_neighbors'],
    'samples': ['Reference', 'ScoreNetwork', 'Scorer', 'load_reference', 'score_samples'],
    'scores': [
      'FeatureStatistics',
      'Score',
      'feature_statistics',
      'frechet_distance',
      'inception_score',
      'kernel_distance',
      'mode_score',
    ],
    'variety': ['PRDC', 'Copies', 'near_copies', 'nearest_distances', 'prdc'],
    'annealing': [],
    'arrays': [],
  }
  __getattr__, __dir__ = lazy_exports(__name__, _MODULES)

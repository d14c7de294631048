"""Measures of a model: its likelihood, scores of its samples, and signs of memorisation."""

from flowgan_tf.metrics.classifier import Classifier, load_or_train
from flowgan_tf.metrics.frechet import FeatureStatistics, feature_statistics, frechet_distance
from flowgan_tf.metrics.inception import Inception, load_inception
from flowgan_tf.metrics.likelihood import Likelihood, bits_per_dim, make_likelihood_fn
from flowgan_tf.metrics.mmd import kernel_distance
from flowgan_tf.metrics.neighbors import Neighbors, nearest_neighbors
from flowgan_tf.metrics.predictions import Predictions, ScoreNetwork
from flowgan_tf.metrics.reference import Reference
from flowgan_tf.metrics.reference import load_or_compute as load_or_compute_reference
from flowgan_tf.metrics.samples import sample_health
from flowgan_tf.metrics.scorers import Scorer
from flowgan_tf.metrics.scores import Score, inception_score, mode_score

__all__ = [
  'Classifier',
  'FeatureStatistics',
  'Inception',
  'Likelihood',
  'Neighbors',
  'Predictions',
  'Reference',
  'Score',
  'ScoreNetwork',
  'Scorer',
  'bits_per_dim',
  'feature_statistics',
  'frechet_distance',
  'inception_score',
  'kernel_distance',
  'load_inception',
  'load_or_compute_reference',
  'load_or_train',
  'make_likelihood_fn',
  'mode_score',
  'nearest_neighbors',
  'sample_health',
]

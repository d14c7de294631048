"""What is measured of a model: likelihood and sample scores."""

from flowgan_tf.metrics.classifier import Classifier, load_or_train
from flowgan_tf.metrics.likelihood import Likelihood, bits_per_dim, make_likelihood_fn
from flowgan_tf.metrics.samples import sample_health
from flowgan_tf.metrics.scores import Score, inception_score, mode_score

__all__ = [
  'Classifier',
  'Likelihood',
  'Score',
  'bits_per_dim',
  'inception_score',
  'load_or_train',
  'make_likelihood_fn',
  'mode_score',
  'sample_health',
]

"""Samples that do not follow their density are found, and those that do are not accused."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

import flowgan_tf as fg
from flowgan_tf.checks.samples import check_finite, check_moves

tfb, tfd = tfp.bijectors, tfp.distributions


def normal(size):
  return tfd.Sample(tfd.Normal(0.0, 1.0), size)


class Sampled(tfd.MultivariateNormalDiag):
  """Normal numbers whose samples are changed."""

  change = staticmethod(tf.identity)

  def _call_sample_n(self, *args, **keywords):
    return self.change(super()._call_sample_n(*args, **keywords))


def sampled(size, change):
  target = Sampled(tf.zeros([size]))
  target.change = change
  return target


@pytest.mark.parametrize('size', [1, 2, 5, 30, 100])
@pytest.mark.parametrize(
  'change',
  [lambda x: 1.1 * x, lambda x: x + 0.2, lambda x: 0.7 * x, lambda x: tf.clip_by_value(x, -1, 1)],
  ids=['wide', 'moved', 'cold', 'clipped'],
)
def test_samples_from_another_density_are_found(size, change):
  samples = np.asarray(change(tf.random.stateless_normal((4096, size), (3, size))))
  found = list(check_moves(lambda x: scipy.stats.norm.logpdf(x).sum(axis=-1), samples, 0))
  assert any(finding.sound is False for finding in found)


@pytest.mark.parametrize('law', [scipy.stats.norm, scipy.stats.cauchy, scipy.stats.gumbel_r, scipy.stats.laplace])
def test_right_samples_are_not_accused(law):
  for seed, size in enumerate((1, 3, 17)):
    samples = law.rvs(size=(2000, size), random_state=seed)
    for finding in check_moves(lambda x: law.logpdf(x).sum(axis=-1), samples, seed):
      assert finding.sound is True, finding


def test_a_jump_of_the_density_to_0_is_not_judged():
  samples = scipy.stats.expon.rvs(size=(500, 2), random_state=0)
  assert all(f.sound is None for f in check_moves(lambda x: scipy.stats.expon.logpdf(x).sum(axis=-1), samples, 0))


@pytest.mark.parametrize(('infinite', 'counted'), [(50, 0), (200, 200)])
def test_densities_may_be_infinite_at_the_end_of_a_support_alone(infinite, counted):
  log_prob = np.zeros(1000)
  log_prob[:infinite] = np.inf
  finding = check_finite(log_prob)
  assert (finding.found, finding.sound) == (counted, not counted)


def wrong_names(target, **arguments):
  return {finding.check for finding in fg.check(target, **arguments).wrong}


def with_probs(probs):
  flow = fg.flows.vectors(2, couplings=2, hidden_units=4, classes=2)
  flow.class_probs.assign(probs)
  return flow


def relu():
  return tfb.Inline(tf.nn.relu, lambda y: y, lambda y: tf.zeros([]), lambda x: tf.zeros([]), forward_min_event_ndims=0)


def cancelling():
  return tfb.Inline(
    lambda x: x + 1e5 - 1e5, lambda y: y, lambda y: tf.zeros([]), lambda x: tf.zeros([]), forward_min_event_ndims=0
  )


LOST = 'noise of the prior that does not come back in float32'


class NotFinite(tfd.Normal):
  def _log_prob(self, x):
    return tf.where(x > 2.5, np.nan, super()._log_prob(x))


@pytest.mark.parametrize(
  ('target', 'check'),
  [
    (lambda: sampled(2, lambda x: 1.1 * x), 'samples, stretched'),
    (lambda: sampled(1, lambda x: tf.where(tf.abs(x) < 0.2, 0.2, x)), 'samples in cells, integral'),
    (lambda: sampled(20, lambda x: 0.7 * x), 'samples, stretched'),
    (lambda: tfd.TransformedDistribution(normal(2), relu()), 'noise of samples, prior'),
    (lambda: tfd.TransformedDistribution(normal(10), relu()), LOST),
    (
      lambda: tfd.TransformedDistribution(normal(2), cancelling()),
      'noise of the prior that does not come back in float32',
    ),
    (lambda: with_probs([0.5, 0.3]), 'probabilities of the classes, less 1'),
    (lambda: NotFinite(0.0, 1.0), 'samples without a finite density'),
  ],
)
def test_what_was_called_sound_is_found(target, check):
  assert check in wrong_names(target())


class Columns(tfd.Normal):
  def _log_prob(self, x):
    return super()._log_prob(x)[:, tf.newaxis]


def test_a_log_density_of_another_shape_is_named():
  report = fg.check(Columns(0.0, 1.0))
  assert {f.check for f in report.wrong} == {'shape of log_prob'} and 'it is [8, 1] for 8 values' in str(report)


@pytest.mark.parametrize(
  'target',
  [
    lambda: tfd.MixtureSameFamily(tfd.Categorical(probs=[0.5, 0.5]), tfd.Normal([-100.0, 100.0], [0.01, 1.0])),
    lambda: tfd.Horseshoe(1.0),
    lambda: tfd.Normal(1e6, 0.1),
    lambda: tfd.StudentT(2.0, 0.0, 1.0),
    lambda: fg.flows.vectors(2, couplings=2, hidden_units=4, classes=2),
  ],
)
def test_right_ones_are_not_accused(target):
  report = fg.check(target())
  assert report.sound, report

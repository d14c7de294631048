"""Whether images are outliers: p-values against SciPy's, and what is said of an image against loops."""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from flowgan_tf import data, flows
from flowgan_tf.evaluation import Statistics, images_table, judge_images
from flowgan_tf.evaluation.outliers import combined, p_values, p_values_of_tests

SHAPE = (4, 4, 1)


@pytest.fixture(scope='module')
def statistics():
  return Statistics(moved(flows.nice(SHAPE, couplings=2, hidden_units=8, hidden_layers=1)))


def moved(flow):
  """A flow with random weights."""
  for i, variable in enumerate(flow.trainable_variables):
    variable.assign_add(0.3 * tf.random.stateless_normal(variable.shape, (0, i)))
  return flow


def grey_levels(n, seed=0, below=256):
  return np.random.default_rng(seed).integers(0, below, (n, *SHAPE)).astype(np.uint8)


def test_p_values_are_those_of_a_monte_carlo_test():
  rng = np.random.default_rng(0)
  held_out, values = rng.integers(0, 9, 40), rng.integers(-1, 10, 20)  # with ties
  for value, p in zip(values, p_values(values, held_out), strict=True):
    drawn = scipy.stats.monte_carlo_test(
      [value], lambda size: held_out.reshape(size), lambda x, axis: x[..., 0], n_resamples=40, alternative='less'
    )
    assert p == pytest.approx(drawn.pvalue, abs=1e-12)
  np.testing.assert_array_equal(p_values(np.array([math.nan, -math.inf, math.inf]), held_out), [1 / 41, 1 / 41, 1])


@pytest.mark.parametrize('rate', [0.05, 0.1, 0.3])
def test_each_test_and_all_together_keep_their_rate_of_false_alarms(rate):
  """Each of 60 values is left out in turn, as if it were new: so the rates are exact."""
  found = np.random.default_rng(0).normal(size=(60, 2))
  p = [p_values_of_tests(found[i : i + 1], np.delete(found, i, axis=0)) for i in range(60)]
  for test in p[0]:
    alarms = np.mean([values[test][0] <= rate for values in p])
    assert alarms == math.floor(60 * rate + 1e-9) / 60
  assert np.mean([combined(values)[0] <= rate for values in p]) <= rate


def test_both_ends_of_the_likelihood_and_large_noise_are_outliers():
  held_out = np.column_stack([np.arange(99.0), np.linspace(1, 2, 99)])
  found = np.array([[-5, 1.5], [200, 1.5], [50, 9], [50, 0.1], [50, 1.5]])
  p = p_values_of_tests(found, held_out)
  is_small = np.array([values <= 0.01 for values in p.values()])
  np.testing.assert_array_equal(is_small, [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0]])
  np.testing.assert_array_equal(combined(p) <= 0.05, [1, 1, 1, 0, 0])


def test_the_statistics_of_a_flow_with_classes_take_the_most_probable_one():
  flow = moved(flows.vectors(4, couplings=2, hidden_units=8, hidden_layers=1, classes=3))
  x, statistics = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32), Statistics(flow)
  joint = np.stack([flow.log_prob(x, condition=tf.fill([7], y)) + np.log(flow.class_probs[y]) for y in range(3)])
  label = joint.argmax(axis=0).astype(np.int32)
  noise = np.mean(np.square(flow.encode(x, condition=label)), axis=1)
  expected = np.column_stack([scipy.special.logsumexp(joint, axis=0), noise])
  np.testing.assert_allclose(statistics(x), expected, rtol=1e-4)
  assert len(set(label)) > 1
  label = (label + 1) % 3
  expected = np.column_stack(
    [flow.log_prob(x, condition=label), np.mean(np.square(flow.encode(x, condition=label)), 1)]
  )
  np.testing.assert_allclose(statistics(x, label), expected, rtol=1e-4)


def test_what_is_said_of_an_image(statistics):
  flow = statistics.flow
  images, held_out = grey_levels(3), statistics(data.dequantize(grey_levels(99, seed=1), 256, 0))
  records = judge_images(statistics, images, 256, held_out, ['a.png', 'b.png', 'c.png'])
  [alone] = judge_images(statistics, images[1:2], 256, held_out)
  assert [r['name'] for r in records] == ['a.png', 'b.png', 'c.png'] and alone['name'] == 'image 0'
  for name, value in alone.items():
    assert name == 'name' or value == records[1][name] or value == pytest.approx(records[1][name], rel=1e-4)
  # A few of very many draws of the noise.
  x = data.dequantize(np.repeat(images[1:2], 4000, axis=0), 256, 7)
  log_prob = flow.log_prob(x).numpy().astype(np.float64)
  spread = log_prob.std()
  assert records[1]['log_prob'] == pytest.approx(log_prob.mean(), abs=5 * spread / 4)
  assert spread / 2 < records[1]['spread'] < 2 * spread
  bits = 8 - (scipy.special.logsumexp(log_prob) - np.log(4000)) / 16 / np.log(2)
  assert records[1]['bits_per_dim'] == pytest.approx(bits, abs=5 * spread / 4 / 16 / np.log(2))
  of_samples = flow.log_prob(flow.sample(2000, seed=(0, 9))).numpy()
  share = scipy.stats.percentileofscore(of_samples, records[1]['log_prob']) / 100
  assert records[1]['rank'] == pytest.approx(share, abs=0.2)
  table = images_table(records)
  assert 'a.png' in table and 'p: too likely' in table and '+-' in table


def test_the_verdict_names_the_test(statistics):
  images = grey_levels(1)
  log_prob, noise = statistics(data.dequantize(images, 256, 0))[0]

  def verdict(log_prob, noise, rate=0.05):
    held_out = np.column_stack([np.linspace(-1, 1, 99) + log_prob, np.linspace(-1e-2, 1e-2, 99) + noise])
    return judge_images(statistics, images, 256, held_out, false_alarms=rate)[0]['verdict']

  assert verdict(log_prob + 100, noise + 9) == 'unlikely'
  assert verdict(log_prob - 100, noise + 9) == 'too likely'
  assert verdict(log_prob, 0) in ('odd noise', 'unlikely', 'too likely')
  assert verdict(log_prob + 100, noise + 9, rate=0.02) == 'no outlier'

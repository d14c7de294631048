import functools
import math
import re

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.base.errors import UsageError
from flowgan_tf.objectives import (
  DIVERGENCES,
  OBJECTIVES,
  Drawn,
  Objective,
  Term,
  gradient_penalty,
  make,
  zero_centered_penalty,
)
from flowgan_tf.objectives.objective import NUMBERS, TERMS, make_objective
from flowgan_tf.objectives.term import OF_LOG
from flowgan_tf.runs.config import default_config

SEED = (1, 2)


class AffineModel:
  """x = z * scale + shift with standard normal z in three dimensions, and a critic with one hidden layer."""

  def __init__(self):
    rng = np.random.default_rng(0)

    def draw(*shape):
      return rng.normal(size=shape).astype(np.float32)

    self.log_scale, self.shift = tf.Variable(0.3 * draw(3)), tf.Variable(draw(3))
    self.hidden, self.out = tf.Variable(0.3 * draw(3, 4)), tf.Variable(0.3 * draw(4, 1))
    self.real, self.noise = tf.constant(draw(6, 3)), tf.constant(draw(6, 3))

  def critic(self, x):
    return tf.tanh(x @ self.hidden) @ self.out

  def sample(self):
    return self.noise * tf.exp(self.log_scale) + self.shift

  def nll(self):
    z = (self.real - self.shift) * tf.exp(-self.log_scale)
    return tf.reduce_mean(tf.reduce_sum(z**2 / 2 + self.log_scale + 0.5 * math.log(2 * math.pi), axis=1))

  def critic_step(self, objective):
    with tf.GradientTape() as tape:
      loss, metrics = objective.adversary.critic_loss(self.critic, self.real, self.sample(), SEED)
    return loss, metrics, tape.gradient(loss, [self.hidden, self.out])

  def generator_step(self, objective):
    with tf.GradientTape() as tape:
      drawn = {'means': {'log_prob': -self.nll()}} if objective.uses_likelihood else {}
      if objective.uses_critic:
        drawn |= {'fake_outputs': self.critic(self.sample()), 'real_outputs': self.critic(self.real)}
      loss, metrics = objective.generator_loss(Drawn(**drawn))
    return loss, metrics, tape.gradient(loss, [self.log_scale, self.shift])


@pytest.fixture(scope='module')
def model():
  return AffineModel()


def assert_identical(first, second):
  tf.nest.assert_same_structure(first, second)
  for a, b in zip(tf.nest.flatten(first), tf.nest.flatten(second), strict=True):
    assert a.numpy().tobytes() == b.numpy().tobytes()


@pytest.mark.parametrize('divergence', DIVERGENCES)
def test_hybrid_with_lambda_0_is_adversarial_to_the_bit(model, divergence):
  hybrid = make('hybrid', lambda_=0.0, divergence=divergence)
  adversarial = make('adversarial', lambda_=0.7, divergence=divergence)
  assert not hybrid.uses_likelihood
  assert_identical(model.generator_step(hybrid), model.generator_step(adversarial))
  assert_identical(model.critic_step(hybrid), model.critic_step(adversarial))


@pytest.mark.parametrize('divergence', DIVERGENCES)
def test_hybrid_is_adversarial_plus_lambda_times_mle(model, divergence):
  lambda_ = 20.0
  loss, metrics, gradients = model.generator_step(make('hybrid', lambda_=lambda_, divergence=divergence))
  adversarial_loss, _, adversarial = model.generator_step(make('adversarial', divergence=divergence))
  mle_loss, _, mle = model.generator_step(make('mle'))
  np.testing.assert_allclose(loss, adversarial_loss + lambda_ * mle_loss, rtol=1e-6)
  np.testing.assert_array_equal(
    [metrics[key] for key in ('loss', 'generator_loss', 'nll')], [loss, adversarial_loss, mle_loss]
  )
  for hybrid_part, adversarial_part, mle_part in zip(gradients, adversarial, mle, strict=True):
    assert np.abs(adversarial_part).max() > 1e-4
    np.testing.assert_allclose(hybrid_part, adversarial_part + lambda_ * mle_part, rtol=1e-5, atol=1e-6)


def test_mle_is_the_negative_log_likelihood(model):
  loss, metrics, (log_scale_gradient, shift_gradient) = model.generator_step(make('mle', lambda_=0.3))
  assert set(metrics) == {'loss', 'nll'}
  np.testing.assert_array_equal([loss, metrics['nll']], [model.nll(), model.nll()])
  scale, centred = np.exp(model.log_scale), model.real.numpy() - model.shift.numpy()
  np.testing.assert_allclose(shift_gradient, -centred.mean(0) / scale**2, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(log_scale_gradient, 1 - (centred**2).mean(0) / scale**2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('divergence', DIVERGENCES)
@pytest.mark.parametrize('weight', [None, 0.5, 0])
def test_critic_loss_is_the_divergence_plus_the_weighted_penalty(model, divergence, weight):
  fake, chosen = model.sample(), DIVERGENCES[divergence]
  objective = make('adversarial', divergence=divergence, gradient_penalty=weight)
  loss, metrics, _ = model.critic_step(objective)
  outputs = model.critic(model.real), model.critic(fake)
  expected = {'critic_loss': chosen.critic_loss(*outputs), 'critic_gap': chosen.value(*outputs)}
  weight = {'wasserstein': 10.0, 'relativistic': 1.0}.get(divergence, 0.0) if weight is None else weight
  if weight:
    kind = zero_centered_penalty if divergence == 'relativistic' else gradient_penalty
    expected['gradient_penalty'] = kind(model.critic, model.real, fake, SEED)
    assert expected['gradient_penalty'] > 0.01
    expected['critic_loss'] += weight * expected['gradient_penalty']
  assert metrics.keys() == expected.keys() and loss == metrics['critic_loss']
  for name, value in expected.items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-6, err_msg=name)


def test_losses_in_graphs_are_the_eager_ones(model):
  """AutoGraph would warn of two lambdas on one line, which this divergence has."""
  objective = make('hybrid', divergence='total_variation', gradient_penalty=1.0)
  for step in (model.critic_step, model.generator_step):
    found = tf.nest.flatten(tf.function(lambda step=step: step(objective))())
    for a, b in zip(found, tf.nest.flatten(step(objective)), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_unused_parts_do_not_reach_the_loss():
  outputs, bad = tf.constant([0.5, 0.25]), tf.constant(math.nan)
  drawn = Drawn(means={'log_prob': bad}, fake_outputs=outputs)
  assert make('hybrid', lambda_=0.0).generator_loss(drawn)[0] == -0.375
  drawn = Drawn(means={'log_prob': tf.constant(-2.0)}, fake_outputs=bad[tf.newaxis])
  assert make('mle').generator_loss(drawn)[0] == 2.0


def test_a_lazy_penalty_is_left_out_or_counts_for_all_that_were_left_out(model):
  every, lazy = (make('adversarial', penalty_interval=interval) for interval in (1, 4))
  arguments = (model.critic, model.real, model.sample(), SEED)
  loss, metrics = every.adversary.critic_loss(*arguments)
  without, fewer = lazy.adversary.critic_loss(*arguments, penalized=False)
  assert 'gradient_penalty' not in fewer and without == fewer['critic_loss'] == -metrics['critic_gap']
  np.testing.assert_allclose(lazy.adversary.critic_loss(*arguments)[0] - without, 4 * (loss - without), rtol=1e-5)


def test_lambda_moves_by_a_constant_factor():
  for made, weights in (
    (make('hybrid', lambda_=1.0, final_lambda=0.25), (1.0, 0.5, 0.25)),
    (make('hybrid', lambda_=0.8), (0.8, 0.8, 0.8)),
    (make('mle', lambda_=0.8, final_lambda=0.05), (1.0, 1.0, 1.0)),
  ):
    for progress, weight in zip((0.0, 0.5, 1.0), weights, strict=True):
      means = {'log_prob': tf.constant(-2.0)}
      drawn = Drawn(means=means, fake_outputs=tf.constant([0.0]), progress=progress)
      np.testing.assert_allclose(made.generator_loss(drawn)[0], 2 * weight, rtol=1e-6)


def test_which_terms_an_objective_has():
  def names(objective, **settings):
    config = default_config(objective=objective, condition='mask:half', **settings)
    return [type(term).__name__ for term in make_objective(config).terms]

  everything = {'transport_weight': 4.0, 'consistency_weight': 1.0}
  assert names('mle', **everything) == ['Likelihood']
  assert names('adversarial') == ['Adversary']
  assert names('adversarial', **everything) == ['Adversary', 'Transport', 'Consistency']
  assert names('hybrid', class_weight=1.0) == ['Adversary', 'Likelihood', 'Labels']


@pytest.mark.parametrize('name', OBJECTIVES)
def test_make(name):
  objective = make(name, lambda_=0.25, divergence='kl', gradient_penalty=3)
  assert (objective.uses_critic, objective.uses_likelihood) == (name != 'mle', name != 'adversarial')
  if name != 'mle':
    assert objective.adversary.gradient_penalty == 3.0 and objective.adversary.penalty == 'one_centered'
    assert make(name, penalty='zero_centered').adversary.penalty == 'zero_centered'
  if objective.uses_likelihood:
    assert make(name).terms[-1].weight == {'mle': 1.0, 'hybrid': default_config()['lambda']}[name]


@pytest.mark.parametrize(
  ('argument', 'value', 'expected'),
  [
    ('name', 'gan', 'one of mle, adversarial, hybrid'),
    ('divergence', 'wgan', 'one of wasserstein, jensen_shannon, '),
    ('penalty', 'r1', 'one of one_centered, zero_centered'),
    ('penalty_interval', 0, 'an integer from 1 to '),
    ('lambda_', None, 'a number'),
    ('lambda_', 1e39, '0 or a finite number from '),
    ('final_lambda', -1.0, 'a finite number of at least 0'),
    ('final_lambda', 0, '0 if and only if `lambda_` is, here 0.5'),
    ('gradient_penalty', math.nan, 'a finite number of at least 0'),
  ],
)
def test_a_wrong_argument_is_named(argument, value, expected):
  with pytest.raises(ValueError, match=rf'^`{argument}` must be {expected}.* Got: {re.escape(repr(value))}\.$'):
    make(**{'name': 'hybrid', 'lambda_': 0.5, argument: value})


# Gradient penalties.


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.slow)], ids=['graph', 'XLA'])
def compiled(request):
  return functools.partial(tf.function, jit_compile=request.param)


def images(shape, seed):
  return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


def linear(weights):
  return lambda x: tf.linalg.matvec(tf.reshape(x, [tf.shape(x)[0], -1]), weights)


@pytest.mark.parametrize('shape', [(6, 5), (5, 4, 3, 2)])
def test_linear_critic(compiled, shape):
  """The norm is over all pixels of a sample."""
  weights = images([int(np.prod(shape[1:]))], seed=1)
  penalty = compiled(lambda real, fake: gradient_penalty(linear(weights), real, fake, SEED))
  expected = (np.linalg.norm(weights) - 1) ** 2
  result = penalty(images(shape, seed=2), images(shape, seed=3))
  assert result.dtype == tf.float32 and result.shape == ()
  np.testing.assert_allclose(result, expected, rtol=1e-5)

  def column(x):
    return linear(weights)(x)[:, tf.newaxis]

  def patches(x):  # Several outputs, whose mean is the critic.
    return tf.stack([linear(weights)(x), 3 * linear(weights)(x)], axis=1)[:, tf.newaxis] / 2

  for critic in (column, patches):
    np.testing.assert_allclose(gradient_penalty(critic, images(shape, 2), images(shape, 3), SEED), expected, rtol=1e-5)


def test_interpolates_are_on_the_segment_of_each_sample_with_its_own_position():
  seen = []

  def critic(x):
    seen.append(x)
    return tf.reduce_sum(x, axis=[1, 2, 3])

  real, fake = images([2000, 2, 2, 1], seed=1), images([2000, 2, 2, 1], seed=2)
  gradient_penalty(critic, real, fake, SEED)
  positions = ((seen[0] - fake) / (real - fake)).numpy().reshape(2000, -1)
  epsilon = np.median(positions, axis=1)
  np.testing.assert_allclose(seen[0], fake + epsilon[:, None, None, None] * (real - fake), atol=1e-5)
  assert epsilon.min() >= -1e-5 and epsilon.max() <= 1 + 1e-5
  # Mean and variance of U[0, 1), within 5 standard errors.
  assert abs(epsilon.mean() - 0.5) < 5 * np.sqrt(1 / 12 / 2000)
  assert abs(epsilon.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / 2000)


def test_seed_decides_the_interpolates(compiled):
  real, fake = images([8, 4], seed=1), images([8, 4], seed=2)
  penalty = compiled(lambda seed: gradient_penalty(lambda x: tf.reduce_sum(x**3, axis=1), real, fake, seed))
  first, again, other = (penalty(tf.constant(seed)) for seed in (SEED, SEED, (3, 15)))
  assert first == again
  assert abs(first - other) > 1e-3


def test_a_critic_that_ignores_its_images_has_penalty_1():
  assert gradient_penalty(lambda x: tf.zeros([3]), images([3, 6], 1), images([3, 6], 2), SEED) == 1.0


def test_one_vanishing_gradient_leaves_the_others_alone():
  # critic(x) = w . relu(x): the first sample is dead, the second has the gradient w.
  weights = tf.Variable([0.6, -0.3])
  real = tf.constant([[-1.0, -2.0], [1.0, 2.0]])
  with tf.GradientTape() as tape:
    penalty = gradient_penalty(lambda x: tf.linalg.matvec(tf.nn.relu(x), weights), real, real, SEED)
  norm = np.linalg.norm(weights)
  np.testing.assert_allclose(penalty, (1 + (norm - 1) ** 2) / 2, rtol=1e-6)
  np.testing.assert_allclose(tape.gradient(penalty, weights), (norm - 1) * weights.numpy() / norm, rtol=1e-6)


def test_gradient_of_a_nonlinear_critic_against_differences(compiled):
  first, second = images([4, 3], seed=1), images([3], seed=2)
  real, fake = images([6, 4], seed=3), images([6, 4], seed=4)

  @compiled
  def penalty_and_gradient(first):
    with tf.GradientTape() as tape:
      tape.watch(first)
      penalty = gradient_penalty(lambda x: tf.linalg.matvec(tf.tanh(x @ first), second), real, fake, SEED)
    return penalty, tape.gradient(penalty, first)

  _, gradient = penalty_and_gradient(first)
  step = 1e-2 * tf.sign(gradient)  # The steepest of the corners: the difference is far above rounding.
  difference = (penalty_and_gradient(first + step)[0] - penalty_and_gradient(first - step)[0]) / 2
  np.testing.assert_allclose(tf.reduce_sum(gradient * step), difference, rtol=5e-3)


def test_half_precision_norm_does_not_overflow():
  # The sum of 4096 squares of 8 is 2^18, above the largest float16.
  real = tf.zeros([2, 64, 64, 1], tf.float16)
  penalty = gradient_penalty(lambda x: tf.reduce_sum(8 * x, axis=[1, 2, 3]), real, real, SEED)
  assert penalty.dtype == tf.float32
  np.testing.assert_allclose(penalty, (8 * 64 - 1) ** 2, rtol=1e-5)


def test_batches_of_different_size_are_rejected():
  with pytest.raises(ValueError, match='incompatible'):
    gradient_penalty(lambda x: tf.reduce_sum(x, axis=1), images([1, 3], 1), images([4, 3], 2), SEED)


def test_the_zero_centered_penalty_of_a_quadratic(compiled):
  """critic(x) = w |x|^2 / 2 has the gradient w x."""
  real, fake, weight = images((4, 3, 2, 1), 0), images((6, 3, 2, 1), 1), tf.Variable(2.0)

  @compiled
  def penalty_and_gradient():
    with tf.GradientTape() as tape:
      penalty = zero_centered_penalty(lambda x: weight * tf.reduce_sum(x**2, axis=(1, 2, 3)) / 2, real, fake)
    return penalty, tape.gradient(penalty, weight)

  squares = sum(np.mean(np.sum(np.square(x), axis=(1, 2, 3))) for x in (real, fake))
  np.testing.assert_allclose(penalty_and_gradient(), [4 * squares / 2, 2 * squares], rtol=1e-5)


@pytest.mark.parametrize(
  ('returned', 'said'),
  [
    ((tf.zeros([3]), {}), r'a loss as float32 of shape \(3,\)'),
    ((tf.constant(1j), {}), r'a loss as complex128 of shape \(\)'),
    ((0.0, {'toy': tf.zeros([2])}), r'toy as float32 of shape \(2,\)'),
  ],
)
def test_numbers_that_would_be_wrong_in_silence_are_rejected(returned, said):
  class Toy(Term):
    def loss(self, drawn):
      return returned

  expected = (
    rf"^`terms` must be terms that return real numbers of shape \(\)\. Got: 'Toy, whose `loss` returns {said}'\.$"
  )
  with pytest.raises(UsageError, match=expected):
    Objective((Toy(None, {}),)).generator_loss(Drawn())


@pytest.mark.parametrize('name', ['step', 'loss', 'nll', 'critic_gap'])
def test_a_term_does_not_log_by_the_name_of_something_else(name):
  class Toy(Term):
    def loss(self, drawn):
      return 0.0, {name: 1.0}

  with pytest.raises(UsageError, match=rf'^`terms` must give .* names that nothing else has\. Got: {name} of Toy\.$'):
    Objective((Toy(None, {}),)).generator_loss(Drawn())


def test_terms_of_the_package_log_different_numbers():
  names = [number.name for term in TERMS.values() for number in term.numbers]
  assert len(names) == len(NUMBERS) > len(TERMS) and not OF_LOG & NUMBERS.keys()


def test_a_term_may_return_numbers_of_python_and_of_double_precision():
  class Toy(Term):
    def loss(self, drawn):
      return tf.constant(2.0, tf.float64), {'toy': 1.0, 'count': 3}

  loss, metrics = Objective((Toy(None, {}),)).generator_loss(Drawn())
  assert {name: float(number) for name, number in metrics.items()} == {'loss': 2.0, 'toy': 1.0, 'count': 3.0}
  assert {number.dtype for number in (loss, *metrics.values())} == {tf.float32}


@pytest.mark.parametrize('name', ['critic_steps', 'consistency_weight'])
def test_what_only_a_training_heeds_is_rejected(name):
  with pytest.raises(TypeError, match=rf'settings that change the losses in any training loop. Got: {name}\.$'):
    make('hybrid', **{name: 3}, divergence='kl')

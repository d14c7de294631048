import copy
import math
import types
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf import objectives
from flowgan_tf.base.errors import UsageError
from flowgan_tf.data import Batch
from flowgan_tf.flows import Flow, fit_bijectors
from flowgan_tf.flows.histograms import histogram_logits, pixel_logit
from flowgan_tf.networks import KerasModule
from flowgan_tf.objectives.objective import make_objective
from flowgan_tf.runs.seeds import Purpose, stateless_seed
from flowgan_tf.training.step import TrainStep, batches_per_step
from tests.tiny import IMAGE_SHAPE, images_for, make_config, make_state
from tests.training.trainings import weights

pytestmark = pytest.mark.usefixtures('eagerly')


def assert_identical(first, second):
  assert len(first) == len(second) > 0
  for a, b in zip(first, second, strict=True):
    np.testing.assert_array_equal(a, b)


def prepared(config):
  """A state and the step that trains it."""
  state = make_state(config)
  return state, TrainStep(state, make_objective(config), config)


def train(config, steps=1):
  """State and metrics after some steps."""
  state, step = prepared(config)
  if config.pseudo_labels:
    prototypes = state.generator.distribution.prototypes
    prototypes.assign(np.random.default_rng(1).uniform(size=prototypes.shape))
  metrics = [step(images_for(config, i)) for i in range(steps)]
  return state, [{k: float(v) for k, v in m.items()} for m in metrics]


@pytest.mark.parametrize(('objective', 'expected'), [('mle', [1, 1]), ('adversarial', [5, 1]), ('hybrid', [6, 1])])
def test_batches_per_step(objective, expected):
  made = objectives.make(objective)
  assert [batches_per_step(made, 5, reuse_batch=reuse) for reuse in (False, True)] == expected
  assert batches_per_step(objectives.make('hybrid', lambda_=0.0), 5, reuse_batch=False) == 5


class PerImage(objectives.Term):
  """Logs the mean of what a function `returned` of a test makes of the images."""

  def of_images(self, seen):
    return self.returned(seen.images)

  def loss(self, drawn):
    return 0.0, {'toy': drawn.means['toy']}


def test_what_a_term_returns_of_images_is_checked(monkeypatch):
  config = make_config(objective='mle')
  step = TrainStep(make_state(config), objectives.Objective((PerImage(None, {}),)), config)
  for returned, got in (
    (lambda x: {'toy': tf.reduce_mean(x)}, r'float32 of shape \(\)'),
    (lambda x: {'toy': x[:, 0, 0]}, r'float32 of shape \(8, 1\)'),
    (lambda x: {'toy': tf.cast(x[:, 0, 0, 0], tf.complex64)}, r'complex64 of shape \(8,\)'),
  ):
    monkeypatch.setattr(PerImage, 'returned', staticmethod(returned), raising=False)
    said = rf"return real numbers of shape \(8,\)\. Got: 'PerImage, whose `of_images` returns toy as {got}'\.$"
    with pytest.raises(UsageError, match=said):
      step(images_for(config))


def test_a_term_may_count_images(monkeypatch):
  monkeypatch.setattr(PerImage, 'returned', staticmethod(lambda x: {'toy': x[:, 0, 0, 0] > 0.5}), raising=False)
  config = make_config(objective='mle')
  made = objectives.Objective((*make_objective(config).terms, PerImage(None, {})))
  images = images_for(config)
  metrics = TrainStep(make_state(config), made, config)(images)
  np.testing.assert_allclose(metrics['toy'], np.mean(images[:, 0, 0, 0] > 0.5))


def test_xla_changes_rounding_only():
  settings = {'nice.components': 3, 'pseudo_labels': True, 'objective': 'mle'}
  compiled, compiled_metrics = train(make_config(settings, jit=True), 3)
  tf.config.run_functions_eagerly(True)
  plain, plain_metrics = train(make_config(settings), 3)
  for a, b in zip(weights(plain.generator), weights(compiled.generator), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
  for first, second in zip(plain_metrics, compiled_metrics, strict=True):
    assert first == pytest.approx(second, rel=1e-3, abs=1e-4)


class Recorder:
  """An objective that keeps what the step hands to it; it stands for `hybrid`."""

  uses_critic = uses_likelihood = True

  def __init__(self, **settings):
    self.objective = objectives.make('hybrid', lambda_=0.5, **settings)
    self.terms, self.adversary = self.objective.terms, self
    self.settings = self.objective.adversary.settings
    self.critic_inputs, self.penalized, self.generator_inputs = [], [], []

  def critic_loss(self, critic, real, fake, seed, penalized):
    self.critic_inputs.append((real.numpy(), fake.numpy(), tuple(seed.numpy())))
    self.penalized.append(penalized)
    return self.objective.adversary.critic_loss(critic, real, fake, seed, penalized)

  def generator_loss(self, drawn):
    tensors = (drawn.means['log_prob'], drawn.fake_outputs, drawn.real_outputs)
    outputs = [None if tensor is None else tensor.numpy() for tensor in tensors]
    self.generator_inputs.append((*outputs, float(drawn.progress)))
    return self.objective.generator_loss(drawn)


def record(config, images, **settings):
  """What the objective saw in the step number 2, the state after it, and the state before it."""
  state, recorder, before = make_state(config), Recorder(**settings), make_state(config)
  state.step.assign(2)
  TrainStep(state, recorder, config)(images)
  return state, recorder, before


def update(optimizer, part, compute_loss):
  """Updates a generator or a critic as its optimizer does."""
  with tf.GradientTape() as tape:
    loss = compute_loss()
  variables = part.trainable_variables
  optimizer.apply(tape.gradient(loss, variables), variables)


def assert_close(first, second, tolerance):
  for a, b in zip(weights(first), weights(second), strict=True):
    np.testing.assert_allclose(a, b, atol=tolerance)


@pytest.mark.parametrize('reuse', [False, True])
def test_which_images_and_noise_the_updates_see(reuse):
  # The log-density of a new flow would be 0, whatever the images are.
  settings = {'nice.initial_weights': 'paper', 'seed': 7}
  config = make_config(settings, objective='hybrid', critic_steps=3, reuse_batch=reuse)
  images = images_for(config)
  state, recorder, before = record(config, images)
  real, fake, seeds = zip(*recorder.critic_inputs, strict=True)
  [(log_prob, fake_outputs, *_)] = recorder.generator_inputs
  np.testing.assert_allclose(log_prob, tf.reduce_mean(before.generator.log_prob(images[-8:])), rtol=1e-5, atol=1e-5)
  noise_seed = stateless_seed(7, Purpose.CRITIC if reuse else Purpose.GENERATOR, tf.constant(2, tf.int64))
  drawn = before.generator.sample(8, seed=noise_seed)
  # The flow has not moved before its own update, the critic has.
  np.testing.assert_allclose(fake_outputs, state.critic(drawn), rtol=1e-5, atol=1e-5)
  if reuse:
    assert len(images) == 8
    assert_identical(real, [images.numpy()] * 3)
    np.testing.assert_allclose(fake, [drawn] * 3, atol=1e-6)
  else:
    np.testing.assert_array_equal(np.concatenate(real), images[: 3 * 8])
    assert all(f.shape == (8, *IMAGE_SHAPE) for f in fake)
    assert len(np.unique(np.concatenate(fake).reshape(24, -1), axis=0)) == 24
  # The points between real and fake of the gradient penalty are always drawn anew, as in the paper's code.
  assert len(set(seeds)) == 3


def test_one_critic_update_alone_has_images_and_samples_of_its_own():
  config = make_config(objective='hybrid', critic_steps=1)
  images = images_for(config)
  _, recorder, before = record(config, images)
  [(real, fake, _)] = recorder.critic_inputs
  assert_identical([real], [images[:8].numpy()])
  of_flow = stateless_seed(config.seed, Purpose.GENERATOR, tf.constant(2, tf.int64))
  assert not np.allclose(fake, before.generator.sample(8, seed=of_flow), atol=1e-3)


def test_one_critic_update_shares_the_samples_of_the_flow():
  """As without sharing: the critic's update, on samples that are the flow's own, comes before the flow's."""
  config = make_config(objective='hybrid', critic_steps=1, reuse_batch=True)
  images = images_for(config)
  with mock.patch.object(Flow, 'decode', autospec=True, side_effect=Flow.decode) as sample:
    state, recorder, before = record(config, images, divergence='relativistic')
  assert sample.call_count == 1
  [(real, fake, _)], [(_, fake_outputs, real_outputs, _)] = recorder.critic_inputs, recorder.generator_inputs
  noise_seed = stateless_seed(config.seed, Purpose.CRITIC, tf.constant(2, tf.int64))
  assert_identical([real], [images.numpy()])
  np.testing.assert_allclose(fake, before.generator.sample(8, seed=noise_seed), atol=1e-6)
  np.testing.assert_allclose(fake_outputs, state.critic(tf.constant(fake)), rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(real_outputs, state.critic(images), rtol=1e-5, atol=1e-5)
  seed, objective = tf.random.experimental.stateless_fold_in(noise_seed, 1), recorder.objective
  update(
    before.critic_optimizer,
    before.critic,
    lambda: objective.adversary.critic_loss(before.critic, images, tf.constant(fake), seed)[0],
  )
  assert_close(before.critic, state.critic, 1e-6)
  # The flow's gradient knows nothing of the critic's update: with a fixed critic it is the same.
  update(
    before.optimizer,
    before.generator,
    lambda: objective.generator_loss(
      objectives.Drawn(
        means={'log_prob': tf.reduce_mean(before.generator.log_prob(images))},
        fake_outputs=state.critic(before.generator.sample(8, seed=noise_seed)),
        real_outputs=state.critic(images),
      )
    )[0],
  )
  assert_close(before.generator, state.generator, 2e-5)


@pytest.mark.parametrize(('critic_steps', 'expected'), [(1, [1, 0, 0, 1]), (2, [1, 0, 0, 1, 0, 0, 1, 0])])
def test_each_third_critic_update_has_the_penalty_and_lambda_knows_the_progress(critic_steps, expected):
  config = make_config(objective='hybrid', critic_steps=critic_steps, penalty_interval=3, steps=4)
  recorder = Recorder(penalty_interval=3)
  step = TrainStep(make_state(config), recorder, config)
  logged = ['gradient_penalty' in step(images_for(config, t)) for t in range(4)]
  assert recorder.penalized == [bool(e) for e in expected]
  assert logged == [any(expected[critic_steps * t :][:critic_steps]) for t in range(4)]
  assert [progress for *_, progress in recorder.generator_inputs] == [0.0, 0.25, 0.5, 0.75]


def test_a_step_can_be_a_part_of_another_graph():
  config = make_config(objective='hybrid', penalty_interval=2)
  _, step = prepared(config)
  graph = tf.function(step).get_concrete_function(tf.TensorSpec(images_for(config).shape))
  assert {'nll', 'critic_loss', 'gradient_penalty'} <= graph.structured_outputs.keys()


def test_a_step_asks_nothing_of_the_host():
  """An accelerator would wait for Python, and XLA would reject it."""
  config = make_config({'nice.histogram_bins': 4, 'nice.components': 2}, objective='hybrid', jit=False)
  _, step = prepared(config)
  whole = tf.function(lambda images: step(images, step=0), autograph=False).get_concrete_function(images_for(config))
  graph = whole.graph.as_graph_def()
  operations = {node.op for nodes in (graph.node, *(f.node_def for f in graph.library.function)) for node in nodes}
  assert {'MatMul', 'Conv2D', 'GatherV2'} <= operations
  assert not {op for op in operations if 'PyFunc' in op or op in ('Print', 'PrintV2', 'HostCompute')}


@pytest.mark.parametrize('shares', [False, True])
def test_a_critic_is_warmed_up_alone(shares):
  settings = {'reuse_batch': shares, 'critic_steps': 1 if shares else 2}
  config = make_config({'optimizer.schedule': 'cosine'} | settings, objective='hybrid', critic_warmup=2, steps=4)
  initial = make_state(config)
  state, metrics = train(config, 2)
  assert_identical(weights(initial.generator, initial.ema), weights(state.generator, state.ema))
  assert any(np.any(a != b) for a, b in zip(weights(initial.critic), weights(state.critic), strict=True))
  assert int(state.optimizer.iterations) == 0 and int(state.critic_optimizer.iterations) == 2 * config.critic_steps
  assert 'critic_loss' in metrics[0] and 'nll' not in metrics[0]
  state, [*_, last] = train(config, 3)
  assert any(np.any(a != b) for a, b in zip(weights(initial.generator), weights(state.generator), strict=True))
  # The generator's own two steps make one cosine.
  assert last['learning_rate'] == pytest.approx(config.optimizer.learning_rate)
  assert float(state.optimizer.learning_rate) == pytest.approx(config.optimizer.learning_rate / 2)


@pytest.mark.parametrize('bins', [0, 4])
def test_the_loss_counts_how_far_samples_are_from_their_noise(bins):
  settings = {'nice.initial_weights': 'paper', 'nice.histogram_bins': bins, 'nice.alpha': 0.05}
  config = make_config(settings, objective='adversarial', transport_weight=6.0, final_transport_weight=3.0, steps=2)
  state, step = prepared(config)
  for variable in state.generator.trainable_variables:  # New networks add nothing, or too little for a loss to show.
    variable.assign(10 * variable)
  noise = step._draw(Purpose.GENERATOR, Batch(images_for(config)[: config.batch_size]))[0].numpy()
  # New histograms are all alike, so that both kinds of logits are the same function.
  of_noise = (1 / (1 + np.exp(-noise)) - 0.05) / 0.9
  costs = (state.generator.decode(noise).numpy() - of_noise) ** 2
  assert costs.mean() > 1e-3
  metrics = step(images_for(config))
  np.testing.assert_allclose(metrics['transport'], costs.mean(), rtol=1e-4)
  np.testing.assert_allclose(metrics['loss'], metrics['generator_loss'] + 6 * costs.mean(), rtol=1e-4)
  metrics = step(images_for(config))
  weight = 6 / math.sqrt(2)
  np.testing.assert_allclose(metrics['loss'], metrics['generator_loss'] + weight * metrics['transport'], rtol=1e-5)


class Moments(objectives.Term):
  """The squared differences between the means, and between the standard deviations, of images and of samples."""

  needs_samples = True

  def loss(self, drawn):
    moments = tf.reduce_mean, tf.math.reduce_std
    loss = sum(tf.reduce_mean((of(drawn.images, axis=0) - of(drawn.samples, axis=0)) ** 2) for of in moments)
    return loss, {'moments': loss}


@pytest.mark.parametrize('objective', ['mle', 'hybrid'])
def test_a_term_compares_samples_with_the_images_of_the_generators_update(objective):
  config = make_config({'nice.initial_weights': 'paper'}, objective=objective, critic_steps=2)
  state, images = make_state(config), images_for(config)
  step = TrainStep(state, objectives.Objective((*make_objective(config).terms, Moments(None, {}))), config)
  seed = stateless_seed(config.seed, Purpose.GENERATOR, tf.constant(0, tf.int64))
  of_samples, of_images = state.generator.sample(8, seed=seed).numpy(), images.numpy()[-8:]
  expected = np.mean((of_images.mean(axis=0) - of_samples.mean(axis=0)) ** 2)
  expected += np.mean((of_images.std(axis=0) - of_samples.std(axis=0)) ** 2)
  np.testing.assert_allclose(step(images)['moments'], expected, rtol=1e-4)


def test_a_new_whitened_flow_costs_no_transport():
  settings = {'jet.whitening': True, 'jet.couplings': 2, 'jet.width': 8, 'jet.patch_size': 2, 'transport_weight': 6.0}
  config = make_config(settings, generator='jet', objective='adversarial')
  state, step = prepared(config)
  fit_bijectors(state.generator, images_for(config).numpy())
  noise, samples = step._draw(Purpose.GENERATOR, Batch(images_for(config)))
  metrics = step(images_for(config))
  assert metrics['transport'] < 1e-10
  assert np.mean((samples - pixel_logit(state.generator).inverse(noise)) ** 2) > 1e-3


def _plus_zero(function, variable):
  """The function plus a zero whose gradient with respect to a variable is not zero."""
  return lambda noise: function(noise) + tf.reduce_sum(variable) - tf.stop_gradient(tf.reduce_sum(variable))


def test_no_gradient_passes_through_the_goal_of_the_transport(monkeypatch):
  config = make_config({'nice.initial_weights': 'paper'}, objective='adversarial', transport_weight=6.0)
  results = []
  for depends in (False, True):
    state, step = prepared(config)
    if depends:  # As with networks of histograms, which are the flow's own weights. Its value stays the same.
      logit = pixel_logit(state.generator)
      depending = _plus_zero(logit.inverse, state.generator.trainable_variables[0])
      fake = types.SimpleNamespace(inverse=depending)
      monkeypatch.setattr('flowgan_tf.flows.histograms.pixel_logit', lambda flow, fake=fake: fake)
    step(images_for(config))
    results.append(weights(state.generator))
  assert_identical(*results)


def test_maximum_likelihood_has_no_critic_and_without_a_decay_no_average():
  state, [metrics] = train(make_config(objective='mle', ema_decay=0.0))
  assert metrics.keys() == {'nll', 'loss', 'gradient_norm', 'learning_rate'}
  assert state.critic is None and state.critic_optimizer is None and state.ema is state.generator


def norm_of(arrays):
  return math.sqrt(sum(np.sum(np.asarray(a, np.float64) ** 2) for a in arrays))


def norm_of_momentum(optimizer):
  return norm_of(v.numpy() for v in optimizer.variables if 'momentum' in v.path)


@pytest.mark.parametrize('clip_norm', [0.0, 0.01])
def test_first_update_is_adam_on_the_nll(clip_norm):
  config = make_config({'optimizer.clip_norm': clip_norm, 'optimizer.learning_rate': 0.01}, objective='mle')
  images = images_for(config)
  state, initial = make_state(config), make_state(config)
  variables = initial.generator.trainable_variables
  with tf.GradientTape() as tape:
    nll = -tf.reduce_mean(initial.generator.log_prob(images))
  gradients = [g.numpy().astype(np.float64) for g in tape.gradient(nll, variables)]
  norm = norm_of(gradients)
  metrics = TrainStep(state, make_objective(config), config)(images)
  assert norm > 0.01
  assert float(metrics['gradient_norm']) == pytest.approx(norm, rel=1e-5)
  # Kingma and Ba 2015, algorithm 1, with the efficient form of section 2, whose epsilon Keras has.
  factor = min(1.0, clip_norm / norm) if clip_norm else 1.0
  rate = 0.01 * math.sqrt(1 - 0.9) / (1 - 0.5)
  for variable, before, gradient in zip(state.generator.trainable_variables, variables, gradients, strict=True):
    first, second = (1 - 0.5) * factor * gradient, (1 - 0.9) * (factor * gradient) ** 2
    expected = before.numpy() - rate * first / (np.sqrt(second) + 1e-7)
    np.testing.assert_allclose(variable.numpy(), expected, atol=2e-5)
  assert norm_of_momentum(state.optimizer) == pytest.approx(0.5 * factor * norm, rel=1e-4)


def test_the_norm_of_the_gradient_of_means_that_several_samples_share():
  settings = {'nice.components': 3, 'optimizer.clip_norm': 1e-3}
  config = make_config(settings, objective='adversarial', batch_size=20)
  (state, step), found = prepared(config), []
  step.inspect = lambda *arguments: found.append(arguments)
  metrics = step(images_for(config))
  [gradients] = [gradients for _, gradients, variables in found if variables[-1] is state.generator.distribution.means]
  assert gradients[-1].shape == (3, *state.generator.event_shape)
  assert float(metrics['gradient_norm']) == pytest.approx(norm_of(gradients), rel=1e-5)
  assert norm_of_momentum(state.optimizer) == pytest.approx(0.5 * 1e-3, rel=1e-4)


@pytest.mark.parametrize('schedule', ['constant', 'cosine', 'exponential'])
def test_learning_rates_follow_training_steps(schedule):
  steps, decay, warmup, critic_steps = 4, 0.8, 2, 2
  config = make_config(objective='adversarial', critic_steps=critic_steps, steps=steps)
  for name, rate in (('optimizer', 1e-3), ('critic_optimizer', 3e-3)):
    config[name].update(schedule=schedule, decay_rate=decay, warmup_steps=warmup, learning_rate=rate)
  state, step = prepared(config)
  state.rate_factor.assign(0.5)  # After a rollback.

  def factor(t, per_step=1):
    cosine = 0.5 * (1 + math.cos(math.pi * t / steps))
    decayed = {'constant': 1.0, 'cosine': cosine, 'exponential': decay**t}[schedule]
    return pytest.approx(decayed * min(1, (per_step * t + 1) / (per_step * warmup)), rel=1e-5, abs=1e-6)

  for t in range(1, steps + 1):
    metrics = step(images_for(config, t))
    # The rate that this step used, and the rates of the next one.
    assert float(metrics['learning_rate']) / 0.5e-3 == factor(t - 1)
    assert float(state.optimizer.learning_rate) / 1e-3 == factor(t)
    assert float(state.critic_optimizer.learning_rate) / 3e-3 == factor(t, critic_steps)


@pytest.mark.parametrize(('start', 'count', 'decay'), [(0, 6, 0.3), (98, 13, 0.93)])
def test_average_is_the_warmed_up_recursion(start, count, decay):
  """After the first 100 steps it is updated by each fifth. It keeps as much of what it was as five updates would."""
  config = make_config({'optimizer.learning_rate': 0.01}, objective='mle', ema_decay=decay, ema_every=5)
  state, step = prepared(config)
  state.step.assign(start)
  expected, current = [v.numpy() for v in state.ema.trainable_variables], state.generator.trainable_variables
  assert_identical(expected, [v.numpy() for v in current])
  for t in range(start, start + count):
    step(images_for(config, t))
    since = [t] if t < 100 else range(t - 4, t + 1) if t in (104, 109) else []
    share = math.prod(min(decay, (1 + s) / (10 + s)) for s in since)
    expected = [share * e + (1 - share) * v.numpy() for e, v in zip(expected, current, strict=True)]
    for average, e in zip(state.ema.trainable_variables, expected, strict=True):
      np.testing.assert_allclose(average.numpy(), e, atol=1e-6)


def test_a_step_without_the_gradient_norm_is_the_same_step():
  config, found = make_config(objective='mle', jit=True), []
  for gradient_norm in (True, False):
    state, step = prepared(config)
    metrics = step(images_for(config), step=0, gradient_norm=gradient_norm)
    assert ('gradient_norm' in metrics) == gradient_norm
    found.append(weights(state.generator, state.ema, state.optimizer))
  for a, b in zip(*found, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('objective', ['mle', 'adversarial'])
def test_samples_of_the_flow_in_training_have_surrogate_gradients(objective):
  state, _ = prepared(make_config({'nice.histogram_bins': 4}, objective=objective))
  logits = [logit for flow in (state.generator, state.ema) for logit in histogram_logits(flow)]
  assert [logit.surrogate_gradients for logit in logits] == [objective == 'adversarial', False]


def test_an_optimizer_that_limits_the_norm_needs_one_graph():
  config = make_config({'optimizer.clip_norm': 0.01}, objective='mle')
  _, step = prepared(config)
  for gradient_norm in (True, False):
    assert 'gradient_norm' in step(images_for(config), step=0, gradient_norm=gradient_norm)
  assert len(step._graphs) == 1


def test_running_statistics_follow_the_likelihood_where_there_is_one():
  settings = {'nice.normalization': 'batch', 'lambda': 0.1}
  statistics = {}
  for objective in ('mle', 'hybrid', 'adversarial'):
    config = make_config(settings, objective=objective)
    state = make_state(config)
    images = images_for(config)
    last = images_for(make_config(objective='mle'), 7)  # The batch of the likelihood is the last one.
    TrainStep(state, make_objective(config), config)(tf.concat([images[:-8], last], axis=0))
    statistics[objective] = [v.numpy() for v in state.generator.non_trainable_variables]
    assert_identical(statistics[objective], [v.numpy() for v in state.ema.non_trainable_variables])
  for a, b in zip(statistics['mle'], statistics['hybrid'], strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5)
  assert any(np.any(a != b) for a, b in zip(statistics['mle'], statistics['adversarial'], strict=True))


def test_mixed_statistics_follow_samples_and_images():
  settings = {'nice.normalization': 'scalar_batch', 'nice.initial_weights': 'paper', 'mixed_statistics': True}
  config = make_config(settings, objective='hybrid', critic_steps=3, reuse_batch=True)
  state, images = make_state(config), images_for(config)
  noise_seed = stateless_seed(config.seed, Purpose.CRITIC, state.step)
  expected = copy.deepcopy(state.generator)
  expected.sample(8, seed=noise_seed, training=True)  # of the critic
  expected.log_prob(images, training=True)
  expected.sample(8, seed=noise_seed, training=True)
  TrainStep(state, make_objective(config), config)(images)
  for a, b in zip(expected.non_trainable_variables, state.generator.non_trainable_variables, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4)


def test_mixed_precision_keeps_float32_weights():
  settings = {'objective': 'hybrid', 'optimizer.learning_rate': 0.1}  # The networks of a new flow would add nothing.
  _, [*_, reference] = train(make_config(settings), 2)
  for precision in ('mixed_bfloat16', 'mixed_float16'):
    state, [*_, metrics] = train(make_config(settings, precision=precision), 2)
    assert {v.dtype for v in (*state.generator.variables, *state.critic.variables)} == {tf.float32}
    for name in ('nll', 'generator_loss', 'gradient_norm'):
      assert metrics[name] == pytest.approx(reference[name], rel=0.1, abs=0.02)
      assert metrics[name] != reference[name]


def test_overflow_in_float16_skips_the_step_and_lowers_the_scale():
  config = make_config(objective='hybrid', precision='mixed_float16')
  state, step = prepared(config)
  optimizers = state.optimizer, state.critic_optimizer
  step(images_for(config))
  assert float(state.optimizer.dynamic_scale) == 2.0**12
  before = weights(state.generator, state.critic)
  for optimizer in optimizers:
    optimizer.dynamic_scale.assign(1e38)
  metrics = step(images_for(config, 1))
  assert not math.isfinite(float(metrics['gradient_norm']))
  assert math.isfinite(float(metrics['loss']))
  assert_identical(before, weights(state.generator, state.critic))
  # The critic has had two updates.
  assert [float(optimizer.dynamic_scale) for optimizer in optimizers] == pytest.approx([0.5e38, 0.25e38])
  for optimizer in optimizers:
    optimizer.dynamic_scale.assign(2.0**12)
  step(images_for(config, 2))
  assert any(np.any(a != b) for a, b in zip(before, weights(state.generator, state.critic), strict=True))


@pytest.mark.slow
def test_recomputing_gives_the_same_steps():
  """Batch norm's running statistics, too, are updated once in each."""
  flow = {'generator': 'real_nvp', 'real_nvp.scales': 1, 'real_nvp.channels': 4, 'real_nvp.blocks': 1}
  runs = []
  for recompute in (False, True):
    state, metrics = train(make_config(flow, objective='hybrid', recompute=recompute), 2)
    networks = [part for part in state.generator.submodules if isinstance(part, KerasModule)]
    assert networks and all(network.recompute == recompute for network in networks)
    runs.append((weights(state.generator, state.ema), metrics))
  for a, b in zip(runs[0][0], runs[1][0], strict=True):
    np.testing.assert_allclose(b, a, atol=1e-6)
  for kept, again in zip(runs[0][1], runs[1][1], strict=True):
    assert again == pytest.approx(kept, rel=1e-4)


def test_pseudo_labels_have_their_likelihood():
  config = make_config(objective='mle', pseudo_labels=True, **{'nice.components': 4})
  state, images = make_state(config), images_for(config)
  prior = state.generator.distribution
  prototypes = np.random.default_rng(1).uniform(size=prior.prototypes.shape)
  prior.prototypes.assign(prototypes)
  nearest = prior.nearest_prototype(images)
  assert len(set(nearest.numpy())) > 1
  expected = -np.mean(state.generator.log_prob(tf.identity(images), component=nearest))
  assert expected > 0.1 - np.mean(state.generator.log_prob(tf.identity(images)))
  before = prior.means.numpy()
  metrics = TrainStep(state, make_objective(config), config)(images)
  assert float(metrics['nll']) == pytest.approx(expected, rel=1e-5)
  moved = np.abs(prior.means - before).max(axis=(1, 2, 3)) > 0
  np.testing.assert_array_equal(moved, np.isin(np.arange(4), nearest))
  np.testing.assert_array_equal(prior.prototypes, np.float32(prototypes))

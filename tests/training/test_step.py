import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf import objectives
from flowgan_tf.networks import KerasModule, dcgan_critic
from flowgan_tf.objectives import gradient_penalty
from flowgan_tf.runs.run import make_objective
from flowgan_tf.runs.seeds import Purpose, stateless_seed
from flowgan_tf.training.step import TrainStep, batches_per_step, graph
from tests.tiny import IMAGE_SHAPE, make_config, make_state


@pytest.fixture(autouse=True)
def eagerly(request):
  # Tracing would take most of the time; tests of XLA and of whole runs go through the graph.
  tf.config.run_functions_eagerly('jit' not in request.fixturenames)
  yield
  tf.config.run_functions_eagerly(False)


def images_for(config, seed=0):
  count = batches_per_step(make_objective(config), config.critic_steps, config.reuse_batch) * config.batch_size
  return tf.constant(np.random.default_rng(seed).uniform(0.05, 0.95, (count, *IMAGE_SHAPE)), tf.float32)


def weights(*parts):
  return [v.numpy() for part in parts for v in part.variables]


def assert_identical(first, second):
  assert len(first) == len(second) > 0
  for a, b in zip(first, second, strict=True):
    np.testing.assert_array_equal(a, b)


def train(config, steps=1):
  """State and metrics after some steps."""
  state = make_state(config)
  if config.pseudo_labels:
    prototypes = state.generator.distribution.prototypes
    prototypes.assign(np.random.default_rng(1).uniform(size=prototypes.shape))
  step = TrainStep(state, make_objective(config), config)
  metrics = [step(images_for(config, i)) for i in range(steps)]
  return state, [{k: float(v) for k, v in m.items()} for m in metrics]


@pytest.mark.parametrize(
  ('objective', 'weight', 'reuse', 'expected'),
  [
    ('mle', 0.1, False, 1),
    ('mle', 0.1, True, 1),
    ('adversarial', 0.1, False, 5),
    ('adversarial', 0.1, True, 1),
    ('hybrid', 0.1, False, 6),
    ('hybrid', 0.1, True, 1),
    ('hybrid', 0.0, False, 5),
  ],
)
def test_batches_per_step(objective, weight, reuse, expected):
  assert batches_per_step(objectives.make(objective, lambda_=weight), 5, reuse) == expected


def test_hybrid_with_lambda_zero_is_adversarial():
  runs = []
  for objective in ('hybrid', 'adversarial'):
    state, _ = train(make_config({'lambda': 0.0}, objective=objective), 2)
    runs.append(weights(state.generator, state.ema, state.critic, state.optimizer, state.critic_optimizer))
  assert_identical(*runs)


@pytest.mark.parametrize('jit', [True])
def test_xla_changes_rounding_only(jit):
  settings = {'nice.components': 3, 'pseudo_labels': True, 'objective': 'mle'}
  compiled, compiled_metrics = train(make_config(settings, jit=jit), 3)
  tf.config.run_functions_eagerly(True)
  plain, plain_metrics = train(make_config(settings), 3)
  for a, b in zip(weights(plain.generator), weights(compiled.generator), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)
  for first, second in zip(plain_metrics, compiled_metrics, strict=True):
    assert first == pytest.approx(second, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize('objective', ['mle', 'hybrid'])
def test_updates_are_counted(objective):
  state, _ = train(make_config(objective=objective, critic_steps=3), 2)
  assert int(state.step) == int(state.optimizer.iterations) == 2
  if objective == 'mle':
    assert state.critic is None and state.critic_optimizer is None
  else:
    assert int(state.critic_optimizer.iterations) == 6


class Recorder:
  """An objective that keeps what the step hands to it; it stands for `hybrid`."""

  uses_critic = uses_likelihood = True

  def __init__(self, **settings):
    self.objective = objectives.make('hybrid', lambda_=0.5, **settings)
    self.divergence, self.penalty_interval = self.objective.divergence, self.objective.penalty_interval
    self.critic_inputs, self.penalized, self.generator_inputs = [], [], []

  def critic_loss(self, critic, real, fake, seed, penalized):
    self.critic_inputs.append((real.numpy(), fake.numpy(), tuple(seed.numpy())))
    self.penalized.append(penalized)
    return self.objective.critic_loss(critic, real, fake, seed, penalized)

  def generator_loss(self, nll, fake_outputs, real_outputs, progress):
    outputs = [None if outputs is None else outputs.numpy() for outputs in (nll, fake_outputs, real_outputs)]
    self.generator_inputs.append((*outputs, float(progress)))
    return self.objective.generator_loss(nll, fake_outputs, real_outputs, progress)


def record(config, images, **settings):
  """What the objective saw in one step, the state after it, and the flow before it."""
  state, recorder, before = make_state(config), Recorder(**settings), make_state(config)
  TrainStep(state, recorder, config)(images)
  return state, recorder, before.generator


def test_every_update_sees_fresh_images_and_fresh_noise():
  config = make_config(objective='hybrid', critic_steps=3)
  images = images_for(config)
  _, recorder, flow = record(config, images)
  real, fake, seeds = zip(*recorder.critic_inputs, strict=True)
  np.testing.assert_array_equal(np.concatenate(real), images[: 3 * 8])
  np.testing.assert_allclose(
    recorder.generator_inputs[0][0], -tf.reduce_mean(flow.log_prob(images[3 * 8 :])), rtol=1e-5
  )
  assert all(f.shape == (8, *IMAGE_SHAPE) for f in fake)
  flat = np.concatenate(fake).reshape(24, -1)
  assert len(np.unique(flat, axis=0)) == 24
  assert len(set(seeds)) == 3


def test_reused_batch_is_the_same_for_critic_and_flow():
  config = make_config(objective='hybrid', critic_steps=3, reuse_batch=True)
  images = images_for(config)
  assert len(images) == 8
  state, recorder, flow = record(config, images)
  real, fake, seeds = zip(*recorder.critic_inputs, strict=True)
  assert_identical(real, [images.numpy()] * 3)
  assert_identical(fake, [fake[0]] * 3)
  np.testing.assert_allclose(recorder.generator_inputs[0][0], -tf.reduce_mean(flow.log_prob(images)), rtol=1e-5)
  # The flow's own update has that noise as well; the flow has not moved in between, the critic has.
  np.testing.assert_allclose(recorder.generator_inputs[0][1], state.critic(tf.constant(fake[0])), rtol=1e-5)
  # The points between real and fake of the gradient penalty are drawn anew, as in the paper's code.
  assert len(set(seeds)) == 3


def test_one_critic_update_shares_the_samples_of_the_flow():
  """As without sharing: the critic's update, on samples that are the flow's own, comes before the flow's."""
  config = make_config(objective='hybrid', critic_steps=1, reuse_batch=True)
  images = images_for(config)
  state, recorder, flow = record(config, images, divergence='relativistic')
  [(real, fake, _)] = recorder.critic_inputs
  _, fake_outputs, real_outputs, _ = recorder.generator_inputs[0]
  assert_identical([real], [images.numpy()])
  noise_seed = stateless_seed(config.seed, Purpose.CRITIC, tf.constant(0, tf.int64))
  np.testing.assert_allclose(fake, flow.sample(8, seed=noise_seed), atol=1e-6)
  np.testing.assert_allclose(fake_outputs, state.critic(tf.constant(fake)), rtol=1e-5)
  np.testing.assert_allclose(real_outputs, state.critic(images), rtol=1e-5)
  before = make_state(config)
  seed = tf.random.experimental.stateless_fold_in(noise_seed, 1)
  with tf.GradientTape() as tape:
    loss, _ = recorder.objective.critic_loss(before.critic, images, tf.constant(fake), seed)
  variables = before.critic.trainable_variables
  before.critic_optimizer.apply(tape.gradient(loss, variables), variables)
  for expected, found in zip(weights(before.critic), weights(state.critic), strict=True):
    np.testing.assert_allclose(found, expected, atol=1e-6)
  # The flow's gradient knows nothing of the critic's update: with a fixed critic it is the same.
  with tf.GradientTape() as tape:
    loss, _ = recorder.objective.generator_loss(
      -tf.reduce_mean(before.generator.log_prob(images)),
      state.critic(before.generator.sample(8, seed=noise_seed)),
      state.critic(images),
    )
  variables = before.generator.trainable_variables
  before.optimizer.apply(tape.gradient(loss, variables), variables)
  for expected, found in zip(weights(before.generator), weights(state.generator), strict=True):
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize(('critic_steps', 'expected'), [(1, [1, 0, 0, 1]), (2, [1, 0, 0, 1, 0, 0, 1, 0])])
def test_each_third_critic_update_has_the_penalty(critic_steps, expected):
  config = make_config(objective='hybrid', critic_steps=critic_steps, penalty_interval=3)
  state, recorder = make_state(config), Recorder(penalty_interval=3)
  step = TrainStep(state, recorder, config)
  for t in range(4):
    step(images_for(config, t))
  assert recorder.penalized == [bool(e) for e in expected]


def test_each_pattern_of_penalties_has_its_own_metrics():
  config = make_config(objective='adversarial', critic_steps=3, penalty_interval=4, steps=5)
  state = make_state(config)
  step = TrainStep(state, make_objective(config), config)
  # Of the updates 0 to 14, each fourth has the penalty: 0 is in step 0, 4 in 1, 8 in 2 and 12 in 4.
  assert [t for t in range(5) if 'gradient_penalty' in step(images_for(config, t))] == [0, 1, 2, 4]


@pytest.mark.parametrize('jit', [False])
def test_tensorflow_takes_each_graph_for_a_new_one(jit, caplog):
  """It warns of a function that it traces again and again, as the steps of a sweep would be."""

  def function(x):
    return x + 1.0

  for _ in range(6):
    assert float(graph(function, jit_compile=jit)(tf.constant(1.0))) == 2.0
  assert not [message for message in caplog.messages if 'retracing' in message]


def test_a_step_can_be_a_part_of_another_graph():
  config = make_config(objective='hybrid', penalty_interval=2)
  step = TrainStep(make_state(config), make_objective(config), config)
  graph = tf.function(step).get_concrete_function(tf.TensorSpec(images_for(config).shape))
  assert {'nll', 'critic_loss', 'gradient_penalty'} <= graph.structured_outputs.keys()


def test_lambda_knows_the_progress():
  config = make_config(objective='hybrid', steps=4)
  state, recorder = make_state(config), Recorder()
  step = TrainStep(state, recorder, config)
  for t in range(4):
    step(images_for(config, t))
  assert [progress for *_, progress in recorder.generator_inputs] == [0.0, 0.25, 0.5, 0.75]


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


def test_noise_differs_from_step_to_step_and_from_seed_to_seed():
  fakes = []
  for seed in (0, 0, 1):
    config = make_config(objective='hybrid', critic_steps=1, seed=seed)
    state, recorder = make_state(config), Recorder()
    step = TrainStep(state, recorder, config)
    for _ in range(2):
      # Noise alone is to be compared.
      for variable in state.generator.trainable_variables:
        variable.assign(tf.zeros_like(variable))
      step(images_for(config))
    fakes.append([fake for _, fake, _ in recorder.critic_inputs])
  assert_identical(fakes[0], fakes[1])
  assert np.all(fakes[0][0] != fakes[0][1])
  assert np.all(fakes[0][0] != fakes[2][0])


def test_metrics_hold_together():
  _, [metrics] = train(make_config({'lambda': 0.3}, objective='hybrid'))
  assert metrics['loss'] == pytest.approx(metrics['generator_loss'] + 0.3 * metrics['nll'], rel=1e-6)
  assert metrics['critic_loss'] == pytest.approx(-metrics['critic_gap'] + 10 * metrics['gradient_penalty'], rel=1e-5)
  _, [metrics] = train(make_config(objective='mle'))
  assert metrics.keys() == {'nll', 'loss', 'gradient_norm', 'learning_rate'}


@pytest.mark.parametrize('clip_norm', [0.0, 0.01])
def test_first_update_is_adam_on_the_nll(clip_norm):
  config = make_config({'optimizer.clip_norm': clip_norm, 'optimizer.learning_rate': 0.01}, objective='mle')
  images = images_for(config)
  state, initial = make_state(config), make_state(config)
  variables = initial.generator.trainable_variables
  with tf.GradientTape() as tape:
    nll = -tf.reduce_mean(initial.generator.log_prob(images))
  gradients = [g.numpy().astype(np.float64) for g in tape.gradient(nll, variables)]
  norm = math.sqrt(sum(np.sum(g**2) for g in gradients))
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
  moments = [v for v in state.optimizer.variables if 'momentum' in v.path]
  total = math.sqrt(sum(np.sum(m.numpy().astype(np.float64) ** 2) for m in moments))
  assert total == pytest.approx(0.5 * factor * norm, rel=1e-4)


def test_the_norm_of_the_gradient_of_means_that_several_samples_share():
  config = make_config(
    {'nice.components': 3, 'optimizer.clip_norm': 1e-3, 'optimizer.beta_1': 0.5}, objective='adversarial', batch_size=20
  )
  state, found = make_state(config), []
  step = TrainStep(state, make_objective(config), config)
  step.inspect = lambda *arguments: found.append(arguments)
  metrics = step(images_for(config))
  [gradients] = [gradients for _, gradients, variables in found if variables[-1] is state.generator.distribution.means]
  assert gradients[-1].shape == (3, *state.generator.event_shape)
  norm = math.sqrt(sum(np.sum(np.square(g.numpy().astype(np.float64))) for g in gradients))
  assert float(metrics['gradient_norm']) == pytest.approx(norm, rel=1e-5)
  moments = [v for v in state.optimizer.variables if 'momentum' in v.path]
  total = math.sqrt(sum(np.sum(m.numpy().astype(np.float64) ** 2) for m in moments))
  assert total == pytest.approx(0.5 * 1e-3, rel=1e-4)


@pytest.mark.parametrize('schedule', ['cosine', 'exponential'])
def test_learning_rates_follow_training_steps(schedule):
  steps, decay, warmup, critic_steps = 4, 0.8, 2, 2
  settings = {'schedule': schedule, 'decay_rate': decay, 'warmup_steps': warmup}
  optimizers = {
    f'{name}.{key}': value
    for name, rate in (('optimizer', 1e-3), ('critic_optimizer', 3e-3))
    for key, value in (settings | {'learning_rate': rate}).items()
  }
  config = make_config(optimizers, objective='hybrid', critic_steps=critic_steps, steps=steps)
  state = make_state(config)
  step = TrainStep(state, make_objective(config), config)

  def factor(t, per_step=1):
    decayed = {'cosine': 0.5 * (1 + math.cos(math.pi * t / steps)), 'exponential': decay**t}[schedule]
    return decayed * min(1, (per_step * t + 1) / (per_step * warmup))

  def rate(optimizer):
    return float(optimizer.learning_rate)

  for t in range(1, steps + 1):
    metrics = step(images_for(config, t))
    # The rate that this step used, and the rates of the next one.
    assert float(metrics['learning_rate']) == pytest.approx(1e-3 * factor(t - 1), rel=1e-5, abs=1e-9)
    assert rate(state.optimizer) == pytest.approx(1e-3 * factor(t), rel=1e-5, abs=1e-9)
    assert rate(state.critic_optimizer) == pytest.approx(3e-3 * factor(t, critic_steps), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize('decay', [0.5, 0.999])
def test_average_is_the_warmed_up_recursion(decay):
  config = make_config({'optimizer.learning_rate': 0.01}, objective='mle', ema_decay=decay)
  state = make_state(config)
  step = TrainStep(state, make_objective(config), config)
  expected = [v.numpy() for v in state.generator.trainable_variables]
  assert_identical(expected, [v.numpy() for v in state.ema.trainable_variables])
  for t in range(6):
    step(images_for(config, t))
    share = min(decay, (1 + t) / (10 + t))
    expected = [
      share * e + (1 - share) * v.numpy() for e, v in zip(expected, state.generator.trainable_variables, strict=True)
    ]
  for average, e, v in zip(state.ema.trainable_variables, expected, state.generator.trainable_variables, strict=True):
    np.testing.assert_allclose(average.numpy(), e, atol=1e-6)
    assert np.any(average.numpy() != v.numpy())


def test_average_of_each_fifth_step():
  """After the first 100 steps. It keeps as much of what it was as five updates would."""
  config = make_config({'optimizer.learning_rate': 0.01}, objective='mle', ema_decay=0.93, ema_every=5)
  state = make_state(config)
  step = TrainStep(state, make_objective(config), config)
  state.step.assign(98)
  expected = [v.numpy() for v in state.ema.trainable_variables]
  images = images_for(config)
  for t in range(98, 111):
    step(images)
    share = min(0.93, (1 + t) / (10 + t))
    if t in (104, 109):
      share = math.prod(min(0.93, (1 + s) / (10 + s)) for s in range(t - 4, t + 1))
    if t < 100 or t in (104, 109):
      current = state.generator.trainable_variables
      expected = [share * e + (1 - share) * v.numpy() for e, v in zip(expected, current, strict=True)]
    for average, e in zip(state.ema.trainable_variables, expected, strict=True):
      np.testing.assert_allclose(average.numpy(), e, atol=1e-6)


@pytest.mark.parametrize(('objective', 'jit'), [pytest.param('hybrid', False, marks=pytest.mark.slow), ('mle', True)])
def test_a_step_without_the_gradient_norm_is_the_same_step(objective, jit):
  config = make_config({'optimizer.clip_norm': 0.01, 'jit': jit}, objective=objective)
  states, metrics = [make_state(config) for _ in range(2)], []
  for state, gradient_norm in zip(states, (True, False), strict=True):
    step = TrainStep(state, make_objective(config), config)
    metrics.append(step(images_for(config), step=0, gradient_norm=gradient_norm))
  assert metrics[0].keys() - metrics[1].keys() == {'gradient_norm'}
  parts = ['generator', 'ema', 'optimizer', *(['critic'] if objective == 'hybrid' else [])]
  assert_identical(*(weights(*(getattr(state, part) for part in parts)) for state in states))


def test_no_average_shares_the_flow():
  state, _ = train(make_config(objective='mle', ema_decay=0.0))
  assert state.ema is state.generator


def test_running_statistics_are_copied_to_the_average():
  state, _ = train(make_config({'nice.normalization': 'batch'}, objective='mle'), 2)
  flow, ema = state.generator.non_trainable_variables, state.ema.non_trainable_variables
  assert_identical([v.numpy() for v in flow], [v.numpy() for v in ema])
  fresh = make_state(make_config({'nice.normalization': 'batch'}, objective='mle'))
  moved = [np.any(a.numpy() != b.numpy()) for a, b in zip(flow, fresh.generator.non_trainable_variables, strict=True)]
  assert sum(moved) >= len(moved) / 2


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
  for a, b in zip(statistics['mle'], statistics['hybrid'], strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5)
  assert any(np.any(a != b) for a, b in zip(statistics['mle'], statistics['adversarial'], strict=True))


def test_mixed_precision_keeps_float32_weights():
  _, [*_, reference] = train(make_config(objective='hybrid'), 2)
  for precision in ('mixed_bfloat16', 'mixed_float16'):
    state, [*_, metrics] = train(make_config(objective='hybrid', precision=precision), 2)
    assert {v.dtype for v in (*state.generator.variables, *state.critic.variables)} == {tf.float32}
    for name in ('nll', 'generator_loss', 'gradient_norm'):
      assert metrics[name] == pytest.approx(reference[name], rel=0.1, abs=0.02)
      assert metrics[name] != reference[name]


def test_overflow_in_float16_skips_the_step_and_lowers_the_scale():
  config = make_config(objective='hybrid', precision='mixed_float16')
  state = make_state(config)
  step = TrainStep(state, make_objective(config), config)
  step(images_for(config))
  assert float(state.optimizer.dynamic_scale) == 2.0**12
  before, critic_before = weights(state.generator), weights(state.critic)
  for optimizer in (state.optimizer, state.critic_optimizer):
    optimizer.dynamic_scale.assign(1e38)
  metrics = step(images_for(config, 1))
  assert not math.isfinite(float(metrics['gradient_norm']))
  assert math.isfinite(float(metrics['loss']))
  assert_identical(before, weights(state.generator))
  assert_identical(critic_before, weights(state.critic))
  assert float(state.optimizer.dynamic_scale) == pytest.approx(0.5e38)
  assert float(state.critic_optimizer.dynamic_scale) == pytest.approx(0.25e38)  # Two updates.
  for optimizer in (state.optimizer, state.critic_optimizer):
    optimizer.dynamic_scale.assign(2.0**12)
  step(images_for(config, 2))
  assert any(np.any(a != b) for a, b in zip(before, weights(state.generator), strict=True))


@pytest.mark.parametrize(
  ('objective', 'precision'), [('hybrid', 'float32'), pytest.param('mle', 'mixed_bfloat16', marks=pytest.mark.slow)]
)
def test_recomputing_gives_the_same_steps(objective, precision):
  """Batch norm's running statistics, too, are updated once in each."""
  flow = {'generator': 'real_nvp', 'real_nvp.scales': 1, 'real_nvp.channels': 4, 'real_nvp.blocks': 1}
  runs = []
  for recompute in (False, True):
    config = make_config(flow, objective=objective, precision=precision, recompute=recompute)
    state, metrics = train(config, 2)
    networks = [part for part in state.generator.submodules if isinstance(part, KerasModule)]
    assert networks and all(network.recompute == recompute for network in networks)
    runs.append((weights(state.generator, state.ema), metrics))
  for a, b in zip(runs[0][0], runs[1][0], strict=True):
    np.testing.assert_allclose(b, a, atol=1e-6)
  for kept, again in zip(runs[0][1], runs[1][1], strict=True):
    assert again == pytest.approx(kept, rel=1e-4)


def test_gradient_norm_is_a_number_where_the_loss_is_zero():
  config = make_config(objective='mle')

  class Zero(Recorder):
    uses_critic = False

    def generator_loss(self, nll, *_):
      return 0.0 * nll, {'nll': nll}

  state = make_state(config)
  metrics = TrainStep(state, Zero(), config)(images_for(config))
  assert float(metrics['gradient_norm']) == 0.0


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


@pytest.mark.slow
def test_real_nvp_recovers_from_overflow_by_itself():
  """Each overflow halves the scale, until a step succeeds; nothing but batch statistics moves before."""
  flow = {'generator': 'real_nvp', 'real_nvp.scales': 1, 'real_nvp.channels': 4, 'real_nvp.blocks': 0}
  flow |= {'real_nvp.normalization': 'batch', 'real_nvp.batch_norm_between': True}
  config = make_config(flow, objective='hybrid', precision='mixed_float16')
  state = make_state(config)
  step = TrainStep(state, make_objective(config), config)
  optimizers = state.optimizer, state.critic_optimizer
  for optimizer in optimizers:
    optimizer.dynamic_scale.assign(2.0**100)
  before = [[v.numpy() for v in part.trainable_variables] for part in (state.generator, state.critic)]
  metrics = step(images_for(config))
  assert {m.dtype for m in metrics.values()} == {tf.float32}
  assert math.isfinite(float(metrics['loss'])) and not math.isfinite(float(metrics['gradient_norm']))
  for part, values in zip((state.generator, state.critic), before, strict=True):
    assert_identical(values, [v.numpy() for v in part.trainable_variables])
  assert [float(o.dynamic_scale) for o in optimizers] == [2.0**99, 2.0**98]

  for optimizer in optimizers:
    optimizer.dynamic_scale.assign(2.0**20)  # Not far from what works, to spare the time of eighty steps.
  for i in range(10):
    metrics = step(images_for(config, i + 1))
  assert math.isfinite(float(metrics['gradient_norm']))
  for part, values in zip((state.generator, state.critic), before, strict=True):
    assert any(np.any(a != b) for a, b in zip(values, [v.numpy() for v in part.trainable_variables], strict=True))
  assert all(1 < float(o.dynamic_scale) < 2.0**20 for o in optimizers)
  assert all(np.all(np.isfinite(w)) for w in weights(state.generator, state.critic, state.ema))


@pytest.mark.parametrize('precision', ['mixed_float16', 'mixed_bfloat16'])
def test_gradient_penalty_is_that_of_single_precision(precision):
  keras.utils.set_random_seed(1)
  shape = (16, 16, 3)
  half, single = (
    KerasModule(dcgan_critic(shape, channels=(8, 16, 32), dense_units=16, layer_norm=True, dtype=dtype), shape)
    for dtype in (precision, 'float32')
  )
  for a, b in zip(half.variables, single.variables, strict=True):
    a.assign(b)
  rng = np.random.default_rng(0)
  real, fake = (tf.constant(rng.uniform(size=(32, *shape)), tf.float32) for _ in range(2))
  expected, penalty = (gradient_penalty(critic, real, fake, (0, 1)) for critic in (single, half))
  assert penalty.dtype == tf.float32 and penalty != expected
  assert float(penalty) == pytest.approx(float(expected), rel=0.02)

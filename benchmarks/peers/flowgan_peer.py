"""This project, by its own training step, as its programs run it on a CPU.

XLA compiles only steps of NICE in float32. Each core computes a part of the batch, except in steps of NICE and of flows
with batch norm.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

import flowgan_tf
from benchmarks.flops import count_flops
from benchmarks.peers import work
from flowgan_tf.objectives.objective import make_objective
from flowgan_tf.runs.config import default_config
from flowgan_tf.training.state import TrainState
from flowgan_tf.training.step import TrainStep, batches_per_step

VARIANTS = {'float32': ['default'], 'bfloat16': ['default']}
PRECISIONS = {'float32': 'float32', 'bfloat16': 'mixed_bfloat16'}
_KINDS = {True: 'weights', False: 'statistics'}  # The key says whether a variable is trained.

# TensorFlow warns of functions that it traces anew for each task.
tf.get_logger().setLevel('ERROR')


def versions() -> dict[str, str]:
  return {'flowgan_tf': flowgan_tf.__version__, 'tensorflow': tf.__version__}


def supports(task: work.Task) -> bool:
  return True


def make_inputs(task: work.Task) -> work.Inputs:
  """Draws images and weights. The weights are a new flow's plus noise, because the output of new networks is zero."""
  if task.flow != 'nice' or task.is_single_pass:
    flowgan_tf.devices.cores.compute_parts()  # Before TensorFlow's first operation.
  generator = np.random.default_rng(0)
  state, _, batches = _state(task, 'float32', True)

  def noisy(variable):
    return (variable.numpy() + 0.02 * generator.standard_normal(variable.shape)).astype(np.float32)

  weights, statistics = {}, {}
  for variable in state.generator.variables:
    found = weights if variable.trainable else statistics
    found.setdefault(variable.name.split('/')[0], []).append(noisy(variable))
  shape = (task.batch_size, *task.image_shape)
  return work.Inputs(
    # Away from the ends, where the alpha-logit loses digits to rounding.
    images=generator.uniform(0.01, 0.99, (batches * task.batch_size, *task.image_shape)).astype(np.float32),
    noise=generator.logistic(size=shape).astype(np.float32),
    weights=weights,
    statistics=statistics,
    critic=[noisy(v) for v in state.critic.variables] if state.critic else [],
  )


def _state(task, dtype, jit):
  config = default_config()
  config.objective = 'hybrid' if task.action == 'hybrid' else 'mle'
  config.generator, config.precision, config.jit = task.flow, PRECISIONS[dtype], jit
  config.batch_size, config.critic_steps = task.batch_size, work.CRITIC_STEPS
  config.ema_every = 1  # The peers do the same; by default it is 10.
  config['lambda'] = work.LIKELIHOOD_WEIGHT
  for name, value in task.sizes.items():
    config[task.flow][name] = value
  for optimizer in (config.optimizer, config.critic_optimizer):
    optimizer.learning_rate, optimizer.beta_1, optimizer.beta_2 = work.LEARNING_RATE, work.BETA_1, work.BETA_2
  objective = make_objective(config)
  state = TrainState(config, task.image_shape, objective)
  # In maximum likelihood, we leave out the norm of the gradient, which only logs show.
  step = functools.partial(TrainStep(state, objective, config), gradient_norm=False)
  return state, step, batches_per_step(objective, config.critic_steps, config.reuse_batch)


def assign(flow: flowgan_tf.flows.Flow, inputs: work.Inputs) -> None:
  """Gives a flow its weights and running statistics."""
  left = {kind: {part: iter(arrays) for part, arrays in getattr(inputs, kind).items()} for kind in _KINDS.values()}
  for variable in flow.variables:
    variable.assign(next(left[_KINDS[variable.trainable]][variable.name.split('/')[0]]))


def prepare(task: work.Task, inputs: work.Inputs, dtype: str, variant: str) -> work.Prepared:
  state, step, _ = _state(task, dtype, jit=dtype == 'float32' and task.flow == 'nice')
  for flow in (state.generator, state.ema):
    assign(flow, inputs)
  for variable, array in zip(state.critic.variables if state.critic else [], inputs.critic, strict=True):
    variable.assign(array)
  images, noise = tf.constant(inputs.images), tf.constant(inputs.noise)
  batch = images[: task.batch_size]

  # A graph has none of the caches of eager mode.
  log_prob, decode = (
    flowgan_tf.devices.replicas.SINGLE.map(tf.function(method, autograph=False))
    for method in (state.ema.log_prob, state.ema.decode)
  )

  @tf.function
  def sample(seed):
    return decode(state.ema.distribution.sample(task.batch_size, seed=seed))

  @tf.function
  def critic_and_slopes(images):
    with tf.GradientTape() as tape:
      tape.watch(images)
      found = state.critic(images)[:, 0]
    return found, tf.sqrt(tf.reduce_sum(tf.square(tape.gradient(found, images)), axis=(1, 2, 3)))

  def outputs():
    found = {'log_prob': log_prob(batch).numpy()}
    if task.action == 'sample':
      found['images'] = state.ema.decode(noise).numpy()
    if task.action == 'hybrid':
      found['critic'], found['slopes'] = (tf.cast(t, tf.float32).numpy() for t in critic_and_slopes(batch))
    return found

  seed = tf.constant([0, 1])
  function, argument = {'log_prob': (log_prob, batch), 'sample': (sample, seed)}.get(task.action, (step, images))

  def call():
    tf.nest.map_structure(lambda tensor: tensor.numpy(), function(argument))

  # All dtypes have the same products.
  counts = dtype == 'float32'
  flops = functools.partial(count_flops, function, tf.TensorSpec(argument.shape, argument.dtype)) if counts else None
  return work.Prepared(call, outputs, flops)


def product(size: int, dtype: str) -> Callable[[], None]:
  a, b = (tf.cast(tf.random.stateless_uniform((size, size), seed=(0, i)), dtype) for i in range(2))
  multiply = tf.function(flowgan_tf.devices.cores.in_parts(lambda rows: tf.matmul(rows, b)))  # on all cores
  return lambda: multiply(a)[0, 0].numpy()

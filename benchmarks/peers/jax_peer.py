"""JAX and Optax by hand: functions of lists of weights, and a step that is compiled as a whole.

XLA compiles everything here, the critic too. In bfloat16, products and convolutions have bfloat16 factors and results.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from benchmarks.peers import work

VARIANTS = {'float32': ['jit'], 'bfloat16': ['jit']}


def versions() -> dict[str, str]:
  return {'jax': jax.__version__, 'optax': optax.__version__}


def supports(task: work.Task) -> bool:
  return True


# Networks. They take an iterator of weights, in the order of `work.Inputs`, and the dtype of products.


def dense(x, arrays, dtype):
  kernel, bias = next(arrays), next(arrays)
  return x.astype(dtype) @ kernel.astype(dtype) + bias.astype(dtype)


def layer_norm(x, arrays, dtype):
  gain, bias = next(arrays), next(arrays)
  wide = x.astype(jnp.float32)
  centred = wide - wide.mean(-1, keepdims=True)
  variance = jnp.square(centred).mean(-1, keepdims=True)
  return (centred * jax.lax.rsqrt(variance + 1e-3) * gain + bias).astype(dtype)


def dense_conditioner(x, weights, dtype):
  """The network of NICE."""
  arrays = iter(weights)
  for _ in range(len(weights) // 4 - 1):
    x = jax.nn.relu(dense(layer_norm(x, arrays, dtype), arrays, dtype))
  return dense(layer_norm(x, arrays, dtype), arrays, dtype)


def convolution(x, kernel, stride, dtype):
  return jax.lax.conv_general_dilated(
    x.astype(dtype), kernel.astype(dtype), (stride, stride), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


def weight_norm_conv(x, arrays, dtype):
  direction, gain, bias = (next(arrays) for _ in range(3))
  kernel = direction * (gain / jnp.sqrt(jnp.square(direction).sum((0, 1, 2)) + 1e-12))
  return convolution(x, kernel, 1, dtype) + bias.astype(dtype)


def batch_norm(x, arrays, statistics, moved, dtype):
  """Uses the statistics of the batch and appends the new running ones to `moved`, unless that is None."""
  gain, bias = next(arrays), next(arrays)
  mean, variance = next(statistics), next(statistics)
  wide = x.astype(jnp.float32)
  if moved is not None:
    of_batch = wide.mean((0, 1, 2)), wide.var((0, 1, 2))
    moved += [0.95 * old + 0.05 * new for old, new in zip((mean, variance), of_batch, strict=True)]
    mean, variance = of_batch
  return ((wide - mean) * jax.lax.rsqrt(variance + 1e-3) * gain + bias).astype(dtype)


def residual_conditioner(x, arrays, statistics, moved, blocks, dtype):
  """The network of Real-NVP."""

  def normalized_conv(h):
    return weight_norm_conv(jax.nn.relu(batch_norm(h, arrays, statistics, moved, dtype)), arrays, dtype)

  h = weight_norm_conv(x, arrays, dtype)
  for _ in range(blocks):
    h = h + normalized_conv(normalized_conv(h))
  return normalized_conv(h)


def mixer_conditioner(x, arrays, size, blocks, dtype):
  """The network of Jet."""
  n, height, width, channels = x.shape
  rows, columns = height // size, width // size
  positions = next(arrays)
  patches = (0.25 * x).reshape(n, rows, size, columns, size, channels).transpose(1, 3, 0, 2, 4, 5)
  h = dense(patches.reshape(rows * columns, n, -1), arrays, dtype) + positions.astype(dtype)
  for _ in range(blocks):
    up, up_bias, down, down_bias = (next(arrays).astype(dtype) for _ in range(4))
    y = layer_norm(h, arrays, dtype).reshape(rows * columns, -1)
    second = [next(arrays), next(arrays)]
    y = down @ jax.nn.gelu(up @ y + up_bias) + down_bias
    h = h + y.reshape(h.shape)
    y = layer_norm(h, iter(second), dtype)
    h = h + dense(jax.nn.gelu(dense(y, arrays, dtype)), arrays, dtype)
  y = dense(layer_norm(h, arrays, dtype), arrays, dtype).reshape(rows, columns, n, size, size, -1)
  return y.transpose(2, 0, 3, 1, 4, 5).reshape(n, height, width, -1)


def critic_outputs(weights, images, dtype):
  """5x5 convolutions with stride 2, and a hidden dense layer."""
  arrays, x = iter(weights), images
  for _ in range((len(weights) - 4) // 2):
    kernel, bias = next(arrays), next(arrays)
    x = jax.nn.leaky_relu(convolution(x, kernel, 2, dtype) + bias.astype(dtype), 0.2)
  x = jax.nn.leaky_relu(dense(x.reshape(len(x), -1), arrays, dtype), 0.2)
  return dense(x, arrays, dtype)[:, 0].astype(jnp.float32)


# Flows: each density also returns the new running statistics.


def event_sum(x):
  return x.reshape(len(x), -1).sum(1)


def to_logits(x):
  """The alpha-logit and its log-determinant."""
  shrink = 1 - 2 * work.ALPHA
  log_p, log_q = jnp.log(work.ALPHA + shrink * x), jnp.log(work.ALPHA + shrink * (1 - x))
  return log_p - log_q, event_sum(math.log(shrink) - log_p - log_q)


def to_images(y):
  """The inverse of the alpha-logit, kept in the interval where it has a density."""
  return jnp.clip((jax.nn.sigmoid(y) - work.ALPHA) / (1 - 2 * work.ALPHA), -work.ALPHA, 1.0)


def logistic_log_prob(z):
  return event_sum(-z - 2 * jax.nn.softplus(-z))


def diagonal_log_scale(weights):
  return 10 * jnp.tanh(weights['diagonal_scaling'][0] / 10)


def nice_log_prob(weights, statistics, images, training, task, dtype):
  y, log_det = to_logits(images.reshape(len(images), -1))
  halves = [y[:, 0::2], y[:, 1::2]]
  for i in range(task.sizes['couplings']):
    kept, changed = i % 2, 1 - i % 2
    shift = dense_conditioner(halves[kept], weights[f'coupling_{i}'], dtype).astype(jnp.float32)
    halves[changed] = halves[changed] - shift
  log_scale = diagonal_log_scale(weights)
  z = jnp.stack(halves, 2).reshape(y.shape) * jnp.exp(log_scale)
  return logistic_log_prob(z) + log_det + log_scale.sum(), statistics


def nice_decode(weights, noise, task, dtype):
  y = noise.reshape(len(noise), -1) * jnp.exp(-diagonal_log_scale(weights))
  halves = [y[:, 0::2], y[:, 1::2]]
  for i in reversed(range(task.sizes['couplings'])):
    kept, changed = i % 2, 1 - i % 2
    shift = dense_conditioner(halves[kept], weights[f'coupling_{i}'], dtype).astype(jnp.float32)
    halves[changed] = halves[changed] + shift
  return to_images(jnp.stack(halves, 2).reshape(noise.shape))


def affine(output, offset, scale):
  """Shift and log-scale from the output of an affine coupling's network."""
  shift, h = jnp.split(output.astype(jnp.float32), 2, -1)
  return shift, 2 * jnp.tanh((scale * jnp.tanh(h) + offset) / 2)


def encode_masked(x, ones, network, offset, scale):
  """From image to noise through a coupling that keeps the ones of a mask."""
  shift, log_scale = affine(network(ones * x), offset, scale)
  log_scale = (1 - ones) * log_scale
  return ones * x + (1 - ones) * (x - shift) * jnp.exp(-log_scale), -event_sum(log_scale)


def real_nvp_log_prob(weights, statistics, images, training, task, dtype):
  masks = work.coupling_masks(task)
  moved = {part: [] for part in statistics} if training else {}

  def network(part, arrays):
    running = iter(statistics[part])
    return lambda kept: residual_conditioner(kept, iter(arrays), running, moved.get(part), task.sizes['blocks'], dtype)

  x, log_prob = to_logits(images)
  noise = []
  for level in range(task.sizes['scales']):
    last = level == task.sizes['scales'] - 1
    for i in range(4 if last else 3):
      part = f'scale_{level}_checkerboard_{i}'
      offset, scale, *arrays = weights[part]
      x, log_det = encode_masked(x, masks[part], network(part, arrays), offset, scale)
      log_prob += log_det
    if not last:
      n, height, width, channels = x.shape
      x = x.reshape(n, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
      halves = jnp.split(x.reshape(n, height // 2, width // 2, 4 * channels), 2, -1)
      for i in range(3):
        part, kept, changed = f'scale_{level}_channel_{i}', i % 2, 1 - i % 2
        offset, scale, *arrays = weights[part]
        shift, log_scale = affine(network(part, arrays)(halves[kept]), offset, scale)
        halves[changed] = (halves[changed] - shift) * jnp.exp(-log_scale)
        log_prob -= event_sum(log_scale)
      noise.append(halves[0])
      x = halves[1]
  for z in (*noise, x):
    log_prob -= event_sum(0.5 * jnp.square(z) + 0.5 * math.log(2 * math.pi))
  return log_prob, moved or statistics


def jet_log_prob(weights, statistics, images, training, task, dtype):
  x, log_prob = to_logits(images)
  size, blocks = task.sizes['patch_size'], task.sizes['blocks']
  for part, ones in work.coupling_masks(task).items():
    offset, scale, *arrays = weights[part]
    network = functools.partial(mixer_conditioner, arrays=iter(arrays), size=size, blocks=blocks, dtype=dtype)
    x, log_det = encode_masked(x, ones, network, offset, scale)
    log_prob += log_det
  log_scale = diagonal_log_scale(weights)
  return log_prob + logistic_log_prob(x * jnp.exp(log_scale)) + log_scale.sum(), statistics


LOG_PROBS = {'nice': nice_log_prob, 'real_nvp': real_nvp_log_prob, 'jet': jet_log_prob}


def prepare(task: work.Task, inputs: work.Inputs, dtype: str, variant: str) -> work.Prepared:
  del variant
  made = _Work(task, inputs, dtype)
  actions = {'train': made.train, 'hybrid': made.hybrid, 'log_prob': made.score, 'sample': made.sample}
  return work.Prepared(actions[task.action], made.outputs)


class _Work:
  """The weights of a flow and a critic, with what Adam keeps, and what is done with them."""

  def __init__(self, task: work.Task, inputs: work.Inputs, dtype: str):
    self._task = task
    self._log_prob = functools.partial(LOG_PROBS[task.flow], task=task, dtype=jnp.dtype(dtype))
    self._decode = functools.partial(nice_decode, task=task, dtype=jnp.dtype(dtype))
    self._critic = functools.partial(critic_outputs, dtype=jnp.dtype(dtype))
    self._adam = optax.adam(work.LEARNING_RATE, work.BETA_1, work.BETA_2, work.EPSILON)
    images, self._noise = jnp.asarray(inputs.images), jnp.asarray(inputs.noise)
    self._batches = jnp.split(images, len(images) // task.batch_size)
    # Copies, because the step gives its arguments' memory to its results.
    weights, statistics, critic_weights = jax.tree.map(
      lambda a: jnp.array(a), (inputs.weights, inputs.statistics, inputs.critic)
    )
    self._state = {
      'weights': weights,
      'statistics': statistics,
      'average': jax.tree.map(jnp.array, weights),
      'adam': self._adam.init(weights),
      'critic': critic_weights,
      'critic_adam': self._adam.init(critic_weights),
      'key': jax.random.key(0),
      'step': jnp.zeros(()),
    }
    self._key = jax.random.key(1)
    self._train_step = jax.jit(self._trained, donate_argnums=0)
    self._hybrid_step = jax.jit(self._hybrid_trained, donate_argnums=0)
    self._score = jax.jit(lambda weights, statistics, batch: self._log_prob(weights, statistics, batch, False)[0])
    self._sample = jax.jit(lambda weights, key: self._decode(weights, self._draw(key, task.batch_size)))

  def _updated(self, state, gradients, statistics):
    updates, adam_state = self._adam.update(gradients, state['adam'])
    weights = optax.apply_updates(state['weights'], updates)
    kept = jnp.minimum(0.999, (1 + state['step']) / (10 + state['step']))
    average = jax.tree.map(lambda old, new: old + (1 - kept) * (new - old), state['average'], weights)
    changed = {'weights': weights, 'statistics': statistics, 'average': average, 'adam': adam_state}
    return state | changed | {'step': state['step'] + 1}

  def _trained(self, state, batch):
    def loss(weights):
      found, statistics = self._log_prob(weights, state['statistics'], batch, True)
      return -found.mean(), statistics

    (value, statistics), gradients = jax.value_and_grad(loss, has_aux=True)(state['weights'])
    return self._updated(state, gradients, statistics), value

  def _draw(self, key, count):
    return jax.random.logistic(key, (count, *self._task.image_shape))

  def _slopes(self, critic_weights, images):
    gradient = jax.grad(lambda images: self._critic(critic_weights, images).sum())(images)
    return jnp.sqrt(event_sum(jnp.square(gradient)) + 1e-12)

  def _critic_loss(self, weights, real, fake, key):
    share = jax.random.uniform(key, (len(real), 1, 1, 1))
    penalty = jnp.square(self._slopes(weights, share * real + (1 - share) * fake) - 1).mean()
    return self._critic(weights, fake).mean() - self._critic(weights, real).mean() + work.GRADIENT_PENALTY * penalty

  def _hybrid_trained(self, state, batches):
    size = self._task.batch_size
    key, *keys = jax.random.split(state['key'], 3 + work.CRITIC_STEPS)
    fakes = self._decode(state['weights'], self._draw(keys[0], work.CRITIC_STEPS * size))
    critic_weights, critic_adam = state['critic'], state['critic_adam']
    fakes = jnp.split(fakes, work.CRITIC_STEPS)
    for real, fake, share_key in zip(batches[:-1], fakes, keys[2:], strict=True):
      gradients = jax.grad(self._critic_loss)(critic_weights, real, fake, share_key)
      updates, critic_adam = self._adam.update(gradients, critic_adam)
      critic_weights = optax.apply_updates(critic_weights, updates)

    def loss(weights):
      likelihood = self._log_prob(weights, state['statistics'], batches[-1], True)[0].mean()
      fake = self._decode(weights, self._draw(keys[1], size))
      return -self._critic(critic_weights, fake).mean() - work.LIKELIHOOD_WEIGHT * likelihood

    value, gradients = jax.value_and_grad(loss)(state['weights'])
    state = state | {'critic': critic_weights, 'critic_adam': critic_adam, 'key': key}
    return self._updated(state, gradients, state['statistics']), value

  def train(self):
    self._state, value = self._train_step(self._state, self._batches[0])
    value.block_until_ready()

  def hybrid(self):
    self._state, value = self._hybrid_step(self._state, self._batches)
    value.block_until_ready()

  def score(self):
    self._scores().block_until_ready()

  def _scores(self):
    return self._score(self._state['average'], self._state['statistics'], self._batches[0])

  def sample(self):
    self._sample(self._state['average'], self._key).block_until_ready()

  def outputs(self):
    found = {'log_prob': self._scores()}
    if self._task.action == 'sample':
      found['images'] = jax.jit(self._decode)(self._state['average'], self._noise)
    if self._task.action == 'hybrid':
      found['critic'] = jax.jit(self._critic)(self._state['critic'], self._batches[0])
      found['slopes'] = jax.jit(self._slopes)(self._state['critic'], self._batches[0])
    return {name: jax.device_get(array) for name, array in found.items()}


def product(size: int, dtype: str) -> Callable[[], None]:
  a, b = (jax.random.uniform(jax.random.key(i), (size, size)).astype(dtype) for i in range(2))
  multiply = jax.jit(jnp.matmul)
  return lambda: multiply(a, b).block_until_ready()

"""TensorFlow Probability as shipped: `tfb.RealNVP` with shifts alone, stock layers of Keras, and Keras' Adam.

In bfloat16 it does not use XLA, because there XLA on a CPU multiplies in float32. It only has NICE: `tfb.RealNVP`
divides vectors, not images. There is no hybrid, for which users would write the loop of `flowgan_tf.training`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from benchmarks.peers import work

tfb, tfd = tfp.bijectors, tfp.distributions

# TensorFlow warns of functions that it traces anew for each task.
tf.get_logger().setLevel('ERROR')

VARIANTS = {'float32': ['XLA', 'graph'], 'bfloat16': ['graph']}


def versions() -> dict[str, str]:
  return {'tensorflow_probability': tfp.__version__, 'keras': keras.__version__, 'tensorflow': tf.__version__}


def supports(task: work.Task) -> bool:
  return task.flow == 'nice' and task.action != 'hybrid'


def dense_conditioner(weights: list, dtype: str) -> keras.Sequential:
  layers: list[keras.Layer] = []
  for kernel in weights[2::4]:
    layers += [
      keras.layers.LayerNormalization(epsilon=1e-3, dtype=dtype),
      keras.layers.Dense(kernel.shape[1], activation='relu', dtype=dtype),
    ]
  layers[-1].activation = keras.activations.linear
  network = keras.Sequential(layers)
  network.build((None, len(weights[0])))
  network.set_weights(weights)
  return network


def nice(task: work.Task, inputs: work.Inputs, dtype: str) -> tuple[tfd.Distribution, list[tf.Variable]]:
  """Returns the flow, and its variables."""
  pixels, count = math.prod(task.image_shape), task.sizes['couplings']
  policy = 'mixed_bfloat16' if dtype == 'bfloat16' else dtype
  networks = [dense_conditioner(inputs.weights[f'coupling_{i}'], policy) for i in range(count)]
  raw_log_scale = tf.Variable(inputs.weights['diagonal_scaling'][0])

  def coupling(i):
    def shift(kept, units):
      return tf.cast(networks[i](kept), tf.float32), None

    # The coupling keeps the first half of the vector, or the last.
    return tfb.RealNVP(num_masked=pixels // 2 if i % 2 == 0 else -(pixels // 2), shift_and_log_scale_fn=shift)

  even_then_odd = tf.concat([tf.range(0, pixels, 2), tf.range(1, pixels, 2)], axis=0)
  scale = tfp.util.DeferredTensor(raw_log_scale, lambda raw: tf.exp(-10 * tf.tanh(raw / 10)))
  to_image = tfb.Chain(
    [
      tfb.Scale(1 / (1 - 2 * work.ALPHA)),
      tfb.Shift(-work.ALPHA),
      tfb.Sigmoid(),
      tfb.Reshape(task.image_shape, (pixels,)),
      tfb.Invert(tfb.Permute(even_then_odd)),
      *[coupling(i) for i in range(count)],
      tfb.Permute(even_then_odd),
      tfb.Scale(scale),
    ]
  )
  flow = tfd.TransformedDistribution(tfd.Sample(tfd.Logistic(0.0, 1.0), pixels), to_image)
  weights = [v.value for network in networks for v in network.trainable_variables]
  return flow, [raw_log_scale, *weights]


def prepare(task: work.Task, inputs: work.Inputs, dtype: str, variant: str) -> work.Prepared:
  flow, variables = nice(task, inputs, dtype)
  average, averages = nice(task, inputs, dtype)
  optimizer = keras.optimizers.Adam(work.LEARNING_RATE, work.BETA_1, work.BETA_2, work.EPSILON)
  optimizer.build(variables)
  images, noise = tf.constant(inputs.images), tf.reshape(inputs.noise, (task.batch_size, -1))
  compiled = tf.function(jit_compile=variant == 'XLA')

  @compiled
  def train_step(images):
    with tf.GradientTape() as tape:
      loss = -tf.reduce_mean(flow.log_prob(images))
    gradients = tape.gradient(loss, variables)
    step = tf.cast(optimizer.iterations, tf.float32)
    share = 1 - tf.minimum(0.999, (1 + step) / (10 + step))
    optimizer.apply(gradients, variables)
    for old, new in zip(averages, variables, strict=True):
      old.assign_sub(share * (old - new))
    return loss

  @compiled
  def log_prob(images):
    return average.log_prob(images)

  @compiled
  def sample(seed):
    return average.sample(task.batch_size, seed=seed)

  def outputs():
    found = {'log_prob': log_prob(images).numpy()}
    if task.action == 'sample':
      found['images'] = average.bijector.forward(noise).numpy()
    return found

  seed = tf.constant([0, 1])
  call = {
    'train': lambda: train_step(images).numpy(),
    'log_prob': lambda: log_prob(images).numpy(),
    'sample': lambda: sample(seed).numpy(),
  }[task.action]
  return work.Prepared(call, outputs)


def product(size: int, dtype: str) -> Callable[[], None]:
  a, b = (tf.cast(tf.random.stateless_uniform((size, size), seed=(0, i)), dtype) for i in range(2))
  multiply = tf.function(tf.matmul)
  return lambda: multiply(a, b)[0, 0].numpy()

"""TFP's bijectors in a flow: trained by Keras or by our loop, they still have the density that they claim to have."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import flowgan_tf as fg
from tests.tiny import make_config, write_images

tfb, tfd = tfp.bijectors, tfp.distributions


def maf(image_shape, dtype):
  made = tfb.AutoregressiveNetwork(2, event_shape=2, hidden_units=[8], activation='tanh', dtype=dtype)
  made.build((None, 2))
  return tfb.MaskedAutoregressiveFlow(made)


def maf_of_keras(image_shape, dtype):
  """Its second pixel depends on the first one, by a mask that only a constraint of Keras 3 keeps."""
  mask = np.array([[0, 0, 1, 1], [0, 0, 0, 0]])
  masked = {'kernel_initializer': 'zeros', 'kernel_constraint': lambda kernel: kernel * mask}
  layers = [keras.layers.Dense(4, 'tanh', dtype=dtype, **masked), keras.layers.Reshape((2, 2), dtype=dtype)]
  return tfb.MaskedAutoregressiveFlow(fg.networks.KerasModule(keras.Sequential(layers), (2,)))


def glow(image_shape, dtype):
  def network(shape):
    layers = [keras.layers.Conv2D(n, 1, activation=a, dtype=dtype) for n, a in ((4, 'tanh'), (2 * shape[-1], None))]
    return fg.networks.KerasModule(keras.Sequential(layers), shape)

  return tfb.Glow(image_shape, num_glow_blocks=1, num_steps_per_block=2, coupling_bijector_fn=network)


def bins(x):
  """Widths or heights of bins that cover [-8, 8]."""
  return 16 * (0.9 * tf.nn.softmax(x) + 0.1 / x.shape[-1])


def slopes(x):
  return tf.nn.softplus(x) + 1e-2


class SplineOfFirst(tf.Module):
  """A spline for the second pixel that depends on the first one."""

  def __init__(self, dtype):
    super().__init__()
    layers = [keras.layers.Dense(n, a, dtype=dtype) for n, a in ((8, 'tanh'), (4 + 4 + 3, None))]
    self.network = fg.networks.KerasModule(keras.Sequential(layers), (1,))

  def __call__(self, x, units, *, training=False):
    widths, heights, inner = tf.split(self.network(x, training=training)[..., tf.newaxis, :], [4, 4, 3], axis=-1)
    return tfb.RationalQuadraticSpline(bins(widths), bins(heights), slopes(inner), range_min=-8)


def splines(image_shape, dtype):
  parts = [(4, bins), (4, bins), (3, slopes)]
  parts = [tfp.util.DeferredTensor(tf.Variable(tf.zeros([2, count], dtype)), function) for count, function in parts]
  return tfb.RationalQuadraticSpline(*parts, range_min=-8)


BIJECTORS = {
  'MAF': maf,
  'MAF of Keras': maf_of_keras,
  'IAF': lambda *arguments: tfb.Invert(maf(*arguments)),
  'Glow': glow,
  'Real-NVP of splines': lambda image_shape, dtype: tfb.RealNVP(1, bijector_fn=SplineOfFirst(dtype)),
  'splines': splines,
}


@keras.saving.register_keras_serializable('tests')
@fg.flows.builder
def foreign(image_shape, *, kind='MAF', dtype='float32', name='foreign'):
  size, zero = int(np.prod(image_shape)), tf.zeros((), dtype)
  to_image = [] if kind == 'Glow' else [tfb.Reshape(image_shape, [size])]
  chain = tfb.Chain([tfb.Sigmoid(), *to_image, BIJECTORS[kind](image_shape, dtype)])
  return fg.flows.Flow(tfd.Sample(tfd.Normal(zero, zero + 1), size), chain, name)


def by_keras(kind, shape, folder, monkeypatch):
  """Trains with `fit`, in a graph before a file and eagerly after it."""
  images = np.random.default_rng(0).beta(2, 4, (40, *shape)).astype(np.float32)
  model = fg.keras.FlowModel(foreign(shape, kind=kind))
  model.compile(keras.optimizers.Adam(0.02))
  before = [variable.numpy() for variable in model.trainable_variables]
  model.fit(images, batch_size=15, epochs=4, verbose=0)
  for old, variable in zip(before, model.trainable_variables, strict=True):
    assert np.abs(old - variable.numpy()).max() > 1e-3, variable.path
  model.save(folder / 'flow.keras')
  loaded = keras.saving.load_model(folder / 'flow.keras')
  np.testing.assert_array_equal(loaded.flow.log_prob(images), model.flow.log_prob(images))
  loaded.run_eagerly = True
  loaded.fit(images, batch_size=15, verbose=0)
  return loaded.flow


def by_our_loop(kind, shape, folder, monkeypatch):
  """Trains as `bin/train` does."""
  monkeypatch.setitem(fg.flows.GENERATORS, 'foreign', foreign)
  images = write_images(folder / 'images.npz', shape=shape)
  settings = {'generator': 'foreign', 'foreign.kind': kind, 'dataset': images, 'steps': 12, 'eval_every': 12}
  fg.training.train(make_config(settings | {'optimizer.learning_rate': 0.02}), folder / 'run')
  return fg.runs.load_run(folder / 'run', 'latest').generator


@pytest.mark.slow
@pytest.mark.parametrize('train', [by_keras, by_our_loop])
@pytest.mark.parametrize('kind', BIJECTORS)
def test_a_trained_flow_has_the_density_that_it_claims(kind, train, tmp_path, monkeypatch):
  keras.utils.set_random_seed(0)
  shape = (2, 2, 1) if kind == 'Glow' else (2, 1, 1)
  flow, size = train(kind, shape, tmp_path, monkeypatch), int(np.prod(shape))
  wide = flow.with_dtype('float64')
  images = tf.random.stateless_uniform((3, *shape), (0, 0), 0.1, 0.9, tf.float64)
  log_prob = wide.log_prob(tf.identity(images))
  np.testing.assert_allclose(flow.log_prob(tf.cast(images, tf.float32)), log_prob, rtol=1e-3, atol=1e-3)
  with tf.GradientTape() as tape:
    tape.watch(images)
    noise = wide.encode(images)
  _, log_det = np.linalg.slogdet(tf.reshape(tape.batch_jacobian(noise, images), (3, size, size)))
  np.testing.assert_allclose(log_prob, wide.distribution.log_prob(noise) + log_det, rtol=1e-6)
  if size == 2:  # A sum over a grid of logits.
    step = 0.05
    logits = np.stack(np.meshgrid(*2 * [np.arange(-9, 9, step)]), axis=-1).reshape(-1, *shape)
    pixels = tf.sigmoid(logits)
    densities = wide.prob(pixels) * tf.reduce_prod(pixels * (1 - pixels), axis=(1, 2, 3))
    np.testing.assert_allclose(step**2 * tf.reduce_sum(densities), 1, atol=1e-3)

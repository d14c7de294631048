import copy
import inspect
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf import objectives
from flowgan_tf.flows import GENERATORS, Flow, Generator, ImplicitGenerator, dcgan
from flowgan_tf.networks import KerasModule, dcgan_critic

SHAPE = (4, 4, 1)

BUILDERS = {
  'nice': {'couplings': 2, 'hidden_units': 4, 'hidden_layers': 1},
  'real_nvp': {'scales': 1, 'channels': 2, 'blocks': 0},
  'jet': {'couplings': 2, 'patch_size': 2, 'width': 4, 'hidden_units': 4},
  'dcgan': {'channels': (4, 2)},
}


@pytest.fixture(autouse=True)
def seeded_initial_weights():
  keras.utils.set_random_seed(0)


def tiny(**kwargs):
  return dcgan(SHAPE, channels=(6, 4), **kwargs)


def trained(seed=0):
  """A generator whose images are not all grey, and whose statistics are not those of a new one."""
  generator = tiny()
  rng = np.random.default_rng(seed)
  for variable in generator.variables:
    variable.assign(rng.uniform(0.5, 1.5, variable.shape) - 1.0 * ('kernel' in variable.name))
  return generator


def noise(*batch_shape, seed=0):
  return tf.random.stateless_normal((*batch_shape, *SHAPE), seed=(seed, 1))


def test_it_has_what_is_used_of_a_flow():
  generator = dcgan((7, 5, 2), channels=(6, 4))
  assert generator.event_shape == tf.TensorShape((7, 5, 2)) and isinstance(generator.event_shape, tf.TensorShape)
  assert generator.dtype == tf.float32 and generator.name == 'dcgan'
  assert isinstance(generator, Generator)
  # Dense, two norms' gain and bias, two kernels and a bias; two norms' mean and variance.
  assert len(generator.trainable_variables) == 8 and len(generator.non_trainable_variables) == 4
  assert {id(v) for v in generator.variables} == {
    id(v) for v in (*generator.trainable_variables, *generator.non_trainable_variables)
  }
  assert len(generator.variables) == 12 and all(isinstance(v, tf.Variable) for v in generator.variables)


def test_samples_are_decoded_noise_of_any_batch_shape():
  generator, z = trained(), noise(2, 3)
  images = generator.decode(z)
  assert images.shape == (2, 3, *SHAPE)
  np.testing.assert_allclose(images[1, 2], generator.decode(z[1, 2]), rtol=1e-5)
  np.testing.assert_allclose(images[1], generator.decode(z[1].numpy()), rtol=1e-5)
  assert generator.sample(seed=(0, 0)).shape == SHAPE
  samples = generator.sample((2, 3), seed=(3, 4))
  np.testing.assert_array_equal(samples, generator.decode(generator.distribution.sample((2, 3), seed=(3, 4))))
  assert np.abs(samples - generator.sample((2, 3), seed=(3, 5))).max() > 0.1


@pytest.mark.parametrize('jit', [False, pytest.param(True, marks=pytest.mark.slow)])
def test_functions_compute_the_same(jit):
  generator, z = trained(), noise(6)
  signature = [tf.TensorSpec([None, *SHAPE])]
  decode = tf.function(generator.decode, input_signature=signature, jit_compile=jit)
  for n in (1, 6):
    np.testing.assert_allclose(decode(z[:n]), generator.decode(z[:n]), rtol=1e-5)
  if not jit:  # XLA makes other noise of the same seed.
    sample = tf.function(lambda n: generator.sample(n, seed=(0, 1)), input_signature=[tf.TensorSpec([], tf.int32)])
    np.testing.assert_allclose(sample(3), generator.sample(3, seed=(0, 1)), rtol=1e-4)


def test_training_is_a_python_bool():
  generator = tiny()
  decode = tf.function(lambda z, training: generator.decode(z, training=training))
  for call in (lambda: generator.sample(2, training=None), lambda: decode(noise(2), tf.constant(True))):
    with pytest.raises(ValueError, match=r'`training` must be True or False\. Got: '):
      call()


def test_checkpoints_and_copies_are_exact(tmp_path):
  first, second = trained(seed=1), trained(seed=2)
  path = tf.train.Checkpoint(generator=first).write(str(tmp_path / 'checkpoint'))
  assert np.abs(first.decode(noise(4)) - second.decode(noise(4))).max() > 0.1
  status = tf.train.Checkpoint(generator=second).read(path)
  status.assert_consumed()
  status.assert_existing_objects_matched()
  wide, copied = first.with_dtype('float64'), copy.deepcopy(first)
  for other in (second, copied):
    np.testing.assert_array_equal(other.decode(noise(4)), first.decode(noise(4)))
  assert (wide.dtype, wide.name, copied.with_dtype('float64').dtype) == (tf.float64, 'dcgan', tf.float64)
  np.testing.assert_allclose(wide.decode(tf.cast(noise(4), tf.float64)), first.decode(noise(4)), atol=1e-5)
  assert not {id(v) for v in first.variables} & {id(v) for v in (*copied.variables, *wide.variables)}


@pytest.mark.parametrize('method', ['log_prob', 'encode'])
def test_why_there_is_no_likelihood(method):
  ask = getattr(tiny(), method)
  images = tf.fill((2, *SHAPE), 0.5)
  for call in (ask, tf.function(ask), lambda x: ask(x, training=True)):
    with pytest.raises(NotImplementedError, match=rf"{method} is not implemented: generator 'dcgan' has no inverse"):
      call(images)


@pytest.mark.parametrize('method', ['sample', 'log_prob', 'encode', 'decode'])
def test_signatures_are_those_of_a_flow(method):
  ours, flows = (inspect.signature(getattr(c, method)).parameters for c in (ImplicitGenerator, Flow))
  assert {**ours} == {**flows}
  assert ours['training'].kind is ours['training'].KEYWORD_ONLY and ours['training'].default is False


def test_operations_are_named():
  generator = tiny()
  graph = tf.function(lambda: generator.sample(2, (0, 1), 'drawn')).get_concrete_function().graph
  assert any('drawn/' in operation.name for operation in graph.get_operations())


def make_critic():
  return KerasModule(dcgan_critic(SHAPE, channels=(4,), dense_units=4), SHAPE)


@pytest.mark.parametrize(
  'divergence',
  [
    *('wasserstein', 'relativistic'),
    *(
      pytest.param(name, marks=pytest.mark.slow)
      for name in objectives.DIVERGENCES
      if name not in ('wasserstein', 'relativistic')
    ),
  ],
)
def test_every_divergence_trains_it(divergence):
  """Gradients reach every weight, losses stay finite, and grey images become as bright as the data."""
  generator, critic = tiny(), make_critic()
  objective = objectives.make('adversarial', divergence=divergence)
  real = tf.random.stateless_uniform((16, *SHAPE), seed=(0, 0), minval=0.8, maxval=1.0)
  optimizers = {}
  for model in (generator, critic):
    optimizers[model] = keras.optimizers.Adam(0.01, beta_1=0.5)
    optimizers[model].build(model.trainable_variables)

  def update(model, loss, tape):
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizers[model].apply(gradients, model.trainable_variables)
    return loss, gradients

  @tf.function(autograph=False)
  def train_critic(seed):
    fake = generator.sample(16, seed=seed, training=True)
    with tf.GradientTape() as tape:
      loss, _ = objective.critic_loss(critic, real, fake, seed)
    return update(critic, loss, tape)

  @tf.function(autograph=False)
  def train_generator(seed):
    with tf.GradientTape() as tape:
      fake = generator.sample(16, seed=seed, training=True)
      loss, _ = objective.generator_loss(None, critic(fake), critic(real))
    return update(generator, loss, tape)

  assert abs(np.mean(generator.sample(64, seed=(9, 9))) - 0.5) < 0.01
  start = [v.numpy() for v in (*generator.trainable_variables, *critic.trainable_variables)]
  for i in range(25):
    for k in range(3):
      critic_loss, _ = train_critic(tf.constant([k, i]))
    loss, gradients = train_generator(tf.constant([3, i]))
    assert np.isfinite(critic_loss) and np.isfinite(loss)
    if i == 0:
      names = [v.name for v in generator.trainable_variables]
      assert not [name for name, g in zip(names, gradients, strict=True) if g is None or not np.any(g)]
  weights = (*generator.trainable_variables, *critic.trainable_variables)
  assert all(np.all(np.isfinite(v)) for v in weights)
  changed = [np.any(v != before) for v, before in zip(weights, start, strict=True)]
  # The last bias of a critic drops out of differences; what rounding leaves of its gradient, Adam makes a step of.
  assert all(changed[:-1])
  assert changed[-1] or divergence in ('wasserstein', 'relativistic')
  assert np.mean(generator.sample(64, seed=(9, 9))) > 0.6


def test_a_network_that_changes_the_shape_is_refused():
  prior = tfp.distributions.Sample(tfp.distributions.Normal(0.0, 1.0), SHAPE)
  with pytest.raises(ValueError, match=r'`network` must return .*\(4, 4, 1\).*Got: \(4, 4, 3\)'):
    ImplicitGenerator(prior, keras.layers.Dense(3), name='wide')
  # 16 numbers, and a shape that would broadcast.
  with pytest.raises(ValueError, match=r'`network` must return '):
    ImplicitGenerator(prior, keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(16)]), name='flat')


def test_all_generators_and_whether_they_have_a_density():
  assert {name: build(SHAPE, **BUILDERS[name]).has_density for name, build in GENERATORS.items()} == {
    'nice': True,
    'real_nvp': True,
    'jet': True,
    'dcgan': False,
  }


def network_of(shape, **arguments):
  """The Keras model alone, in which layers can be counted and weights be set."""
  return dcgan(shape, **arguments)._network.layer


def parameters(model):
  return sum(math.prod(v.shape) for v in model.trainable_variables)


def randomised(generator):
  """With larger weights than a new one, whose images are all grey outside of training."""
  rng = np.random.default_rng(0)
  for variable in generator.variables:
    variable.assign(rng.uniform(0.5, 1.5, variable.shape) - 1.0 * ('kernel' in variable.name))
  return generator


def test_the_generators_of_the_data_sets():
  """Dense, gain and bias of three norms, two convolutions without bias, one with."""
  for shape, smallest in [((28, 28, 1), 4 * 4), ((32, 32, 3), 4 * 4), ((8, 8, 1), 1)]:
    dense = math.prod(shape) * smallest * 256
    convolutions = 25 * (256 * 128 + 128 * 64 + 64 * shape[-1]) + shape[-1]
    assert parameters(network_of(shape)) == dense + convolutions + 2 * (256 + 128 + 64)


@pytest.mark.parametrize('dtype', ['float32', 'float64', 'mixed_bfloat16', 'mixed_float16'])
@pytest.mark.parametrize('shape', [(32, 32, 3), (7, 5, 1)])
def test_images_of_every_size_and_type(shape, dtype):
  generator = network_of(shape, channels=(6, 4, 2), dtype=dtype)
  wide = 'float64' if dtype == 'float64' else 'float32'
  noise = tf.random.stateless_normal((4, *shape), seed=(0, 0), dtype=wide)
  assert {v.dtype for v in generator.variables} == {wide}
  assert generator(noise).shape == noise.shape and generator(noise).dtype == wide
  images = generator(noise, training=True)
  assert images.shape == noise.shape and images.dtype == wide
  assert np.all((images > 0) & (images < 1)) and np.std(images) > 1e-3
  if dtype.startswith('mixed'):
    half = tf.as_dtype(dtype.removeprefix('mixed_'))
    assert np.mean(tf.cast(tf.cast(images, half), wide) != images) > 0.5
    assert {layer.compute_dtype for layer in generator.layers[:-1]} == {half.name}


def transposed_convolution(x, kernel):
  """By scattering: the adjoint of a 5x5 convolution with stride 2 that pads 1 before and 2 behind."""
  n, height, width, _ = x.shape
  y = np.zeros((n, 2 * height + 3, 2 * width + 3, kernel.shape[2]))
  for i in range(height):
    for j in range(width):
      y[:, 2 * i : 2 * i + 5, 2 * j : 2 * j + 5] += np.einsum('ni,hwoi->nhwo', x[:, i, j], kernel)
  return y[:, 1:-2, 1:-2]


@pytest.mark.parametrize('training', [True, False])
def test_a_small_generator_by_hand(training):
  generator = randomised(network_of((7, 5, 2), channels=(3, 2), dtype='float64'))
  before = [v.numpy() for v in generator.variables]
  dense, *norm_1, kernel_1 = before[:6]
  *norm_2, kernel_2, bias = before[6:]
  z = np.random.default_rng(1).normal(size=(4, 7, 5, 2))
  images = generator(z, training=training)

  statistics = []

  def norm_and_relu(h, gain, shift, mean, variance):
    batch_mean, batch_variance = h.mean(axis=(0, 1, 2)), h.var(axis=(0, 1, 2))
    statistics.extend([0.9 * mean + 0.1 * batch_mean, 0.9 * variance + 0.1 * batch_variance])
    if training:
      mean, variance = batch_mean, batch_variance
    return np.maximum(gain * (h - mean) / np.sqrt(variance + 1e-5) + shift, 0)

  h = norm_and_relu((z.reshape(4, -1) @ dense).reshape(4, 2, 2, 3), *norm_1)
  h = norm_and_relu(transposed_convolution(h, kernel_1), *norm_2)
  h = transposed_convolution(h, kernel_2) + bias
  assert h.shape == (4, 8, 8, 2)
  np.testing.assert_allclose(images, 1 / (1 + np.exp(-h[:, :7, 1:6])), rtol=1e-9)
  after = [v.numpy() for v in generator.non_trainable_variables]
  unchanged = [*norm_1[2:], *norm_2[2:]]
  for value, expected in zip(after, statistics if training else unchanged, strict=True):
    np.testing.assert_allclose(value, expected, rtol=1e-9)


def test_only_in_training_an_image_depends_on_the_noise_beside_its_own():
  generator = randomised(network_of((8, 8, 1), channels=(6, 4), dtype='float64'))
  noise = tf.constant(np.random.default_rng(0).normal(size=(3, 8, 8, 1)))
  others = tf.concat([noise[:1], 5 * noise[1:]], axis=0)
  np.testing.assert_allclose(generator(others)[0], generator(noise)[0], rtol=1e-12)
  np.testing.assert_allclose(generator(noise[:1])[0], generator(noise)[0], rtol=1e-12)
  assert np.abs(generator(others, training=True) - generator(noise, training=True))[0].max() > 1e-3


def test_an_empty_batch_leaves_the_running_statistics_of_the_generator_alone():
  generator = network_of((8, 8, 1), channels=(3, 2))
  noise = np.random.default_rng(0).normal(size=(5, 8, 8, 1)).astype(np.float32)
  generator(noise, training=True)
  before = [v.numpy() for v in generator.non_trainable_variables]
  assert len(before) == 4 and all(np.any(v != 0) for v in before)
  generator(noise[:0], training=True)
  for variable, value in zip(generator.non_trainable_variables, before, strict=True):
    np.testing.assert_array_equal(variable.numpy(), value)


def test_initial_weights_of_the_generator():
  kernels = [v.numpy() for v in network_of((8, 8, 1), channels=(64, 64, 64)).variables if 'kernel' in v.name]
  assert len(kernels) == 4
  for kernel in kernels:
    # The standard error of a standard deviation is s / sqrt(2 n).
    assert abs(kernel.std() / 0.02 - 1) < 5 / math.sqrt(2 * kernel.size)
    assert abs(kernel.mean() / 0.02) < 5 / math.sqrt(kernel.size)
  # Two layers of one shape do not start alike.
  assert kernels[1].shape == kernels[2].shape and np.abs(kernels[1] - kernels[2]).max() > 0.01

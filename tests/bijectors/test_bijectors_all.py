"""What must hold for every bijector of the package."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf import bijectors
from flowgan_tf.bijectors import masks
from flowgan_tf.networks import MixerConditioner, ResidualConditioner, TransformerConditioner, dense_conditioner

tfb = tfp.bijectors


class Case(NamedTuple):
  build: Callable[[str], tfb.Bijector]
  event_shape: tuple[int, ...]
  forward_domain: tuple[float, float] = (-1.0, 1.0)
  output_shape: tuple[int, ...] | None = None  # The event's shape unless given.


def arcsinh(params):
  """A user's inner bijector."""
  skewness, tail = tf.split(params, 2, axis=-1)
  return tfb.SinhArcsinh(skewness, tf.exp(tf.tanh(tail)))


ADDITIVE, AFFINE = bijectors.AdditiveCoupling, bijectors.AffineCoupling
SPLINE = functools.partial(bijectors.SplineCoupling, bins=4, bound=0.8)  # Some inputs are outside of its range.
OWN = functools.partial(bijectors.Coupling, inner=arcsinh, outputs=2)
OUTPUTS = {ADDITIVE: 1, AFFINE: 2, SPLINE: 11, OWN: 2}  # of a network for each changed number


def coupling(kind, mask):
  outputs = OUTPUTS[kind] * mask.changed_shape[-1]

  def build(dtype):
    if len(mask.event_shape) == 1:
      return kind(dense_conditioner(outputs, 6, 1, dtype=dtype), mask)
    return kind(ResidualConditioner(outputs, 4, 1, dtype=dtype), mask)

  return Case(build, mask.event_shape)


def factor_out(dtype):
  inner = bijectors.AffineCoupling(ResidualConditioner(4, 4, 1, dtype=dtype), masks.checkerboard((2, 2, 2)))
  return bijectors.FactorOut(inner, (2, 2, 4))


def histogram_of_mixers(dtype):
  outputs = 2 * bijectors.HistogramLogit.group_count(5)
  networks = [MixerConditioner(outputs, 2, 4, 1, 3, 5, dtype) for _ in range(2)]
  return bijectors.HistogramLogit((4, 2, 2), 5, dtype=dtype, conditioners=networks)


def whitening(_):
  bijector = bijectors.SpectralWhitening((4, 2, 2), 1.5)
  bijector.fit(np.random.default_rng(0).normal(size=(50, 4, 2, 2)).cumsum(axis=1), inverse=False)
  return bijector


SQUARES = masks.checkerboard((4, 2, 2), size=2)

CASES = {
  'AdditiveCoupling even': coupling(ADDITIVE, masks.even_odd(7)),
  'AdditiveCoupling checkerboard': coupling(ADDITIVE, masks.checkerboard((3, 2, 2))),
  'AffineCoupling odd': coupling(AFFINE, masks.even_odd(7, swap=True)),
  'AffineCoupling channel': coupling(AFFINE, masks.channel((2, 2, 5), swap=True)),
  'AffineCoupling checkerboard': coupling(AFFINE, masks.checkerboard((3, 2, 2), swap=True)),
  'AffineCoupling array': coupling(AFFINE, masks.BinaryMask([[[1, 0], [0, 0]], [[1, 1], [0, 1]]])),
  'SplineCoupling odd': coupling(SPLINE, masks.even_odd(7, swap=True)),
  'SplineCoupling checkerboard': coupling(SPLINE, masks.checkerboard((3, 2, 2))),
  'Coupling channel': coupling(OWN, masks.channel((2, 2, 5))),
  'Coupling array': coupling(OWN, masks.BinaryMask([1, 0, 1, 0, 0])),
  'AffineCoupling of a mixer': Case(
    lambda dtype: AFFINE(MixerConditioner(4, 2, 4, 2, 3, 5, dtype), masks.rows((4, 2, 2))), (4, 2, 2)
  ),
  'AffineCoupling of a transformer': Case(
    lambda dtype: AFFINE(TransformerConditioner(4, 2, 4, 2, 2, 5, dtype), SQUARES), (4, 2, 2)
  ),
  'Squeeze': Case(lambda dtype: bijectors.Squeeze(), (4, 2, 3), output_shape=(2, 1, 12)),
  'FactorOut': Case(factor_out, (2, 2, 4)),
  'DiagonalScaling': Case(lambda dtype: bijectors.DiagonalScaling((2, 3), dtype=dtype), (2, 3)),
  'SpectralWhitening': Case(whitening, (4, 2, 2)),
  'AlphaLogit': Case(lambda dtype: bijectors.AlphaLogit(0.05), (2, 3), forward_domain=(0.05, 0.95)),
  'HistogramLogit': Case(
    lambda dtype: bijectors.HistogramLogit((2, 3), 5, dtype=dtype), (2, 3), forward_domain=(0.05, 0.95)
  ),
  'HistogramLogit of mixers': Case(histogram_of_mixers, (4, 2, 2), forward_domain=(0.05, 0.95)),
  'BatchNormalization': Case(lambda dtype: bijectors.BatchNormalization((2, 2, 3), dtype=dtype), (2, 2, 3)),
}
COMPILED = 'AffineCoupling of a mixer', 'SplineCoupling odd', 'FactorOut'


@functools.cache
def _built(name, dtype):
  keras.utils.set_random_seed(0)
  bijector = CASES[name].build(dtype)
  return bijector, [variable.numpy() for variable in bijector.variables]


def bijector_of(name, dtype):
  """The case's bijector with every weight moved by N(0, 0.1) and running statistics away from (0, 1)."""
  bijector, initial = _built(name, dtype)
  rng = np.random.default_rng(0)
  for variable, value in zip(bijector.variables, initial, strict=True):
    if variable.trainable:
      value = value + rng.normal(0.0, 0.1, value.shape)
    elif 'whitening' in variable.name:
      continue  # Its variables depend on each other.
    elif 'histograms' in variable.name:
      value = 0.8 * rng.dirichlet(np.ones(value.shape[-1]), value.shape[:-1]) + 0.2 * value  # No bin is almost empty.
    else:
      value = rng.uniform(0.5, 1.5, value.shape) if 'variance' in variable.name else rng.normal(0.0, 0.2, value.shape)
    variable.assign(value)
  return bijector


def inputs(name, batch_shape, dtype):
  """Random inputs of the forward and of the inverse direction."""
  case, rng = CASES[name], np.random.default_rng(1)
  x = rng.uniform(*case.forward_domain, (*batch_shape, *case.event_shape))
  y = rng.uniform(-1.0, 1.0, (*batch_shape, *(case.output_shape or case.event_shape)))
  return tf.constant(x, dtype), tf.constant(y, dtype)


def log_det_by_autodiff(function, events):
  """log|det| of the Jacobian of `function` at each event: one reverse pass over copies, one for each row."""
  size = math.prod(events.shape[1:])
  copies = tf.repeat(events, size, axis=0)
  with tf.GradientTape() as tape:
    tape.watch(copies)
    outputs = tf.reshape(function(copies), (-1, size, size))
    diagonal = tf.reduce_sum(tf.linalg.diag_part(outputs))
  rows = tape.gradient(diagonal, copies).numpy().reshape(-1, size, size)
  return np.linalg.slogdet(rows)[1]


each_case = pytest.mark.parametrize('name', CASES)


@each_case
def test_round_trip_and_shapes(name):
  bijector = bijector_of(name, 'float64')
  x, y = inputs(name, (2, 2), 'float64')
  # Without tf.identity TFP's cache would answer with the input itself.
  forward, inverse = bijector.forward(x), bijector.inverse(y)
  x_again, y_again = bijector.inverse(tf.identity(forward)), bijector.forward(tf.identity(inverse))
  assert x_again.dtype == y_again.dtype == 'float64'
  np.testing.assert_allclose(x_again, x, rtol=0, atol=1e-12)
  np.testing.assert_allclose(y_again, y, rtol=0, atol=1e-12)
  np.testing.assert_allclose(bijector.forward(x[0, 1]), forward[0, 1], rtol=1e-12)
  assert forward.shape == bijector.forward_event_shape(x.shape) == y.shape
  assert inverse.shape == bijector.inverse_event_shape(y.shape) == x.shape
  np.testing.assert_array_equal(bijector.forward_event_shape_tensor(x.shape), y.shape)
  np.testing.assert_array_equal(bijector.inverse_event_shape_tensor(y.shape), x.shape)


@each_case
def test_log_det_against_autodiff(name):
  bijector, event_ndims = bijector_of(name, 'float64'), len(CASES[name].event_shape)
  x, y = inputs(name, (3,), 'float64')
  for events, function, log_det in (
    (x, bijector.forward, bijector.forward_log_det_jacobian),
    (y, bijector.inverse, bijector.inverse_log_det_jacobian),
  ):
    actual = log_det(tf.identity(events), event_ndims=event_ndims)
    assert actual.dtype == 'float64' and actual.shape in ([], [3])
    each = np.broadcast_to(actual, 3)
    np.testing.assert_allclose(each, log_det_by_autodiff(function, events), rtol=1e-9, atol=1e-9)
    together = log_det(tf.identity(events), event_ndims=event_ndims + 1)
    np.testing.assert_allclose(together, each.sum(), rtol=1e-9, atol=1e-9)
    # The log-det of the value's own pass, as a distribution asks for it.
    value = function(events)
    np.testing.assert_allclose(log_det(events, event_ndims=event_ndims), actual, rtol=1e-6, atol=1e-6)
    del value


@pytest.mark.parametrize(
  'name',
  [
    'AdditiveCoupling checkerboard',
    'AffineCoupling odd',
    'AffineCoupling of a mixer',
    'Squeeze',
    'FactorOut',
    'DiagonalScaling',
    'SpectralWhitening',
    'HistogramLogit of mixers',
    'BatchNormalization',
  ],
)
def test_eager_graph_and_xla_agree(name):
  """The compiler chooses the order of sums, and the graph does not know the size of the batch."""
  bijector, event_ndims = bijector_of(name, 'float32'), len(CASES[name].event_shape)

  def run(x, y):
    return (
      bijector.forward(x),
      bijector.forward_log_det_jacobian(x, event_ndims=event_ndims),
      bijector.inverse(y),
      bijector.inverse_log_det_jacobian(y, event_ndims=event_ndims),
    )

  x, y = inputs(name, (3,), 'float32')
  eager = run(x, y)
  dynamic = [tf.TensorSpec((None, *t.shape[1:])) for t in (x, y)]
  functions = [tf.function(run, input_signature=dynamic)]
  if name in COMPILED:
    functions.append(tf.function(run, jit_compile=True))
  for function in functions:
    for actual, expected in zip(function(x, y), eager, strict=True):
      np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-5)


def dense(outputs):
  return dense_conditioner(outputs, 6, 1, dtype='float64', conditional=True)


def functional(outputs):
  """A network of a user, with two inputs."""
  x, c = keras.Input((4,), dtype='float64'), keras.Input((3,), dtype='float64')
  both = keras.layers.Concatenate(dtype='float64')([x, c])
  h = keras.layers.Dense(5, 'tanh', dtype='float64')(both)
  return keras.Model([x, c], keras.layers.Dense(outputs, dtype='float64')(h))


class OwnModule(tf.Module):
  """A network of a user that is not a Keras layer."""

  def __init__(self, outputs):
    super().__init__()
    self.weights = tf.Variable(np.ones((4 + 3, outputs)))

  def __call__(self, x, condition, training=False):
    return tf.tanh(tf.concat([x, condition], axis=-1) @ self.weights)


PATCHES, VECTOR, IMAGE = (2, 4, 1), (3,), (2, 1, 2)  # Images are resized to 4 x 1, and the networks see 2 x 1 patches.
CONDITIONAL = {
  'dense, vector': (dense, masks.even_odd(7), VECTOR),
  'dense, image': (dense, masks.even_odd(7), IMAGE),
  'functional': (functional, masks.even_odd(7), VECTOR),
  'module': (OwnModule, masks.even_odd(7), VECTOR),
}
for kind, network in (
  ('residual', lambda outputs: ResidualConditioner(outputs, 4, 1, dtype='float64')),
  ('mixer', lambda outputs: MixerConditioner(outputs, *PATCHES, 3, 5, 'float64')),
  ('transformer', lambda outputs: TransformerConditioner(outputs, *PATCHES, 2, 5, 'float64')),
):
  mask = masks.checkerboard((4, 2, 2)) if kind == 'residual' else masks.rows((4, 2, 2))
  CONDITIONAL |= {f'{kind}, vector': (network, mask, VECTOR), f'{kind}, image': (network, mask, IMAGE)}


@pytest.mark.parametrize(
  ('kind', 'name'),
  [
    *((AFFINE, name) for name in CONDITIONAL),
    *((kind, name) for kind in (ADDITIVE, SPLINE, OWN) for name in ('module', 'residual, image')),
  ],
)
def test_log_det_with_a_condition_against_autodiff(kind, name):
  make, mask, condition_shape = CONDITIONAL[name]
  bijector = kind(make(OUTPUTS[kind] * mask.changed_shape[-1]), mask, condition_shape=condition_shape)
  rng, event_ndims = np.random.default_rng(0), len(mask.event_shape)
  for variable in bijector.trainable_variables:
    variable.assign(variable + rng.normal(0.0, 0.3, variable.shape))
  x, c = rng.uniform(-1.0, 1.0, (2, *mask.event_shape)), rng.normal(size=(2, *condition_shape))
  y = bijector.forward(x, condition=c)
  assert np.abs(y - bijector.forward(x, condition=c[::-1])).max(axis=tuple(range(1, y.shape.rank))).min() > 1e-3
  np.testing.assert_allclose(bijector.inverse(y + 0.0, condition=c), x, rtol=0, atol=1e-12)
  copies = np.repeat(c, math.prod(mask.event_shape), axis=0)
  for events, method, log_det in (
    (tf.constant(x), bijector.forward, bijector.forward_log_det_jacobian),
    (y + 0.0, bijector.inverse, bijector.inverse_log_det_jacobian),
  ):
    expected = log_det_by_autodiff(functools.partial(method, condition=copies), events)
    actual = log_det(events + 0.0, event_ndims=event_ndims, condition=c)
    np.testing.assert_allclose(np.broadcast_to(actual, 2), expected, rtol=1e-9, atol=1e-9)

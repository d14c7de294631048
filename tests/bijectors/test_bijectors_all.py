"""What must hold for every bijector of the package, and for the bijectors of all flows."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf import bijectors, flows
from flowgan_tf.bijectors import masks
from flowgan_tf.networks import MixerConditioner, ResidualConditioner, TransformerConditioner, dense_conditioner

tfb = tfp.bijectors

# Largest round-trip error, for inputs of order 1.
ROUND_TRIP = {'float32': 1e-5, 'float64': 1e-12}
# Relative and absolute error of a log-determinant against autodiff in the same dtype.
LOG_DET = {'float32': 1e-4, 'float64': 1e-9}


class Case(NamedTuple):
  build: Callable[[str], tfb.Bijector]
  event_shape: tuple[int, ...]
  forward_domain: str = 'real'
  inverse_domain: str = 'real'
  output_shape: tuple[int, ...] | None = None  # The event's shape unless given.
  # Compiling takes seconds. Each kind of mask is compiled once, and of the deepest flow only its parts.
  compiled: bool = True


def dense(coupling, mask):
  outputs = mask.changed_shape[-1] * (2 if coupling is bijectors.AffineCoupling else 1)
  return lambda dtype: coupling(dense_conditioner(outputs, 6, 1, dtype=dtype), mask)


def convolutional(coupling, mask, event_shape, channels):
  outputs = channels * (2 if coupling is bijectors.AffineCoupling else 1)
  return lambda dtype: coupling(ResidualConditioner(outputs, 4, 1, dtype=dtype), mask), event_shape


def factor_out(dtype):
  inner = bijectors.AffineCoupling(ResidualConditioner(4, 4, 1, dtype=dtype), masks.checkerboard((2, 2, 2)))
  return bijectors.FactorOut(inner, (2, 2, 4))


ARRAY_MASK = np.array([[[1, 0], [0, 0]], [[1, 1], [0, 1]]])

CASES = {
  **{
    f'{coupling.__name__} {name}': case
    for coupling in (bijectors.AdditiveCoupling, bijectors.AffineCoupling)
    for name, case in {
      'even': Case(dense(coupling, masks.even_odd(7)), (7,)),
      'odd': Case(dense(coupling, masks.even_odd(7, swap=True)), (7,), compiled=False),
      'channel': Case(*convolutional(coupling, masks.channel((2, 2, 5)), (2, 2, 5), 2)),
      'channel swapped': Case(
        *convolutional(coupling, masks.channel((2, 2, 5), swap=True), (2, 2, 5), 3), compiled=False
      ),
      'checkerboard': Case(*convolutional(coupling, masks.checkerboard((3, 2, 2)), (3, 2, 2), 2)),
      'checkerboard swapped': Case(
        *convolutional(coupling, masks.checkerboard((3, 2, 2), swap=True), (3, 2, 2), 2), compiled=False
      ),
      'array': Case(*convolutional(coupling, ARRAY_MASK, (2, 2, 2), 2), compiled=False),
    }.items()
  },
  'AffineCoupling of a mixer': Case(
    lambda dtype: bijectors.AffineCoupling(MixerConditioner(4, 2, 4, 2, 3, 5, dtype), masks.rows((4, 2, 2))), (4, 2, 2)
  ),
  'AffineCoupling of a transformer': Case(
    lambda dtype: bijectors.AffineCoupling(
      TransformerConditioner(4, 2, 4, 2, 2, 5, dtype), masks.checkerboard((4, 2, 2), size=2)
    ),
    (4, 2, 2),
  ),
  'Squeeze': Case(lambda dtype: bijectors.Squeeze(), (4, 2, 3), output_shape=(2, 1, 12)),
  'FactorOut': Case(factor_out, (2, 2, 4)),
  'DiagonalScaling': Case(lambda dtype: bijectors.DiagonalScaling((2, 3), dtype=dtype), (2, 3)),
  'AlphaLogit': Case(lambda dtype: bijectors.AlphaLogit(0.05), (2, 3), forward_domain='unit'),
  'BatchNormalization': Case(lambda dtype: bijectors.BatchNormalization((2, 2, 3), dtype=dtype), (2, 2, 3)),
  'nice': Case(
    lambda dtype: flows.nice((3, 3, 1), hidden_units=8, hidden_layers=2, dtype=dtype).bijector,
    (3, 3, 1),
    inverse_domain='unit',
  ),
  'jet': Case(
    lambda dtype: flows.jet((4, 2, 2), couplings=2, patch_size=2, width=8, hidden_units=8, dtype=dtype).bijector,
    (4, 2, 2),
    inverse_domain='unit',
  ),
  'jet of transformers': Case(
    lambda dtype: (
      flows.jet(
        (4, 2, 1),
        couplings=8,
        coupling='additive',
        conditioner='transformer',
        patch_size=2,
        width=8,
        hidden_units=8,
        dtype=dtype,
      ).bijector
    ),
    (4, 2, 1),
    inverse_domain='unit',
    compiled=False,
  ),
  'real_nvp 2 scales': Case(
    lambda dtype: flows.real_nvp((4, 4, 1), channels=4, blocks=0, dtype=dtype).bijector,
    (4, 4, 1),
    inverse_domain='unit',
  ),
  'real_nvp of the paper': Case(
    lambda dtype: flows.real_nvp((4, 4, 1), channels=4, blocks=1, architecture='paper', dtype=dtype).bijector,
    (4, 4, 1),
    inverse_domain='unit',
    compiled=False,
  ),
  'real_nvp 3 scales': Case(
    lambda dtype: (
      flows.real_nvp(
        (8, 4, 1), scales=3, channels=4, blocks=0, normalization='layer', batch_norm_between=True, dtype=dtype
      ).bijector
    ),
    (8, 4, 1),
    inverse_domain='unit',
    compiled=False,
  ),
}


@functools.cache
def _built(name, dtype):
  keras.utils.set_random_seed(0)
  bijector = CASES[name].build(dtype)
  return bijector, [variable.numpy() for variable in bijector.variables]


def bijector_of(name, dtype, weights='random'):
  """The case's bijector as built, or with every weight moved by N(0, 0.1) and running statistics away from (0, 1)."""
  bijector, initial = _built(name, dtype)
  rng = np.random.default_rng(0)
  for variable, value in zip(bijector.variables, initial, strict=True):
    if weights == 'random':
      if variable.trainable:
        value = value + rng.normal(0.0, 0.1, value.shape)
      else:
        # Not so far that images saturate, because noise cannot be recovered from a float32 image at 1 - 1e-7.
        value = rng.uniform(0.5, 1.5, value.shape) if 'variance' in variable.name else rng.normal(0.0, 0.2, value.shape)
    variable.assign(value)
  return bijector


def inputs(name, batch_shape, dtype):
  """Random inputs of the forward and of the inverse direction."""
  case = CASES[name]
  rng = np.random.default_rng(1)

  def draw(domain, event_shape):
    low, high = {'real': (-1.0, 1.0), 'unit': (0.05, 0.95)}[domain]
    return tf.constant(rng.uniform(low, high, (*batch_shape, *event_shape)), dtype)

  return (
    draw(case.forward_domain, case.event_shape),
    draw(case.inverse_domain, case.output_shape or case.event_shape),
  )


def log_det_by_autodiff(function, events):
  """log|det| of the Jacobian of `function` at each event.

  Every event is repeated once for each of its entries, and copy i contributes only the i-th entry of its output: one
  reverse pass gives all rows.
  """
  size = math.prod(events.shape[1:])
  copies = tf.repeat(events, size, axis=0)
  with tf.GradientTape() as tape:
    tape.watch(copies)
    outputs = tf.reshape(function(copies), (-1, size, size))
    diagonal = tf.reduce_sum(tf.linalg.diag_part(outputs))
  rows = tape.gradient(diagonal, copies).numpy().reshape(-1, size, size)
  return np.linalg.slogdet(rows)[1]


each_case = pytest.mark.parametrize('name', CASES)
each_dtype = pytest.mark.parametrize('dtype', ['float32', 'float64'])


@each_dtype
@pytest.mark.parametrize('weights', ['initial', 'random'])
@each_case
def test_round_trip(name, weights, dtype):
  bijector = bijector_of(name, dtype, weights)
  x, y = inputs(name, (5,), dtype)
  # Without tf.identity TFP's cache would answer with the input itself.
  x_again = bijector.inverse(tf.identity(bijector.forward(x)))
  y_again = bijector.forward(tf.identity(bijector.inverse(y)))
  assert x_again.dtype == y_again.dtype == dtype
  np.testing.assert_allclose(x_again, x, rtol=0, atol=ROUND_TRIP[dtype])
  np.testing.assert_allclose(y_again, y, rtol=0, atol=ROUND_TRIP[dtype])


@each_dtype
@each_case
def test_log_det_against_autodiff(name, dtype):
  bijector, event_ndims = bijector_of(name, dtype), len(CASES[name].event_shape)
  x, y = inputs(name, (3,), dtype)
  for events, function, log_det in (
    (x, bijector.forward, bijector.forward_log_det_jacobian),
    (y, bijector.inverse, bijector.inverse_log_det_jacobian),
  ):
    actual = log_det(tf.identity(events), event_ndims=event_ndims)
    assert actual.dtype == dtype and actual.shape in ([], [3])
    expected = log_det_by_autodiff(function, events)
    np.testing.assert_allclose(np.broadcast_to(actual, 3), expected, rtol=LOG_DET[dtype], atol=LOG_DET[dtype])
    # The log-det of the value's own pass, as a distribution asks for it.
    value = function(events)
    np.testing.assert_allclose(log_det(events, event_ndims=event_ndims), actual, rtol=1e-6, atol=1e-6)
    del value


@each_case
def test_log_det_of_several_events_as_one_is_the_sum(name):
  bijector, event_ndims = bijector_of(name, 'float64'), len(CASES[name].event_shape)
  x, _ = inputs(name, (2, 3), 'float64')
  each = np.broadcast_to(bijector.forward_log_det_jacobian(tf.identity(x), event_ndims=event_ndims), (2, 3))
  together = bijector.forward_log_det_jacobian(tf.identity(x), event_ndims=event_ndims + 1)
  np.testing.assert_allclose(np.broadcast_to(together, 2), each.sum(axis=1), rtol=1e-9, atol=1e-9)


@each_case
def test_event_shapes(name):
  bijector = bijector_of(name, 'float64')
  x, y = inputs(name, (), 'float64')
  assert bijector.forward(x).shape == bijector.forward_event_shape(x.shape) == y.shape
  assert bijector.inverse(y).shape == bijector.inverse_event_shape(y.shape) == x.shape
  np.testing.assert_array_equal(bijector.forward_event_shape_tensor(x.shape), y.shape)
  np.testing.assert_array_equal(bijector.inverse_event_shape_tensor(y.shape), x.shape)


@pytest.mark.parametrize(
  'name', [name for name in CASES if name not in ('Squeeze', 'AlphaLogit', 'BatchNormalization')]
)
def test_gradients_reach_every_trainable_variable(name):
  bijector, event_ndims = bijector_of(name, 'float64'), len(CASES[name].event_shape)
  variables = bijector.trainable_variables
  assert variables
  x, y = inputs(name, (16,), 'float64')
  with tf.GradientTape(persistent=True) as tape:
    # Log-density under a standard normal, and a function of samples.
    z = bijector.inverse(y)
    log_prob = tf.reduce_sum(-0.5 * z**2) + tf.reduce_sum(bijector.inverse_log_det_jacobian(y, event_ndims=event_ndims))
    of_samples = tf.reduce_sum(tf.sin(3 * bijector.forward(x)))
  for target in (log_prob, of_samples):
    gradients = tape.gradient(target, variables)
    # This bias of a mixer is the same for all features of a patch, and each norm after it takes that away.
    silent = [
      v.name
      for v, g in zip(variables, gradients, strict=True)
      if g is None or not (np.any(g) or 'patch_bias_2' in v.name)
    ]
    assert not silent


def everything(bijector, event_ndims):
  def run(x, y):
    return (
      bijector.forward(x),
      bijector.forward_log_det_jacobian(x, event_ndims=event_ndims),
      bijector.inverse(y),
      bijector.inverse_log_det_jacobian(y, event_ndims=event_ndims),
    )

  return run


@each_case
def test_eager_graph_and_xla_agree(name):
  """They agree to 2e-5, relative and absolute, in float32, because the compiler chooses the order of sums."""
  case = CASES[name]
  run = everything(bijector_of(name, 'float32'), len(case.event_shape))
  x, y = inputs(name, (3,), 'float32')
  eager = run(x, y)
  for compiled in [False, True] if case.compiled else [False]:
    for actual, expected in zip(tf.function(run, jit_compile=compiled)(x, y), eager, strict=True):
      np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-5)

"""Half, single and double precision of the same flow, with weights that make its couplings do something."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf import bijectors, data, flows
from flowgan_tf.metrics import bits_per_dim

SHAPE = (8, 8, 3)
FLOWS = {
  'nice batch': functools.partial(flows.nice, SHAPE, hidden_units=64, hidden_layers=2, normalization='batch'),
  'nice layer': functools.partial(flows.nice, SHAPE, hidden_units=64, hidden_layers=2, normalization='layer'),
  'real_nvp batch': functools.partial(
    flows.real_nvp, SHAPE, channels=4, blocks=1, normalization='batch', batch_norm_between=True, alpha=0.05
  ),
  'real_nvp layer': functools.partial(
    flows.real_nvp, SHAPE, scales=1, channels=4, blocks=1, normalization='layer', alpha=0.05
  ),
  'jet mixer': functools.partial(flows.jet, SHAPE, couplings=4, width=16, hidden_units=16, alpha=0.05),
  'jet transformer': functools.partial(
    flows.jet, SHAPE, couplings=4, conditioner='transformer', width=16, hidden_units=16, alpha=0.05
  ),
}
each_flow = pytest.mark.parametrize('name', FLOWS)


def perturb(flow):
  rng = np.random.default_rng(0)
  for variable in flow.variables:
    if not variable.trainable and 'variance' in variable.name:
      variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    else:
      scale = 0.3 / np.sqrt(np.prod(variable.shape[:-1])) if variable.shape.rank > 1 else 0.15
      variable.assign(variable + rng.normal(0.0, scale, variable.shape))


@functools.cache
def flow_and_results(name, dtype):
  """A flow with the weights of the float32 one, and what it makes of `images()`."""
  keras.utils.set_random_seed(0)
  flow = FLOWS[name](dtype=dtype)
  if dtype == 'float32':
    perturb(flow)
  else:
    for variable, value in zip(flow.variables, flow_and_results(name, 'float32')[0].variables, strict=True):
      variable.assign(tf.cast(value, variable.dtype))
  x = tf.constant(images(), flow.dtype)
  z = flow.encode(x)
  log_det = flow.bijector.inverse_log_det_jacobian(x, event_ndims=3)
  return flow, {'log_prob': flow.log_prob(x), 'z': z, 'log_det': log_det, 'decoded': flow.decode(tf.identity(z))}


@functools.cache
def images():
  """Smooth shades with some noise, saturated here and there, as in photographs."""
  rng = np.random.default_rng(1)
  row, column = np.meshgrid(np.linspace(-1, 1, 8), np.linspace(-1, 1, 8), indexing='ij')
  a, b, c = rng.normal(0.0, 50.0, (3, 64, 1, 1, 3))
  shades = 128 + a * row[..., np.newaxis] + b * column[..., np.newaxis] + c + rng.normal(0.0, 8.0, (64, *SHAPE))
  return data.dequantize(shades.clip(0, 255).astype(np.uint8), 256, seed=0)


@each_flow
def test_the_couplings_do_something(name):
  """Shifts and log-scales of order 0.3, or the other tests would compare identities."""
  flow, _ = flow_and_results(name, 'float32')
  couplings = [m for m in flow.submodules if isinstance(m, bijectors.AdditiveCoupling | bijectors.AffineCoupling)]
  assert len(couplings) == (10 if name == 'real_nvp batch' else 4)
  for coupling in couplings:
    kept, _ = coupling.mask.split(tf.random.stateless_normal((16, *coupling.mask.event_shape), seed=(0, 0)))
    assert 0.1 < np.std(coupling.conditioner(kept)) < 1.0


@each_flow
@pytest.mark.parametrize('policy', ['mixed_float16', 'mixed_bfloat16'])
def test_half_precision_networks_change_the_likelihood_little(name, policy):
  _, single = flow_and_results(name, 'float32')
  flow, half = flow_and_results(name, policy)
  assert {value.dtype for value in half.values()} == {flow.dtype} == {tf.float32}
  bits = [bits_per_dim(-np.mean(r['log_prob']), SHAPE, 256) for r in (single, half)]
  assert np.any(half['log_prob'] != single['log_prob'])
  assert abs(bits[0] - bits[1]) < 0.01
  # Rounding to half precision is a step function: where a float32 rounding error of the noise crosses a step, the way
  # back has another shift, by one unit of half precision. That is rare, and less than half a grey level, or two grey
  # levels where a network mixes the whole image, so that one step moves the sums behind all pixels.
  errors = np.abs(half['decoded'] - images())
  assert np.quantile(errors, 0.9) < 1e-5
  assert errors.max() < (1 / 128 if 'jet' in name else 1 / 512)


@each_flow
def test_single_against_double_precision(name):
  _, single = flow_and_results(name, 'float32')
  flow, double = flow_and_results(name, 'float64')
  assert {value.dtype for value in double.values()} == {flow.dtype} == {tf.float64}
  np.testing.assert_allclose(single['log_prob'], double['log_prob'], rtol=1e-4)
  assert np.abs(double['decoded'] - images()).max() < 1e-9
  assert np.abs(single['decoded'] - images()).max() < 1e-4

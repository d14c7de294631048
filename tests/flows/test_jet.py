import copy
import functools
import math
import sys

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf import bijectors, flows
from tests.bijectors.test_bijectors_all import log_det_by_autodiff
from tests.flows.test_all_flows import jet, kept, randomise


def masks_of(flow):
  couplings = [m for m in flow.submodules if isinstance(m, bijectors.AffineCoupling)]
  return {int(c.name.removeprefix('coupling_')): kept(c) for c in couplings}


@pytest.mark.parametrize('channels', [1, 3])
def test_the_masks_take_turns(channels):
  masks = masks_of(jet((8, 8, channels), couplings=12))
  row, column, channel = np.indices((8, 8, channels))
  patterns = [row + column, row, row // 2 + column // 2, column]
  if channels > 1:
    patterns.insert(1, channel + 1)
  for i in range(12):
    pattern = patterns[i // 2 % len(patterns)] % 2
    np.testing.assert_array_equal(masks[i], 1 - pattern if i % 2 else pattern)


@functools.cache
def masks_without_condition():
  return masks_of(jet((8, 8, 1), couplings=10))


@pytest.mark.parametrize(
  ('low', 'size'),
  [((4, 4, 1), 2), ((2, 2, 1), 4), ((8, 8, 1), 1), ((3, 3, 1), 1), ((4, 2, 1), 1), ((4, 4, 3), 1), ((64,), 1)],
)
def test_given_a_smaller_image_the_first_coupling_changes_a_pixel_of_each_block(low, size):
  masks, usual = masks_of(jet((8, 8, 1), couplings=10, condition_shape=low)), masks_without_condition()
  if size > 1:
    changed = np.zeros((8, 8, 1))
    changed[::size, ::size] = 1
    np.testing.assert_array_equal(masks.pop(0), 1 - changed)
  for i, mask in masks.items():
    np.testing.assert_array_equal(mask, usual[i - 1 if size > 1 else i])


@pytest.mark.slow
def test_the_density_given_a_smaller_image_and_a_copy():
  flow = randomise(jet((4, 4, 3), couplings=3, condition_shape=(2, 2, 3), alpha=0.05, dtype='float64'), scale=0.3)
  rng = np.random.default_rng(0)
  x, c = tf.constant(rng.uniform(0.05, 0.95, (1, 4, 4, 3))), tf.constant(rng.uniform(0.3, 0.6, (2, 2, 3)))
  z = flow.encode(x, condition=c)
  np.testing.assert_allclose(flow.decode(z + 0.0, condition=c), x, atol=1e-11)
  log_det = log_det_by_autodiff(lambda events: flow.encode(events, condition=c), x)
  expected = flow.distribution.log_prob(z) + log_det
  np.testing.assert_allclose(flow.log_prob(x + 0.0, condition=c), expected, rtol=1e-9)
  assert np.abs(flow.log_prob(x, condition=c + 0.1) - expected) > 1e-3
  with pytest.raises(ValueError, match='`couplings` must be an integer from 3'):
    jet((4, 4, 3), couplings=2, condition_shape=(2, 2, 3))
  np.testing.assert_array_equal(copy.deepcopy(flow).log_prob(x, condition=c), flow.log_prob(x, condition=c))


def test_the_default_has_the_parameters_that_can_be_counted():
  patches, pixels, width, hidden = 49, 16, 128, 256
  block = 2 * (width * patches) + width + patches + 2 * width * hidden + hidden + width + 4 * width
  network = pixels * width + width + patches * width + block + 2 * width + 2 * pixels * width + 2 * pixels
  flow = flows.jet((28, 28, 1))
  assert sum(math.prod(v.shape) for v in flow.trainable_variables) == 12 * (network + 2) + 784


@pytest.mark.parametrize(
  'shape, arguments',
  [
    ((2, 1, 1), {'patch_size': 1}),
    ((1, 6, 3), {'patch_size': 1, 'coupling': 'additive', 'conditioner': 'transformer'}),
    ((3, 3, 1), {'patch_size': 3, 'conditioner': 'transformer'}),
    ((1, 6, 3), {'patch_size': 1, 'histogram_bins': 4, 'histogram_networks': 1, 'histogram_channels': 2}),
  ],
)
def test_any_shape_of_more_than_one_pixel_and_its_jacobian(shape, arguments):
  flow = randomise(jet(shape, couplings=4, **arguments, dtype='float64'), scale=0.2)
  x = tf.constant(np.random.default_rng(1).uniform(0.1, 0.9, (2, *shape)))
  z = flow.encode(x)
  np.testing.assert_allclose(flow.decode(tf.identity(z)), x, rtol=0, atol=1e-11)
  log_det = flow.bijector.inverse_log_det_jacobian(tf.identity(x), event_ndims=3)
  np.testing.assert_allclose(log_det, log_det_by_autodiff(flow.encode, x), rtol=1e-9)


@pytest.mark.parametrize(('coupling', 'conditioner'), [('affine', 'mixer'), ('additive', 'transformer')])
def test_the_memory_that_is_checked_is_that_of_the_matrices(coupling, conditioner, monkeypatch):
  counts = []
  module = sys.modules['flowgan_tf.flows.jet']
  monkeypatch.setattr(module, 'check_memory', lambda what, size: counts.append(size))
  flow = jet((4, 8, 3), blocks=2, width=8, hidden_units=5, coupling=coupling, conditioner=conditioner)
  matrices = [v for v in flow.trainable_variables if 'kernel' in v.name or 'positions' in v.name]
  assert counts == [4 * sum(v.shape.num_elements() for v in matrices)]

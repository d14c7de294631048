import math

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf import bijectors, flows


def small(image_shape=(4, 4, 1), **arguments):
  return flows.jet(image_shape, **{'couplings': 2, 'patch_size': 2, 'width': 4, 'hidden_units': 4} | arguments)


def kept(coupling):
  first, second = coupling.mask.split(tf.ones(coupling.mask.event_shape))
  return coupling.mask.merge(first, tf.zeros_like(second)).numpy()[..., 0]


def test_the_masks_take_turns():
  flow = small((8, 8, 3), couplings=10)
  couplings = [m for m in flow.submodules if isinstance(m, bijectors.AffineCoupling)]
  masks = {int(c.name.removeprefix('coupling_')): kept(c) for c in couplings}
  row, column = np.indices((8, 8))
  patterns = [(row + column) % 2, row % 2, (row // 2 + column // 2) % 2, column % 2]
  for i in range(10):
    pattern = patterns[i // 2 % 4]
    np.testing.assert_array_equal(masks[i], 1 - pattern if i % 2 else pattern)


@pytest.mark.parametrize(
  'coupling, kind', [('affine', bijectors.AffineCoupling), ('additive', bijectors.AdditiveCoupling)]
)
def test_an_untrained_flow_is_its_prior_behind_the_logit(coupling, kind):
  flow = small(coupling=coupling)
  assert sum(isinstance(m, kind) for m in flow.submodules) == 2
  x = np.random.default_rng(0).uniform(0.1, 0.9, (3, 4, 4, 1))
  # The logit of a uniform variable is logistic: the density is 1, but for alpha.
  np.testing.assert_allclose(flow.log_prob(tf.constant(x, tf.float32)), 0, atol=1e-4)


def test_the_default_has_the_parameters_that_can_be_counted():
  patches, pixels, width, hidden = 49, 16, 128, 256
  block = 2 * (width * patches) + width + patches + 2 * width * hidden + hidden + width + 4 * width
  network = pixels * width + width + patches * width + block + 2 * width + 2 * pixels * width + 2 * pixels
  flow = flows.jet((28, 28, 1))
  assert sum(math.prod(v.shape) for v in flow.trainable_variables) == 12 * (network + 2) + 784


@pytest.mark.parametrize('shape', [(2, 1, 1), (1, 2, 3), (3, 3, 1), (2, 2, 2)])
def test_any_shape_of_more_than_one_pixel(shape):
  flow = small(shape, couplings=8, patch_size=1)
  samples = flow.sample(2, seed=(0, 0))
  assert samples.shape == (2, *shape) and np.all(np.isfinite(flow.log_prob(samples)))


@pytest.mark.parametrize(
  'arguments, message',
  [
    ({'patch_size': 3}, r'`patch_size` must divide height and width of \(4, 4, 1\). Got: 3.'),
    ({'coupling': 'linear'}, "`coupling` must be one of affine, additive. Got: 'linear'."),
    ({'conditioner': 'cnn'}, "`conditioner` must be one of mixer, transformer. Got: 'cnn'."),
    ({'couplings': 1}, '`couplings` must be an integer of at least 2. Got: 1.'),
    ({'width': 6, 'conditioner': 'transformer'}, '`width` must be a multiple of the number of heads, 4. Got: 6.'),
    ({'blocks': 0}, '`blocks` must be an integer of at least 1. Got: 0.'),
    ({'image_shape': (1, 1, 3), 'patch_size': 1}, r'`image_shape` must have more than one pixel. Got: \(1, 1, 3\).'),
  ],
)
def test_arguments_are_checked(arguments, message):
  with pytest.raises(ValueError, match=message):
    small(**arguments)

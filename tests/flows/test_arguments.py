"""What the builders of generators reject, and how they say so."""

import math
import re

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from flowgan_tf import flows
from flowgan_tf.base.errors import UsageError
from flowgan_tf.bijectors import AffineCoupling, SplineCoupling
from flowgan_tf.flows import settings
from flowgan_tf.networks import NORMALIZATIONS

SHAPE = (4, 4, 1)

CASES = {
  flows.nice: {
    'couplings': (1, 2.5, None),
    'hidden_units': (0,),
    'hidden_layers': (0,),
    'normalization': ('group',),
    'prior': ('cauchy',),
    'components': (0, 1001),
    'alpha': (0.5, math.nan),
    'dtype': ('float16', 1),
    'image_shape': ((4, 4), (4, 0, 1), (1, 1, 1), 16, None),
    'name': ('a b', '2nd', '', 5),
  },
  flows.real_nvp: {
    'scales': (0,),
    'channels': (0,),
    'blocks': (-1,),
    'architecture': ('ours',),
    'batch_norm_between': (1,),
    'log_scale_bound': (math.inf,),
    'image_shape': ((5, 4, 1), (4, 5, 1), (2, 2, 1)),
  },
  flows.jet: {
    'couplings': (1, 257),
    'coupling': ('linear',),
    'conditioner': ('cnn',),
    'patch_size': (0, 3),
    'width': (0, 10**11),
    'blocks': (0,),
    'hidden_units': (0,),
  },
  flows.dcgan: {'channels': ((), (4, 0), 4)},
}
SMALL = {flows.real_nvp: {'channels': 2, 'blocks': 0}, flows.dcgan: {}}


@pytest.mark.parametrize(
  ('build', 'argument', 'value'),
  [(build, name, value) for build, cases in CASES.items() for name, values in cases.items() for value in values],
)
def test_arguments_out_of_range_are_rejected(build, argument, value):
  with pytest.raises(ValueError, match=rf'^`{argument}` must .* Got: {re.escape(repr(value))}\.$'):
    build(**SMALL.get(build, {'couplings': 2, 'hidden_units': 2}) | {'image_shape': SHAPE, argument: value})


def small(build, **arguments):
  given = SMALL.get(build, {'couplings': 2, 'hidden_units': 2})
  return build(4 if build is flows.vectors else SHAPE, **given | arguments)


@pytest.mark.parametrize('build', [flows.nice, flows.real_nvp, flows.jet, flows.vectors, flows.dcgan])
@pytest.mark.parametrize('prior', ['normal', 'logistic'])
def test_the_prior_is_the_one_that_is_named(build, prior):
  distribution = small(build, prior=prior).distribution
  z = np.random.default_rng(0).normal(size=(3, *distribution.event_shape)).astype(np.float32)
  density = {'normal': scipy.stats.norm, 'logistic': scipy.stats.logistic}[prior]
  np.testing.assert_allclose(distribution.log_prob(z), density.logpdf(z).reshape(3, -1).sum(axis=1), rtol=1e-4)


@pytest.mark.parametrize('build', [flows.nice, flows.real_nvp, flows.jet])
def test_alpha_leaves_room_outside_of_the_unit_interval(build):
  images = np.full((1, *SHAPE), 0.5, np.float32)
  images[0, 1, 2] = -0.02
  assert np.isfinite(small(build, alpha=0.05).log_prob(images)) and not np.isfinite(
    small(build, alpha=1e-7).log_prob(images)
  )


def couplings_of(flow, kind):
  """Yields the couplings of a flow with large random weights, and an input for each."""
  for i, variable in enumerate(flow.trainable_variables):
    variable.assign_add(3 * tf.random.stateless_normal(variable.shape, (0, i)))
  found = [module for module in flow.bijector.submodules if isinstance(module, kind)]
  assert len(found) >= 2
  for coupling in found:
    yield coupling, 2 + tf.random.stateless_uniform((5, *coupling.mask.event_shape), (1, 1))


@pytest.mark.parametrize('build', [flows.nice, flows.real_nvp, flows.jet, flows.vectors])
def test_log_scales_have_the_bound_that_is_named(build):
  affine = {'coupling': 'affine'} if build in (flows.nice, flows.vectors) else {}
  log_scales = []
  for coupling, z in couplings_of(small(build, log_scale_bound=0.01, **affine), AffineCoupling):
    log_scales.append(np.abs(coupling.forward_log_det_jacobian(z)) / math.prod(coupling.mask.changed_shape))
  assert 0.003 < np.max(log_scales) <= 0.0101


@pytest.mark.parametrize('build', [flows.nice, flows.jet, flows.vectors])
def test_splines_end_where_it_is_said(build):
  for bound, outside in ((1.9, True), (4.0, False)):
    for coupling, z in couplings_of(small(build, coupling='spline', spline_bound=bound), SplineCoupling):
      assert np.allclose(coupling.forward(z), z) == outside


@pytest.mark.parametrize('number', [2.5, np.float32(2.5), True, [True], [2.0, 3.0], 'a'])
def test_numbers_of_samples_that_are_not_integers_are_rejected(number):
  for generator in (flows.vectors(2, couplings=2, hidden_units=2), flows.dcgan((4, 4, 1), channels=(1,))):
    with pytest.raises(UsageError, match=r'^`sample_shape` must be an integer, or several\. Got: '):
      generator.sample(number)


PAPER = {'architecture': 'paper'}


@pytest.mark.parametrize(
  ('build', 'arguments', 'message'),
  [
    (flows.real_nvp, PAPER | {'normalization': 'layer'}, "^`normalization` must be 'batch' if `architecture` is"),
    (flows.real_nvp, PAPER | {'log_scale_bound': 3.0}, "^`log_scale_bound` must be 2.0 if `architecture` is 'paper'"),
    (flows.real_nvp, PAPER | {'blocks': 0}, "^`blocks` must be at least 1 if `architecture` is 'paper'"),
    (flows.real_nvp, {'image_shape': (1, 1, 3), 'scales': 1}, '^`image_shape` must have height and width divisible by'),
    (flows.jet, {'width': 6, 'conditioner': 'transformer'}, '^`width` must be a multiple of the number of heads, 4'),
    (flows.jet, {'image_shape': (1, 1, 3), 'patch_size': 1}, '^`image_shape` must be of more than one pixel'),
    (flows.jet, {'coupling': 'additive', 'log_scale_bound': 1.0}, "^`log_scale_bound` must be 2.0 if .* 'additive'"),
    (flows.dcgan, {'channels': (1,) * 17}, r'^`channels` must be 1 to 16 integers from 1 to 65536\. Got: '),
    (flows.nice, {'hidden_units': 65_536, 'couplings': 256}, 'weights must fit into'),
    (flows.real_nvp, {'channels': 65_536}, 'weights must fit into'),
    (flows.dcgan, {'channels': (65_536, 65_536)}, 'weights must fit into'),
    (flows.nice, {'image_shape': (512, 512, 3), 'components': 1000, 'hidden_units': 1}, '`components` 1000 for 500'),
  ],
)
def test_arguments_that_do_not_fit_each_other_or_the_machine_are_rejected(build, arguments, message):
  with pytest.raises(UsageError if 'image_shape' not in message else ValueError, match=message):
    build(**{'image_shape': SHAPE} | arguments)


def test_names_that_are_checked_without_tensorflow_are_those_of_their_owners():
  assert set(settings.PRIOR_NAMES) == set(flows.PRIORS)
  assert set(settings.NORMALIZATION_NAMES) == set(NORMALIZATIONS)

"""What the builders of generators refuse, and how they say so."""

import math
import re

import pytest

from flowgan_tf import flows
from flowgan_tf.errors import UsageError

SHAPE = (4, 4, 1)

NICE = {
  'couplings': (1, 2.5, True, None),
  'hidden_units': (0, '8'),
  'hidden_layers': (0,),
  'normalization': ('group', ('layer',)),
  'initial_weights': ('large',),
  'prior': ('cauchy', None),
  'components': (0, 1.5, 1001),
  'alpha': (0.5, -0.1, math.nan, True),
  'dtype': ('float16', None),
  'image_shape': ((4, 4), (4, 0, 1), (4, 4.0, 1), 16, None),
}
REAL_NVP = {
  'scales': (0, 1.0),
  'channels': (0,),
  'blocks': (-1,),
  'architecture': ('ours',),
  'normalization': ('group',),
  'batch_norm_between': (1,),
  'log_scale_bound': (0.0, math.inf),
  'alpha': (0.5,),
  'image_shape': ((5, 4, 1), (4, 5, 1), (2, 2, 1)),
}
JET = {
  'couplings': (1, 257),
  'coupling': ('linear',),
  'conditioner': ('cnn',),
  'patch_size': (0, 3, 8, 2.0),
  'width': (0, 10**11),
  'blocks': (0, 257),
  'hidden_units': (0, 10**11),
  'log_scale_bound': (0.0,),
  'alpha': (0.5,),
  'image_shape': ((1, 1, 3),),
}
DCGAN = {'channels': ((), (4, 0), (4, 2.0), 4), 'prior': ('cauchy',), 'image_shape': ((4, 4),)}


@pytest.mark.parametrize(
  ('build', 'argument', 'value'),
  [
    (build, argument, value)
    for build, cases in (
      (flows.nice, NICE),
      (flows.real_nvp, REAL_NVP),
      (flows.jet, JET),
      (flows.dcgan, DCGAN),
    )
    for argument, values in cases.items()
    for value in values
  ],
)
def test_arguments_out_of_range_are_refused(build, argument, value):
  small = {flows.real_nvp: {'channels': 2, 'blocks': 0}, flows.dcgan: {}}.get(
    build, {'couplings': 2, 'hidden_units': 2}
  )
  with pytest.raises(ValueError, match=rf'^`{argument}` must .* Got: {re.escape(repr(value))}\.$'):
    build(**small | {'image_shape': SHAPE, argument: value})


@pytest.mark.parametrize(('shape', 'scales'), [((6, 6, 1), 3), ((4, 4, 1), 3), ((1, 1, 3), 1)])
def test_images_that_cannot_be_halved_often_enough(shape, scales):
  with pytest.raises(ValueError, match=r'^`image_shape` must .* Got: '):
    flows.real_nvp(shape, scales=scales)


def test_sizes_that_no_machine_can_hold_are_refused():
  with pytest.raises(ValueError, match=r'^`channels` must be at most 16 integers\. Got: 17\.$'):
    flows.dcgan(SHAPE, channels=(1,) * 17)
  for build, sizes in (
    (flows.nice, {'hidden_units': 65_536, 'couplings': 256}),
    (flows.real_nvp, {'channels': 65_536}),
    (flows.dcgan, {'channels': (65_536, 65_536)}),
  ):
    with pytest.raises(UsageError, match='weights must fit into'):
      build(SHAPE, **sizes)
  with pytest.raises(UsageError, match=r'`components` 1000 for 500 images must fit into'):
    flows.nice((512, 512, 3), components=1000, hidden_units=1, couplings=2)

"""What a flow refuses, and how it says so."""

import math
import re

import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf import bijectors, flows

tfb = tfp.bijectors

SHAPE = (4, 4, 1)


def test_a_flow_with_nothing_to_learn_is_refused():
  prior = tfp.distributions.Sample(tfp.distributions.Normal(0.0, 1.0), (2, 2, 1))
  for bijector in (tfb.Sigmoid(), tfb.Invert(tfb.Chain([bijectors.Squeeze(), bijectors.AlphaLogit()]))):
    with pytest.raises(ValueError, match=r'`bijector` must be trainable, but has no trainable variables.*Got: '):
      flows.Flow(prior, bijector, name='empty')


NICE = {
  'couplings': (1, 2.5, '2', True, None),
  'hidden_units': (0, 8.0, 'many'),
  'hidden_layers': (0, 1.5),
  'normalization': ('group', 3, ('layer',)),
  'prior': ('cauchy', None),
  'alpha': (0.5, -0.1, math.nan, '0.1', True),
  'dtype': ('float8', 'float16', None),
  'image_shape': ((4, 4), (4, 0, 1), (4, 4.0, 1), (4, 4, True), 16, None),
}
REAL_NVP = {
  'scales': (0, 1.0, True),
  'channels': (0, '4'),
  'blocks': (-1, 0.5),
  'normalization': ('group',),
  'batch_norm_between': (1, 'yes', None),
  'log_scale_bound': (0.0, math.inf, '2'),
  'prior': ('cauchy',),
  'alpha': (0.5, -0.1),
  'dtype': ('float8',),
  'image_shape': ((5, 4, 1), (4, 5, 1), (2, 2, 1), (4, 4)),
}


@pytest.mark.parametrize(
  ('build', 'argument', 'value'),
  [
    (build, argument, value)
    for build, cases in ((flows.nice, NICE), (flows.real_nvp, REAL_NVP))
    for argument, values in cases.items()
    for value in values
  ],
)
def test_arguments_out_of_range_are_refused(build, argument, value):
  arguments = {'image_shape': SHAPE, argument: value}
  with pytest.raises(ValueError, match=rf'^`{argument}` must .* Got: {re.escape(repr(value))}\.$'):
    build(**arguments)


@pytest.mark.parametrize(('shape', 'scales'), [((6, 6, 1), 3), ((4, 4, 1), 3), ((1, 1, 3), 1)])
def test_images_that_cannot_be_halved_often_enough(shape, scales):
  with pytest.raises(ValueError, match=r'^`image_shape` must .* Got: '):
    flows.real_nvp(shape, scales=scales)


def test_arguments_behind_the_shape_have_names():
  with pytest.raises(TypeError):
    flows.nice(SHAPE, 4)


def test_a_misspelt_keyword_is_refused():
  flow = flows.nice(SHAPE, hidden_units=6, hidden_layers=1)
  with pytest.raises(TypeError, match='trainig'):
    flow.log_prob(tf.fill((2, *SHAPE), 0.5), trainig=True)

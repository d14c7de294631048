"""How a file describes a flow."""

import numpy as np
import pytest
import tensorflow_probability as tfp

import flowgan_tf as fg
from flowgan_tf.keras.flow_config import build_flow, describe


def test_a_description_gives_the_flow_again():
  flow = fg.flows.nice((2, 2, 1), couplings=2, hidden_units=4, hidden_layers=1, alpha=0.2, name='mine')
  config = describe(flow)
  assert (config['builder'], config['image_shape']) == ('nice', [2, 2, 1])
  assert config['arguments'] | {'alpha': 0.2, 'prior': 'logistic', 'name': 'mine'} == config['arguments']
  again = build_flow(config)
  for variable, source in zip(again.variables, flow.variables, strict=True):
    variable.assign(source)
  x = np.full((1, 2, 2, 1), 0.3, np.float32)
  assert again.name == 'mine' and describe(again) == config
  np.testing.assert_array_equal(again.log_prob(x), flow.log_prob(x))


def test_what_no_builder_has_made_cannot_be_described():
  scaling = fg.bijectors.DiagonalScaling((4,))
  flow = fg.flows.Flow(tfp.distributions.Sample(tfp.distributions.Normal(0.0, 1.0), 4), scaling)
  assert flow.name == 'flow'
  with pytest.raises(ValueError, match=r'^`flow` must come from a builder, .*Got: \'flow\', put together by hand'):
    describe(flow)
  with pytest.raises(ValueError, match=r"^`builder` must be one of nice, .*Got: 'unknown'\.$"):
    build_flow({'builder': 'unknown', 'image_shape': [2, 2, 1], 'arguments': {}})

"""Names of weights do not depend on what else the process has made, and no weight is lost."""

import types

import numpy as np
import pytest
import tensorflow as tf

import flowgan_tf as fg
from flowgan_tf.base.errors import UsageError
from flowgan_tf.export.weights import named_weights


def test_names_and_values_are_those_of_the_same_flow_made_earlier():
  def build():
    sizes = {'couplings': 2, 'patch_size': 2, 'width': 4, 'hidden_units': 4, 'blocks': 2}
    return fg.flows.jet((4, 4, 1), **sizes, histogram_bins=5, histogram_networks=2, histogram_channels=2)

  first, second = build(), build()
  assert {v.name for v in first.variables} != {v.name for v in second.variables}
  for i, (old, new) in enumerate(zip(first.variables, second.variables, strict=True)):
    new.assign(tf.fill(old.shape, float(i)))
    old.assign(new)
  names, others = named_weights(first), named_weights(second)
  assert names.keys() == others.keys() and len(names) == len(first.variables)
  for name, value in names.items():
    np.testing.assert_array_equal(value, others[name])
  assert names['coupling_1/mixer_conditioner_0/mixer_block_1/dense_0/kernel'].shape == (4, 4)
  assert names['histogram_logit_0/residual_conditioner_1/weight_norm_conv2d_0/gain'].shape == (2,)


def test_names_that_end_alike_keep_the_order_in_which_they_were_made():
  """Python sorts sets in another order in each process."""
  for made in (('norm', 'norm_0'), ('norm_0', 'norm')):
    variables = [tf.Variable(float(i), name=f'net/{name}/gain') for i, name in enumerate(made)]
    found = named_weights(types.SimpleNamespace(variables=variables))
    assert found == {'net_0/norm_0/gain': 0.0, 'net_0/norm_1/gain': 1.0}


def test_a_name_that_occurs_twice_is_rejected():
  generator = types.SimpleNamespace(variables=[tf.Variable(float(i), name='scale') for i in range(2)])
  with pytest.raises(UsageError, match=r'^scale:0: two variables of the generator have this name'):
    named_weights(generator)

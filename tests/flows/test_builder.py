import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf import flows
from flowgan_tf.flows import builder

SHAPE = (2, 2, 1)


def flow(scale, name='flow', dtype='float32'):
  dtype = 'float64' if dtype == 'float64' else 'float32'
  prior = flows.prior.standard_prior('normal', SHAPE, dtype)
  scale = tfp.util.TransformedVariable(tf.cast(scale, dtype), tfp.bijectors.Exp())
  return flows.Flow(prior, tfp.bijectors.Scale(scale), name=name)


def test_what_a_builder_was_given_is_repeated():
  given = []

  @builder
  def build(image_shape, *, scale=1.0, dtype='float32', name='flow'):
    given.append((image_shape, scale, dtype, name))
    return flow(scale, name, dtype)

  copy = build(SHAPE, scale=2.0, name='mine').with_dtype('mixed_bfloat16')
  assert given == [(SHAPE, 2.0, 'float32', 'mine'), (SHAPE, 2.0, 'mixed_bfloat16', 'mine')]
  assert build.__name__ == 'build'
  assert [float(v.numpy().squeeze()) for v in copy.variables] == pytest.approx([0.6931472])
  given.clear()
  for dtype in (np.float64, tf.float64, np.dtype('float32')):
    build(SHAPE, dtype=dtype)
  assert [dtype for _, _, dtype, _ in given] == ['float64', 'float64', 'float32']
  assert all(isinstance(dtype, str) for _, _, dtype, _ in given)

  @builder
  def of_positions(image_shape, scale=1.0, dtype='float32', name='flow'):
    return flow(scale, name, dtype)

  assert float(of_positions(SHAPE, 2.0).variables[0].numpy().squeeze()) == pytest.approx(0.6931472)

  with pytest.raises(ValueError, match='must be a function with the keywords `dtype` and `name`'):
    builder(lambda image_shape, *, dtype='float32': flow())  # Keras could not load it.
  with pytest.raises(ValueError, match=r"`generator` must come from a function decorated with `builder`\. Got: 'flow'"):
    flow(2.0).with_dtype('float64')


def test_traits_are_computed_from_the_arguments():
  assert flows.nice.traits(components=3).components == 3 and flows.nice.traits().components == 1
  assert not flows.nice.traits(condition_networks=False).sees_condition
  assert flows.nice.traits(normalization='scalar_batch').has_batch_norm and not flows.nice.traits().has_batch_norm
  assert flows.real_nvp.traits().has_batch_norm
  without = {'normalization': 'layer'}
  assert not flows.real_nvp.traits(**without).has_batch_norm
  assert flows.real_nvp.traits(**without, batch_norm_between=True).has_batch_norm
  of_pixels = {'histogram_bins': 8, 'histogram_networks': 1}
  assert flows.jet.traits(**of_pixels) == dataclasses.replace(
    flows.jet.traits(), has_histograms=True, logits_see_condition=True
  )
  assert not flows.jet.traits(**of_pixels, condition_networks=False).logits_see_condition
  assert flows.dcgan.traits() == flows.Traits(noise_like_images=False, computed_whole=True)
  assert flows.nice(SHAPE, couplings=2, hidden_units=4, components=3).traits == flows.nice.traits(components=3)

  @builder(components=lambda arguments: arguments.clusters, paper='mnist')
  def build(image_shape, *, clusters=2, dtype='float32', name='flow'):
    return flow(1.0, name, dtype)

  assert build.traits(clusters=5) == flows.Traits(components=5, paper='mnist')
  assert build(SHAPE).traits == flows.Traits(components=2, paper='mnist')


def test_what_a_builder_returns_is_checked():
  of_networks = flows.nice(SHAPE, couplings=2, hidden_units=4, hidden_layers=1)
  for wrong, dtype, said in (
    (lambda: None, 'float32', 'a function that returns a `flowgan_tf.flows.Flow` or `ImplicitGenerator`. Got: None'),
    (lambda: flows.vectors(3), 'float32', r"a function whose samples have shape \(2, 2, 1\). Got: '\(3,\)'"),
    (lambda: flow(1.0), 'float64', "a function that uses its `dtype`, here float64. Got: 'float32'"),
    (lambda: of_networks, 'mixed_float16', "a function that uses its `dtype`, here mixed_float16. Got: 'float32'"),
  ):

    @builder
    def build(image_shape, *, dtype='float32', name='flow', wrong=wrong):
      return wrong()

    with pytest.raises(ValueError, match=f'^`build` must be {said}'):
      build(SHAPE, dtype=dtype)

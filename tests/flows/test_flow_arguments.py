"""What a flow refuses, and how it says so."""

import math
import re

import numpy as np
import pytest
import scipy.stats
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
  'initial_weights': ('large', None),
  'prior': ('cauchy', None),
  'alpha': (0.5, -0.1, math.nan, '0.1', True),
  'dtype': ('float8', 'float16', None),
  'image_shape': ((4, 4), (4, 0, 1), (4, 4.0, 1), (4, 4, True), 16, None),
}
REAL_NVP = {
  'scales': (0, 1.0, True),
  'channels': (0, '4'),
  'blocks': (-1, 0.5),
  'architecture': ('ours', None),
  'normalization': ('group',),
  'batch_norm_between': (1, 'yes', None),
  'log_scale_bound': (0.0, math.inf, '2'),
  'prior': ('cauchy',),
  'alpha': (0.5, -0.1),
  'dtype': ('float8',),
  'image_shape': ((5, 4, 1), (4, 5, 1), (2, 2, 1), (4, 4)),
}

JET = {
  'couplings': (1, 257, 10**9, 2.0),
  'coupling': ('linear', None),
  'conditioner': ('cnn', 2),
  'patch_size': (0, 3, 8, 10**400, 2.0, True, None),
  'width': (0, 10**11, '8', 4.0),
  'blocks': (0, 257, None),
  'hidden_units': (0, 10**11, 1.5),
  'log_scale_bound': (0.0, math.inf, '2'),
  'prior': ('cauchy',),
  'alpha': (0.5, -0.1),
  'dtype': ('float8',),
  'image_shape': ((1, 1, 3), (4, 4), (4, 0, 1)),
}


@pytest.mark.parametrize(
  ('build', 'argument', 'value'),
  [
    (build, argument, value)
    for build, cases in ((flows.nice, NICE), (flows.real_nvp, REAL_NVP), (flows.jet, JET))
    for argument, values in cases.items()
    for value in values
  ],
)
def test_arguments_out_of_range_are_refused(build, argument, value):
  small = {'channels': 2, 'blocks': 0} if build is flows.real_nvp else {'couplings': 2, 'hidden_units': 2}
  arguments = small | {'image_shape': SHAPE, argument: value}
  got = r'1000*\.{3}0*' if value == 10**400 else re.escape(repr(value))  # Long numbers are cut.
  with pytest.raises(ValueError, match=rf'^`{argument}` must .* Got: {got}\.$'):
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


@pytest.fixture(scope='module')
def flow():
  return flows.nice(SHAPE, couplings=2, hidden_units=4, hidden_layers=1)


METHODS = {
  'log_prob': 'value',
  'prob': 'value',
  'unnormalized_log_prob': 'value',
  'encode': 'images',
  'decode': 'noise',
}
each_method = pytest.mark.parametrize(('method', 'argument'), METHODS.items())


@each_method
def test_images_of_another_dtype_or_shape_are_refused(flow, method, argument):
  """Each would be cast, broadcast, or computed in a mixture of dtypes."""
  for found, value in {
    'uint8 and (2, 4, 4, 1)': np.zeros((2, *SHAPE), np.uint8),
    'int64 and (4, 4, 1)': np.zeros(SHAPE, np.int64),
    'bool and (2, 4, 4, 1)': tf.zeros((2, *SHAPE), tf.bool),
    'uint8 and (4, 4, 1)': tf.zeros(SHAPE, tf.uint8),
    'float64 and (2, 4, 4, 1)': tf.fill((2, *SHAPE), tf.constant(0.5, tf.float64)),
    'float16 and (4, 4, 1)': tf.Variable(tf.zeros(SHAPE, tf.float16)),
    'float32 and (2, 4, 4, 2)': tf.zeros((2, 4, 4, 2)),
    'float32 and (4, 4)': tf.zeros((4, 4)),
    'float64 and (4, 1, 1)': np.zeros((4, 1, 1)),
    'float32 and ()': 0.5,
    'int32 and (4, 4, 1)': np.full(SHAPE, 128).tolist(),
    'int32 and (2, 4, 4, 1)': [np.full(SHAPE, 128, np.uint8)] * 2,
    'bool and (4, 4, 1)': np.ones(SHAPE, bool).tolist(),
  }.items():
    grey = 'int' in found and method != 'decode'
    hint = '; grey levels become such images by `flowgan_tf.data.dequantize`' if grey else ''
    message = f'`{argument}` must be of dtype float32 and shape [..., 4, 4, 1]{hint}. Got: {found}.'
    with pytest.raises(ValueError, match=f'^{re.escape(message)}$'):
      getattr(flow, method)(value)
  with pytest.raises(ValueError, match=f'`{argument}` must be of dtype float32'):
    tf.function(getattr(flow, method)).get_concrete_function(tf.TensorSpec((None, *SHAPE), tf.float64))


@each_method
def test_arrays_and_lists_are_converted_as_in_tfp(flow, method, argument):
  x = np.random.default_rng(0).uniform(0.1, 0.9, (2, *SHAPE)).astype(np.float32)
  call = getattr(flow, method)
  expected = call(tf.constant(x))
  for value in (x, x.astype(np.float64), x.tolist(), [tf.constant(x[0]), tf.constant(x[1])], tf.Variable(x)):
    converted = call(value)
    assert converted.dtype == tf.float32
    np.testing.assert_array_equal(converted, expected)
  unknown = tf.function(call, input_signature=[tf.TensorSpec(None)])
  np.testing.assert_allclose(unknown(x), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize('training', [tf.constant(True), None, 1, 'yes'])
def test_training_is_a_python_bool(flow, training):
  for call in (flow.log_prob, flow.encode, flow.decode):
    with pytest.raises(ValueError, match=r'^`training` must be True or False\. Got: '):
      call(tf.fill(SHAPE, 0.5), training=training)
  with pytest.raises(ValueError, match=r'^`training` must be True or False\. Got: '):
    flow.sample(2, training=training)


def test_training_may_not_be_a_tensor_in_a_graph(flow):
  @tf.function
  def compute(x, training):
    return flow.log_prob(x, training=training)

  with pytest.raises(ValueError, match=r'`training` must be True or False\. Got: '):
    compute(tf.fill(SHAPE, 0.5), tf.constant(True))


@pytest.mark.parametrize('part', [None, 'nice', tfb.Exp])
def test_parts_of_another_type_are_refused(flow, part):
  with pytest.raises(ValueError, match=r'^`bijector` must be a bijector of TensorFlow Probability\. Got: '):
    flows.Flow(flow.distribution, part, 'x')
  with pytest.raises(ValueError, match=r'^`distribution` must be a distribution of TensorFlow Probability\. Got: '):
    flows.Flow(part, flow.bijector, 'x')


def test_dtypes_of_numpy_and_tensorflow_name_policies():
  for dtype in (np.float64, np.dtype('float64'), tf.float64):
    for build, size in (
      (flows.nice, {'couplings': 2, 'hidden_units': 4, 'hidden_layers': 1}),
      (flows.real_nvp, {'scales': 1, 'channels': 2, 'blocks': 0, 'batch_norm_between': True}),
      (flows.jet, {'couplings': 2, 'width': 4, 'hidden_units': 4}),
    ):
      wide = build(SHAPE, dtype=dtype, **size)
      assert {wide.dtype, wide.log_prob(np.full(SHAPE, 0.5)).dtype} == {tf.float64}
      assert {v.dtype for v in wide.variables} == {tf.float64}
  assert flows.nice(SHAPE, couplings=2, hidden_units=4, hidden_layers=1).with_dtype(np.float64).dtype == tf.float64
  for dtype in (float, 1, np.float16, tf.int32, 'double', tf.keras.Model):
    with pytest.raises(ValueError, match=r'^`dtype` must be one of float32, float64, .*Got: '):
      flows.nice(SHAPE, dtype=dtype)


def test_the_entropy_in_training_is_refused():
  """It is that of no batch: TFP would normalise an event of zeros and move the running statistics towards it."""
  scaling, norm = bijectors.DiagonalScaling((3,)), bijectors.BatchNormalization((3,), epsilon=0.0)
  flow = flows.Flow(flows.prior.standard_prior('normal', (3,), tf.float32), tfb.Chain([norm, scaling]), 'affine')
  norm.variables[0].assign([1.0, 2.0, 3.0])
  norm.variables[1].assign([4.0, 9.0, 16.0])
  expected = scipy.stats.norm(0, [2.0, 3.0, 4.0]).entropy().sum()
  assert flow.entropy().numpy() == pytest.approx(expected, rel=1e-5)
  np.testing.assert_allclose(flow.mean(), [1.0, 2.0, 3.0])
  with pytest.raises(NotImplementedError, match='training'):
    flow.entropy(training=True)
  np.testing.assert_array_equal(norm.variables[0], [1.0, 2.0, 3.0])

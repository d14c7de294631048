"""Jacobians against finite differences, forward-mode derivatives, closed forms and NumPy, and the analysis of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf import flows
from flowgan_tf.flows import ImplicitGenerator, dcgan
from flowgan_tf.runs.seeds import Purpose, stateless_seed
from flowgan_tf.study import jacobian as module
from flowgan_tf.study import jacobian_matrix, spectrum
from flowgan_tf.study.jacobian import Jacobian


def perturbed(generator):
  """Gives a generator weights as after some training, because the couplings of a new flow are the identity."""
  rng = np.random.default_rng(1)
  for variable in generator.trainable_variables:
    # Gains above 0, kernels and biases of both signs.
    variable.assign(rng.uniform(0.5, 1.5, variable.shape) - ('gain' not in variable.name) * 1.0)
  for variable in generator.non_trainable_variables:
    variable.assign(rng.uniform(0.5, 1.5, variable.shape))
  return generator


def nice(dtype='float64'):
  sizes = {'couplings': 2, 'hidden_units': 6, 'hidden_layers': 1, 'normalization': 'none'}
  return perturbed(flows.nice((3, 2, 1), **sizes, dtype=dtype))


def small_dcgan():
  return perturbed(dcgan((4, 4, 1), channels=(6, 4), dtype='float64'))


def linear(matrix):
  """`G(z) = matrix z` over events of shape `[d]`."""
  network = keras.layers.Dense(len(matrix), use_bias=False, dtype='float64')
  prior = tfp.distributions.Sample(tfp.distributions.Normal(np.float64(0), np.float64(1)), len(matrix))
  generator = ImplicitGenerator(prior, network, name='linear')
  network.kernel.assign(np.transpose(matrix))
  return generator


def noise_of(generator, n):
  return generator.distribution.sample(n, seed=(3, 4))


def finite_differences(decode, z, step=1e-5):
  """Central differences in NumPy, one column for each noise dimension."""
  steps = step * np.eye(z.size).reshape(-1, *z.shape)
  difference = np.asarray(decode(z + steps)) - np.asarray(decode(z - steps))
  return difference.reshape(z.size, -1).T / (2 * step)


@pytest.mark.parametrize('repeat', [False, True])
@pytest.mark.parametrize('block_size', [1, 2, 7])
def test_a_closed_form(block_size, repeat):
  def decode(z):
    x, y, w = tf.unstack(z, axis=-1)
    return tf.stack([x * y, tf.sin(y) + w**3, tf.exp(x)], axis=-1)

  x, y, w = z = np.array([0.3, -1.2, 0.8])
  expected = [[y, x, 0], [0, np.cos(y), 3 * w**2], [np.exp(x), 0, 0]]
  np.testing.assert_allclose(jacobian_matrix(decode, tf.constant(z), block_size, repeat=repeat), expected, rtol=1e-12)


@pytest.mark.parametrize('make', [nice, small_dcgan])
def test_derivatives_of_the_generators(make):
  generator = make()
  z = noise_of(generator, 1)[0]
  matrix = jacobian_matrix(generator.decode, z, 5).numpy()
  np.testing.assert_allclose(jacobian_matrix(generator.decode, z, 5, repeat=True), matrix, rtol=1e-9, atol=1e-12)
  assert np.count_nonzero(np.abs(matrix) > 1e-6) > 2 * len(matrix)  # not the diagonal map of a new flow
  np.testing.assert_allclose(matrix, finite_differences(generator.decode, z.numpy()), rtol=1e-5, atol=1e-9)
  tangent = tf.random.stateless_normal(z.shape, (0, 0), dtype=z.dtype)
  with tf.autodiff.ForwardAccumulator(z, tangent) as forward_mode:
    image = generator.decode(z)
  np.testing.assert_allclose(matrix @ np.ravel(tangent), np.ravel(forward_mode.jvp(image)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(('dtype', 'tolerance'), [('float32', 1e-3), ('float64', 1e-9)])
def test_singular_values_multiply_to_the_volume_of_the_flow(dtype, tolerance):
  generator = nice(dtype)
  z = noise_of(generator, 3)
  measured = spectrum(generator, z)
  np.testing.assert_allclose(np.log(measured.singular_values).sum(axis=1), measured.log_det, rtol=1e-12)
  np.testing.assert_allclose(measured.log_det, measured.flow_log_det, rtol=tolerance)
  wide = generator.with_dtype('float64')
  by_lu = np.linalg.slogdet(finite_differences(wide.decode, z[0].numpy().astype(float)))[1]
  np.testing.assert_allclose(measured.log_det[0], by_lu, rtol=1e-3)
  assert np.ptp(measured.flow_log_det) > 0.01 * np.abs(by_lu)


def test_a_generator_without_density():
  """Its batch statistics stay as they are. Eigenvalues of J^T J are not another SVD."""
  generator = small_dcgan()
  before = [v.numpy() for v in generator.variables]
  z = noise_of(generator, 2)
  measured = spectrum(generator, z)
  matrices = [finite_differences(generator.decode, vector.numpy()) for vector in z]
  squares = np.array([np.linalg.eigvalsh(m.T @ m)[::-1] for m in matrices])
  np.testing.assert_allclose(measured.singular_values**2, squares, rtol=1e-5, atol=1e-9 * squares.max())
  assert measured.flow_log_det is None
  for variable, value in zip(generator.variables, before, strict=True):
    np.testing.assert_array_equal(variable, value)


def test_singular_matrices_are_counted_and_stay_finite(subject, monkeypatch):
  noise = tf.ones((2, 4), tf.float64)
  measured = spectrum(linear(np.diag([4.0, 1.0, 1e-18, 0.0])), noise)
  np.testing.assert_array_equal(measured.below_precision, [2, 2])
  np.testing.assert_allclose(measured.log_det, np.log(4) + 2 * np.log(4 * 2.0**-52), rtol=1e-12)
  constant = spectrum(linear(np.zeros((4, 4))), noise)
  assert np.all(constant.below_precision == 4) and np.isfinite(constant.log_det).all()
  with pytest.raises(ValueError, match=r'^the generator must have finite derivatives.* at noise vector 0'):
    spectrum(linear(np.full((4, 4), np.nan)), noise)
  monkeypatch.setattr(module, 'spectrum', lambda *_: measured)
  numbers, _ = Jacobian().measure(subject, Jacobian.Settings(noise_vectors=2))
  assert numbers['median_condition_number'] == numbers['largest_condition_number'] == np.inf
  assert numbers['mean_log_det'] == measured.log_det[0] and numbers['below_precision'] == 2
  assert 'largest_relative_difference' not in numbers
  measured = measured._replace(flow_log_det=np.array([1.0, 2.0]))
  assert Jacobian().measure(subject, Jacobian.Settings(noise_vectors=2))[0]['mean_log_det'] == 1.5


def test_saturated_pixels_do_not_reach_the_log_determinant_of_a_flow():
  """Logits are 20 times the noise. Bright pixels are rounded to 1 in float32, where their derivative is 0."""
  generator = flows.nice((3, 2, 1), couplings=2, hidden_units=4, hidden_layers=1)
  scaling = next(v for v in generator.trainable_variables if v.shape == (6,))
  scaling.assign(tf.fill(6, np.float32(-10 * np.arctanh(np.log(20) / 10))))  # its log-scale is 10 tanh(v / 10)
  z = tf.constant([[1.5, -1.4, 1.2, -1.3, 0.1, 1.6], [0.1, -0.2, 0.3, 0.1, 0.2, -0.1]])
  measured = spectrum(generator, tf.reshape(z, (2, 3, 2, 1)))
  np.testing.assert_array_equal(measured.below_precision, [5, 0])  # 2 of dark pixels, whose digits are right
  logits = 20 * z.numpy().astype(float)
  exact = (np.log(20) - np.logaddexp(0, logits) - np.logaddexp(0, -logits)).sum(axis=1)
  np.testing.assert_allclose(measured.flow_log_det, exact, rtol=1e-4)
  assert np.isfinite(measured.log_det).all() and abs(measured.log_det[0] - exact[0]) > 1


@pytest.mark.parametrize('repeat', [False, True])
def test_a_backward_pass_has_as_many_rows_as_the_block(repeat):
  """This bounds the memory whatever the number of dimensions, which is 16 here."""
  generator = small_dcgan()
  z = noise_of(generator, 1)[0]
  compute = tf.function(lambda vector: jacobian_matrix(generator.decode, vector, 5, repeat=repeat))
  compute = compute.get_concrete_function(z)
  np.testing.assert_allclose(compute(z), jacobian_matrix(generator.decode, z, 3), rtol=1e-12, atol=1e-15)
  graph = compute.graph.as_graph_def(add_shapes=True)
  nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
  products = [node.attr['_output_shapes'].list.shape[0].dim for node in nodes if node.op in ('MatMul', 'BatchMatMulV2')]
  # The first layer of the generator is dense: the last of a backward pass.
  assert max(shape[0].size for shape in products) == 5


def test_the_analysis_is_in_float64(subject):
  numbers, arrays = Jacobian().measure(subject, Jacobian.Settings(noise_vectors=2, seed=3))
  values, wide = arrays['singular_values'], subject.run.generator.with_dtype('float64')
  noise = subject.run.generator.distribution.sample(2, seed=stateless_seed(3, Purpose.ANALYSIS))
  for own, z in zip(values, noise.numpy().astype(np.float64), strict=True):
    by_differences = np.linalg.svd(finite_differences(wide.decode, z), compute_uv=False)
    np.testing.assert_allclose(own, by_differences, rtol=1e-6, atol=1e-10)
  log_dets, conditions = np.log(values).sum(axis=1), values[:, 0] / values[:, -1]
  assert (numbers['n'], numbers['d'], numbers['below_precision']) == (2, 16, 0)
  assert numbers['mean_log_det'] == pytest.approx(log_dets.mean(), rel=1e-9)
  assert numbers['standard_error'] == pytest.approx(np.ptp(log_dets) / 2, rel=1e-6)
  assert numbers['median_condition_number'] == pytest.approx(conditions.mean())
  assert numbers['largest_condition_number'] == pytest.approx(conditions.max())
  assert numbers['largest_relative_difference'] < 1e-9
  [record] = Jacobian().records({'below_precision': 4.0, 'd': 16}).values()
  assert record['share_below_precision'] == pytest.approx(0.25)

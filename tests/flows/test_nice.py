import numpy as np
import scipy.special
import tensorflow as tf

from flowgan_tf import bijectors, flows
from tests.flows import reference


def test_the_defaults_are_the_papers_size():
  flow = flows.nice((28, 28, 1), normalization='none')
  half, units = 28 * 28 // 2, 1000
  dense = (half * units + units) + 5 * (units * units + units) + (units * half + half)
  assert sum(v.shape.num_elements() for v in flow.trainable_variables) == 4 * dense + 28 * 28


def test_alpha_is_that_of_the_logit_and_couplings_take_turns():
  flow = flows.nice((4, 4, 1), hidden_units=6, hidden_layers=1, couplings=3, alpha=0.05)
  x = np.random.default_rng(0).random((5, 4, 4, 1)).astype(np.float32)
  np.testing.assert_allclose(flow.encode(x), scipy.special.logit(0.05 + 0.9 * x), rtol=1e-4, atol=1e-5)
  couplings = {m.name: m for m in flow.submodules if isinstance(m, bijectors.AdditiveCoupling)}
  kept = [couplings[f'coupling_{i}'].mask.split(tf.range(16.0))[0].numpy().tolist() for i in range(3)]
  assert kept == [list(range(first, 16, 2)) for first in (0, 1, 0)]


def test_it_has_the_numbers_of_the_papers_code():
  numbers = reference.load('nice')
  flow = flows.nice(
    (4, 4, 1), hidden_units=6, hidden_layers=2, normalization='scalar_batch', initial_weights='paper', dtype='float64'
  )
  couplings = {m.name: m for m in flow.submodules if isinstance(m, bijectors.AdditiveCoupling)}
  assert len(couplings) == 4
  for name, coupling in couplings.items():
    reference.assign(coupling.trainable_variables, numbers[f'weights/{name}'])
    # Theirs adds the output of the network on the way from image to noise, ours subtracts it.
    for variable in coupling.trainable_variables[-2:]:
      variable.assign(-variable)
  [scaling] = [m for m in flow.submodules if isinstance(m, bijectors.DiagonalScaling)]
  # Theirs has no bound on the log-scale s = 10 tanh(v / 10).
  scaling.trainable_variables[0].assign(10 * np.arctanh(numbers['weights/log_scale'] / 10))
  reference.check(flow, numbers, {name: c.non_trainable_variables for name, c in couplings.items()})

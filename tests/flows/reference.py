"""Numbers that the paper's code gave in double precision, with random weights: `reference_nice.npz` and the other.

A first batch of images was encoded in training mode, a second one with the running statistics that the first had left
behind, and images were made of noise. `weights/NAME` holds the weights of a coupling in the order of its layers, and
`statistics/NAME` the running mean and variance of each of its norms after the first batch.
"""

import pathlib

import numpy as np
import tensorflow as tf


def load(name: str) -> dict[str, np.ndarray]:
  """Returns the arrays of `reference_NAME.npz`, in double precision."""
  with np.load(pathlib.Path(__file__).parent / f'reference_{name}.npz') as file:
    return {key: file[key].astype(np.float64) for key in file}


def assign(variables, values: np.ndarray) -> None:
  """Gives variables their values, which come flattened one after the other."""
  sizes = [variable.shape.num_elements() for variable in variables]
  assert sum(sizes) == values.size
  for variable, part in zip(variables, np.split(values, np.cumsum(sizes)[:-1]), strict=True):
    variable.assign(part.reshape(variable.shape))


def check(flow, reference: dict[str, np.ndarray], statistics: dict[str, list]) -> None:
  """Compares a flow that has the reference's weights; `statistics` holds the statistics of each coupling's norms."""
  images = {
    part: tf.constant((reference[f'{part}/pixels'] + reference[f'{part}/dequantization']) / 256)
    for part in ('training', 'evaluation')
  }
  for part, values in images.items():
    noise = flow.encode(values, training=part == 'training')
    np.testing.assert_allclose(noise, reference[f'{part}/noise'], rtol=0, atol=1e-10)
    for name, variables in statistics.items():
      found = np.concatenate([np.ravel(v.numpy()) for v in variables])
      np.testing.assert_allclose(found, reference[f'statistics/{name}'], rtol=1e-10, atol=1e-10)
  samples = flow.decode(tf.constant(reference['sampling/noise']))
  np.testing.assert_allclose(samples, reference['sampling/images'], rtol=0, atol=1e-10)
  for part, values in reversed(images.items()):  # In training this moves the running statistics again.
    log_prob = flow.log_prob(values, training=part == 'training')
    np.testing.assert_allclose(log_prob, reference[f'{part}/log_prob'], rtol=0, atol=1e-9)

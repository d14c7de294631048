"""One call that checks whether a log-likelihood is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flowgan_tf.base.errors import check as check_argument
from flowgan_tf.base.errors import check_integer
from flowgan_tf.base.lazy import lazy_import
from flowgan_tf.base.progress import Task
from flowgan_tf.checks.callables import Density
from flowgan_tf.checks.finding import Report

if TYPE_CHECKING:
  import tensorflow as tf
  import tensorflow_probability as tfp

distributions = lazy_import('flowgan_tf.checks.distributions')  # A density of another library needs no TensorFlow.


@np.errstate(invalid='ignore', over='ignore')  # Infinite densities are findings, not warnings.
def check(
  flow: tfp.distributions.Distribution | tfp.bijectors.Bijector | Density | None = None,
  images: np.ndarray | tf.Tensor | None = None,
  *,
  condition: Any = None,
  levels: int | None = None,
  seed: int = 0,
  **functions: Any,
) -> Report:
  """Checks whether a log-likelihood is right, and names the bijector or the image that is wrong.

  It compares log-determinants with Jacobians by automatic differentiation, the two directions with each other, and
  `log_prob` with prior and bijector and with float64, and samples with the density. In up to three dimensions it
  integrates the density. docs/check.md lists all checks, what they allow, and what is not checked.

  A density of any other library is given by functions of NumPy arrays instead:

  ```python
  fg.check(log_prob=log_prob, sample=sample, encode=encode, decode=decode, shape=(2,))
  ```

  Args:
    flow: A flow; a distribution of TFP over one tensor of floats, with batch shape []; a bijector; or a `Density`.
    images: Values `[n, *event_shape]` to check it at: floats, or grey levels as ints, to which uniform noise is added.
      By default they are samples of `flow`; a bijector has none and needs floats.
    condition: What a conditional flow is given: one condition for all values, or one for each. A flow with classes
      takes the most probable one by default.
    levels: Number of grey levels of the images, by default 256 for ints.
    seed: Non-negative seed of samples and noise.
    **functions: In place of a flow, the fields of a `Density`: `log_prob`, `shape` and, if they are there, `sample`,
      `encode`, `decode`, `log_det`, `prior` and `interval`.

  Returns:
    A `Report`. It prints as a table with a verdict. Its `sound` is False if a check failed. If it is True, there may
    still be mistakes that no check looks for.

  Raises:
    UsageError: If `flow` is none of these, a bijector gets no floats, the values have another shape, or an argument is
      out of range.
    TypeError: If a `Density` has no such field, or lacks `log_prob` or `shape`.
  """
  check_integer('seed', seed, 0)
  if levels is not None:
    check_integer('levels', levels, 2)
  if functions:
    check_argument('flow', flow, 'left out, as there are functions', flow is None)
    flow = Density(**functions)
  if isinstance(flow, Density):
    check_argument('condition', condition, 'left out, as functions have their own', condition is None)
    check_argument('levels', levels, 'left out, as only flows of this package take grey levels', levels is None)
    with Task('checking a density'):
      return Report('The density', list(flow.findings(images, seed)))
  return distributions.report(flow, images, condition, levels, seed)

"""How the parts of a new generator take their first values from data."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow_probability as tfp

from flowgan_tf.base.errors import UsageError
from flowgan_tf.bijectors.base import wrapped_methods
from flowgan_tf.flows.checks import check_events

_IMAGES = 1000  # for a bijector that does not say how many it takes


class InitialData(abc.ABC):
  """Training data, as `Generator.initialize` takes them."""

  @property
  @abc.abstractmethod
  def labels(self) -> np.ndarray | None:
    """The labels that are given, ints `[n]` with -1 for none; None without classes."""

  @property
  @abc.abstractmethod
  def seed(self) -> int:
    """Seed of everything random, such as the first centres of clusters."""

  @abc.abstractmethod
  def trained(self, n: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns `n` images or rows, or as many as memory holds, as a training sees them, with their conditions."""

  @abc.abstractmethod
  def sample(self, n: int, of_class: int = 0) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns `n` random images and their labels, with at least `of_class` images of each class."""


def fit_bijectors(
  flow: tfp.distributions.TransformedDistribution, images: np.ndarray, condition: np.ndarray | None = None
) -> None:
  """Calls `fit` of each bijector in a flow that has it, with what reaches the bijector from the data.

  ```python
  class ActNorm(tfp.bijectors.Bijector):
    def fit(self, values, inverse):  # [n, *event_shape]; whether they are inputs of its inverse
      ...
  ```

  A bijector nearer to the data is fitted first, and the next one gets what it returns. They see the first 1,000 images,
  or as many as the attribute `fit_images` of a bijector says; None means all. `bin/train` calls this for a new flow.

  Args:
    flow: The flow.
    images: Training images or rows, `[n, *event_shape]`; grey levels must be dequantized.
    condition: What the flow is given with each image, or None.

  Raises:
    UsageError: If the images have another shape, or do not reach one of the bijectors.
  """
  check_events('images', images, flow.event_shape, 'n')
  parts = _fitted(flow)
  if not parts:
    return
  n = _wanted(parts)
  given = flow.given(None if condition is None else condition[:n])
  try:
    with _fitting(parts):
      given.encode(images[:n])
  except _AllFittedError:
    return
  names = ', '.join(part.name for part in parts)
  raise UsageError(f'`bijector` must hand the data to each part that has a method `fit`. Got: {names}.', 'bijector')


def initialize_bijectors(flow: tfp.distributions.TransformedDistribution, data: InitialData) -> None:
  """Calls `fit_bijectors` with as many images as the bijectors ask for."""
  if parts := _fitted(flow):
    fit_bijectors(flow, *data.trained(_wanted(parts)))


def _wanted(parts):
  found = [getattr(part, 'fit_images', _IMAGES) for part in parts]
  return None if None in found else max(found)


def _fitted(flow: tfp.distributions.TransformedDistribution) -> list[tfp.bijectors.Bijector]:
  parts = (flow.bijector, *flow.bijector.submodules)
  return [part for part in parts if isinstance(part, tfp.bijectors.Bijector) and hasattr(part, 'fit')]


class _AllFittedError(Exception):
  """Ends a pass that has reached the last bijector."""


@contextlib.contextmanager
def _fitting(parts: Sequence[tfp.bijectors.Bijector]) -> Iterator[None]:
  """Within this block, each bijector is fitted to the first values that it gets, before it computes anything."""
  left = {id(part) for part in parts}

  def fitting(part, method, compute):
    def fit_and_compute(values, *args, **kwargs):
      if id(part) in left:
        left.remove(id(part))
        part.fit(values, method == 'inverse')
        if not left:
          raise _AllFittedError
      return compute(values, *args, **kwargs)

    return fit_and_compute

  with wrapped_methods(parts, ('forward', 'inverse'), fitting):
    yield

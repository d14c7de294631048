"""The couplings that builders of flows offer by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple

from flowgan_tf import bijectors
from flowgan_tf.base.errors import check


class Choice(NamedTuple):
  """What a builder needs to know of its couplings."""

  outputs: int  #: How many numbers the network of a coupling returns for each number that the coupling changes.
  make: Callable[..., bijectors.Coupling]  #: Takes `(network, mask, name=..., condition_shape=...)`.


def _additive():
  return Choice(1, bijectors.AdditiveCoupling)


def _affine(log_scale_bound=2.0):
  return Choice(2, functools.partial(bijectors.AffineCoupling, log_scale_bound=log_scale_bound))


def _spline(spline_bins=8, spline_bound=4.0):
  return Choice(3 * spline_bins - 1, functools.partial(bijectors.SplineCoupling, bins=spline_bins, bound=spline_bound))


# The keywords of each function are the arguments of builders that concern its coupling, with their defaults.
COUPLINGS = {'additive': _additive, 'affine': _affine, 'spline': _spline}


def choose_coupling(coupling: str, **arguments: object) -> Choice:
  """Returns what a builder's `coupling` and the arguments beside it choose.

  Raises:
    UsageError: If an argument that does not concern the coupling is not the default.
  """
  defaults = {name: p.default for make in COUPLINGS.values() for name, p in inspect.signature(make).parameters.items()}
  taken = inspect.signature(COUPLINGS[coupling]).parameters
  for name, value in arguments.items():
    expected = f'{defaults[name]} if `coupling` is {coupling!r}, which does not use it'
    check(name, value, expected, name in taken or value == defaults[name])
  return COUPLINGS[coupling](**{name: value for name, value in arguments.items() if name in taken})

"""A flow of vectors, such as the rows of a table: couplings with dense networks, in the units of the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flowgan_tf import bijectors
from flowgan_tf.base.errors import UsageError, check, check_memory
from flowgan_tf.base.lazy import lazy_import, tf, tfp
from flowgan_tf.flows import settings
from flowgan_tf.flows.builder import builder, network_condition
from flowgan_tf.flows.checks import check_events
from flowgan_tf.flows.couplings import choose_coupling
from flowgan_tf.flows.make_flow import make_flow

if TYPE_CHECKING:
  from flowgan_tf.flows.flow import Flow

networks = lazy_import('flowgan_tf.networks')

_COMPARED = 10_000  # rows whose values are compared
_LARGEST = 1e30  # of numbers in rows; its inverse is the smallest standard deviation: float32 ends at 3e38 and 1e-38


@builder
def vectors(
  vector_shape: int | Sequence[int],
  *,
  couplings: settings.Couplings = 8,
  coupling: settings.CouplingName = 'affine',
  hidden_units: settings.HiddenUnits = 128,
  hidden_layers: settings.HiddenLayers = 2,
  log_scale_bound: settings.LogScaleBound = 2.0,
  spline_bins: settings.SplineBins = 8,
  spline_bound: settings.SplineBound = 4.0,
  prior: settings.Prior = 'normal',
  bounds: Sequence[Sequence[float | None]] | None = None,
  classes: int | None = None,
  condition_shape: Sequence[int] | None = None,
  dtype: str = 'float32',
  name: str = 'vectors',
) -> Flow:
  """Builds a flow over vectors of real numbers, such as the rows of a table: Real-NVP [1] with dense networks.

  ```none
  x = mean + std * y,   y = couplings(z),   z ~ prior
  ```

  With `bounds`, a column between two ends is `low + (high - low) sigmoid(x)`, above one end `low + exp(x)`, below one
  `high - exp(x)`. Between the ends the density is exact; on them and beyond, it is 0.

  `mean` and `std` are 0 and 1 until `standardize` sets them. The density of `x` is in its own units.

  The couplings come in pairs, a mask and its complement. Pair `i` keeps the columns whose number has a 1 in binary
  digit `i`, and begins again after the last digit [2]. With at least `2 ceil(log2 d)` couplings, each two columns are
  in different parts for some pair; the default suffices for 16 columns.

  Args:
    vector_shape: The number of columns `d`, at least 2, or `(d,)`.
    bounds: The ends of each column, `(low, high)`, between which all its numbers lie; None for no end. By default no
      column has ends.
    classes: Number of classes, for a flow p(x | y) of vectors given labels.
    condition_shape: Shape of a condition, for a flow p(x | c) given vectors `(d,)` or images `(height, width,
      channels)`. None, like `classes`, for a flow without conditions.
    dtype: Name of a Keras dtype policy, as for `nice`.

  Returns:
    A distribution over vectors `[..., d]`, with log densities in nats. Its noise has the shape of the vectors.

  Raises:
    ValueError: If an argument is out of range.

  #### References

  [1]: Laurent Dinh, Jascha Sohl-Dickstein, Samy Bengio. Density estimation using Real NVP. ICLR 2017.
  [2]: Christina Gao, Joshua Isaacson, Claudius Krause. i-flow: High-dimensional Integration and Sampling with
       Normalizing Flows. 2020.
  """
  columns = int(np.prod(vector_shape))
  choice = choose_coupling(
    coupling, log_scale_bound=log_scale_bound, spline_bins=spline_bins, spline_bound=spline_bound
  )
  outer = (1 + choice.outputs) * columns * hidden_units
  check_memory('weights', 4 * couplings * (outer + (hidden_layers - 1) * hidden_units**2))
  seen = network_condition(classes, condition_shape)
  density_dtype = tf.float64 if dtype == 'float64' else tf.float32

  def of_data(start, name):
    return tf.Variable(tf.fill([columns], tf.constant(start, density_dtype)), trainable=False, name=name)

  tfb = tfp.bijectors
  shift, scale = tfb.Shift(of_data(0, 'mean')), tfb.Scale(of_data(1, 'std'))
  parts: list[tfp.bijectors.Bijector] = [shift, scale]
  if bounds is not None:
    parts.insert(0, _within(bounds, columns, density_dtype))
  for i in range(couplings):
    digit = i // 2 % (columns - 1).bit_length()
    kept = (np.arange(columns) >> digit) % 2
    # A layer norm would take the size of the row away.
    network = networks.dense_conditioner(
      choice.outputs * columns,
      hidden_units,
      hidden_layers,
      'none',
      dtype,
      conditional=seen is not None,
      bias_range=1.0,
    )
    mask = bijectors.masks.BinaryMask(1 - kept if i % 2 else kept)
    parts.append(choice.make(network, mask, name=f'coupling_{i}', condition_shape=seen))
  chain = tfb.Chain(parts, name=f'{name}_generator')
  return make_flow(chain, (columns,), density_dtype, name, prior, 1, classes, condition_shape, initialize=_standardize)


def _within(bounds, columns, dtype):
  """Returns the bijector from real numbers to columns between their ends. Beyond them its density is 0."""
  ends = [[math.nan if end is None else float(end) for end in pair] for pair in bounds]
  suits = len(ends) == columns and all(len(pair) == 2 and not pair[0] >= pair[1] for pair in ends)
  check('bounds', bounds, f'{columns} pairs (low, high), one for each column, with low < high or None', suits)
  tfb = tfp.bijectors
  between = tfb.Blockwise([_between(*pair, dtype) for pair in ends], [1] * columns)
  lows, highs = (tf.constant(side, dtype) for side in zip(*ends, strict=True))
  inside = between.forward(tf.zeros(columns, dtype))

  def unless_outside(y, value, otherwise):
    return tf.where((y <= lows) | (y >= highs), otherwise, value)  # Both are False for NaN, which stays NaN.

  support = tfb.Inline(
    tf.identity,
    lambda y: unless_outside(y, y, inside),
    lambda y: unless_outside(y, tf.zeros_like(y), tf.constant(-math.inf, dtype)),
    forward_min_event_ndims=0,
    name='support',
  )
  return tfb.Chain([support, between], name='bounds')


def _between(low, high, dtype):
  tfb = tfp.bijectors
  first, last = tf.constant(low, dtype), tf.constant(high, dtype)
  if math.isnan(low) and math.isnan(high):
    return tfb.Identity()
  if math.isnan(high):
    return tfb.Chain([tfb.Shift(first), tfb.Exp()])
  if math.isnan(low):
    return tfb.Chain([tfb.Shift(last), tfb.Scale(tf.constant(-1, dtype)), tfb.Exp()])
  return tfb.Sigmoid(first, last)


def _standardize(flow, data):
  standardize(flow, data.trained()[0])


def standardize(flow: Flow, rows: np.ndarray) -> None:
  """Gives a new flow of vectors the mean and the standard deviation of each column, so that networks see 0 and 1.

  ```python
  flow = fg.flows.vectors(2)
  fg.flows.standardize(flow, rows)
  ```

  Args:
    flow: A flow made by `vectors`.
    rows: The training vectors, floats `[n, d]`.

  Raises:
    ValueError: If the flow is of another kind; if the rows have another shape or type or are not finite; if a column
      varies too little to be told apart in float32, as does a constant, whose density would be infinite; or if it has
      an outlier so far away that float32 does not tell the other values apart.
  """
  build = getattr(flow, '_build', None)
  check('flow', flow, 'a flow made by `vectors`', build is not None and build.func is vectors)
  rows = np.asarray(rows)
  check_events('rows', rows, flow.event_shape, 'n')
  parts = flow.bijector.bijectors
  if parts[0].name == 'bounds':
    within, *parts = parts
    support, values = within.bijectors[0], tf.constant(rows, flow.dtype)
    outside = np.argwhere(np.isfinite(rows) & np.isinf(support.inverse_log_det_jacobian(values, event_ndims=0)))
    rows = np.asarray(within.inverse(values))
    check('rows', outside[:1].tolist(), 'between the `bounds` of the flow, not on them', len(outside) == 0)
  shift, scale = parts[:2]
  check('rows', len(rows), 'at least two rows', len(rows) > 1)
  largest = float(np.abs(rows).max())  # NaN if there is one.
  check('rows', largest, f'finite numbers, of at most {_LARGEST:g} in absolute value', largest <= _LARGEST)
  mean, std = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
  resolved = np.maximum(100 * np.spacing(np.abs(rows).max(axis=0).astype(np.float32)), 1 / _LARGEST)
  if (narrow := std <= resolved).any():
    i = int(narrow.argmax())
    said = f'column {i} with mean {mean[i]:g} and standard deviation {std[i]:g}'
    raise UsageError(f'`rows` must vary in each column by more than float32 resolves. Got: {said}.', 'rows')
  _check_outliers(rows, mean, std)
  shift.shift.assign(mean)
  scale.scale.assign(std)


def _check_outliers(rows, mean, std):
  """Rejects a column most of whose values become equal once they are standardised."""
  for i, column in enumerate(rows[:_COMPARED].T):
    scaled = (column.astype(np.float32) - np.float32(mean[i])) / np.float32(std[i])
    if 2 * len(np.unique(scaled)) < len(np.unique(column)):
      outlier = rows[np.abs(rows[:, i] - mean[i]).argmax(), i]
      said = f'{outlier:g} in column {i}, beside which float32 does not tell most other values apart'
      raise UsageError(f'`rows` must be without such outliers. Got: {said}.', 'rows')

"""What our bijectors share: value and log-determinant in one pass, variables of their own, and keywords."""

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence

import tensorflow as tf
import tensorflow_probability as tfp

# This module is private to TFP. tfb.FFJORD uses it in the same way, to keep the value and log-det of one solve.
from tensorflow_probability.python.internal import cache_util

from flowgan_tf.base.errors import UsageError, check_bool
from flowgan_tf.networks.adapter import HiddenFromKeras, KerasModule

# Arguments of TFP's methods, beside which a chain passes on the keywords of its parts by name.
_OF_TFP = {
  *('self', 'x', 'y', 'xs', 'ys', 'input', 'forward', 'event_ndims', 'name', 'forward_name', 'inverse_name', 'dtype'),
  *('step_fn', 'tangent_space', 'backward_compat', 'increased_dof', 'packed_xs', 'packed_ys', 'x_event_ndims'),
  *('y_event_ndims', 'args', 'b', 'bij', 'nd'),
}


class OnePassBijector(tfp.bijectors.Bijector):
  """A bijector that computes `y` and `log|det dy/dx|` together.

  A plain `tfb.Bijector` computes the value in `_forward` and the log-det in `_forward_log_det_jacobian`, so that a
  coupling would run its network twice for each `log_prob`. TFP may also compute the log-det from the value instead of
  the argument, although rounding has removed what distinguished the argument. A subclass of this class implements

  ```none
  _forward_and_log_det(x, training)  ->  y, log|det dy/dx|
  _inverse_and_log_det(y, training)  ->  x, log|det dx/dy|
  ```

  and TFP's cache keeps both results. The log-determinants have the batch shape of the input, or are scalars if they are
  constant. `training` and `condition` reach these methods as keyword arguments (see `bijector_kwargs`).
  """

  _cache = cache_util.BijectorCacheWithGreedyAttrs(forward_name='_cached_forward', inverse_name='_cached_inverse')

  # TFP stores the log-dets of both directions under one key, 'ildj', as the log-det of the inverse.

  def _cached_forward(self, x, **kwargs):
    y, fldj = self._forward_and_log_det(x, **kwargs)
    return y, {'ildj': -fldj}

  def _cached_inverse(self, y, **kwargs):
    x, ildj = self._inverse_and_log_det(y, **kwargs)
    return x, {'ildj': ildj}

  # TFP calls these only if a caller asks for the log-det before the value.

  def _forward_log_det_jacobian(self, x, **kwargs):
    return self._forward_and_log_det(x, **kwargs)[1]

  def _inverse_log_det_jacobian(self, y, **kwargs):
    return self._inverse_and_log_det(y, **kwargs)[1]


class VariableBijector(HiddenFromKeras, tfp.bijectors.Bijector):
  """A bijector whose constructor creates its variables, instead of taking them as arguments.

  TFP considers bijectors with equal arguments to be equal. It would share cached results between two of them, and copy
  one by calling the constructor again, which creates new variables. Here a bijector is equal only to itself.

  `copy` returns the bijector itself, and `copy.deepcopy` a bijector with variables of its own.
  """

  @classmethod
  def _parameter_properties(cls, dtype, num_classes=None):
    return {}

  def _get_parameterization(self):
    return id(self)

  def copy(self, **override_parameters_kwargs):
    """Returns the bijector itself, with its variables. It rejects the arguments that TFP's method takes."""
    if override_parameters_kwargs:
      raise NotImplementedError(f'{self.name} owns variables and cannot be copied with other arguments.')
    return self


def check_event_shape(x: tf.Tensor, event_shape: Sequence[int], owner: str) -> None:
  """Checks that the shape of `x` ends in `event_shape`, which `owner` expects.

  Otherwise it might broadcast and give a wrong log-det. Unknown dimensions are accepted.
  """
  rank, event_ndims = x.shape.rank, len(event_shape)
  if rank is not None and (rank < event_ndims or not x.shape[rank - event_ndims :].is_compatible_with(event_shape)):
    raise UsageError(f'{owner} expects events of shape {tuple(event_shape)}. Got: input of shape {x.shape}.')


@contextlib.contextmanager
def clearing_caches() -> Iterator[None]:
  """Clears the caches of TFP's bijectors at the end of a block, or of a function that it decorates.

  Otherwise they keep every graph and its flow alive for ever. The caches belong to classes, not to instances. They hold
  weak references to outputs, but strong references to log-determinants. A log-determinant in a graph refers to the
  graph. The graph owns the outputs, which would have to be deleted before their entries are cleared.
  """
  try:
    yield
  finally:
    for owner in (tfp.bijectors.Bijector, OnePassBijector):
      vars(owner)['_cache'].clear()  # On the class's cache, this clears the entries of all instances.


@tf.autograph.experimental.do_not_convert
def bijector_kwargs(
  bijector: tfp.bijectors.Bijector, *, training: bool = False, condition: tf.Tensor | None = None
) -> dict:
  """Returns the keyword arguments that pass `training` and `condition` to every part of `bijector` that takes them.

  TFP passes keyword arguments through a `tfb.Chain` or `tfb.JointMap` as dictionaries nested by bijector name. It
  silently ignores names that it does not know, so this function builds the dictionaries.

  ```python
  chain.inverse(x, **bijector_kwargs(chain, training=True))
  ```

  A bijector takes `training` if its class says `accepts_training = True`, as ours do, or if its `_forward` has an
  argument of this name; and `condition` in the same way. `tfb.RealNVP` and `tfb.MaskedAutoregressiveFlow` pass keyword
  arguments to their function, not to the bijector that it returns. They take `training` if the function has such an
  argument. Nothing else that such a function uses is examined.

  Args:
    bijector: A bijector, which may hold others.
    training: Whether batch norms use the statistics of the batch.
    condition: What the bijector is conditioned on, or None.

  Returns:
    A dictionary, empty if nothing inside takes either argument.

  Raises:
    UsageError: If `training` is not True or False, two bijectors of one chain have the same name, or `bijector` holds a
      bijector that takes an argument where TFP does not pass it on, as in `tfb.TransformDiagonal`.
  """
  check_bool('training', training)
  offered = {'training': training, 'condition': condition}
  return _kwargs(bijector, {name: value for name, value in offered.items() if value is not None})


@contextlib.contextmanager
def wrapped_methods(
  parts: Iterable[tfp.bijectors.Bijector],
  methods: Sequence[str],
  wrap: Callable[[tfp.bijectors.Bijector, str, Callable], Callable],
) -> Iterator[None]:
  """Within this block, bijectors have `wrap(part, method, original)` in place of their methods of these names."""
  found = [(part, method) for part in parts for method in methods if hasattr(part, method)]
  for part, method in found:
    vars(part)[method] = wrap(part, method, getattr(part, method))  # `setattr` would make TensorFlow track it.
  try:
    yield
  finally:
    for part, method in found:
      del vars(part)[method]


def takes_condition(bijector: tfp.bijectors.Bijector) -> bool:
  """Whether any part of `bijector` takes a `condition`."""
  return any(_takes(part, 'condition') for part in (bijector, *bijector.submodules))


def _kwargs(bijector, offered):
  if taken := {name: value for name, value in offered.items() if _takes(bijector, name)}:
    return taken
  if hasattr(bijector, 'bijectors'):  # Chain, JointMap
    children = tf.nest.flatten(bijector.bijectors)
    nested = {child.name: kwargs for child in children if (kwargs := _kwargs(child, offered))}
    names = [child.name for child in children]
    if taken := sorted(nested.keys() & _OF_TFP):
      raise UsageError(f'`bijector` must have parts with other names, as TFP has this argument. Got: {taken[0]!r}.')
    if nested and len(set(names)) < len(names):
      keywords = ' and '.join(f'`{name}`' for name in offered)
      raise UsageError(
        f'`bijector` must have parts with different names to be called with {keywords}; give each a `name`. '
        f'Got: {names}.'
      )
    return nested
  if hasattr(bijector, 'bijector'):  # Invert and FactorOut pass keyword arguments on as they are.
    return _kwargs(bijector.bijector, offered)
  for part in bijector.submodules:
    for name in offered:
      if _takes(part, name):
        raise UsageError(
          f'`bijector` must pass `{name}` on to what it holds. Got: {bijector.name!r}, which does not pass it on to '
          f'{part.name!r}.'
        )
  return {}


def _takes(module: tf.Module, name: str) -> bool:
  if not isinstance(module, tfp.bijectors.Bijector):
    return False
  if (accepts := getattr(module, f'accepts_{name}', None)) is not None:
    return accepts
  functions = [(module.parameters or {}).get(key) for key in ('bijector_fn', 'shift_and_log_scale_fn')]
  return any(has_argument(function, name) for function in (module._forward, *functions) if function)


def has_argument(function: Callable, argument: str) -> bool:
  """Whether a function or a network takes an argument of this name."""
  if isinstance(function, KerasModule) and argument == 'condition':
    return function.condition_shape is not None
  return argument in inspect.signature(function).parameters

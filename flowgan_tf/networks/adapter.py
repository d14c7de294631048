"""Keras 3 layers inside the tf.Module world of TensorFlow Probability."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Iterator, Sequence
from typing import NoReturn

import keras
import numpy as np
import tensorflow as tf

from flowgan_tf.base.errors import UsageError, check

if (_backend := keras.backend.backend()) != 'tensorflow':
  raise ImportError(f"flowgan_tf needs Keras with TensorFlow: set KERAS_BACKEND to 'tensorflow'. Got: {_backend!r}.")


class HiddenFromKeras(tf.Module):
  """Base of modules whose variables a Keras layer does not see: they must not become its attributes.

  A Keras 3 layer trains and saves only `keras.Variable`s. It would accept a `tf.Module` as an attribute, and neither
  train it nor save it, without an error.
  """

  def _maybe_initialize_trackable(self):
    super()._maybe_initialize_trackable()
    # TensorFlow calls this method when the module becomes an attribute of an object, and neither TensorFlow nor Keras
    # has a public hook for that. Only the caller knows the object.
    owner = inspect.currentframe().f_back.f_locals.get('self')
    if isinstance(owner, keras.Layer):
      _check_owner(owner, self.variables, self.name)


def _check_owner(owner: keras.Layer, variables: Sequence[tf.Variable], name: str) -> None:
  seen = {id(v._value) for v in owner.variables}  # `value` would be a cast copy under mixed precision.
  if any(id(v) not in seen for v in variables):
    raise UsageError(
      f'`{owner.name}` is a Keras layer and does not see the variables of {name!r}: it would neither train nor save '
      'them. Give it `model = flowgan_tf.keras.FlowModel(flow)` instead, and call `model.flow`.'
    )


@tf.autograph.experimental.do_not_convert
def _called_layer() -> keras.Layer | None:
  """Returns the outermost Keras layer that is being called. Keras knows it, but tells it only in private."""
  frame, layer = inspect.currentframe(), None
  while frame:
    if frame.f_code.co_name == '__call__' and isinstance(found := frame.f_locals.get('self'), keras.Layer):
      layer = found
    frame = frame.f_back
  return layer


class KerasModule(HiddenFromKeras):
  """A built Keras layer whose variables TFP, checkpoints and SavedModels can see.

  TFP finds `tf.Variable`s through `tf.Module`. A Keras 3 layer is not one, and a bijector that holds it as an attribute
  would report no trainable variables, without an error. This adapter builds the layer at once and tracks the
  `tf.Variable` behind each of its variables exactly once.

  `trainable_variables` follows the `trainable` of the layer and of the layers inside it, even if they change later.
  Constraints of the layer, such as `kernel_constraint`, apply in any optimizer that applies those of a `tf.Variable`.

  `copy.deepcopy` copies the layer, from its configuration and its weights. Modules that share a layer share its copy.

  A module raises a `UsageError` if it becomes an attribute of a Keras layer that does not see its variables, or is
  called within the `call` of one.

  The output is cast to the dtype of the input, so that a bfloat16 or float16 network hands float32 numbers to the
  arithmetic of a float32 bijector.

  Attributes:
    condition_shape: Shape of one condition, or None if the layer takes none.
    output_event_shape: Shape of one output, without a batch dimension.
    recompute: Whether a gradient computes the network again instead of keeping its activations (gradient
      checkpointing, Chen et al. 2016): less memory, more time, the same numbers. Running statistics are updated once,
      and random numbers are the same in both passes. A gradient of such a gradient raises an error.
  """

  recompute: bool = False
  _skipped: bool = False

  def __init__(
    self,
    layer: keras.Layer,
    input_shape: Sequence[int],
    name: str | None = None,
    *,
    condition_shape: Sequence[int] | None = None,
  ):
    """Builds `layer`, which maps `[batch, *input_shape]` to `[batch, *output_event_shape]`.

    With a `condition_shape` it maps a list, `[x, c]`, with conditions `c` of shape `[batch, *condition_shape]`.

    Raises:
      UsageError: If the layer returns something else than one tensor, or leaves the condition out.
    """
    super().__init__(name=name)
    self._input_shape = tuple(input_shape)
    self.condition_shape = None if condition_shape is None else tuple(condition_shape)
    with tf.init_scope():
      if isinstance(layer, keras.Sequential) and not layer.built:
        # The call below would give the model a batch size of 1, which it would keep when saved, loaded and exported.
        layer.build((None, *self._input_shape))
      shapes = [shape for shape in (self._input_shape, self.condition_shape) if shape is not None]
      inputs = [tf.zeros((1, *shape), layer.compute_dtype) for shape in shapes]
      with warnings.catch_warnings():
        if condition_shape is not None:  # Keras only warns that a model of one input leaves the condition out.
          warnings.filterwarnings('error', "The structure of `inputs` doesn't match", UserWarning)
        try:
          output = self._call(layer, inputs, training=False)
        except UserWarning as error:
          expected = 'a network of a list of two inputs, an image and its condition'
          raise UsageError(f'`layer` must be {expected}. Got: {layer.name}, a model of other inputs.') from error
    check('layer', layer, 'a layer that returns one tensor', tf.is_tensor(output))
    self.output_event_shape = tuple(output.shape[1:])
    # It stays out of the object graph, where the variables would be tracked a second time.
    self._layer = self._no_dependency(layer)
    # Checkpoints store these keys, such as '000_kernel'. They start with an index because Keras' names repeat. With
    # Keras' paths as keys, the running statistics of batch norms would not be restored.
    self._tf_variables = {f'{i:03d}_{v.name}': v.value for i, v in enumerate(layer.variables)}
    self._follow_layer()

  def _follow_layer(self):
    """Gives each `tf.Variable` what Keras' variable has now. TensorFlow sets that once, at creation."""
    for source, variable in zip(self._layer.variables, self._tf_variables.values(), strict=True):
      variable._trainable = self._layer.trainable and source.trainable
      # Optimizers apply it after each update. A variable of several devices reads its first copy's.
      getattr(variable, '_primary', variable)._constraint = source.constraint

  @property
  def _TF_MODULE_IGNORED_PROPERTIES(self):
    # A module that collects its variables reads this property of each module inside it, just before it looks at them.
    # TensorFlow has no public hook for that.
    if hasattr(self, '_tf_variables'):
      self._follow_layer()
    return super()._TF_MODULE_IGNORED_PROPERTIES

  def __deepcopy__(self, memo: dict) -> KerasModule:
    """Copies the module with a copy of the layer. Raises a TypeError if a part also belongs to another network."""
    layer = memo.get(id(self._layer))
    if layer is None:
      if any(id(part) in memo for part in self._layer._flatten_layers(include_self=False)):
        raise TypeError(f'{self._layer.name!r} cannot be copied: it shares a layer with another network.')
      layer = _clone(self._layer)
    module = KerasModule(layer, self._input_shape, self.name, condition_shape=self.condition_shape)
    for source, part in zip(self._layer._flatten_layers(), layer._flatten_layers(), strict=True):
      part.trainable = source.trainable
      memo[id(source)] = part
    for source, part in zip(self._layer.variables, layer.variables, strict=True):
      part.assign(source)
      part.trainable, part.constraint = source.trainable, source.constraint
    module._follow_layer()
    module.recompute = self.recompute
    memo.update((id(v), w) for v, w in zip(self._tf_variables.values(), module._tf_variables.values(), strict=True))
    memo[id(self)] = module
    return module

  def __reduce__(self) -> NoReturn:
    # By default the variables would be stored twice, once for the module and once for the layer.
    reject_pickling(self)

  @property
  def layer(self) -> keras.Layer:
    """The Keras layer."""
    return self._layer

  @property
  def trainable(self) -> bool:
    """Whether the layer is trained. Setting it freezes or frees the layer with all its parts, as in Keras."""
    return self._layer.trainable

  @trainable.setter
  def trainable(self, value: bool) -> None:
    self._layer.trainable = value

  @staticmethod
  def _call(layer, inputs, training):
    return layer(inputs[0] if len(inputs) == 1 else list(inputs), training=training)

  def __call__(self, x: tf.Tensor, condition: tf.Tensor | None = None, *, training: bool = False) -> tf.Tensor:
    """Applies the layer to `[..., *input_shape]`; returns `[..., *output_event_shape]` in the dtype of `x`.

    A condition `[..., *condition_shape]` may lack the first batch dimensions of `x`.

    Raises:
      UsageError: If a condition is missing, has another shape, or is given to a layer that takes none.
    """
    shape, expected = self.condition_shape, f'floats of shape [..., {", ".join(map(str, self.condition_shape or ()))}]'
    expected = 'None, as the network takes no condition' if shape is None else expected
    found = None if condition is None else tf.TensorShape(condition.shape)
    suits = found is None or found.rank is None or (shape and found[-len(shape) :].is_compatible_with(shape))
    check('condition', found, expected, (found is None) == (shape is None) and bool(suits))
    owner = _called_layer()  # AutoGraph cannot convert `:=`.
    if owner is not None:
      _check_owner(owner, [v._value for v in self._layer.variables], self._layer.name)
    self._follow_layer()  # A tape records only what is trainable.
    batch_shape = tf.shape(x)[: tf.rank(x) - len(self._input_shape)]
    inputs = [tf.reshape(x, (-1, *self._input_shape))]
    if self.condition_shape is not None:
      condition = tf.broadcast_to(condition, tf.concat([batch_shape, self.condition_shape], axis=0))
      inputs.append(tf.cast(tf.reshape(condition, (-1, *self.condition_shape)), x.dtype))
    y = tf.cast(self._apply(inputs, training), x.dtype)
    return tf.reshape(y, tf.concat([batch_shape, self.output_event_shape], axis=0))

  @contextlib.contextmanager
  def skipped_if_zero(self) -> Iterator[None]:
    """Within the block, the layer is not computed if it returns zero, as the layer of a new coupling does.

    We try two random inputs to find out whether it returns zero.
    """
    shapes = [shape for shape in (self._input_shape, self.condition_shape) if shape is not None]
    inputs = [tf.random.stateless_normal((2, *shape), (i, 0)) for i, shape in enumerate(shapes)]
    output = self._call(self._layer, [tf.cast(x, self._layer.compute_dtype) for x in inputs], training=False)
    self._skipped = not np.any(output)
    try:
      yield
    finally:
      self._skipped = False

  def _apply(self, inputs, training):
    if self._skipped:
      return tf.zeros((tf.shape(inputs[0])[0], *self.output_event_shape), inputs[0].dtype)
    if not self.recompute:
      return self._call(self._layer, inputs, training)
    weights = self._layer.trainable_variables
    # Both passes start from the same statistics and seeds. Only the first changes them.
    state = [(variable, tf.convert_to_tensor(variable.value)) for variable in self._layer.non_trainable_variables]
    after = []

    def network(*arguments):
      count = len(inputs)
      with keras.StatelessScope([*zip(weights, arguments[count:], strict=True), *state]) as scope:
        y = self._call(self._layer, arguments[:count], training)
      after.append([scope.get_current_value(variable) for variable, _ in state])
      return y

    @tf.custom_gradient
    def recomputed(x, *others):
      def gradient(dy):
        # Wait for `dy`, or the activations of all networks would be in memory at once. XLA honours only the sum.
        with tf.control_dependencies([dy]):
          later = x + 0.0 * tf.cast(tf.reduce_sum(tf.reshape(dy, (-1,))[:1]), x.dtype)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
          tape.watch((later, others))
          y = network(later, *others)
        return tape.gradient(y, (later, *others), dy)

      return network(x, *others), gradient

    y = recomputed(*inputs, *(tf.convert_to_tensor(variable.value) for variable in weights))
    for (variable, before), value in zip(state, after[0], strict=True):
      if value is not before:
        variable.assign(value)
    return y


def reject_pickling(module: tf.Module) -> NoReturn:
  """Raises a TypeError that says that a module cannot be pickled, and what to do instead."""
  raise TypeError(
    f'{module.name!r} cannot be pickled: networks of Keras and priors of TFP would not come back whole. Use '
    '`tf.train.Checkpoint`, `flowgan_tf.export.write_saved_model` or `flowgan_tf.keras.FlowModel(flow).save`. For a '
    'copy, use `copy.deepcopy`.'
  )


def _clone(layer: keras.Layer) -> keras.Layer:
  """Makes a layer from the configuration of another one, whether or not its classes are registered with Keras."""
  classes = {c.__name__: c for c in map(type, layer._flatten_layers()) if c.__module__.partition('.')[0] != 'keras'}
  config = keras.saving.serialize_keras_object(layer)
  with warnings.catch_warnings():
    # Keras warns of layers that it cannot build before their first call, which follows.
    warnings.simplefilter('ignore', UserWarning)
    return keras.saving.deserialize_keras_object(config, custom_objects=classes, safe_mode=False)

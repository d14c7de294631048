"""A flow as a Keras model: `compile`, `fit`, `evaluate`, `save`, on the negative log-likelihood.

`keras.saving.load_model` knows the model once this module is imported.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from flowgan_tf.base.errors import check
from flowgan_tf.bijectors import clearing_caches
from flowgan_tf.flows import GENERATORS, Flow, MixturePrior
from flowgan_tf.flows.checks import NOT_DEQUANTIZED, on_grey_levels
from flowgan_tf.flows.histograms import histogram_logits
from flowgan_tf.keras.data import FlowData, is_array, labels_for
from flowgan_tf.networks.adapter import KerasModule

__all__ = ['FlowModel']

_FEW = 100  # images that show whether noise was added to grey levels
_VERSION = 1  # of what `get_config` returns.


class _BijectorVariable(keras.Variable):
  """A variable that a bijector owns. It has the `trainable` and the `constraint` of TensorFlow's."""

  @property
  def trainable(self) -> bool:
    return self._value.trainable

  @trainable.setter
  def trainable(self, value: bool) -> None:
    self._value._trainable = bool(value)

  @property
  def constraint(self) -> Callable[[keras.Variable], tf.Tensor] | None:
    # Keras' optimizers apply it after each update. It expects a tensor, not a variable of Keras.
    constraint = self._value.constraint
    return constraint and (lambda variable: constraint(tf.convert_to_tensor(variable.value)))


@keras.saving.register_keras_serializable(package='flowgan_tf')
class FlowModel(keras.Model):
  """A Keras model around a flow, trained by maximum likelihood.

  ```none
  model(x) = log p(x)         loss = -1/n sum_i log p(x_i), nats per image
  ```

  The model shares the variables of the flow: training one trains the other. `predict` returns the log-densities. `fit`
  runs the flow with `training=True`, so that batch norms use the statistics of the batch and move the running ones;
  `evaluate` and `predict` use the running ones.

  Data are batches of images, or of `(images, labels)`, whose labels are ignored, or of `(images, labels, weights)`.
  Images are floating-point numbers in [0, 1]. A flow is a density, so images of 256 levels need to be dequantised, as
  by `flowgan_tf.data.dequantize`. `fit` and `evaluate` reject other values, unless they come from a dataset or a
  generator in a step that XLA compiles (`jit_compile`, Keras' default on a GPU). `predict` returns -inf for images
  outside of the flow's support.

  A conditional flow learns from `fit(x, y)`, or from batches of `(x, y)`, where `y` are its conditions: labels `[n]`,
  ints, or floats `[n, *condition_shape]`.

  ```none
  model([x, y]) = log p(x | y)                       loss = -1/n sum_i log p(x_i | y_i), nats per image
  model(x) = p(y | x), [n, classes], if there are classes
  ```

  So `predict(x)` returns the probabilities of the classes (NaN for an image outside the support), and `metrics` such as
  'accuracy' judge them; in `fit` they cost a forward pass for each class. If there are no classes, `predict` takes
  `[x, y]`, or a dataset of such pairs, and returns log-densities.

  p(y | x) depends on the probabilities of the classes, `flow.class_probs`, which are equal in a new flow. If `y` is an
  array, `fit` sets them to the frequencies of its labels. `fit` does not count the labels of a dataset or a generator.
  Set the probabilities for these: `flow.class_probs.assign(np.bincount(labels, minlength=classes) / len(labels))`.

  `fit` of a model does not call `fit` of bijectors, which takes first values from images: call
  `flowgan_tf.flows.fit_bijectors(flow, images)` before.

  A flow made by a builder, such as `flowgan_tf.flows.nice`, is saved with its arguments. Keras finds a builder of your
  own under its name in its registry (`keras.saving.register_keras_serializable()` above `@builder`) or in
  `custom_objects`. A flow put together by hand can save its weights (`save_weights`), but Keras cannot rebuild it.
  """

  def __init__(self, flow: Flow, name: str | None = None):
    """Builds the model.

    Args:
      flow: The flow, whose variables the model shares.
      name: Name of the model, by default the flow's.

    Raises:
      ValueError: If `flow` is not a `Flow`.
    """
    check('flow', flow, 'a `flowgan_tf.flows.Flow`, which has a log-density', isinstance(flow, Flow))
    check('flow', flow.dtype, 'a flow over one tensor', isinstance(flow.dtype, tf.DType))
    super().__init__(name=name or flow.name, dtype=flow.dtype.name)
    of_layers = {id(v._value): v for module in _keras_modules(flow) for v in module.layer.variables}
    self._flow_variables = [
      of_layers[id(v)]
      if id(v) in of_layers
      else _BijectorVariable(v, trainable=v.trainable, name=v.name.split('/')[-1].split(':')[0])
      for v in flow.variables
    ]
    self.flow = flow
    self._data = FlowData(flow)
    if not flow._is_conditional:
      self.input_spec = keras.InputSpec(shape=(None, *flow.event_shape))
    self.built = True

  @property
  def trainable(self) -> bool:
    """Whether the flow is trained. Setting it freezes or frees the flow with all its networks."""
    return super().trainable

  @trainable.setter
  def trainable(self, value: bool) -> None:
    keras.Model.trainable.fset(self, value)
    for module in _keras_modules(self.flow):
      module.trainable = value

  def call(self, inputs: tf.Tensor | Sequence[tf.Tensor], training: bool = False) -> tf.Tensor:
    """Log-density of images `[batch, *event_shape]`, `[batch]`, in nats with respect to the unit cube.

    For a conditional flow, the inputs are a pair `[x, y]`. For images alone, a flow with classes returns their
    probabilities `[batch, classes]`.
    """
    # As in Keras' own layers, what is frozen runs in inference mode.
    training = bool(training) and self.trainable
    images, condition = inputs if isinstance(inputs, list | tuple) else (inputs, None)
    # `fit` traces one function for batches of several shapes, and does not know their shapes.
    images = tf.ensure_shape(images, (None, *self.flow.event_shape))
    if condition is None and self.flow.classes is not None:
      return tf.nn.softmax(self.flow.class_log_probs(images, training=training))
    return self.flow.given(condition).log_prob(images, training=training)

  def compile(
    self, optimizer: str | keras.Optimizer = 'rmsprop', *, auto_scale_loss: bool = True, **kwargs: Any
  ) -> None:
    """Configures the training, as in `keras.Model`, but without a loss, and with metrics only for classes.

    Args:
      optimizer: An optimizer, or the name of one.
      auto_scale_loss: Whether to wrap the optimizer in a `keras.optimizers.LossScaleOptimizer` if a network of the flow
        computes in float16, because gradients in float16 would vanish.
      **kwargs: Further arguments of `keras.Model.compile`. Metrics, such as 'accuracy', measure p(y | x).

    Raises:
      ValueError: If a loss is given, or there are metrics for a flow without classes.
    """
    metrics = ('metrics', 'weighted_metrics') if self.flow.classes is None else ()
    for name in ('loss', 'loss_weights', *metrics):
      check(name, kwargs.get(name), 'left out: a flow is trained and judged on its likelihood', not kwargs.get(name))
    optimizer = keras.optimizers.get(optimizer)
    scaled = optimizer is None or isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    # Keras looks at the dtype of the model, which is the dtype of the densities.
    layers = [layer for module in _keras_modules(self.flow) for layer in module.layer._flatten_layers()]
    if auto_scale_loss and not scaled and any(layer.compute_dtype == 'float16' for layer in layers):
      # The default scale of 2**15 overflows in a flow's first steps, which would then be skipped.
      optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0**12)
    super().compile(optimizer, **kwargs)

  def compile_from_config(self, config: dict[str, Any]) -> None:
    """Compiles a loaded model as it was compiled before. Keras calls this."""
    # If the optimizer was to be wrapped, it was saved wrapped.
    self.compile(**keras.saving.deserialize_keras_object(config), auto_scale_loss=False)
    if self.optimizer is not None:
      self.optimizer.build(self.trainable_variables)

  def compute_loss(
    self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
  ) -> tf.Tensor:
    """Mean negative log-likelihood in nats per image, weighted by `sample_weight`, plus the regularizers of weights.

    Each of several replicas has its share, as Keras expects.
    """
    late = len(self.flow.variables) - len(self._flow_variables)
    expected = 'called once, as by `flow.sample(1)`, before it becomes a `FlowModel`, to make its variables'
    check('flow', f'{late} variables from a later call', expected, late == 0)
    # As [n, 1] they would be broadcast against [n].
    weights = 1.0 if sample_weight is None else tf.reshape(tf.cast(sample_weight, y_pred.dtype), tf.shape(y_pred))
    loss = tf.add_n([-tf.reduce_mean(weights * y_pred), *(tf.cast(loss, y_pred.dtype) for loss in self.losses)])
    return loss / tf.distribute.get_strategy().num_replicas_in_sync  # Keras adds the replicas' gradients.

  def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, tf.Tensor]:
    """Updates the metrics, which measure p(y | x), and returns their values. Keras calls this."""
    if self._compile_metrics is not None:
      y_pred = self(x[0] if isinstance(x, list | tuple) else x)
    return super().compute_metrics(x, y, y_pred, sample_weight)

  def sample(
    self, n: int | Sequence[int] = (), seed: int | tf.Tensor | None = None, condition: tf.Tensor | str | None = None
  ) -> tf.Tensor:
    """Draws images of shape `[n, *event_shape]`; see `Flow.sample`."""
    return self.flow.sample(n, seed=seed, condition=condition)

  @clearing_caches()
  def fit(
    self,
    x: Any = None,
    y: Any = None,
    *args: Any,
    validation_data: Any = None,
    sample_weight: Any = None,
    **kwargs: Any,
  ) -> keras.callbacks.History:
    """Maximises the likelihood; see `keras.Model.fit`.

    For a flow with classes it first sets `flow.class_probs` to the frequencies of labels in an array `y`, without
    regard to `sample_weight`. It warns if the prior has several components whose means are still where the builder put
    them, at random, if nobody has fitted the histograms of a flow with `histogram_bins`, or if an array of images has
    exact grey levels, to which `flowgan_tf.data.dequantize` would add noise.

    Raises:
      ValueError: If the data are not batches of images, with their conditions for a conditional flow, or a builder made
        the flow and an array has values outside [0, 1], or labels do not exist, or weights are negative or not finite,
        or a masked array of NumPy has masked values. For a dataset or a generator the step raises
        `tf.errors.InvalidArgumentError` instead.
    """
    self._data.check(x, y, sample_weight)
    if isinstance(validation_data, list | tuple):
      images, labels, weights = keras.utils.unpack_x_y_sample_weight(validation_data)
      self._data.check(images, labels, weights)
      validation_data = images, labels_for(images, labels, weights), weights
    prior = self.flow.distribution
    if isinstance(prior, MixturePrior) and isinstance(prior.prototypes, tf.Variable) and not prior.is_placed:
      advice = 'call `flowgan_tf.flows.initialize_prior` first, or all images may come to share one of them'
      warnings.warn(f'the {prior.num_components} components of the prior are at random places; {advice}', stacklevel=3)
    if any(logit.is_new for logit in histogram_logits(self.flow)):
      warnings.warn('all bins are equally probable; call `flowgan_tf.flows.fit_histograms` first', stacklevel=3)
    if self._data.in_unit_cube and is_array(x) and on_grey_levels(x[:_FEW]).all():
      warnings.warn(NOT_DEQUANTIZED, stacklevel=3)
    if y is not None and isinstance(self.flow.class_probs, tf.Variable):
      labels = np.asarray(y).ravel().astype(np.int64)
      self.flow.class_probs.assign(np.bincount(labels, minlength=self.flow.classes or 0) / len(labels))
    y = labels_for(x, y, sample_weight)
    history = super().fit(x, y, *args, validation_data=validation_data, sample_weight=sample_weight, **kwargs)
    # Keras' average of weights (`use_ema`), which takes their place, is of weights before their constraints.
    for variable in self.trainable_variables:
      if variable.constraint is not None:
        variable.assign(variable.constraint(variable))
    return history

  @clearing_caches()
  def evaluate(
    self,
    x: Any = None,
    y: Any = None,
    batch_size: int | None = None,
    verbose: int | str = 'auto',
    sample_weight: Any = None,
    **kwargs: Any,
  ) -> Any:
    """Returns the loss, and metrics if there are some; see `keras.Model.evaluate`. It rejects what `fit` rejects."""
    self._data.check(x, y, sample_weight)
    return super().evaluate(x, labels_for(x, y, sample_weight), batch_size, verbose, sample_weight, **kwargs)

  @clearing_caches()
  def predict(self, x: Any, *args: Any, **kwargs: Any) -> np.ndarray:
    """Log-densities in nats, or probabilities `[n, classes]` of the classes; see `keras.Model.predict`.

    An image outside the support has the log-density -inf. If the flow is given vectors or images, `x` is a list
    `[x, y]`, or a dataset of such pairs.
    """
    images, y = x if self._data.takes_pairs and isinstance(x, list | tuple) and len(x) == 2 else (x, None)
    self._data.check(images, y, predict=True)
    return super().predict(x, *args, **kwargs)

  def train_step(self, data: Any) -> dict[str, tf.Tensor]:
    """One step of `fit`. Keras calls this."""
    return super().train_step(self._data.checked(data))

  def test_step(self, data: Any) -> dict[str, tf.Tensor]:
    """One step of `evaluate`. Keras calls this."""
    return super().test_step(self._data.checked(data))

  def predict_step(self, data: Any) -> tf.Tensor:
    """One step of `predict`. Keras calls this."""
    x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
    return super().predict_step(([x, y],) if self._data.takes_pairs and y is not None else data)

  def save(self, filepath: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
    """Writes a `.keras` file; see `keras.Model.save`."""
    # An HDF5 file would hold neither the flow nor its weights.
    check('filepath', filepath, 'a `.keras` file', not str(filepath).endswith(('.h5', '.hdf5')))
    super().save(filepath, *args, **kwargs)

  def export(self, filepath: str | os.PathLike, *args: Any, input_signature: Any = None, **kwargs: Any) -> None:
    """Writes a SavedModel of `call`; see `keras.Model.export`. By default it takes any number of images.

    If the flow is given vectors or images, it takes a list `[x, y]`.
    """
    shapes = [shape for shape in (self.flow.event_shape, self.flow.condition_shape) if shape is not None]
    inputs = [keras.InputSpec(shape=(None, *shape), dtype=self.flow.dtype.name) for shape in shapes]
    super().export(
      filepath, *args, input_signature=input_signature or ([inputs] if self._data.takes_pairs else inputs), **kwargs
    )

  def get_config(self) -> dict[str, Any]:
    """Describes the model: the flow's builder, the shape of an image, all arguments, and what is frozen.

    Raises:
      ValueError: If no builder made the flow, or the builder is not ours but has the name of one of ours.
    """
    if self.flow._build is None:
      raise ValueError(
        f'`flow` must come from a builder, such as `nice`, to be described in a file. Got: {self.flow.name!r}, put '
        'together by hand: use `save_weights`, or make a function of it with the decorator `builder`.'
      )
    made: Any = self.flow._build  # a partial function
    build, [image_shape], arguments = made.func, made.args, made.keywords
    name = next((name for name, b in GENERATORS.items() if b is build), keras.saving.get_registered_name(build))
    check('flow', name, 'a flow whose builder has a name of its own', GENERATORS.get(name, build) is build)
    return {
      'version': _VERSION,
      'builder': name,
      'image_shape': [int(size) for size in image_shape],
      'arguments': keras.saving.serialize_keras_object({**arguments, 'name': self.flow.name}),
      'class_names': self.flow.class_names,
      'name': self.name,
      'trainable': self.trainable,
      'frozen': [
        [i for i, layer in enumerate(module.layer._flatten_layers()) if not layer.trainable]
        for module in _keras_modules(self.flow)
      ],
      'frozen_variables': [i for i, v in enumerate(self._flow_variables) if not v.trainable],
    }

  @classmethod
  def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Callable] | None = None) -> FlowModel:
    """Builds the model from what `get_config` returned. Raises a ValueError if the version or builder is unknown."""
    version, name = config.get('version'), config['builder']
    check('version', version, f'{_VERSION}, which is what this flowgan_tf can read', version == _VERSION)
    build = GENERATORS.get(name) or keras.saving.get_registered_object(name, custom_objects)
    expected = (
      f'one of {", ".join(GENERATORS)} or a function that Keras knows by '
      '`keras.saving.register_keras_serializable` or `custom_objects`'
    )
    check('builder', name, expected, build is not None)
    flow = build(tuple(config['image_shape']), **keras.saving.deserialize_keras_object(config['arguments']))
    flow.class_names = config.get('class_names')
    model = cls(flow, name=config['name'])
    model.trainable = config['trainable']
    for module, frozen in zip(_keras_modules(flow), config['frozen'], strict=True):
      for i, layer in enumerate(module.layer._flatten_layers()):
        layer.trainable = i not in frozen
    for i, variable in enumerate(model._flow_variables):
      variable.trainable = i not in config['frozen_variables']
    return model

  # Keras' own order of the variables depends on which of them were trainable when the model was made.

  def _named_variables(self) -> dict[str, keras.Variable]:
    return {f'{i:03d}_{v.name}': v for i, v in enumerate(self._flow_variables)}

  def save_own_variables(self, store: Any) -> None:
    """Puts each variable under its place in `flow.variables` and its name. Keras calls this."""
    for name, variable in self._named_variables().items():
      store[name] = variable

  def load_own_variables(self, store: Any) -> None:
    """Assigns what `save_own_variables` has stored. It changes nothing if a name or a shape differs."""
    named = self._named_variables()
    expected = {(name, tuple(variable.shape)) for name, variable in named.items()}
    found = {(name, tuple(store[name].shape)) for name in [*store.keys()]}
    if found != expected:
      raise ValueError(
        f'The weights must come from a flow like {self.flow.name!r}, with {len(named)} variables. Got: {len(found)} '
        f'variables, of which {len(found & expected)} have the right names and shapes.'
      )
    for name, variable in named.items():
      variable.assign(store[name])
      if variable.constraint is not None and not np.allclose(variable.constraint(variable), variable.value):
        said = f'{name!r} breaks its constraint, which would change it in training; does its network have random masks?'
        warnings.warn(said, stacklevel=2)


def _keras_modules(flow: Flow) -> list[KerasModule]:
  return [module for module in flow.submodules if isinstance(module, KerasModule)]

"""The class of flows as Keras models."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from flowgan_tf.errors import check
from flowgan_tf.flows import Flow, MixturePrior
from flowgan_tf.keras.flow_config import build_flow, describe
from flowgan_tf.keras.image_batches import check_data, check_values, readable_errors, to_images, to_labels
from flowgan_tf.networks.adapter import KerasModule

__all__ = ['FlowModel']

_VERSION = 1  # of what `get_config` returns.


class _BijectorVariable(keras.Variable):
  """A variable that a bijector owns. It is frozen where TensorFlow's is, and freezes that."""

  @property
  def trainable(self) -> bool:
    return self._value.trainable

  @trainable.setter
  def trainable(self, value: bool) -> None:
    self._value._trainable = bool(value)


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
  by `flowgan_tf.data.dequantize`. `fit` and `evaluate` refuse other values; those of a dataset or a generator go
  unnoticed in a step that XLA compiles (`jit_compile`, Keras' default on a GPU). `predict` returns -inf for them.

  A flow made by a builder, such as `flowgan_tf.flows.nice`, is saved with its arguments (`save`, `.keras`) and can be
  loaded by `keras.saving.load_model` once `flowgan_tf.keras` is imported. A builder of your own is found under its name
  in Keras' registry (`keras.saving.register_keras_serializable()` above `@builder`) or in `custom_objects`. A flow put
  together by hand has weights (`save_weights`), but no description to build it from.

  Attributes:
    flow: The flow.

  #### Examples

  ```python
  model = fg.keras.FlowModel(fg.flows.nice((28, 28, 1)))
  model.compile(optimizer='adam')
  model.fit(images, batch_size=100, epochs=10)
  model.evaluate(test_images)     # nats per image
  model.save('flow.keras')
  ```
  """

  def __init__(self, flow: Flow, name: str | None = None):
    """Builds the model.

    Args:
      flow: The flow, whose variables the model shares.
      name: Name of the model, by default that of the flow.

    Raises:
      ValueError: If `flow` is not a `Flow`.
    """
    if not isinstance(flow, Flow):
      raise ValueError(f'`flow` must be a `flowgan_tf.flows.Flow`, which has a log-density. Got: {flow!r}.')
    super().__init__(name=name or flow.name, dtype=flow.dtype.name)
    of_layers = {id(v._value): v for module in _keras_modules(flow) for v in module.layer.variables}
    self._flow_variables = [
      of_layers[id(v)] if id(v) in of_layers else _BijectorVariable(v, trainable=v.trainable, name=_base_name(v))
      for v in flow.variables
    ]
    self.flow = flow
    # A flow that was put together by hand may have another support.
    self._in_unit_cube = hasattr(flow, '_build')
    self.input_spec = keras.InputSpec(shape=(None, *flow.event_shape))
    self.built = True

  def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
    """Log-density of images `[batch, *event_shape]`, `[batch]`, in nats with respect to the unit cube."""
    # `fit` traces one function for batches of several shapes, and knows the shape of none of them.
    images = tf.ensure_shape(images, (None, *self.flow.event_shape))
    return self.flow.log_prob(images, training=bool(training))

  def compile(
    self,
    optimizer: str | keras.Optimizer = 'rmsprop',
    loss: None = None,
    loss_weights: None = None,
    metrics: None = None,
    weighted_metrics: None = None,
    *args,
    auto_scale_loss: bool = True,
    **kwargs,
  ) -> None:
    """Configures the training, as in `keras.Model`. A loss and metrics are not given.

    Args:
      optimizer: An optimizer, or the name of one. If a network of the flow computes in float16, it is wrapped in a
        `keras.optimizers.LossScaleOptimizer`, because the gradients of float16 would vanish.
      loss: None, as are `loss_weights`, `metrics` and `weighted_metrics`.
      *args: Passed on to Keras.
      auto_scale_loss: Whether to wrap the optimizer.
      **kwargs: Passed on to Keras.

    Raises:
      ValueError: If a loss or metrics are given.
    """
    not_given = {'loss': loss, 'loss_weights': loss_weights, 'metrics': metrics, 'weighted_metrics': weighted_metrics}
    for name, value in not_given.items():
      if value:
        raise ValueError(
          f'`{name}` must be left out of `compile`: a flow is trained and judged on its likelihood. Got: {value!r}.'
        )
    optimizer = keras.optimizers.get(optimizer)
    scaled = optimizer is None or isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    # Keras looks at the dtype of the model, which is that of the densities.
    if auto_scale_loss and not scaled and any(layer.compute_dtype == 'float16' for layer in self._network_layers()):
      # The default scale of 2**15 overflows in the first steps of a flow, which would be skipped.
      optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0**12)
    super().compile(optimizer, None, None, None, None, *args, **kwargs)

  def compile_from_config(self, config: dict[str, Any]) -> None:
    """Compiles a loaded model as it was compiled before. Keras calls this."""
    # An optimizer that was to be wrapped was saved so.
    self.compile(**keras.saving.deserialize_keras_object(config), auto_scale_loss=False)
    if self.optimizer is not None:
      self.optimizer.build(self.trainable_variables)

  def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True) -> tf.Tensor:
    """Mean negative log-likelihood in nats per image, weighted by `sample_weight`, plus what the networks add.

    They add the losses of their regularizers, of weights and of activities, and of `add_loss`.
    """
    # As [n, 1] they would be broadcast against [n].
    weights = 1.0 if sample_weight is None else tf.reshape(tf.cast(sample_weight, y_pred.dtype), tf.shape(y_pred))
    added = [tf.reduce_sum(tf.cast(loss, y_pred.dtype)) for loss in self.losses]
    return tf.add_n([-tf.reduce_mean(weights * y_pred), *added])

  def sample(self, n: int | Sequence[int] = (), seed: int | tf.Tensor | None = None) -> tf.Tensor:
    """Draws images of shape `[n, *event_shape]`; see `Flow.sample`."""
    return self.flow.sample(n, seed=seed)

  @contextmanager
  def _refusals(self) -> Iterator[None]:
    try:
      with readable_errors(self.flow.event_shape):
        yield
    except Exception:
      # A function whose first trace has failed would fail for good data, too.
      self.train_function = self.test_function = self.predict_function = None
      raise

  def fit(self, x=None, y=None, *args, validation_data=None, sample_weight=None, **kwargs) -> keras.callbacks.History:
    """Maximises the likelihood; see `keras.Model.fit`.

    A prior of several components whose means are where the builder put them, at random, is warned of.

    Raises:
      ValueError: If the data are not batches of images, or have values outside [0, 1] and the flow is of a builder.
    """
    check_data(x, self.flow.event_shape, self._in_unit_cube)
    if isinstance(validation_data, list | tuple):
      images, labels, weights = keras.utils.unpack_x_y_sample_weight(validation_data)
      check_data(images, self.flow.event_shape, self._in_unit_cube)
      validation_data = images, to_labels(images, labels, weights), weights
    prior = getattr(self.flow, 'distribution', None)
    if isinstance(prior, MixturePrior) and isinstance(prior.prototypes, tf.Variable) and not prior.is_placed:
      advice = 'call `flowgan_tf.flows.initialize_prior` first, or all images may come to share one of them'
      warnings.warn(f'the {prior.num_components} components of the prior are at random places; {advice}', stacklevel=2)
    y = to_labels(x, y, sample_weight)
    with self._refusals():
      return super().fit(x, y, *args, validation_data=validation_data, sample_weight=sample_weight, **kwargs)

  def evaluate(self, x=None, y=None, batch_size=None, verbose='auto', sample_weight=None, **kwargs):
    """Returns the loss; see `keras.Model.evaluate`. Refuses what `fit` refuses."""
    check_data(x, self.flow.event_shape, self._in_unit_cube)
    y = to_labels(x, y, sample_weight)
    with self._refusals():
      return super().evaluate(x, y, batch_size, verbose, sample_weight, **kwargs)

  def predict(self, x, *args, **kwargs) -> np.ndarray:
    """Log-densities in nats; see `keras.Model.predict`. That of an image outside the support is -inf.

    Raises:
      ValueError: If the data are not batches of images.
    """
    check_data(x, self.flow.event_shape, False)
    with self._refusals():
      return super().predict(x, *args, **kwargs)

  def train_step(self, data) -> dict[str, tf.Tensor]:
    """One step of `fit`. Keras calls this."""
    x, *others = keras.utils.unpack_x_y_sample_weight(data)
    return super().train_step((self._checked(x), *others))

  def test_step(self, data) -> dict[str, tf.Tensor]:
    """One step of `evaluate`. Keras calls this."""
    x, *others = keras.utils.unpack_x_y_sample_weight(data)
    return super().test_step((self._checked(x), *others))

  def _checked(self, x):
    images = to_images(x, self.flow.event_shape)
    return check_values(images) if self._in_unit_cube else images

  def predict_step(self, data) -> tf.Tensor:
    """One step of `predict`. Keras calls this."""
    x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
    return super().predict_step(to_images(x, self.flow.event_shape))

  def save(self, filepath: str | os.PathLike, *args, **kwargs) -> None:
    """Writes a `.keras` file; see `keras.Model.save`.

    Raises:
      ValueError: If `filepath` is one of HDF5, which would hold neither the flow nor its weights.
    """
    check('filepath', filepath, 'a `.keras` file', not str(filepath).endswith(('.h5', '.hdf5')))
    super().save(filepath, *args, **kwargs)

  def export(self, filepath: str | os.PathLike, *args, input_signature=None, **kwargs) -> None:
    """Writes a SavedModel of the log-density; see `keras.Model.export`. By default it takes any number of images."""
    images = keras.InputSpec(shape=(None, *self.flow.event_shape), dtype=self.flow.dtype.name)
    super().export(filepath, *args, input_signature=input_signature or [images], **kwargs)

  # Keras looks for what a call has added to the loss in the layers of a model, and does not see those of a flow.

  def _network_layers(self) -> list[keras.Layer]:
    layers = [layer for module in _keras_modules(self.flow) for layer in module.layer._flatten_layers()]
    return list({id(layer): layer for layer in layers}.values())

  def _clear_losses(self) -> None:
    super()._clear_losses()
    for layer in self._network_layers():
      layer._clear_losses()

  def _get_own_losses(self) -> list[tf.Tensor]:
    return [*super()._get_own_losses(), *(loss for layer in self._network_layers() for loss in layer._get_own_losses())]

  def get_config(self) -> dict[str, Any]:
    """Describes how the flow was built, defaults included, and what of it is frozen.

    Raises:
      ValueError: If the flow does not come from a builder, or from one that hides behind a name of this package.
    """
    return {
      'version': _VERSION,
      **describe(self.flow),
      'name': self.name,
      'trainable': self.trainable,
      'frozen': [_frozen(module) for module in _keras_modules(self.flow)],
      'frozen_variables': [i for i, v in enumerate(self._flow_variables) if not v.trainable],
    }

  @classmethod
  def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Callable] | None = None) -> FlowModel:
    """Builds the model from what `get_config` returned.

    Raises:
      ValueError: If the version of the file or the builder is unknown.
    """
    version = config.get('version')
    check('version', version, f'{_VERSION}, which is what this flowgan_tf can read', version == _VERSION)
    model = cls(build_flow(config, custom_objects), name=config['name'])
    for module, frozen in zip(_keras_modules(model.flow), config['frozen'], strict=True):
      for i, layer in enumerate(module.layer._flatten_layers()):
        layer.trainable = i not in frozen
    model.trainable = config['trainable']
    for i, variable in enumerate(model._flow_variables):
      variable.trainable = i not in config['frozen_variables']
    return model

  # Keras' own order of the variables depends on which of them were trainable when the model was made.

  def _named_variables(self) -> dict[str, keras.Variable]:
    return {f'{i:03d}_{v.name}': v for i, v in enumerate(self._flow_variables)}

  def save_own_variables(self, store) -> None:
    """Puts each variable under its place in `flow.variables` and its name. Keras calls this."""
    for name, variable in self._named_variables().items():
      store[name] = variable

  def load_own_variables(self, store) -> None:
    """Assigns what `save_own_variables` has put there.

    Raises:
      ValueError: If number, names or shapes of the variables differ.
    """
    named = self._named_variables()
    expected = {name: tuple(v.shape) for name, v in named.items()}
    found = {name: tuple(store[name].shape) for name in store.keys()}  # noqa: SIM118  (not a dict)
    if found != expected:
      first = min(name for name in {*found, *expected} if found.get(name) != expected.get(name))
      raise ValueError(
        f'The weights must be those of a flow like {self.flow.name!r}, with {len(expected)} variables. Got: '
        f'{len(found)} variables; {first} has shape {found.get(first)} instead of {expected.get(first)}.'
      )
    for name, variable in named.items():
      variable.assign(store[name])


def _keras_modules(flow: Flow) -> list[KerasModule]:
  return [module for module in flow.submodules if isinstance(module, KerasModule)]


def _base_name(variable: tf.Variable) -> str:
  return variable.name.split('/')[-1].split(':')[0]


def _frozen(module: KerasModule) -> list[int]:
  return [i for i, layer in enumerate(module.layer._flatten_layers()) if not layer.trainable]

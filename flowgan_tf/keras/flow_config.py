"""How a file describes a flow: by its builder and the arguments of that."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

import keras

from flowgan_tf.flows import GENERATORS, Flow

__all__ = ['build_flow', 'describe']


def describe(flow: Flow) -> dict[str, Any]:
  """Returns what `build_flow` needs to build the flow again: builder, shape of an image, arguments with defaults.

  Raises:
    ValueError: If the flow does not come from a builder, or from one that hides behind a name of this package.
  """
  if not hasattr(flow, '_build'):
    raise ValueError(
      f'`flow` must come from a builder, such as `nice`, to be described in a file. Got: {flow.name!r}, put '
      'together by hand: use `save_weights`, or make a function of it with the decorator `builder`.'
    )
  build, [image_shape], given = flow._build.func, flow._build.args, flow._build.keywords
  arguments = {**_defaults(build), **given, 'name': flow.name}
  return {
    'builder': _builder_name(build),
    'image_shape': [int(size) for size in image_shape],
    'arguments': keras.saving.serialize_keras_object(arguments),
  }


def build_flow(config: dict[str, Any], custom_objects: dict[str, Callable] | None = None) -> Flow:
  """Builds a flow from what `describe` returned.

  Raises:
    ValueError: If the builder is unknown.
  """
  name = config['builder']
  build = GENERATORS.get(name) or keras.saving.get_registered_object(name, custom_objects)
  if build is None:
    raise ValueError(
      f'`builder` must be one of {", ".join(GENERATORS)} or a function that Keras knows by '
      f'`keras.saving.register_keras_serializable` or `custom_objects`. Got: {name!r}.'
    )
  return build(tuple(config['image_shape']), **keras.saving.deserialize_keras_object(config['arguments']))


def _defaults(build: Callable) -> dict[str, Any]:
  """The defaults of a builder that a file can hold, so that another version with other defaults loads the same flow."""
  _, *keywords = inspect.signature(build).parameters.values()
  # A default dtype of another type than text has not gone through the checks of `builder`.
  keywords = [keyword for keyword in keywords if keyword.name != 'dtype' or isinstance(keyword.default, str)]
  return {keyword.name: keyword.default for keyword in keywords if _is_plain(keyword.default)}


def _is_plain(value: object) -> bool:
  try:
    json.dumps(value)
  except (TypeError, ValueError):
    return False
  return True


def _builder_name(build: Callable) -> str:
  """The name under which `from_config` finds a builder again."""
  for name, known in GENERATORS.items():
    if known is build:
      return name
  name = keras.saving.get_registered_name(build)
  if name in GENERATORS:
    raise ValueError(
      f'`flow` must come from a builder with another name than those of this package, or one that is registered by '
      f'`keras.saving.register_keras_serializable()`. Got: {name}.'
    )
  return name

"""The decorator of functions that build generators, and what such a function says before it is called.

A builder takes the shape of an image or a vector, and keywords with defaults, among them `dtype` and `name`. A wrong
argument raises a ValueError that names it in backticks. All keywords but those that precision and data determine are
settings of a training; `Annotated[int, Setting(...)]` says what a keyword means and which values it may have. Like all
files that hold a builder, this one does not import TensorFlow.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Hashable, Sequence, Sized
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

import numpy as np

from flowgan_tf.base.errors import check, check_choice, check_integer, check_integers, is_integer
from flowgan_tf.base.lazy import lazy_import, tf
from flowgan_tf.base.settings import MOST_UNITS, with_current_names, with_settings
from flowgan_tf.flows.traits import Traits

if TYPE_CHECKING:
  from flowgan_tf.flows.generator import Generator

adapter = lazy_import('flowgan_tf.networks.adapter')
generators = lazy_import('flowgan_tf.flows.generator')

_DTYPES = ('float32', 'float64', 'mixed_bfloat16', 'mixed_float16')

P = ParamSpec('P')
T = TypeVar('T', bound='Generator', covariant=True)


class Builder(Hashable, Protocol[P, T]):
  """A function that builds generators."""

  def traits(self, **arguments: Any) -> Traits:
    """Returns what is known of a generator with these arguments and otherwise the defaults."""

  def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
    """Builds a generator."""


@overload
def builder(build: Callable[P, T], /) -> Builder[P, T]: ...
@overload
def builder(**traits: Any) -> Callable[[Callable[P, T]], Builder[P, T]]: ...
def builder(build: Callable | None = None, /, **traits: Any) -> Any:
  """Decorates a function that builds generators: checks `image_shape` and `dtype`, and makes `with_dtype` work.

  The function receives `dtype` as a name, even if its caller gives a dtype of NumPy or TensorFlow. A function whose
  first argument is `vector_shape` builds flows of vectors: its caller gives `d` or `(d,)`, and it receives `(d,)`.

  ```python
  @builder(computed_whole=True, components=lambda arguments: arguments.clusters)
  def toy(
    image_shape, *, clusters: Annotated[int, Setting('Clusters.', 1, 10)] = 1, dtype='float32', name='toy'
  ):
    ...
    return Flow(prior, bijector, name)
  ```

  `flow = toy((28, 28, 1))` builds the flow, and `toy.traits(clusters=2)` returns its `Traits`. Traits other than the
  usual ones are keywords of the decorator: a value, or a function that computes it from the arguments. A keyword that
  declares a `Setting` is checked whenever the function is called.

  Raises:
    ValueError: When the function is called, if `image_shape` is not `(height, width, channels)`, `vector_shape` is not
      a number of at least 2, `dtype` is not 'float32', 'float64', 'mixed_bfloat16' or 'mixed_float16', or the function
      returns something other than a generator of that dtype whose samples have that shape.
  """
  if build is None:
    return functools.partial(builder, **traits)
  signature = inspect.signature(build)
  keywords = signature.parameters.values()
  takes = {k.name for k in keywords} >= {'dtype', 'name'} or any(k.kind == k.VAR_KEYWORD for k in keywords)
  shown = getattr(build, '__name__', 'build')
  check(shown, f'({", ".join(signature.parameters)})', 'a function with the keywords `dtype` and `name`', takes)
  # A file that holds all arguments describes the same generator even if a later version has other defaults. It can hold
  # only plain values.
  plain = str | int | float | list | tuple | None
  defaults = {keyword.name: keyword.default for keyword in keywords if isinstance(keyword.default, plain)}
  make = with_settings(build)
  first = next(iter(signature.parameters))
  of_vectors = first == 'vector_shape'

  def traits_of(**arguments: Any) -> Traits:
    signature.bind_partial(**arguments)  # Raises a TypeError that names an argument.
    found = types.SimpleNamespace(**defaults | arguments)
    asked = {trait: said(found) if callable(said) else said for trait, said in traits.items()}
    return Traits(draws_rows=of_vectors, **asked)

  @functools.wraps(make)
  def checked(*positional, **arguments):
    arguments = with_current_names(getattr(build, '__name__', ''), arguments)
    signature.bind(*positional, **arguments)  # Raises a TypeError that names an argument.
    arguments |= zip(signature.parameters, positional, strict=False)
    arguments = {name: int(value) if is_integer(value) else value for name, value in arguments.items()}
    shape = arguments.pop(first)
    if of_vectors:
      shape = (shape,) if is_integer(shape) else shape
      is_number = isinstance(shape, Sized) and len(shape) == 1 and is_integer(shape[0]) and shape[0] >= 2
      check('vector_shape', shape, 'a number of at least 2 columns d, or (d,)', is_number)
      shape = (int(shape[0]),)
    else:
      check('image_shape', shape, '(height, width, channels)', isinstance(shape, Sized) and len(shape) == 3)
      check_integers('image_shape', tuple(shape))
    arguments = {**defaults, **arguments}
    name = arguments.get('name', 'flow')
    expected = 'letters, digits and underscores that do not begin with a digit'
    check('name', name, expected, isinstance(name, str) and name.isascii() and name.isidentifier())
    if 'dtype' in arguments:
      arguments['dtype'] = _policy(arguments['dtype'])
    generator = make(shape, **arguments)
    _check_built(getattr(build, '__name__', name), generator, shape, arguments.get('dtype'))
    generator._build, generator.traits = functools.partial(checked, shape, **arguments), traits_of(**arguments)
    return generator

  made: Any = checked
  made.traits = traits_of
  return made


def _check_built(name: str, generator: Any, shape: Sequence[int], dtype: str | None) -> None:
  """Checks what a builder has returned. If it ignored its `dtype`, it would pass float32 off as another dtype."""
  expected = 'a function that returns a `flowgan_tf.flows.Flow` or `ImplicitGenerator`'
  check(name, generator, expected, isinstance(generator, generators.Generator))
  found = generator.event_shape
  check(name, str(found), f'a function whose samples have shape {tuple(shape)}', found.is_compatible_with(shape))
  if dtype is None:
    return
  expected = f'a function that uses its `dtype`, here {dtype}'
  computed = generator.dtype.name
  check(name, computed, expected, computed == ('float64' if dtype == 'float64' else 'float32'))
  if dtype.startswith('mixed'):
    parts = [part.layer for part in generator.submodules if isinstance(part, adapter.KerasModule)]
    of_layers = sorted({layer.compute_dtype for part in parts for layer in part._flatten_layers()})
    check(name, ', '.join(of_layers), expected, not of_layers or dtype.removeprefix('mixed_') in of_layers)


def check_networks(see: bool, of_labels: bool, components: int, name: str = 'condition_networks') -> None:
  """Checks that the components of the prior tell the conditions apart if the networks of a flow do not see them."""
  expected = 'True unless the condition is a label, which chooses among several components of the prior'
  check(name, see, expected, see or (of_labels and components > 1))


def network_condition(
  classes: int | None, condition_shape: Sequence[int] | None, condition_networks: bool = True, components: int = 1
) -> tuple[int, ...] | None:
  """Returns the shape of the condition that the networks of a flow see, `(classes,)` for labels; None without one.

  Raises:
    UsageError: If the arguments of the builder, which are given, do not fit each other.
  """
  check('condition_shape', condition_shape, 'None with `classes`', classes is None or condition_shape is None)
  check_networks(condition_networks, classes is not None, components)
  if classes is not None:
    check_integer('classes', classes, 2, MOST_UNITS)
    return (classes,) if condition_networks else None
  if condition_shape is None:
    return None
  check_integers('condition_shape', condition_shape, MOST_UNITS)
  held = len(condition_shape) in (1, 3)
  check('condition_shape', tuple(condition_shape), '(d,) for vectors, or (height, width, channels) for images', held)
  return tuple(condition_shape)


def uniform_class_probs(classes: int | None, dtype: tf.DType) -> tf.Variable | None:
  """Returns the probabilities of the classes of a new flow."""
  if classes is None:
    return None
  return tf.Variable(tf.fill([classes], tf.constant(1 / classes, dtype)), trainable=False, name='class_probs')


def _policy(dtype):
  # TensorFlow accepts more: it takes 1 for float32, and Python's float, too, which NumPy takes for float64.
  is_dtype = isinstance(dtype, tf.DType | np.dtype) or (isinstance(dtype, type) and issubclass(dtype, np.generic))
  policy = tf.as_dtype(dtype).name if is_dtype else dtype
  check_choice('dtype', policy, _DTYPES)
  return policy

"""What a critic sees of an image: pixels, their logits, the noise from which a flow makes it, or several of these.

A critic of pixels hardly notices what a likelihood weighs most: how dark a dark pixel is. In logits and in the noise of
a flow, such differences are as large as others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flowgan_tf.base.errors import check
from flowgan_tf.base.lazy import tf

if TYPE_CHECKING:
  from flowgan_tf.flows import Generator


# Float32 tells 1 - alpha from 1. A logit is 4 times smaller than usual, so that it varies about as much as noise does.
_ALPHA, _SCALE = 1e-6, 0.25


def _logits(generator: Generator, images: tf.Tensor) -> tf.Tensor:
  # A flow with a large `alpha` makes pixels beyond the ends.
  inside = _ALPHA + (1 - 2 * _ALPHA) * tf.clip_by_value(images, 0, 1)
  return _SCALE * (tf.math.log(inside) - tf.math.log1p(-inside))


#: Each maps a generator, which is given its condition, and images `[n, ...]` to values of the images' shape.
INPUTS: dict[str, Callable[[Generator, tf.Tensor], tf.Tensor]] = {
  'pixels': lambda generator, images: images,
  'logits': _logits,
  'noise': lambda generator, images: tf.reshape(generator.encode(images), tf.shape(images)),
}


def parts_of(sees: str) -> list[str]:
  """Returns the names that a text such as 'pixels+logits' joins.

  Raises:
    UsageError: If one of them is not among `INPUTS`, or there twice.
  """
  parts = sees.split('+')
  expected = f'one or several of {", ".join(INPUTS)}, with + between them'
  check('sights', sees, expected, set(parts) <= INPUTS.keys() and len(set(parts)) == len(parts))
  return parts


def critic_input(sees: str, generator: Generator, images: tf.Tensor) -> tf.Tensor:
  """Returns what a critic sees of images, with the parts as channels one behind the other: `[..., parts * channels]`.

  Args:
    sees: Parts, such as 'pixels+logits+noise'.
    generator: The flow that computes the noise.
    images: Images `[n, height, width, channels]`.
  """
  parts = [INPUTS[part](generator, images) for part in parts_of(sees)]
  return tf.concat([tf.cast(part, images.dtype) for part in parts], axis=-1)

"""What images are conditioned on: labels or vectors that come with them, or what is known of the images themselves."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from flowgan_tf.data.dataset import Dataset, Split, random_order
from flowgan_tf.errors import UsageError, check

_AT_ONCE = 2**22  # values of images whose conditions are computed together


@dataclasses.dataclass(frozen=True)
class Condition:
  """One kind of condition for the images of a data set.

  Conditions that are computed from an image see its grey levels without the noise of dequantisation. So they say
  nothing about that noise, and p(x | c) remains the density of a discrete image with noise.
  """

  kind: str  #: The setting `condition`, such as 'label' or 'low_resolution:4'.
  levels: int  #: Number of grey levels of the images.
  image_shape: tuple[int, int, int]  #: `(height, width, channels)`.
  classes: int | None = None  #: Number of classes, for labels.
  shape: tuple[int, ...] | None = None  #: Shape of one condition, if it is not a label.

  @property
  def arguments(self) -> dict[str, object]:
    """The arguments of a generator's builder that make it conditional."""
    return {'condition_shape': self.shape} if self.classes is None else {'classes': self.classes}

  @property
  def network_shape(self) -> tuple[int, ...]:
    """The shape of one condition as networks see it: a label is a one-hot vector."""
    return self.shape or (self.classes,)

  @property
  def comes_from_image(self) -> bool:
    """Whether the condition is computed from the image, as for super-resolution and inpainting."""
    return self.kind not in ('label', 'vector')

  def reduce(self, images: tf.Tensor) -> tf.Tensor:
    """Returns what a condition tells of images in [0, 1]: floats `[n, *shape]`; see `comes_from_image`."""
    name, _, argument = self.kind.partition(':')
    if name == 'low_resolution':
      return tf.nn.avg_pool2d(images, int(argument), int(argument), 'VALID')
    # The lower half is hidden.
    height = self.image_shape[0]
    return images * tf.cast(tf.range(height) < (height + 1) // 2, images.dtype)[:, tf.newaxis, tf.newaxis]

  def of_grey_levels(self, grey_levels: tf.Tensor) -> tf.Tensor:
    """Returns the conditions of integer images, from the middle of each grey level."""
    return self.reduce((tf.cast(grey_levels, tf.float32) + 0.5) / self.levels)

  def stored(self, split: Split) -> np.ndarray:
    """Returns the conditions of a split that are not computed from images: int32 labels or float32 vectors."""
    return split.labels.astype(np.int32) if self.kind == 'label' else split.conditions.astype(np.float32)

  def of_split(self, split: Split, n: int | None = None) -> np.ndarray:
    """Returns the conditions of the first `n` images of a split, starting again if there are fewer."""
    rows = np.arange(len(split) if n is None else n) % len(split)
    if not self.comes_from_image:
      return self.stored(split)[rows]
    at_once = max(1, _AT_ONCE // int(np.prod(self.image_shape)))
    count = min(len(rows), len(split))
    parts = [self.of_grey_levels(split.images[i : min(i + at_once, count)]).numpy() for i in range(0, count, at_once)]
    return np.concatenate(parts)[rows]


def hide_labels(split: Split, labelled: int, classes: int) -> Split:
  """Returns a split in which only `labelled` images keep their labels; the others get -1.

  Each class keeps as many, or one more. Which images these are depends only on the data.

  Raises:
    UsageError: If there are fewer labels than classes, or a class has fewer images than it should keep.
  """
  check('labelled', labelled, f'0 or at least {classes}, one for each class', labelled >= classes)
  order = random_order(len(split))
  kept = np.full(len(split), -1)
  for label in range(classes):
    rows, wanted = order[split.labels[order] == label], labelled // classes + (label < labelled % classes)
    expected = f'so small that each class has that many images; class {label} has {len(rows)}, not {wanted}'
    check('labelled', labelled, expected, wanted <= len(rows))
    kept[rows[:wanted]] = label
  return dataclasses.replace(split, labels=kept)


def make_condition(kind: str, dataset: Dataset) -> Condition | None:
  """Returns the kind of condition that a setting describes, or None for ''.

  Args:
    kind: '' for none; 'label'; 'vector', the conditions of an .npz file; 'low_resolution:N', the image reduced N times
      by means over N x N pixels; 'mask:half', the image without its lower half.
    dataset: The data.

  Raises:
    UsageError: If the data have no such conditions, or N does not divide the images.
  """
  if not kind:
    return None
  height, width, channels = dataset.image_shape
  make = functools.partial(Condition, kind, dataset.levels, tuple(dataset.image_shape))
  if kind == 'label':
    check('condition', kind, f'another one for {dataset.name}, which has no labels', dataset.num_classes is not None)
    expected = f'another one for {dataset.name}, which has a single class'
    check('condition', kind, expected, dataset.num_classes > 1)
    known = set(dataset.train.labels)
    if absent := next((label for label in range(dataset.num_classes) if label not in known), None):
      raise UsageError(
        f'`condition` label needs training images of each class. Got: none of class {absent}.', 'condition'
      )
    return make(classes=dataset.num_classes)
  if kind == 'vector':
    expected = f'another one for {dataset.name}, which has no array of conditions'
    check('condition', kind, expected, dataset.train.conditions is not None)
    return make(shape=dataset.train.conditions.shape[1:])
  if kind == 'mask:half':
    return make(shape=dataset.image_shape)
  factor = int(kind.partition(':')[2])
  fits = height % factor == width % factor == 0
  check('condition', kind, f'with a divisor of height and width, {height} and {width}', fits)
  return make(shape=(height // factor, width // factor, channels))

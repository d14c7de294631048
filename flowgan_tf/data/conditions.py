"""What a generator is conditioned on: labels or vectors that come with the images, or parts of the images."""

from __future__ import annotations

import dataclasses
import functools
import re

import numpy as np

from flowgan_tf.base.errors import UsageError, check
from flowgan_tf.base.lazy import tf
from flowgan_tf.data.dataset import Dataset, Split, take
from flowgan_tf.flows.classes import class_name

# The kinds of conditions, as the setting `condition` names them; '' means no condition.
EXPECTED = "'label', 'vector', 'low_resolution:N' with an N of at least 2, 'mask:half' or empty"
_AT_ONCE = 2**22  # values of images whose conditions are computed together


def is_kind(kind: str) -> bool:
  """Whether there is such a kind of condition."""
  return bool(re.fullmatch(r'(label|vector|low_resolution:([2-9]|[1-9]\d{1,3})|mask:half)?', kind))


@dataclasses.dataclass(frozen=True)
class Condition:
  """One kind of condition for the images of a data set, or none, which is false.

  Conditions that are computed from an image see its grey levels without the noise of dequantisation. So they do not
  depend on that noise, and p(x | c) remains the density of a discrete image with noise.
  """

  kind: str  #: The setting `condition`, such as 'label' or 'low_resolution:4'; '' for a generator without conditions.
  levels: int | None = None  #: Number of grey levels of the images; None for a table.
  image_shape: tuple[int, ...] = ()  #: `(height, width, channels)`, or `(d,)` for a table.
  classes: int | None = None  #: Number of classes, for labels.
  class_names: tuple[str, ...] | None = None  #: Their names; None if they have only numbers.
  shape: tuple[int, ...] | None = None  #: Shape of one condition, if it is not a label.
  label: int | None = None  #: The only class that is looked at; None for all.

  def __bool__(self) -> bool:
    return bool(self.kind)

  @property
  def arguments(self) -> dict[str, object]:
    """The arguments of a generator's builder that make it conditional."""
    arguments = {'classes': self.classes, 'condition_shape': self.shape}
    return {name: value for name, value in arguments.items() if value is not None}

  @property
  def network_shape(self) -> tuple[int, ...] | None:
    """The shape of one condition as networks see it: a label is a one-hot vector."""
    return self.shape if self.classes is None else (self.classes,)

  @property
  def has_marginal(self) -> bool:
    """Whether a flow has a density p(x) without the condition: with classes, the sum over them."""
    return self.kind in ('', 'label')

  @property
  def comes_from_image(self) -> bool:
    """Whether the condition is computed from the image, as for super-resolution and inpainting."""
    return self.kind not in ('', 'label', 'vector')

  @property
  def given(self) -> str:
    """What densities and samples are given, in a few words; '' for nothing."""
    classes = 'all classes' if self.label is None else f'class {class_name(self.label, self.class_names)}'
    return classes if self.classes else self.kind

  def reduce(self, images: tf.Tensor) -> tf.Tensor:
    """Returns the part of images in [0, 1] that a condition shows: floats `[n, *shape]`; see `comes_from_image`."""
    check('condition', self.kind, 'computed from the image, as low resolution is', self.comes_from_image)
    name, _, factor = self.kind.partition(':')
    if name == 'low_resolution':
      return tf.nn.avg_pool2d(images, int(factor), int(factor), 'VALID')
    # The lower half is hidden.
    height = images.shape[1]
    return images * tf.cast(tf.range(height) < (height + 1) // 2, images.dtype)[:, tf.newaxis, tf.newaxis]

  def of_grey_levels(self, grey_levels: tf.Tensor) -> tf.Tensor:
    """Returns the conditions of integer images, from the middle of each grey level."""
    return self.reduce((tf.cast(grey_levels, tf.float32) + 0.5) / self.levels)

  def stored(self, split: Split) -> np.ndarray | None:
    """Returns the conditions of a split that are not computed from images: int32 labels or float32 vectors."""
    array, dtype = {'label': (split.labels, np.int32), 'vector': (split.conditions, np.float32)}.get(
      self.kind, (None, None)
    )
    return None if array is None else array.astype(dtype)

  def of_split(self, split: Split, n: int | None = None) -> np.ndarray | None:
    """Returns the conditions of the first `n` images of a split, or again if there are fewer; None without any."""
    return self.of_rows(split, np.arange(len(split) if n is None else n) % len(split))

  def of_rows(self, split: Split, rows: np.ndarray) -> np.ndarray | None:
    """Returns the conditions of some images of a split, by their positions; None without any."""
    if not self.comes_from_image:
      return take(self.stored(split), rows)
    at_once = max(1, _AT_ONCE // int(np.prod(self.image_shape)))
    starts = range(0, len(rows), at_once)
    return np.concatenate([self.of_grey_levels(split.images[rows[i : i + at_once]]).numpy() for i in starts])

  def of_images(self, images: np.ndarray) -> np.ndarray | None:
    """Returns the conditions that dequantised images have without a split: what they show, or the only class."""
    if self.label is not None:
      return np.full(len(images), self.label, np.int32)
    if not self.comes_from_image:
      return None
    return self.of_split(Split(np.floor(images * self.levels).astype(np.int32), None))

  def draw(self, n: int, seed: int, split: Split, class_probs: tf.Tensor | None) -> np.ndarray | None:
    """Draws conditions for samples, `[n, ...]`: labels by their probabilities, and others from images of a split."""
    rng = np.random.default_rng(seed)
    if not self.classes:
      return self.of_rows(split, rng.integers(len(split), size=n))
    probs = np.asarray(class_probs, np.float64)
    labels = rng.choice(len(probs), n, p=probs / probs.sum()) if self.label is None else np.full(n, self.label)
    return labels.astype(np.int32)


NOTHING = Condition('')


def make_condition(kind: str, dataset: Dataset) -> Condition:
  """Returns the kind of condition that a setting describes.

  Args:
    kind: '' for none; 'label'; 'vector', the vectors or images that come with the images of a file; 'low_resolution:N',
      the image reduced N times by means over N x N pixels; 'mask:half', the image without its lower half.
    dataset: The data.

  Raises:
    UsageError: If there is no such kind, as with an N below 2; if the data have no such conditions, or no training
      image of a class; if N does not divide height and width; or if the images have a single row to hide.
  """
  check('condition', kind, EXPECTED, is_kind(kind))
  make = functools.partial(Condition, kind, dataset.levels, tuple(dataset.image_shape))
  if not kind:
    return make()
  if kind == 'label':
    expected = f"something other than 'label': {dataset.name} does not have a label for each image"
    check('condition', kind, expected, dataset.num_classes is not None)
    expected = f"something other than 'label': {dataset.name} has a single class"
    check('condition', kind, expected, (dataset.num_classes or 0) > 1)
    if (absent := _absent(dataset.train, dataset.num_classes)).size:
      raise UsageError(
        f'{dataset.name}: `condition` label needs training images of each of its {dataset.num_classes} classes, '
        f'got none of {_named(absent, dataset.class_names)}',
        'condition',
      )
    return make(classes=dataset.num_classes, class_names=dataset.class_names)
  if kind == 'vector':
    expected = f"something other than 'vector': {dataset.name} has no array of conditions"
    conditions = dataset.train.conditions
    check('condition', kind, expected, conditions is not None)
    return make(shape=np.asarray(conditions).shape[1:])
  expected = f"'label' or 'vector': {dataset.name} is a table, and nothing is computed from its rows"
  check('condition', kind, expected, not dataset.is_table)
  height, width, channels = dataset.image_shape
  if kind == 'mask:half':
    expected = f"something other than 'mask:half': the images of {dataset.name} have a single row"
    check('condition', kind, expected, height > 1)
    return make(shape=(height, width, channels))
  factor = int(kind.partition(':')[2])
  expected = f"'low_resolution:N', where N divides the height and width of {dataset.name}, {height} and {width}"
  check('condition', kind, expected, height % factor == width % factor == 0)
  return make(shape=(height // factor, width // factor, channels))


def describe(dataset: Dataset) -> list[str]:
  """Returns lines that say what the generator is given, and what p(y) is if classes have unequal counts.

  A label of -1 in the training images is a hidden label.
  """
  condition = dataset.condition
  if not condition:
    return []
  name, size = dataset.name, ' x '.join(map(str, condition.shape or ()))
  if condition.kind != 'label':
    what = {
      'vector': f'the condition that comes with each image, {size} numbers',
      'mask:half': 'the upper half of each image',
    }.get(condition.kind, f'each image at low resolution, {size}')
    return [f'{name}: the generator is given {what}.']
  labels = np.asarray(dataset.train.labels)
  labels = labels[labels >= 0]
  counts = np.bincount(labels, minlength=condition.classes or 0)
  names = condition.class_names
  few, many = (
    f'{100 * counts[i] / len(labels):.1f} % for class {class_name(i, names)}'
    for i in (counts.argmin(), counts.argmax())
  )
  unequal = counts.min() < counts.max()
  share = f'the share of each class in the labelled training images, from {few} to {many}'
  probs = f'p(y) is {share if unequal else "uniform"}'
  lines = [f'{name}: the generator is given the label of each image, one of {condition.classes} classes; {probs}.']
  if len(labels) < len(dataset.train):
    lines.append(f'{name}: {len(labels):,} of {len(dataset.train):,} training images have a label.')
  for part in ('validation', 'test'):
    if (absent := _absent(getattr(dataset, part), condition.classes)).size:
      lines.append(
        f'{name}: no {part} image of {_named(absent, names)}; what is measured within classes leaves them out.'
      )
  return lines


def _absent(split, classes):
  return np.setdiff1d(np.arange(classes), split.labels)


def _named(labels, names):
  more = f' and {len(labels) - 10} more' if len(labels) > 10 else ''
  return ('class ' if len(labels) == 1 else 'classes ') + ', '.join(class_name(i, names) for i in labels[:10]) + more

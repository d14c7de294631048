"""What a generator is conditioned on: labels or vectors that come with the images, or parts of the images.

A kind of condition is a class below and a line of `CONDITIONS`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np

from flowgan_tf.base.errors import UsageError, check
from flowgan_tf.base.lazy import tf
from flowgan_tf.data.split import Split, take
from flowgan_tf.flows.classes import class_name

_AT_ONCE = 2**22  # values of images whose conditions are computed together


Data = Any  # a `Dataset`, whose file imports this one


@dataclasses.dataclass(frozen=True)
class Condition:
  """A condition of the images of a data set; this class itself stands for none, and is false."""

  kind: str = ''  #: The setting `condition`, such as 'low_resolution:4'; '' for none.
  levels: int | None = None  #: Number of grey levels of the images; None for a table.
  image_shape: tuple[int, ...] = ()  #: `(height, width, channels)`, or `(d,)` for a table.
  classes: int | None = None  #: Number of classes, for labels.
  class_names: tuple[str, ...] | None = None  #: Their names; None if they have only numbers.
  shape: tuple[int, ...] | None = None  #: Shape of one condition, if it is not a label.
  label: int | None = None  #: The only class that is looked at; None for all.

  written: ClassVar[str] = 'empty'  #: How the setting is written.
  options: ClassVar[str] = ''  #: A regular expression of what follows the name in the setting.
  has_marginal: ClassVar[bool] = True  #: Whether a flow has a density p(x) without the condition, a sum over classes.
  comes_from_image: ClassVar[bool] = False  #: Whether `reduce` computes it, as for super-resolution and inpainting.
  rows: ClassVar[str] = ''  #: What the rows of a grid of samples are.

  def __post_init__(self):
    check('kind', self.kind, f'a kind of {type(self).__name__}', kind_of(self.kind) is type(self))

  def __bool__(self) -> bool:
    return bool(self.kind)

  @classmethod
  def of_data(cls, kind: str, data: Data) -> Self:
    """Returns the condition that a setting describes; a `UsageError` says if the data do not have it."""
    return cls(kind, data.levels, tuple(data.image_shape))

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
  def title(self) -> str:
    """The condition of densities and samples in a few words; '' for none."""
    return self.kind

  def describe(self, data: Data) -> list[str]:
    """Returns lines that say what the generator is given."""
    return []

  def stored(self, split: Split) -> np.ndarray | None:
    """Returns the conditions of a split that are not computed from images: int32 labels or float32 vectors."""
    return None

  def of_split(self, split: Split, n: int | None = None) -> np.ndarray | None:
    """Returns the conditions of the first `n` images of a split, or again if there are fewer; None without any."""
    return self.of_rows(split, np.arange(len(split) if n is None else n) % len(split))

  def of_rows(self, split: Split, rows: np.ndarray) -> np.ndarray | None:
    """Returns the conditions of some images of a split, by their positions; None without any."""
    return take(self.stored(split), rows)

  def of_images(self, images: np.ndarray) -> np.ndarray | None:
    """Returns the conditions that dequantised images have without a split: what they show, or the only class."""
    return None

  def draw(self, n: int, seed: int, split: Split, class_probs: tf.Tensor | None) -> np.ndarray | None:
    """Draws conditions for samples, `[n, ...]`: labels by their probabilities, and others from images of a split."""
    return self.of_rows(split, np.random.default_rng(seed).integers(len(split), size=n))

  def reduce(self, images: tf.Tensor) -> tf.Tensor:
    """Returns the part of images in [0, 1] that a condition shows: floats `[n, *shape]`; see `comes_from_image`."""
    raise NotImplementedError

  def of_grey_levels(self, grey_levels: tf.Tensor) -> tf.Tensor:
    """Returns the conditions of integer images, from the middle of each grey level."""
    return self.reduce((tf.cast(grey_levels, tf.float32) + 0.5) / self.levels)

  @classmethod
  def check(cls, condition: Any) -> None:
    """Checks the numbers of conditions `[..., *shape]`; raises a `UsageError`."""


class Label(Condition):
  """The class of an image, from its sub-folder, TFDS, `labels` or `y_train` in a `.npz` file, or `train_labels.npy`."""

  written = "'label'"
  rows = 'a row for each class'

  @classmethod
  def of_data(cls, kind: str, data: Data) -> Self:
    """See `Condition.of_data`; each class needs a training image."""
    expected = f"something other than 'label': {data.name} does not have a label for each image"
    check('condition', kind, expected, data.num_classes is not None)
    expected = f"something other than 'label': {data.name} has a single class"
    check('condition', kind, expected, (data.num_classes or 0) > 1)
    if (absent := _absent(data.train, data.num_classes)).size:
      raise UsageError(
        f'{data.name}: `condition` label needs training images of each of its {data.num_classes} classes, '
        f'got none of {_named(absent, data.class_names)}',
        'condition',
      )
    return cls(kind, data.levels, tuple(data.image_shape), data.num_classes, data.class_names)

  @property
  def title(self) -> str:
    """All classes, or the only one."""
    return 'all classes' if self.label is None else f'class {class_name(self.label, self.class_names)}'

  def describe(self, data: Data) -> list[str]:
    """Also says what p(y) is if classes have unequal counts. A label of -1 is hidden."""
    labels = np.asarray(data.train.labels)
    labels = labels[labels >= 0]
    counts = np.bincount(labels, minlength=self.classes or 0)
    few, many = (
      f'{100 * counts[i] / len(labels):.1f} % for class {class_name(i, self.class_names)}'
      for i in (counts.argmin(), counts.argmax())
    )
    share = f'the share of each class in the labelled training images, from {few} to {many}'
    probs = f'p(y) is {share if counts.min() < counts.max() else "uniform"}'
    name = data.name
    lines = [f'{name}: the generator is given the label of each image, one of {self.classes} classes; {probs}.']
    if len(labels) < len(data.train):
      lines.append(f'{name}: {len(labels):,} of {len(data.train):,} training images have a label.')
    for part in ('validation', 'test'):
      if (absent := _absent(getattr(data, part), self.classes)).size:
        classes = _named(absent, self.class_names)
        lines.append(f'{name}: no {part} image of {classes}; what is measured within classes leaves them out.')
    return lines

  def stored(self, split: Split) -> np.ndarray | None:
    """The labels, int32."""
    return None if split.labels is None else split.labels.astype(np.int32)

  def of_images(self, images: np.ndarray) -> np.ndarray | None:
    """The only class."""
    return None if self.label is None else np.full(len(images), self.label, np.int32)

  def draw(self, n: int, seed: int, split: Split, class_probs: tf.Tensor | None) -> np.ndarray | None:
    """Draws labels by their probabilities, unless only one class is looked at."""
    probs = np.asarray(class_probs, np.float64)
    labels = np.random.default_rng(seed).choice(len(probs), n, p=probs / probs.sum())
    return (labels if self.label is None else np.full(n, self.label)).astype(np.int32)


class Vector(Condition):
  """A vector or image for each image, from `conditions` or `c_train` in a `.npz` file, or `train_conditions.npy`."""

  written = "'vector'"
  has_marginal = False
  rows = 'a row for each condition; originals on the right'

  @classmethod
  def of_data(cls, kind: str, data: Data) -> Self:
    """See `Condition.of_data`."""
    expected = f"something other than 'vector': {data.name} has no array of conditions"
    check('condition', kind, expected, data.train.conditions is not None)
    shape = np.asarray(data.train.conditions).shape[1:]
    return cls(kind, data.levels, tuple(data.image_shape), shape=shape)

  def describe(self, data: Data) -> list[str]:
    """See `Condition.describe`."""
    size = _size(self.shape)
    return [f'{data.name}: the generator is given the condition that comes with each image, {size} numbers.']

  def stored(self, split: Split) -> np.ndarray | None:
    """The vectors, float32."""
    return None if split.conditions is None else split.conditions.astype(np.float32)


class FromImage(Condition):
  """Base of conditions that are computed from an image.

  They see its grey levels without the noise of dequantisation. So they do not depend on that noise, and p(x | c)
  remains the density of a discrete image with noise.
  """

  has_marginal = False
  comes_from_image = True
  rows = 'a row for each condition, which is on the left; originals on the right'

  @classmethod
  def of_data(cls, kind: str, data: Data) -> Self:
    """Checks that the data are images, and takes the shape of a condition from `reduce`."""
    expected = f"'label' or 'vector': {data.name} is a table, and nothing is computed from its rows"
    check('condition', kind, expected, len(data.image_shape) == 3)
    condition = cls(kind, data.levels, tuple(data.image_shape))
    shape = condition.reduce(tf.zeros((1, *data.image_shape))).shape[1:]
    return dataclasses.replace(condition, shape=tuple(shape))

  def of_rows(self, split: Split, rows: np.ndarray) -> np.ndarray:
    """Computes the conditions of some images, some at a time."""
    at_once = max(1, _AT_ONCE // int(np.prod(self.image_shape)))
    starts = range(0, len(rows), at_once)
    return np.concatenate([self.of_grey_levels(split.images[rows[i : i + at_once]]).numpy() for i in starts])

  def of_images(self, images: np.ndarray) -> np.ndarray:
    """What the grey levels behind dequantised images show."""
    levels = np.floor(images * self.levels).astype(np.int32)
    return self.of_rows(Split(levels, None), np.arange(len(levels)))


class LowResolution(FromImage):
  """The means over N x N pixels of the image, for super-resolution; N must divide its height and width."""

  written = "'low_resolution:N' with an N of at least 2"
  options = r':([2-9]|[1-9]\d{1,3})'

  @property
  def _factor(self):
    return int(self.kind.partition(':')[2])

  @classmethod
  def of_data(cls, kind: str, data: Data) -> Self:
    """See `Condition.of_data`; N must divide height and width."""
    if len(data.image_shape) == 3:
      height, width, _ = data.image_shape
      factor = cls(kind)._factor
      expected = f"'low_resolution:N', where N divides the height and width of {data.name}, {height} and {width}"
      check('condition', kind, expected, height % factor == width % factor == 0)
    return super().of_data(kind, data)

  def describe(self, data: Data) -> list[str]:
    """See `Condition.describe`."""
    return [f'{data.name}: the generator is given each image at low resolution, {_size(self.shape)}.']

  def reduce(self, images: tf.Tensor) -> tf.Tensor:
    """The means, `[n, h / N, w / N, c]`."""
    return tf.nn.avg_pool2d(images, self._factor, self._factor, 'VALID')


class Mask(FromImage):
  """Base of images in which some pixels are hidden, and 0, for inpainting."""

  @classmethod
  def visible(cls, height: int, width: int) -> np.ndarray:
    """Returns which pixels are seen, bool `[height, width]`."""
    raise NotImplementedError

  @classmethod
  def of_data(cls, kind: str, data: Data) -> Self:
    """See `Condition.of_data`; some pixels must be hidden, and some seen."""
    if len(data.image_shape) == 3:
      height, width, _ = data.image_shape
      visible = cls.visible(height, width)
      expected = f'something other than {cls.written}, which hides all or nothing of {height} x {width} pixels'
      check('condition', kind, expected, visible.any() and not visible.all())
    return super().of_data(kind, data)

  def reduce(self, images: tf.Tensor) -> tf.Tensor:
    """The images, `[n, h, w, c]`, with 0 where they are hidden."""
    return images * tf.cast(self.visible(*images.shape[1:3])[..., np.newaxis], images.dtype)

  @classmethod
  def check(cls, condition: Any) -> None:
    """Checks that hidden pixels are 0: a flow was never given others."""
    pixels = np.asarray(condition)
    hidden = ~cls.visible(*pixels.shape[-3:-1])
    expected = f'images whose hidden pixels are 0, as {cls.written} hides them'
    check('condition', 'hidden pixels that are not 0', expected, not pixels[..., hidden, :].any())


class UpperHalf(Mask):
  """The upper half of the image, for inpainting."""

  written = "'mask:half'"

  def describe(self, data: Data) -> list[str]:
    """See `Condition.describe`."""
    return [f'{data.name}: the generator is given the upper half of each image.']

  @classmethod
  def visible(cls, height: int, width: int) -> np.ndarray:
    """The rows above the middle, and the middle one."""
    return np.broadcast_to((np.arange(height) < (height + 1) // 2)[:, np.newaxis], (height, width))


#: The kinds of conditions by the names that the setting `condition` begins with.
CONDITIONS: dict[str, type[Condition]] = {
  '': Condition,
  'label': Label,
  'vector': Vector,
  'low_resolution': LowResolution,
  'mask:half': UpperHalf,
}


def _find(setting: str) -> type[Condition] | None:
  found = (kind for name, kind in CONDITIONS.items() if re.fullmatch(re.escape(name) + kind.options, setting))
  return next(found, None)


def is_kind(setting: str) -> bool:
  """Whether there is such a kind of condition."""
  return _find(setting) is not None


def expected_kinds() -> str:
  """Says what the setting may be."""
  *most, last = [kind.written for name, kind in CONDITIONS.items() if name] + [Condition.written]
  return f'{", ".join(most)} or {last}'


def kind_of(setting: str) -> type[Condition]:
  """Returns the kind of condition that a setting names; raises a `UsageError` if there is none."""
  kind = _find(setting)
  if kind is None:
    raise UsageError(f'`condition` must be {expected_kinds()}. Got: {setting!r}.', 'condition')
  return kind


NOTHING = Condition()


def make_condition(kind: str, dataset: Data) -> Condition:
  """Returns the condition that a setting describes.

  Args:
    kind: The setting `condition`, which begins with a name in `CONDITIONS`; '' for none.
    dataset: The data.

  Raises:
    UsageError: If there is no such kind, as with an N below 2; if the data have no such conditions, or no training
      image of a class; if N does not divide height and width; or if a mask hides all or nothing of the images.
  """
  return kind_of(kind).of_data(kind, dataset)


def _absent(split: Split, classes: int | None) -> np.ndarray:
  return np.setdiff1d(np.arange(classes or 0), np.asarray(split.labels))


def _named(labels: np.ndarray, names: Sequence[str] | None) -> str:
  more = f' and {len(labels) - 10} more' if len(labels) > 10 else ''
  return ('class ' if len(labels) == 1 else 'classes ') + ', '.join(class_name(i, names) for i in labels[:10]) + more


def _size(shape: Sequence[int] | None) -> str:
  return ' x '.join(map(str, shape or ()))

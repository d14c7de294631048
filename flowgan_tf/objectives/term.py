"""A term of the loss: what it needs, its settings, and the number that the generator minimises."""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from flowgan_tf.base.errors import UsageError, check
from flowgan_tf.base.lazy import tf
from flowgan_tf.base.settings import Settings

if TYPE_CHECKING:
  from flowgan_tf.flows import Generator

# What the log calls numbers that no term gives.
OF_LOG = {'kind', 'step', 'seconds', 'loss', 'gradient_norm', 'learning_rate'}


@dataclasses.dataclass(frozen=True)
class Number:
  """A number that is logged during a training, and how it is shown."""

  name: str  #: Its name in the log.
  axis: str = ''  #: What the axis of its curve in a report says; without it there is no such curve.
  caption: str = ''  #: Caption of the curve.
  scale: float = 1.0  #: What the curve multiplies the number by.
  form: str = ''  #: Its format in the lines of progress, such as '.3g'; without it they leave it out.


class Seen:
  """Real images of a step, or a part of them, as the terms see them."""

  def __init__(self, generator: Generator, images: tf.Tensor, condition: tf.Tensor | None):
    """Holds the generator, images `[n, ...]` and a condition for each, or None. A label of -1 is unknown."""
    self.generator, self.images, self.condition = generator, images, condition

  @functools.cached_property
  def class_log_probs(self) -> tf.Tensor:
    """log p(x, y) in nats of each class, `[n, classes]`, computed once for all terms."""
    return self.generator.class_log_probs(self.images, training=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn:
  """What a step has drawn for the terms. What no term needs is left out."""

  generator: Generator | None = None  #: The generator that is trained.
  #: Real images `[n, ...]` of the generator's update; this replica's share. Numbers that are not linear in means over
  #: the batch, such as moments, need the means over all replicas: `flowgan_tf.devices.mean`.
  images: tf.Tensor | None = None
  condition: tf.Tensor | None = None  #: The conditions of images and samples.
  #: Means of what `of_images` returns over this replica's share of the batch.
  means: Mapping[str, tf.Tensor] = dataclasses.field(default_factory=dict)
  noise: tf.Tensor | None = None  #: Noise `[n, ...]` of the samples.
  samples: tf.Tensor | None = None  #: Samples `[n, ...]`, which are differentiable in the generator's weights.
  fake_outputs: tf.Tensor | None = None  #: The critic's outputs at the samples, `[n, ...]`.
  real_outputs: tf.Tensor | None = None  #: The critic's outputs at the images, if a term `needs_real_outputs`.
  progress: float | tf.Tensor = 0.0  #: Fraction of the training that is done, from 0 to 1.


class Term(abc.ABC):
  """A term of the generator's loss.

  A subclass is one file and one line of `TERMS`, or a class of your own that `--config.terms=MODULE:CLASS` names:

  ```python
  class Bright(fg.objectives.Term):
    needs_samples = True

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Settings(fg.objectives.Settings):
      bright_weight: float = fg.objectives.setting(0.0, 'Weight of the mean of samples.', short=True)

    def loss(self, drawn):
      bright = tf.reduce_mean(drawn.samples)
      return self.settings.bright_weight * bright, {'bright': bright}
  ```
  """

  Settings: ClassVar[type[Settings]] = Settings  #: Its settings, which become settings of a training.
  weight_setting: ClassVar[str] = ''  #: Name of the setting that leaves the term out if it is 0.
  numbers: ClassVar[tuple[Number, ...]] = ()  #: What a term of the package logs, with its curves in a report.
  adversarial_only: ClassVar[bool] = False  #: Whether the objective `mle` leaves it out.
  needs_density: ClassVar[bool] = False  #: Whether the generator must have a density.
  needs_samples: ClassVar[bool] = False  #: Whether it needs `Drawn.noise` and `Drawn.samples`.
  needs_real_outputs: bool = False  #: Whether it needs the critic's outputs at the images.

  def __init__(self, settings: Any, config: Mapping[str, Any]):
    """Holds the settings of the term; `config` has all settings of a training."""
    self.settings = settings

  @classmethod
  def applies(cls, config: Mapping[str, Any]) -> bool:
    """Whether the settings of a training make it a part of the loss."""
    left_out = cls.adversarial_only and config['objective'] == 'mle'
    return not left_out and (not cls.weight_setting or bool(config[cls.weight_setting]))

  @classmethod
  def label(cls, config: Mapping[str, Any]) -> str:
    """Returns the words that tell a run from others without this term or with other settings; '' for none.

    By default these are the name of its weight and the weight, such as 'transport 10'.
    """
    if not cls.weight_setting or not cls.applies(config):
      return ''
    return f'{cls.weight_setting.removesuffix("_weight")} {moving(config, cls.weight_setting)}'

  def of_images(self, seen: Seen) -> dict[str, tf.Tensor]:
    """Returns real numbers of each image, `[n]`, by name; `Drawn.means` has their means.

    Parts of a batch are computed on different cores, and XLA may compile this, so that it has to treat each image by
    itself. A step raises a `UsageError` if the numbers have another shape or are complex.
    """
    return {}

  @classmethod
  def moves(cls, config: Any) -> bool:
    """Whether `loss` depends on `Drawn.progress`; a training can then not go on to more steps.

    By default this is so if the term applies and its weight has a `final_` weight that differs.
    """
    return bool(cls.weight_setting) and cls.applies(config) and is_moving(config, cls.weight_setting)

  @abc.abstractmethod
  def loss(self, drawn: Drawn) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Returns the weighted scalar that is added to the loss, and scalars to log by name, before weighting.

    Both are real, and become float32. An objective raises a `UsageError` for other shapes, for complex numbers, and for
    names that the log or another term has.
    """


def own_numbers(
  term: Term, method: str, found: Mapping[str, Any], shape: tf.TensorShape, others: Collection[str]
) -> dict[str, tf.Tensor]:
  """Returns what a method of a term has found, as floats by name; rejects other shapes and the names of others."""
  if taken := sorted(found.keys() & set(others)):
    said = f'`terms` must give their numbers names that nothing else has. Got: {", ".join(taken)} of'
    raise UsageError(f'{said} {type(term).__name__}.', 'terms')
  return {name: as_floats(term, f'`{method}` returns {name}', value, shape) for name, value in found.items()}


def as_floats(term: Term, returned: str, value: Any, shape: tf.TensorShape) -> tf.Tensor:
  """Returns numbers of a term as a tensor of floats.

  Other shapes would be broadcast in silence, and complex numbers would lose their imaginary part.
  """
  tensor = tf.convert_to_tensor(value)
  got = f'{type(term).__name__}, whose {returned} as {tensor.dtype.name} of shape {tensor.shape}'
  holds = tensor.shape.is_compatible_with(shape) and not tensor.dtype.is_complex
  check('terms', got, f'terms that return real numbers of shape {shape}', holds)
  return tensor if tensor.dtype.is_floating else tf.cast(tensor, tf.float32)


def between(first: float, last: float | None, progress: float | tf.Tensor) -> float | tf.Tensor:
  """Returns a weight that moves from the first to the last by the same factor in each step; None means no change."""
  return first if last is None or last == first else first * (last / first) ** progress


def is_moving(config: Mapping[str, Any], name: str) -> bool:
  """Whether a weight changes during a training: there is a `final_` weight that differs."""
  return config.get(f'final_{name}') not in (None, config[name])


def moving(config: Mapping[str, Any], name: str) -> str:
  """Returns a weight in words, such as '10', or '10 to 1' if it changes."""
  return f'{config[name]:g}' + (f' to {config[f"final_{name}"]:g}' if is_moving(config, name) else '')

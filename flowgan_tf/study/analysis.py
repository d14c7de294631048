"""What an analysis measures and shows, its settings, and the run as it sees it."""

from __future__ import annotations

import abc
import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ml_collections import config_dict

from flowgan_tf import data, evaluation, runs
from flowgan_tf.base import settings
from flowgan_tf.base.errors import UsageError, check
from flowgan_tf.base.lazy import tf
from flowgan_tf.base.settings import setting
from flowgan_tf.data.conditions import kind_of
from flowgan_tf.display.figure import Figure
from flowgan_tf.display.tables import Column, Row, Table
from flowgan_tf.metrics import arrays
from flowgan_tf.runs import seeds
from flowgan_tf.study.summary import Summary

if TYPE_CHECKING:
  from flowgan_tf import data
  from flowgan_tf.evaluation.evaluate import Evaluator
  from flowgan_tf.metrics import Scorer
  from flowgan_tf.runs.run import Run


_LOG = logging.getLogger(__name__)
_IMAGES_PER_CALL = 100
_MOST_VALUES = 2**29  # of images that stay in files: 2 GiB in float32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(settings.Settings):
  """The settings that all analyses share. Each analysis adds its own.

  Raises:
    UsageError: If a value has the wrong type or is out of range.
  """

  seed: int = setting(0, 'Seed of everything random.', 0, 2**31 - 1)


class Subject:
  """A `run` with its `dataset`, and with what several analyses need. The subject computes it on first use.

  If the generator has classes, the analyses study p(x), the mixture of its classes. With a `label` they study p(x | y)
  of that class, with images of that class alone. If it is given something else, they study p(x | c): each image has its
  own c, and each sample the c of a random training image.
  """

  def __init__(self, run: Run, label: int | str | None = None):
    """Loads the run's data; raises a `UsageError` if they cannot be read or have changed, or lack the class."""
    self.run, self.dataset = run, runs.load_data(run)
    if label is not None:
      expected = f'left out, as {run.workdir} is not conditioned on labels'
      check('label', label, expected, self.dataset.condition.classes)
      label = run.generator.label_of(label)
    self.label: int | None = label
    self.condition: data.Condition = dataclasses.replace(self.dataset.condition, label=label)
    self._samples: dict[tuple[int, int], np.ndarray] = {}
    log_prob = run.generator.on_batches(lambda given, images: given.log_prob(images))
    self._log_prob = tf.function(log_prob, autograph=False)

  @functools.cached_property
  def evaluator(self) -> Evaluator:
    """Measures the likelihood, as in `bin/evaluate`."""
    return evaluation.Evaluator(self.run.generator, self.dataset, self.run.config)

  @functools.cached_property
  def scorer(self) -> Scorer | None:
    """Scores samples, as in `bin/evaluate`; None if the data have no labels for a classifier.

    It is also None with a `label`, because the scores compare samples with images of all classes.
    """
    return None if self.label is not None else evaluation.make_scorer(self.run.config, self.dataset)

  def samples(self, n: int, seed: int) -> np.ndarray:
    """Draws samples, float `[n, height, width, channels]`; raises a `UsageError` if one is not finite."""
    if (n, seed) not in self._samples:
      images = self.draw(n, seed)
      if bad := np.count_nonzero(~np.isfinite(images).all(axis=(1, 2, 3))):
        raise UsageError(
          f'{self.run.workdir}: {bad} of {n} samples are not finite; try another `checkpoint`', 'checkpoint'
        )
      self._samples[n, seed] = images
    return self._samples[n, seed]

  def draw(self, n: int, seed: int, temperature: float = 1.0) -> np.ndarray:
    """Draws samples like `samples`, but at any temperature and without a check."""
    conditions = self.conditions_for_samples(n, seed)
    return self.evaluator.sample(n, seeds.Purpose.ANALYSIS, seed, temperature, conditions)

  def sample(self, n: int, seed: tf.Tensor) -> tf.Tensor:
    """Draws samples of p(x), or p(x | y) with a label, with a stateless seed: TensorFlow code, for a `tf.function`."""
    return self.run.generator.given(self.label).sample(n, seed)

  def images(self, split: str, n: int | None = None, seed: int = 0, dataset: data.Dataset | None = None) -> np.ndarray:
    """Returns dequantised images of the split 'train', 'validation' or 'test', by default of the run's own data set.

    It draws `n` images at random with `seed`, or takes all if `n` is None or there are no more. From images that stay
    in files it draws at most 2 GiB in float32, and logs that it did.
    """
    return self._dequantized(split, self.split(split, n, seed, dataset), dataset or self.dataset)

  def _dequantized(self, split: str, part: data.Split, dataset: data.Dataset) -> np.ndarray:
    seed = self.run.config.seed + seeds.Purpose.EVALUATION
    # The same noise would cancel in the distance between a training image and another image.
    noise = np.random.default_rng((seed, 1)) if split == 'train' else seed
    return data.dequantize(part.images, dataset.levels, noise)

  def split(self, name: str, n: int | None = None, seed: int = 0, dataset: data.Dataset | None = None) -> data.Split:
    """Returns the grey levels of `images`, with what is stored beside them, for the same arguments."""
    whole: data.Split = getattr(dataset or self.dataset, name)
    rows = np.arange(len(whole))
    if dataset is None and self.label is not None:
      rows = np.flatnonzero(whole.labels == self.label)
      check('label', self.label, f'a class with {name} images in {self.dataset.name}', len(rows) > 0)
    dataset, total = dataset or self.dataset, len(rows)
    if isinstance(whole.images, data.StoredImages):
      most = max(1, _MOST_VALUES // math.prod(dataset.image_shape))
      if most < min(total, n or total):
        _LOG.info('%s: %d of its %d %s images are used, drawn at random.', dataset.name, most, total, name)
        n = most
    if n is not None and n < total:
      rows = rows[np.sort(np.random.default_rng(seed).permutation(total)[:n])]
    return whole.take(rows)

  def batch(
    self, split: str, n: int | None = None, seed: int = 0, *, of_density: bool = False
  ) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns `images`, and what the generator is given with each; None for nothing.

    `of_density` asks for what their density is given instead, which is nothing for p(x), the mixture of all classes.
    """
    part = self.split(split, n, seed)
    is_marginal = of_density and self.condition.has_marginal and self.label is None
    return self._dequantized(split, part, self.dataset), None if is_marginal else self.condition.of_split(part)

  def conditions_for_samples(self, n: int, seed: int) -> np.ndarray | None:
    """Draws what samples are given, `[n, ...]`: labels by the generator's p(y), and others from training images."""
    return self.condition.draw(n, seed, self.dataset.train, self.run.generator.class_probs)

  def map(self, function: Callable, images: np.ndarray, conditions: np.ndarray | None) -> np.ndarray:
    """Applies a function of images, and of what is given with them unless that is None, batch by batch; float64."""
    # The marginal density of an image is the sum over its classes, which are as many images.
    passes = self.run.generator.classes or 1 if conditions is None else 1
    return arrays.map_batches(function, images, max(1, _IMAGES_PER_CALL // passes), conditions).astype(np.float64)

  def log_prob(self, images: np.ndarray, conditions: np.ndarray | None = None) -> np.ndarray:
    """Computes exact log-densities of images in nats, float64 `[n]`.

    What is not `given` is computed from the images, as for super-resolution, or is the subject's label.

    Raises:
      UsageError: If the images come without the vectors that they must have.
    """
    conditions = self.condition.of_images(images) if conditions is None else conditions
    if conditions is None and not self.condition.has_marginal:
      raise UsageError(f'{self.run.workdir}: has no density for images without a {self.condition.kind}')
    return self.map(self._log_prob, images, conditions)

  def exact(self, images: np.ndarray, conditions: np.ndarray | None = None) -> dict:
    """Computes the exact NLL of images in nats, to compare with an estimate; empty without a density."""
    return mean_nll(self.log_prob(images, conditions), 'exact_') if self.run.generator.has_density else {}


class Analysis(abc.ABC):
  """An analysis of a trained run.

  A subclass defines the class attributes and `measure`. Once it is registered in `ANALYSES`, it has its flags in
  `bin/analyze` and `bin/sweep`, its table on the terminal and its section on the page. Of an analysis from
  outside of the package, the page shows only the numbers.
  """

  name: ClassVar[str]  #: The name that selects it. Its files in the run's folder `analysis` have this name.
  #: Heading of its section of the page. Analyses with the same title share a section and its tables.
  title: ClassVar[str]
  description: ClassVar[str]  #: What it measures, in half a line.
  paper: ClassVar[str] = ''  #: The paper's figures and tables that show it; empty if there are none.
  caption: ClassVar[str]  #: Caption of its table.
  needs_density: ClassVar[bool] = False  #: Whether it can only measure generators with a density.
  #: Why it cannot measure generators that are given vectors or images; empty if it can.
  needs_marginal: ClassVar[str] = ''
  needs_flags: ClassVar[Sequence[str]] = ()  #: Flags that it does not work without, such as '--other=RUN'.
  #: Whether one figure shows several runs. Otherwise each run has its own figure.
  draws_runs_together: ClassVar[bool] = True
  Settings: ClassVar[type[Settings]] = Settings  #: A dataclass whose fields are its flags.
  #: Columns of its results. Their keys are keys of `records`; the source 'paper' means `published`.
  columns: ClassVar[Sequence[Column]]
  details: ClassVar[Sequence[Column]] = ()  #: Columns that say how it measured, such as the number of images.
  ranked: ClassVar[Sequence[str]] = ()  #: Keys of the columns with an NLL. The page ranks runs by them below the table.
  #: The paper's numbers, by data set and objective.
  published: ClassVar[Mapping[str, Mapping[str, Mapping[str, float]]]] = {}

  @abc.abstractmethod
  def measure(self, subject: Subject, settings: Any) -> tuple[dict, dict[str, np.ndarray]]:
    """Measures a run.

    Returns:
      Numbers, strings, lists and dictionaries by name; and arrays by name.

    Raises:
      UsageError: If the run cannot be analysed, for instance because its samples are not finite.
    """

  def rejects(self, condition: str) -> str:
    """Says why it cannot measure generators that are given this, the setting `condition`; '' if it can."""
    return '' if kind_of(condition).has_marginal else self.needs_marginal

  def check(self, settings: Any, config: config_dict.ConfigDict, dataset: data.Dataset) -> None:  # noqa: B027
    """Checks, before a training, the settings that otherwise only `measure` would find wrong.

    Raises:
      UsageError: If a run of this configuration and data cannot be analysed with these settings.
    """

  def records(self, record: dict) -> dict[str, dict]:
    """Returns the rows of the table for a saved record, by name; a single row has the name ''."""
    return {'': record}

  def figures(self, runs: Sequence[Summary]) -> dict[str, Figure]:
    """Draws figures of runs that have this analysis, by file name."""
    return {}

  def notes(self, runs: Sequence[Summary]) -> list[str]:
    """Returns paragraphs for the page, below the table of runs that have this analysis."""
    return []

  def resolution(self, record: dict) -> float:
    """Returns the smallest difference of `ranked` numbers that ranks runs, apart from two standard errors."""
    return 0.0

  def own_columns(self) -> tuple[Column, ...]:
    """Returns columns and details, with this analysis as the source of all but the paper's numbers.

    The last one says what the generator was given.
    """
    columns = (*self.columns, *self.details, Column(f'{self.name}: given', 'given'))
    return tuple(dataclasses.replace(c, source=c.source or self.name) for c in columns)

  def rows(self, record: dict) -> dict[str, dict]:
    """Returns `records`, each with what the generator was given."""
    return {name: numbers | {'given': record.get('given')} for name, numbers in self.records(record).items()}

  def lines(self, record: dict) -> list[str]:
    """Formats a saved record for the terminal, as a caption and a table."""
    rows = [Row({'': {'name': name}, self.name: numbers}) for name, numbers in self.rows(record).items()]
    columns = [c for c in self.own_columns() if c.source != 'paper']
    if len(rows) > 1:
      columns = [Column('', 'name'), *columns]
    return [self.caption, *str(Table(self.caption, columns, rows)).splitlines()]


def scored_alike(record: dict, other: dict) -> bool:
  """Whether two records have scores by the same network, for the same number of samples."""
  return all(record.get(key) == other.get(key) for key in ('scorer', 'scorer_hash', 'score_samples'))


def mean_nll(log_probs: np.ndarray, prefix: str = '') -> dict[str, float]:
  """Returns the mean NLL of log-densities, its standard error and their number, as entries of a record."""
  return {
    f'{prefix}nll': -log_probs.mean(),
    f'{prefix}standard_error': arrays.standard_error(log_probs),
    f'{prefix}n': len(log_probs),
  }

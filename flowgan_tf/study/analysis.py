"""The base class of analyses: what an analysis measures, and how its results are shown."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ml_collections import config_dict

from flowgan_tf.display.figure import Figure
from flowgan_tf.display.tables import Column, Row, Table
from flowgan_tf.errors import check, check_integer

if TYPE_CHECKING:
  from flowgan_tf import data
  from flowgan_tf.study.subject import Subject
  from flowgan_tf.study.summary import Summary

__all__ = ['Analysis', 'Settings', 'scored_alike', 'setting']


def setting(default: Any, description: str, minimum: int = 1, maximum: int = 10**7) -> Any:
  """Declares a field of an analysis's settings, which is also a flag of `bin/analyze`.

  Args:
    default: Default value, an integer or a string.
    description: Help text of the flag.
    minimum: Smallest value of an integer.
    maximum: Largest value of an integer.
  """
  metadata = {'description': description, 'minimum': minimum, 'maximum': maximum}
  return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """The settings that all analyses share; each analysis adds its own.

  Raises:
    UsageError: If a value has the wrong type or is out of range.
  """

  seed: int = setting(0, 'Seed of everything random.', 0, 2**31 - 1)

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if isinstance(field.default, int):
        check_integer(field.name, value, field.metadata['minimum'], field.metadata['maximum'])
      else:
        check(field.name, value, 'a string', isinstance(value, str))


class Analysis(abc.ABC):
  """An analysis of a trained run.

  A subclass defines the class attributes and `measure`. Once it is registered in `ANALYSES`, it has its flags in
  `bin/analyze` and `bin/sweep`, its table on the terminal and its section on the page.

  Attributes:
    name: The name that selects it, and that of its files in the run's folder `analysis`.
    title: Heading of its section of the page. Analyses with the same title share a section and its tables.
    description: What it measures, in half a line.
    paper: The paper's figures and tables that show it; empty if there are none.
    caption: Caption of its table.
    needs_density: Whether it can only measure generators with a density.
    draws_runs_together: Whether one figure shows several runs; otherwise each run has its own figure.
    Settings: A dataclass whose fields are its flags.
    columns: Columns of its results. Their keys are those of `records`; the source 'paper' means `published`.
    details: Columns that say how the results were measured, such as the number of images.
    ranked: Keys of the columns with an NLL by which runs are ranked below the table.
    published: The paper's numbers, by data set and objective.
  """

  name: ClassVar[str]
  title: ClassVar[str]
  description: ClassVar[str]
  paper: ClassVar[str] = ''
  caption: ClassVar[str]
  needs_density: ClassVar[bool] = False
  draws_runs_together: ClassVar[bool] = True
  Settings: ClassVar[type[Settings]] = Settings
  columns: ClassVar[Sequence[Column]]
  details: ClassVar[Sequence[Column]] = ()
  ranked: ClassVar[Sequence[str]] = ()
  published: ClassVar[Mapping[str, Mapping[str, Mapping[str, float]]]] = {}

  @abc.abstractmethod
  def measure(self, subject: Subject, settings: Any) -> tuple[dict, dict[str, np.ndarray]]:
    """Measures a run.

    Args:
      subject: The run.
      settings: An instance of the class's `Settings`.

    Returns:
      Numbers by name, which may also be strings, lists and dictionaries; and arrays by name.

    Raises:
      UsageError: If the run cannot be analysed, for instance because its samples are not finite.
    """

  def check(self, settings: Any, config: config_dict.ConfigDict, dataset: data.Dataset) -> None:  # noqa: B027
    """Checks, before a training, the settings that only `measure` would find wrong.

    Args:
      settings: An instance of the class's `Settings`.
      config: Configuration of the run.
      dataset: Data of the run.

    Raises:
      UsageError: If a run of this configuration cannot be analysed with these settings.
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
    """Returns columns and details, with this analysis as the source of all but the paper's numbers."""
    return tuple(dataclasses.replace(c, source=c.source or self.name) for c in (*self.columns, *self.details))

  def lines(self, record: dict) -> list[str]:
    """Formats a saved record for the terminal, as a caption and a table."""
    rows = [Row({'': {'name': name}, self.name: numbers}) for name, numbers in self.records(record).items()]
    columns = [c for c in self.own_columns() if c.source != 'paper']
    if len(rows) > 1:
      columns = [Column('', 'name'), *columns]
    return [self.caption, *str(Table(self.caption, columns, rows)).splitlines()]


def scored_alike(record: dict, other: dict) -> bool:
  """Whether two records have scores by the same network, of the same number of samples."""
  return all(record.get(key) == other.get(key) for key in ('scorer', 'scorer_hash', 'score_samples'))

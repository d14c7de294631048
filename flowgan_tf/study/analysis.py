"""What an analysis is: one class, which says what it measures and how that looks."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from flowgan_tf.display.figure import Figure
from flowgan_tf.display.tables import Column, Row, Table
from flowgan_tf.errors import UsageError
from flowgan_tf.study.subject import Subject
from flowgan_tf.study.summary import Summary

__all__ = ['Analysis', 'Settings', 'setting']


def setting(default: Any, description: str, minimum: int = 1, maximum: int = 10**7) -> Any:
  """A field of an analysis' settings, which is also a flag of `bin/analyze`.

  Args:
    default: Its default, an integer or a text.
    description: The flag's help.
    minimum: Smallest value of an integer.
    maximum: Largest value of an integer.
  """
  metadata = {'description': description, 'minimum': minimum, 'maximum': maximum}
  return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """What every analysis can be told; each adds fields of its own.

  Raises:
    UsageError: If a value is out of range; from every constructor.
  """

  seed: int = setting(0, 'Seed of everything random.', 0, 2**31 - 1)

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if type(value) is not type(field.default):
        raise UsageError(f'`{field.name}` must be of type {type(field.default).__name__}. Got: {value!r}.')
      low, high = field.metadata['minimum'], field.metadata['maximum']
      if isinstance(value, int) and not low <= value <= high:
        raise UsageError(f'`{field.name}` must be an integer from {low} to {high}. Got: {value}.')


class Analysis(abc.ABC):
  """An analysis of a trained run.

  A subclass fills in the class attributes and `measure`; registered in `ANALYSES`, it has its flags in `bin/analyze`
  and `bin/sweep`, its table on the terminal and its part of the page.

  Attributes:
    name: Of its files in the run's folder `analysis`, and of `--what=`.
    title: Heading of its section of the page. Analyses of one title share a section and its tables.
    description: What it measures, in half a line.
    paper: The paper's figures and tables that show it; empty if none does.
    caption: Of its table.
    needs_density: Whether it cannot measure a generator without a density.
    draws_runs_together: Whether one figure shows several runs, rather than that each has a figure of its own.
    Settings: A dataclass whose fields are its flags.
    columns: What it found. Keys are those of `records`; the source 'paper' stands for `published`.
    details: What that rests on, such as how many images were looked at.
    ranked: Keys of the columns with an NLL by which runs are put in order, below the table.
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
      Numbers (texts, lists and dictionaries are kept as well) and arrays, by name.

    Raises:
      UsageError: If the run does not allow it, for instance because its samples are not finite.
    """

  def records(self, record: dict) -> dict[str, dict]:
    """What the columns show of a kept record: rows by name, `{'': record}` where one row says it all."""
    return {'': record}

  def figures(self, runs: Sequence[Summary]) -> dict[str, Figure]:
    """Pictures by file name of runs that hold this analysis."""
    return {}

  def notes(self, runs: Sequence[Summary]) -> list[str]:
    """Paragraphs for the page, below the table of runs that hold this analysis."""
    return []

  def resolution(self, record: dict) -> float:
    """Difference of the `ranked` numbers below which nothing is claimed, beside two standard errors."""
    return 0.0

  def own_columns(self) -> tuple[Column, ...]:
    """Columns and details, with this analysis as the source of all but the paper's numbers."""
    return tuple(dataclasses.replace(c, source=c.source or self.name) for c in (*self.columns, *self.details))

  def lines(self, record: dict) -> list[str]:
    """A kept record for the terminal: the caption, and the table."""
    rows = [Row({'': {'name': name}, self.name: numbers}) for name, numbers in self.records(record).items()]
    columns = [c for c in self.own_columns() if c.source != 'paper']
    if len(rows) > 1:
      columns = [Column('', 'name'), *columns]
    return [self.caption, *str(Table(self.caption, columns, rows)).splitlines()]

"""Tables, whose columns are declared once and shown on the terminal and on the page, and the words in them."""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flowgan_tf.base.errors import printable

SCORE_NAMES = {'mode_score': 'MODE score', 'inception_score': 'Inception score', 'fid': 'FID', 'kid': 'KID'}

# Of tables on a terminal.
_WIDTH = 120
_GAP = ' ' * 3


# Keys of numbers that are better if they are larger, or smaller.
_LARGE = {'mode_score', 'inception_score', 'class_accuracy', 'label_share', 'psnr', 'ssim', 'consistency', 'auroc'}
_LARGE |= {'precision', 'recall', 'density', 'coverage'}
_SMALL = {'fid', 'kid', 'class_fid', 'bits_per_dim', 'bits_per_dim_float64', 'calibration_error'}


@dataclasses.dataclass(frozen=True)
class Column:
  """What a column shows in each row."""

  header: str  #: Its name.
  key: str  #: Where a row's record holds the value: a number, or a text, which is shown on one line.
  format: str = ''  #: Format of the number, such as ',.2f'.
  error: str | None = None  #: Where the record holds the number's error, shown in the same format; None for none.
  source: str = ''  #: Which of the row's records and links it takes.
  #: What to show for an infinite number, which the record holds as None because JSON has no infinity; nothing if empty.
  infinite: str = ''

  @property
  def better(self) -> str:
    """'↑' if larger numbers are better, '↓' if smaller ones are, or ''."""
    small = self.key in _SMALL or re.search(r'(^|_)(nll|round_trip_error)(_|$)', self.key)
    return '↑' if self.key in _LARGE else '↓' if small else ''

  def value(self, row: Row) -> float | str | None:
    """The number or text in a row; None if it has none, or a number that is not finite."""
    value: Any = row.records.get(self.source, {}).get(self.key)
    return value if isinstance(value, str) or _is_finite(value) else None

  def text(self, row: Row, plus_minus: str = '±') -> str:
    """What the cell shows; '' if it is empty."""
    value = self.value(row)
    record = row.records.get(self.source, {})
    if value is None:
      return self.infinite if self.key in record else ''
    if isinstance(value, str):
      return printable(value)
    error = record.get(self.error) if self.error else None
    return f'{value:{self.format}}' + (f' {plus_minus} {error:{self.format}}' if _is_finite(error) else '')


@dataclasses.dataclass(frozen=True)
class Row:
  """Records that a table shows side by side."""

  records: Mapping[str, Mapping[str, object]]  #: By source, values by key.
  #: By source, the command that made its numbers, or the address (https://...) where they are published.
  links: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows under columns; the first column names the row. The terminal shows no caption.

  A table leaves out columns that are empty in every row, with their headers.
  """

  caption: str
  columns: Sequence[Column]
  rows: Sequence[Row]

  def __post_init__(self):
    filled = [c for i, c in enumerate(self.columns) if i == 0 or any(c.text(row) for row in self.rows)]
    object.__setattr__(self, 'columns', tuple(filled))

  def __str__(self) -> str:
    """Formats the table for a terminal: the first column to the left, others to the right, a dash for an empty cell.

    Columns that do not fit into 120 characters continue below, beside the first column again.
    """
    cells = [[column.header, *(column.text(row, '+-') or '-' for row in self.rows)] for column in self.columns]
    widths = [max(map(len, column)) for column in cells]
    first = [cell.ljust(widths[0]) for cell in cells[0]]
    others = [[cell.rjust(width) for cell in column] for column, width in zip(cells[1:], widths[1:], strict=True)]
    parts = [[first]]
    for column in others:
      if len(parts[-1]) > 1 and sum(len(c[0]) + len(_GAP) for c in parts[-1]) + len(column[0]) > _WIDTH:
        parts.append([first])
      parts[-1].append(column)
    return '\n\n'.join(map(_lines, parts))


def _lines(columns: Sequence[Sequence[str]]) -> str:
  header, *rows = [_GAP.join(cells) for cells in zip(*columns, strict=True)]
  return '\n'.join([header, '-' * len(header), *rows])


def _is_finite(value: object) -> bool:
  try:
    return isinstance(value, numbers.Real) and math.isfinite(value)
  except OverflowError:  # An integer that no float can hold.
    return False


def listed(names: Iterable[str]) -> str:
  """Joins names: 'a', 'a and b', 'a, b and c'."""
  *others, last = [*names] or ['']
  return f'{", ".join(others)} and {last}' if others else last

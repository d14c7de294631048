"""Cells of the page's tables: a number, its error and its command; empty where there is no finite number."""

from __future__ import annotations

import dataclasses
import math

from flowgan_tf.display import tables
from flowgan_tf.programs.command_lines import evaluate_command

__all__ = ['Cell', 'Table', 'cell', 'evaluated', 'measured', 'number', 'paper_cells', 'plus_minus']


@dataclasses.dataclass(frozen=True)
class Cell:
  """A text, the number that it is sorted by, and the command that made it or its address."""

  text: str
  value: float | None = None
  command: str | None = None
  href: str | None = None


class _CellColumn(tables.Column):
  def _cell(self, row):
    return row.records[self.source]['cell']

  def value(self, row):
    cell = self._cell(row)
    return cell.text if cell.value is None and cell.text else cell.value

  def text(self, row, plus_minus='±'):
    return self._cell(row).text


def Table(caption, header, rows):
  """A table of cells that are made already."""
  rows = [[Cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
  columns = [_CellColumn(name, 'cell', source=str(i)) for i, name in enumerate(header)]
  return tables.Table(
    caption,
    columns,
    [
      tables.Row(
        {str(i): {'cell': cell} for i, cell in enumerate(row)},
        {str(i): cell.href or cell.command for i, cell in enumerate(row) if cell.href or cell.command},
      )
      for row in rows
    ],
  )


def measured(run, record, key, unit='nats'):
  """A number of an evaluation with its error."""
  if not _finite(record, key):
    return ''
  value, error = record[key], record.get('standard_error' if key == 'nll' else f'{key}_std')
  form = ',.2f'
  if key == 'nll' and unit == 'bits/dim':
    value, error, form = run.in_unit(value, unit), run.error_in_unit(error, unit), '.3f'
  text = f'{value:{form}}' + ('' if error is None or not math.isfinite(error) else f' ± {error:{form}}')
  return Cell(_typeset(text), value, evaluate_command(run, record))


def evaluated(run, record, key, form):
  return '' if record is None else number(record, key, form, evaluate_command(run, record))


def _finite(record, key):
  return record is not None and record.get(key) is not None and math.isfinite(record[key])


def number(record, key, form, command):
  return '' if record is None else cell(record.get(key), form, command)


def plus_minus(record, key, error, form, command):
  if not _finite(record, key):
    return ''
  text = f'{record[key]:{form}}' + ('' if not _finite(record, error) else f' ± {record[error]:{form}}')
  return Cell(_typeset(text), record[key], command)


def cell(value, form, command, absent=''):
  return absent if value is None or not math.isfinite(value) else Cell(_typeset(f'{value:{form}}'), value, command)


def paper_cells(numbers, forms):
  numbers = numbers or (None,) * len(forms)
  href = 'https://arxiv.org/abs/1705.08868'
  return [
    '' if number is None else Cell(_typeset(f'{number:{form}}'), number, href=href)
    for number, form in zip(numbers, forms, strict=True)
  ]


def _typeset(text):
  return text.replace('-', '−')

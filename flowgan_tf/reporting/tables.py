"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ['evaluation_table', 'text_table']


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """Aligns rows under a header: the first column to the left, numbers to the right."""
  widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

  def line(row):
    first, *rest = (
      cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
    )
    return '   '.join([first, *rest])

  rule = '-' * len(line(header))
  return '\n'.join([line(header), rule, *map(line, rows)])


def evaluation_table(records: Sequence[dict]) -> str:
  """The table of an evaluation, one row for each step; checkpoints of one step hold one flow and share a row.

  Args:
    records: As `training.evaluation.evaluate_run` returns them.
  """
  split = records[0]['split']
  header = ['checkpoint', 'step', f'{split} NLL (nats)', 'bits/dim', 'round trip', 'images']
  scored = 'mode_score' in records[0]
  header += ['MODE', 'Inception', 'samples'] if scored else []
  checkpoints: dict[int, list[str]] = {}
  for r in records:
    checkpoints.setdefault(r['step'], []).append(r['checkpoint'])
  rows = []
  for r in records:
    if r['checkpoint'] != checkpoints[r['step']][0]:
      continue
    row = [
      ', '.join(checkpoints[r['step']]),
      f'{r["step"]:,}',
      f'{r["nll"]:,.2f}' + (f' +- {r["standard_error"]:.2f}' if r['n'] > 1 else ''),
      f'{r["bits_per_dim"]:.3f}',
      f'{r["round_trip_error"]:.1e}',
      f'{r["n"]:,}',
    ]
    if scored:
      row += [
        f'{r["mode_score"]:.2f} +- {r["mode_score_std"]:.2f}',
        f'{r["inception_score"]:.2f} +- {r["inception_score_std"]:.2f}',
        f'{r["score_samples"]:,}',
      ]
    rows.append(row)
  table = text_table(header, rows)
  if scored:
    r = records[0]
    accuracy = f'{r["classifier_accuracy"]:.1%} test accuracy'
    table += f'\nscores: {r["score_splits"]} splits, classifier {r["classifier"]} with {accuracy}'
  return table

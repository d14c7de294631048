"""Draws what `benchmarks.compare` measured: bars of milliseconds, a panel for each task.

python -m benchmarks.plot bench.json bench.png
"""

from __future__ import annotations

import json
import pathlib
import sys

from matplotlib.figure import Figure

from benchmarks.compare import DTYPES, REFERENCE
from flowgan_tf.display.axes import COLORS, INK

TITLES = {
  'nice_train': 'NICE: step of maximum likelihood',
  'nice_hybrid': 'NICE: hybrid iteration, 5 critic steps',
  'nice_sample': 'NICE: 100 samples',
  'nice_log_prob': 'NICE: log-density of 100 images',
  'real_nvp_train': 'Real-NVP: step of maximum likelihood',
  'real_nvp_log_prob': 'Real-NVP: log-density of 32 images',
  'jet_train': 'Jet: step of maximum likelihood',
  'jet_log_prob': 'Jet: log-density of 100 images',
}
_BAR = 0.38


def draw(records: list[dict]) -> Figure:
  """Plots the records of a run, at least one. Numbers are milliseconds, and in brackets the ratio to this project."""
  measured = {record['task'] for record in records}
  tasks = [task for task in TITLES if task in measured]
  labels = {task: list(dict.fromkeys(_label(r) for r in records if r['task'] == task)) for task in tasks}
  pairs = [tasks[i : i + 2] for i in range(0, len(tasks), 2)]
  heights = [max(len(labels[task]) for task in pair) for pair in pairs]
  figure = Figure(figsize=(10, 0.8 * len(pairs) + 0.42 * sum(heights)), layout='constrained')
  grid = figure.subplots(len(pairs), min(2, len(tasks)), squeeze=False, gridspec_kw={'height_ratios': heights})
  for axes in grid.flat[len(tasks) :]:
    axes.remove()
  for axes, task in zip(grid.flat, tasks, strict=False):
    for i, dtype in enumerate(DTYPES):
      for r in records:
        if (r['task'], r['dtype']) == (task, dtype):
          y = labels[task].index(_label(r)) + (i - 0.5) * _BAR
          axes.barh(y, r['ms'], _BAR, color=COLORS[i], label=dtype, alpha=1.0 if r['peer'] == REFERENCE else 0.55)
          number = f' {r["ms"]:,.0f}' if r['ms'] >= 100 else f' {r["ms"]:.3g}'
          note = number + ('' if r['peer'] == REFERENCE else f' (×{r["ratio"]:.2f})')
          axes.text(r['ms'], y, note, va='center', fontsize=8, color='black')
    axes.set_title(TITLES[task], fontsize=10.5, loc='left')
    axes.set_yticks(range(len(labels[task])), labels[task], fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.3)
    axes.set_xlim(left=0)
    axes.tick_params(axis='x', labelsize=8, colors=INK)
    axes.spines[['top', 'right']].set_visible(False)
    axes.set_xlabel('ms', fontsize=8, color=INK)
  handles = {bars.get_label(): bars for axes in figure.axes for bars in axes.containers}
  figure.legend(list(handles.values()), list(handles), loc='outside upper right', ncols=2, frameon=False)
  return figure


def _label(record: dict) -> str:
  return f'{record["peer"]} {record["variant"]}' if record['peer'] in ('pytorch', 'tfp') else record['peer']


def main() -> None:
  if len(sys.argv) != 3:
    sys.exit('expected two files, as in `python -m benchmarks.plot bench.json bench.png`')
  source, target = map(pathlib.Path, sys.argv[1:])
  figure = draw(json.loads(source.read_text())['results'])
  figure.savefig(target, dpi=110, facecolor='white')
  print(target)


if __name__ == '__main__':
  main()

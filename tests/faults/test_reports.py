"""Damaged files of a run: the page is made, and what is damaged is said in a line."""

import json
import pathlib
import shutil
import warnings

import numpy as np

from flowgan_tf.display.figure import Figure
from flowgan_tf.report import make_report, render, tables
from flowgan_tf.study import summarize

GOLDEN = pathlib.Path(__file__).parent.parent / 'golden' / 'nice'
ODD_VALUES = ('null', '"abc"', '[]', '{}', 'true', '-1', '1' + 400 * '0', '1e308', '-1e308', '1e-308', 'NaN')


def damage(path: pathlib.Path, rng: np.random.Generator) -> None:
  """Flips a bit, cuts the file off, replaces it, or puts another value into a record."""
  content = path.read_bytes()
  at, kind = int(rng.integers(len(content))), rng.integers(5)
  if kind == 0:
    path.write_bytes(content[:at])
  elif kind == 1:
    path.unlink()
    rng.choice([path.mkdir, lambda: path.symlink_to('nowhere'), lambda: path.write_bytes(b'')])()
  elif kind == 2 or path.suffix not in ('.json', '.jsonl'):
    changed = bytearray(content)
    changed[at] ^= 1 << rng.integers(8)
    path.write_bytes(changed)
  else:
    # The comma or the brace behind a value stays.
    start = content.find(b': ', at) + 2
    end = min((i for mark in b',}\n' if (i := content.find(bytes([mark]), start)) >= 0), default=len(content))
    path.write_bytes(content[:start] + str(rng.choice(ODD_VALUES)).encode() + content[end:])


def test_a_page_is_made_of_damaged_runs(tmp_path, faults):
  rng = np.random.default_rng(0)
  whole = shutil.copytree(GOLDEN, tmp_path / 'whole')
  (whole / 'samples').mkdir()
  grid = Figure.of_pixels(rng.integers(0, 256, (20, 20, 1), np.uint8), 'a', 'b').data
  (whole / 'samples' / 'step_0000006.png').write_bytes(grid)
  files = [path.relative_to(whole) for path in sorted(whole.rglob('*')) if path.is_file() and 'ckpt' not in path.name]
  expected = [json.loads(line)['step'] for line in (whole / 'metrics.jsonl').read_text().splitlines()][-1]
  for _ in faults.trials('a page of a run with a damaged file', long=300, short=2):
    odd = shutil.copytree(whole, tmp_path / 'odd')
    damage(odd / rng.choice(files), rng)
    with warnings.catch_warnings():
      # What diverged may be as large as an analysis can measure. Matplotlib then warns, and draws what it can.
      warnings.simplefilter('default', RuntimeWarning)
      runs, lines = summarize([whole, odd])
      page = render(make_report(runs, lines))
      table = str(tables.sweep_table(runs))
    assert not [line for line in lines if '\n' in line or not line.startswith(str(odd))]
    assert runs[0].step == expected or runs[1].step == expected
    assert len(table.splitlines()) == 2 + len(runs) and f'{whole}' in page
    shutil.rmtree(odd)

"""The paper's study of a run: each analysis reads the run, and leaves its numbers in the run's folder."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterator

import numpy as np

from flowgan_tf.bijectors.one_pass import clear_caches
from flowgan_tf.errors import UsageError
from flowgan_tf.files import make_writable, save_arrays, write_atomically
from flowgan_tf.runs.checkpoints import available
from flowgan_tf.runs.run import load_run
from flowgan_tf.study.analyses import ANALYSES, Settings, Subject

__all__ = ['ANALYSES', 'Settings', 'Study', 'analyze', 'read', 'studying', 'write']


@dataclasses.dataclass(frozen=True)
class Study:
  """What an analysis found in a run.

  Attributes:
    record: What `RUN/analysis/WHAT.json` holds: `what`, `checkpoint`, `step`, `seconds`, the `settings` that count,
      and the numbers.
    arrays: What `RUN/analysis/WHAT.npz` holds: arrays by name.
  """

  record: dict
  arrays: dict[str, np.ndarray]


@contextlib.contextmanager
def studying(
  workdir: str | os.PathLike, checkpoint: str | None = None, settings: Settings | None = None
) -> Iterator[Callable[[str], Study]]:
  """Loads a run once for several analyses, and lets go of it afterwards.

  ```python
  with studying('runs/demo') as apply:
    studies = [apply(what) for what in ('kde', 'jacobian')]
  ```

  Args:
    workdir: Folder of the run.
    checkpoint: Name of a checkpoint. Default: the best by score, as in the paper's Table 3, where there is one.
    settings: How much to look at.

  Yields:
    A function that applies one of `ANALYSES`, keeps the result in the run's folder `analysis` and returns it. It raises
    a `UsageError` if there is no such analysis, or the generator does not allow it: it has no likelihood, or its
    samples are not finite. Others can be applied still.

  Raises:
    UsageError: If the run or its data cannot be read.
  """
  if checkpoint is None and 'best_score' in available(pathlib.Path(workdir)):
    checkpoint = 'best_score'
  subject = Subject(load_run(workdir, checkpoint), settings or Settings())
  try:
    yield functools.partial(_apply, subject)
  finally:
    clear_caches()


def analyze(
  workdir: str | os.PathLike, what: str, checkpoint: str | None = None, settings: Settings | None = None
) -> Study:
  """Applies one of `ANALYSES` to a run, and keeps the result in the run's folder `analysis`; arguments of `studying`.

  Raises:
    UsageError: If there is no such analysis, the run or its data cannot be read, or the generator does not allow it.
  """
  _check(what)
  with studying(workdir, checkpoint, settings) as apply:
    return apply(what)


def read(workdir: str | os.PathLike, what: str) -> Study | None:
  """What `analyze` left in a run; None if it was not applied to it.

  Raises:
    UsageError: If the files are damaged.
  """
  path = pathlib.Path(workdir) / 'analysis' / f'{what}.json'
  if not path.exists():
    return None
  try:
    record, arrays = json.loads(path.read_text()), {}
    if path.with_suffix('.npz').exists():
      with np.load(path.with_suffix('.npz')) as file:
        arrays = {name: file[name] for name in file.files}
    seal, study = record.pop('sha256', None), Study(record, arrays)
    if record['what'] != what or seal != _seal(study):
      raise ValueError('not what was written')
  except Exception as error:  # A damaged zip file raises whatever its flipped bits lead to.
    raise UsageError(f'{path}: damaged ({type(error).__name__}); run the analysis again') from error
  return study


def _check(what: str) -> None:
  if what not in ANALYSES:
    raise UsageError(f'--what={what}: no such analysis; expected {", ".join(ANALYSES)}')


def _apply(subject: Subject, what: str) -> Study:
  _check(what)
  run, settings = subject.run, subject.settings
  folder = run.workdir / 'analysis'
  try:
    make_writable(folder if folder.exists() else run.workdir)
  except OSError as error:
    raise UsageError(f'{folder}: cannot be written ({error.strerror})') from error
  began = time.monotonic()
  used, numbers, arrays = ANALYSES[what](subject)
  record = {
    'what': what,
    'checkpoint': run.checkpoint,
    'step': run.step,
    'settings': {name: getattr(settings, name) for name in ('seed', *used)},
    'seconds': round(time.monotonic() - began, 1),
    **numbers,
  }
  study = Study(_jsonable(record), arrays)
  write(run.workdir, study)
  return study


def write(workdir: str | os.PathLike, study: Study) -> None:
  """Leaves in a run what `read` finds there.

  Raises:
    UsageError: If the files cannot be written.
  """
  folder, what = pathlib.Path(workdir) / 'analysis', study.record['what']
  try:
    folder.mkdir(exist_ok=True)
    if study.arrays:
      save_arrays(folder / f'{what}.npz', **study.arrays)
    sealed = study.record | {'sha256': _seal(study)}
    write_atomically(folder / f'{what}.json', json.dumps(sealed, indent=2) + '\n')
  except OSError as error:
    raise UsageError(f'{folder}/{what}: cannot be written ({error.strerror})') from error


def _seal(study: Study) -> str:
  """A hash of numbers and arrays: it tells files that were damaged, or are of two analyses, from whole ones."""
  seal = hashlib.sha256(json.dumps(study.record, sort_keys=True).encode())
  for name, array in sorted(study.arrays.items()):
    seal.update(f'{name} {array.dtype} {array.shape}'.encode())
    seal.update(np.ascontiguousarray(array).tobytes())
  return seal.hexdigest()


def _jsonable(value):
  """Plain numbers; None for what is not finite, which JSON lacks."""
  if isinstance(value, dict):
    return {name: _jsonable(v) for name, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [_jsonable(v) for v in value]
  if isinstance(value, (np.generic, float)):
    value = np.asarray(value).item()
    return value if not isinstance(value, float) or math.isfinite(value) else None
  return value

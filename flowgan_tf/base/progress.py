"""What a program is doing: bars on a terminal, and elsewhere a line at least every 30 seconds.

```python
with Task('likelihood', total=10_000) as task:
  for batch in batches:
    measure(batch)
    task.advance(len(batch))
```

The work only counts. A thread looks at the open tasks once a second, measures speed and prints. A task that ends within
3 seconds is not shown. Other uses of the package are silent: only tasks inside of `Task('')` are shown, and only the
programs and `training.train` open such a task.
"""

from __future__ import annotations

import collections
import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

import tqdm

from flowgan_tf.base.errors import printable

_TICK = 1.0  # seconds
_FIRST, _EVERY = 3.0, 25.0  # seconds of silence before a new task is announced, and before another line
_RECENT = 60  # ticks over which speed is measured

_open: list[Task] = []
_lock = threading.RLock()  # of this list, and of the bars
_watcher: threading.Thread | None = None
_last_line = 0.0
_last_end = 0.0  # of a task
_stream: TextIO | None = None  # standard error if None


class Task:
  """A block of work that may take long: `with Task(...):`. Tasks may be nested."""

  def __init__(
    self,
    what: str,
    total: int | None = None,
    *,
    unit: str = 'images',
    done: int = 0,
    images: int = 1,
    note: Callable[[], str] = str,
  ):
    """Describes a task.

    Args:
      what: What it does, as the start of a line. An empty one stands for a whole program. A terminal does not show it,
        but the tasks inside.
      total: How much there is to do; None for a wait whose progress is unknown.
      unit: What `total` counts, in the plural.
      done: How much was done earlier.
      images: Images in one unit, whose number a second is shown; 0 shows none.
      note: Returns what else the line says, such as the loss. The thread calls it.
    """
    self.what, self._total, self._unit, self._done = printable(what), total, unit, done
    self._images, self._note = images, note
    self._start, self._began = done, time.monotonic()
    # Time and count at the first progress: what comes before, such as compiling, is not typical.
    self._first: tuple[float, int] | None = None
    self._seconds = 0.0  # without the tasks inside of it
    self._recent: collections.deque[tuple[float, int]] = collections.deque(maxlen=_RECENT)
    self._bar: tqdm.tqdm | None = None
    self._announced = False

  def __enter__(self) -> Task:
    """Opens the task."""
    global _watcher
    with _lock:
      _open.append(self)
      if not _open[0].what and (_watcher is None or not _watcher.is_alive()):
        _watcher = threading.Thread(target=_watch, daemon=True)
        _watcher.start()
    return self

  def __exit__(self, *_: object) -> None:
    """Closes the task, and removes its bar."""
    global _last_end
    with _lock:
      _last_end = time.monotonic()
      _open.remove(self)
      if self._bar is not None:
        self._bar.close()

  def advance(self, count: int = 1) -> None:
    """Counts what is done, up to the total: padding beyond it does not count."""
    self._done += count if self._total is None else min(count, self._total - self._done)

  def __str__(self) -> str:
    """What is done, how long the rest takes, images a second, and the note."""
    now, parts = time.monotonic(), []
    if self._total is not None:
      parts.append(f'{self._done:,} of {self._total:,} {self._unit}')
    if self._total is not None and self._first and self._done > self._first[1]:
      (then, before), (start, count) = self._first, self._recent[0]
      left = (self._total - self._done) * (now - then) / (self._done - before)
      parts.append(f'{duration(left)} left')
      if self._images and self._seconds > start:
        parts.append(f'{self._images * (self._done - count) / (self._seconds - start):,.0f} images/s')
    else:
      parts.append(f'{duration(now - self._began)} so far')
    return f'{self.what or "working"}: {", ".join(filter(None, [*parts, self._note()]))}'

  def _look(self, now, seconds):
    """Notes how far the task is; `seconds` are those since the last look, without tasks inside of it."""
    if self._total is None or self._done == self._start:
      return
    self._first = self._first or (now, self._done)
    self._seconds += seconds
    self._recent.append((self._seconds, self._done))

  def _draw(self):
    if time.monotonic() - self._began < _FIRST:
      return
    if self._bar is None:
      form = '{desc}' if self._total is None else '{percentage:3.0f}% |{bar:12}| {desc}'
      keywords = {'file': _stream or sys.stderr, 'leave': False, 'dynamic_ncols': True, 'bar_format': form}
      self._bar = tqdm.tqdm(desc=str(self), total=self._total, initial=self._done, **keywords)
    self._bar.n = self._done
    self._bar.set_description_str(str(self))


def write(line: str) -> None:
  """Prints a line, or several, on standard error, above the bars."""
  global _last_line
  _last_line = time.monotonic()
  tqdm.tqdm.write('\n'.join(map(printable, line.split('\n'))), file=_stream or sys.stderr)


@contextlib.contextmanager
def shown_on(stream: TextIO) -> Iterator[None]:
  """Prints on another stream in its block, for work that must not write on standard error itself."""
  global _stream
  _stream = stream
  try:
    yield
  finally:
    _stream = None


def duration(seconds: float) -> str:
  """Returns a time such as '45 s', '12 min' or '3 h 20 min'."""
  if seconds < 99.5:
    return f'{seconds:.0f} s'
  minutes = round(seconds / 60)
  return f'{minutes} min' if minutes < 100 else f'{minutes // 60} h {minutes % 60} min'


def _watch():
  """Shows the open tasks until the program's has ended."""
  global _watcher, _last_line, _last_end
  before = _last_line = _last_end = time.monotonic()
  while True:
    time.sleep(_TICK)
    with _lock:
      if not _open or _open[0].what:
        _watcher = None
        return
      now = time.monotonic()
      for task in _open:
        task._look(now, now - before if task is _open[-1] else 0.0)
      before = now
      with contextlib.suppress(OSError, ValueError):  # Standard error was closed, or cannot be written.
        _show(now)


def _show(now):
  if (_stream or sys.stderr).isatty():
    for task in filter(lambda task: task.what, _open):
      task._draw()
    return
  task, silence = _open[-1], now - _last_line
  if not task.what and now - _last_end < _EVERY:
    return  # Between two tasks there is nothing to name.
  if silence >= _EVERY or (not task._announced and min(silence, now - task._began) >= _FIRST):
    task._announced = True
    write(', '.join([*(outer.what for outer in _open[:-1] if outer.what and outer._total is None), str(task)]))

"""What a program is doing: bars on a terminal, and elsewhere lines.

```python
with Task('likelihood', total=10_000) as task:
  for batch in batches:
    measure(batch)
    task.advance(len(batch))
```

Without a terminal, work that counts says how far it is after 25 seconds of silence. A wait says at its start what it
is, unless something else was said within 3 seconds. Other uses of the package are silent: only tasks inside of
`Task('')` are shown, and only the programs and `training.train` open such a task.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import tqdm

from flowgan_tf.base.errors import printable

# Seconds of silence, after which a line names the task, and after which it says how far it is.
_FIRST, _EVERY = 3.0, 25.0
_INTERVAL = 1.0  # seconds between two looks at a task that counts

_programs = 0  # tasks `Task('')` that are open
_last_line = time.monotonic()


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
      what: What it does, as the start of a line. An empty one stands for a whole program, whose tasks are shown.
      total: How much there is to do; None for a wait whose progress is unknown.
      unit: What `total` counts, in the plural.
      done: How much was done earlier.
      images: Images in one unit, whose number a second is shown; 0 shows none.
      note: Returns what else the line says, such as the loss. It is called when the line is shown.
    """
    self.what, self._total, self._images, self._note = printable(what), total, images, note
    self._settings = {'total': total, 'unit': unit, 'initial': done}
    self._bar: _Bar | None = None

  def __enter__(self) -> Task:
    """Opens the task."""
    global _programs
    if not self.what:
      _programs += 1
    elif _programs and (self._total is not None or sys.stderr.isatty()):
      self._bar = _Bar(self._images, self._note, desc=self.what, **self._settings)
    elif _programs and time.monotonic() - _last_line >= _FIRST:
      write(f'{self.what} ...')
    return self

  def __exit__(self, *_: object) -> None:
    """Closes the task, and removes its bar."""
    global _programs
    _programs -= not self.what
    if self._bar is not None:
      self._bar.close()

  def advance(self, count: int = 1) -> None:
    """Counts what is done, up to the total: padding beyond it does not count."""
    if self._bar is not None:
      self._bar.update(min(count, self._bar.total - self._bar.n))


class _Bar(tqdm.tqdm):
  """A bar that says images a second and a note; without a terminal, a line from time to time."""

  monitor_interval = 0  # seconds; tqdm would start a thread

  def __init__(self, images: int, note: Callable[[], str], **settings: Any):
    self._images, self._note = images, note
    waits, self._has_terminal = settings['total'] is None, sys.stderr.isatty()
    form = '{desc} ...' if waits else '{desc}: {n:,} of {total:,} {unit}, {remaining} left{speed}{postfix}'
    if self._has_terminal and not waits:
      form = '{percentage:3.0f}% |{bar:12}| ' + form
    keywords = {'file': sys.stderr, 'leave': False, 'dynamic_ncols': self._has_terminal, 'bar_format': form}
    super().__init__(mininterval=_INTERVAL, miniters=0, **keywords, **settings)

  @property
  def format_dict(self) -> Mapping[str, Any]:
    """What the line is made of."""
    found = super().format_dict
    speed = f', {self._images * found["rate"]:,.0f} images/s' if self._images and found['rate'] else ''
    return found | {'speed': speed, 'postfix': self._note()}

  def clear(self, nolock: bool = False) -> None:
    """Removes the bar for a moment."""
    if self._has_terminal:
      super().clear(nolock)

  def display(self, msg: str | None = None, pos: int | None = None) -> bool | None:
    """Shows the bar, or says the line; returns whether there is a bar."""
    if self._has_terminal:
      return super().display(msg, pos)
    if msg is None and time.monotonic() - _last_line >= _EVERY:
      write(str(self))
    return False


def write(line: str) -> None:
  """Prints a line, or several, on standard error, above the bars."""
  global _last_line
  _last_line = time.monotonic()
  tqdm.tqdm.write('\n'.join(map(printable, line.split('\n'))), file=sys.stderr)

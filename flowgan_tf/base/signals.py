"""SIGINT (Ctrl-C), SIGTERM and SIGHUP (closed terminal) end a program at once; a training finishes and saves its step.

Programs leave these signals their default action, which ends the process even if it is compiling. A shell then shows
status 130, 143 or 129.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator

__all__ = ['SIGNALS', 'deferred_signals']

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TOGETHER = 1.0  # Seconds. `timeout` sends its signal twice, and a wrapper may pass on what its child received, too.


@contextlib.contextmanager
def deferred_signals() -> Iterator[list[int]]:
  """Holds `SIGNALS` back until the block ends; then they take the effect that they would have had before it.

  Yields a list that receives the first signal, so that the block can end early. It does not hold back another signal
  more than a second later. Ignored signals stay ignored. In threads other than the main one, which receive no signals,
  the list stays empty.
  """
  received: list[int] = []
  when = 0.0

  def note(number, _):
    nonlocal when
    if not received:
      received.append(number)
      when = time.monotonic()
    elif time.monotonic() - when > _TOGETHER:
      restore()
      signal.raise_signal(number)

  def restore():
    for number, handler in before.items():
      signal.signal(number, handler or signal.SIG_DFL)  # None stands for a handler that is not Python's.

  before = {}
  with contextlib.suppress(ValueError):  # Only the main thread can set handlers.
    for number in SIGNALS:
      if signal.getsignal(number) is not signal.SIG_IGN:
        before[number] = signal.signal(number, note)
  try:
    yield received
  finally:
    restore()
    if received:
      signal.raise_signal(received[0])

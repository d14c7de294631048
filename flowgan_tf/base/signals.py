"""On SIGINT (Ctrl-C), SIGTERM or SIGHUP (closed terminal) a program ends with one line; a training saves first."""

from __future__ import annotations

# Programs import this before anything else: `threading` would take as long as all of it.
import _thread
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator

__all__ = ['SIGNALS', 'deferred_signals', 'end_on_signals']

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_standard_error = 2
_leaving = _thread.allocate_lock()
_handled = False
_TOGETHER = 1.0  # Seconds. `timeout` sends its signal twice, and a wrapper may pass on what its child received, too.


def end_on_signals() -> None:
  """From now on, `SIGNALS` end the process at once: with one line, and with status 130, 143 or 129 as in a shell.

  Nothing is unwound. A `KeyboardInterrupt` could be swallowed by a library or come out as another error, and Python
  raises it only when the main thread returns from the call that it is in, which for XLA can take minutes. A second
  thread therefore waits for the signals, too.

  Programs call this in the main thread, before they import anything that takes time. If the caller has closed standard
  streams, this opens them to the null device.
  """
  global _handled, _standard_error
  if _handled:
    return
  _handled = True
  _open_closed_streams()
  # Standard error may point elsewhere when the signal comes; see `command.load_tensorflow`.
  _standard_error = os.dup(2)
  reader, writer = os.pipe()
  os.set_blocking(writer, False)
  signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
  for number in SIGNALS:
    if signal.getsignal(number) is not signal.SIG_IGN:  # Scripts' background jobs ignore SIGINT; nohup ignores SIGHUP.
      signal.signal(number, _leave)
  _thread.start_new_thread(_watch, (reader,))
  # The scripts in bin/ block them, so that none is lost before there is a handler.
  signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


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


def _open_closed_streams():
  # Otherwise the next file to be opened would get the number of a stream closed by `2>&-`, and what others write to it.
  # The system gives the lowest free number, so that each stream gets its own.
  for name, mode in (('stdin', 'r'), ('stdout', 'w'), ('stderr', 'w')):
    if getattr(sys, name) is None:
      setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  (they stay open)


def _leave(number, _=None):
  # The other thread may have come first and be about to end the process; this one does not end it with another status.
  if not _leaving.acquire(timeout=_TOGETHER):
    return
  program, name = os.path.basename(sys.argv[0]).removesuffix('.py'), signal.Signals(number).name
  below = '\n' if os.isatty(_standard_error) else ''  # of the progress bar
  with contextlib.suppress(OSError):  # A terminal that was closed.
    os.write(_standard_error, f'{below}{program}: stopped by {name}; repeat the command to go on\n'.encode())
  os._exit(128 + number)


def _watch(reader):
  while True:
    for number in os.read(reader, 1):
      if signal.getsignal(number) is _leave:
        _leave(number)

"""What signals do to programs, and to a block that holds them back."""

import concurrent.futures
import signal
import sys

import pytest

from flowgan_tf.base.signals import SIGNALS, deferred_signals
from tests.processes import run, start

# A program whose `main` is in a call that does not return to Python for minutes, as XLA's compilation is.
BUSY = """
import hashlib, signal, sys, types
from flowgan_tf.base.signals import deferred_signals
from flowgan_tf.programs import command

def main(arguments):
  {body}
  print('ready', flush=True)
  hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)

sys.argv = ['bin/demo']
command.run_program(types.SimpleNamespace(main=main, __name__='demo', __doc__='A demo.'))
"""


@pytest.mark.parametrize('number', SIGNALS)
def test_a_signal_ends_a_program_at_once(number):
  """Also behind a block that held signals back."""
  process = start([sys.executable, '-c', BUSY.format(body='with deferred_signals(): pass')])
  assert process.stdout.readline() == 'ready\n'
  process.send_signal(number)
  out, err = process.communicate(timeout=60)
  assert (process.returncode, out, err) == (-number, '', '')


def test_a_signal_that_is_ignored_stays_so():
  """As SIGINT is in the background jobs of a script, and SIGHUP under nohup."""
  body = """
  signal.raise_signal(signal.SIGINT)
  signal.raise_signal(signal.SIGHUP)
  with deferred_signals() as waiting:
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGHUP)
  assert not waiting
  print('goes on', flush=True)
  signal.raise_signal(signal.SIGTERM)
"""
  process = run(['sh', '-c', 'trap "" INT HUP; exec "$0" -c "$1"', sys.executable, BUSY.format(body=body)])
  assert (process.returncode, process.stdout) == (-signal.SIGTERM, 'goes on\n')


@pytest.fixture
def received():
  """The signals that reach this process's own handlers, which do nothing else."""
  numbers = []
  before = {number: signal.signal(number, lambda number, _: numbers.append(number)) for number in SIGNALS}
  yield numbers
  for number, handler in before.items():
    signal.signal(number, handler)


def test_signals_wait_for_the_end_of_the_block_even_if_it_fails_but_a_second_does_not(monkeypatch, received):
  handlers = [signal.getsignal(number) for number in SIGNALS]
  with pytest.raises(ZeroDivisionError), deferred_signals() as waiting:
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)  # Together with the first, so that it is the same.
    assert (waiting, received) == ([signal.SIGINT], [])
    raise ZeroDivisionError
  assert received == [signal.SIGINT]
  assert [signal.getsignal(number) for number in SIGNALS] == handlers
  monkeypatch.setattr('flowgan_tf.base.signals._TOGETHER', -1.0)
  with deferred_signals():
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGHUP)
    assert received == [signal.SIGINT, signal.SIGHUP]
    assert [signal.getsignal(number) for number in SIGNALS] == handlers
  assert received == [signal.SIGINT, signal.SIGHUP, signal.SIGTERM]


def test_other_threads_are_left_alone():
  def work():
    with deferred_signals() as waiting:
      return waiting

  with concurrent.futures.ThreadPoolExecutor() as pool:
    assert pool.submit(work).result() == []


def test_programs_alone_change_the_handlers():
  assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

"""What signals do to programs, also while they are imported, and to a block that holds them back."""

import concurrent.futures
import os
import pathlib
import signal
import sys

import pytest

from flowgan_tf.base.signals import SIGNALS, deferred_signals
from tests.processes import run, start

# What a process may be doing when the signal comes.
BODIES = {
  'waits': 'time.sleep(100)',
  'catches everything': """
while True:
  try:
    time.sleep(100)
  except BaseException:
    pass
""",
  'is in a call that does not return to Python': "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)",
  'has standard error elsewhere': 'os.dup2(os.open(os.devnull, os.O_WRONLY), 2); time.sleep(100)',
  'was started with signals blocked': 'time.sleep(100)',
}
START = """
import hashlib, os, signal, sys, time
sys.argv[0] = '/somewhere/bin/train'
if {blocked}:
  signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
from flowgan_tf.base.signals import end_on_signals
end_on_signals()
end_on_signals()
print('ready', flush=True)
{body}
"""


@pytest.mark.parametrize(('number', 'status'), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_process_ends_with_one_line_whatever_it_is_doing(number, status):
  codes = {name: START.format(body=body, blocked='blocked' in name) for name, body in BODIES.items()}
  processes = {name: start([sys.executable, '-c', code]) for name, code in codes.items()}
  for name, process in processes.items():
    assert process.stdout.readline() == 'ready\n', name
    process.send_signal(number)
  for name, process in processes.items():
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (status, ''), name
    assert err == f'train: stopped by {number.name}; repeat the command to go on\n', name


def test_a_signal_that_is_ignored_stays_so():
  """As SIGINT is in the background jobs of a script, and SIGHUP under nohup."""
  code = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from flowgan_tf.base.signals import deferred_signals, end_on_signals
end_on_signals()
signal.raise_signal(signal.SIGINT)
signal.raise_signal(signal.SIGHUP)
with deferred_signals() as waiting:
  signal.raise_signal(signal.SIGINT)
  signal.raise_signal(signal.SIGHUP)
assert not waiting
print('goes on', flush=True)
signal.raise_signal(signal.SIGTERM)
"""
  process = run([sys.executable, '-c', code])
  assert (process.returncode, process.stdout) == (143, 'goes on\n')


@pytest.mark.parametrize(
  ('closed', 'printed'), [('2>&-', 'printed\n'), ('<&- 2>&-', 'printed\n'), ('<&- >&- 2>&-', '')]
)
def test_closed_standard_streams(tmp_path, closed, printed):
  """What is written to them is lost, and does not come into files."""
  code = f"""
import os, sys
from flowgan_tf.base.signals import end_on_signals
end_on_signals()
with open({str(tmp_path / 'numbers')!r}, 'w') as file:
  print('lost', file=sys.stderr)
  os.write(2, b'lost')
  file.write(f'{{file.fileno() > 2}} {{[sys.stdin.fileno(), sys.stdout.fileno(), sys.stderr.fileno()]}}')
print('printed')
"""
  process = run(['sh', '-c', f'exec "$0" -c "$1" {closed}', sys.executable, code])
  assert (process.returncode, process.stdout, process.stderr) == (0, printed, '')
  assert (tmp_path / 'numbers').read_text() == 'True [0, 1, 2]'


@pytest.mark.parametrize('command', [['-m', 'flowgan_tf.programs.train'], ['flowgan-train']])
def test_a_signal_while_a_program_is_imported_ends_it_with_one_line(tmp_path, command):
  (tmp_path / 'absl.py').write_text('import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)')
  script = tmp_path / 'flowgan-train'  # as pip writes it
  script.write_text('import sys\nfrom flowgan_tf.programs.start import train\nsys.exit(train())')
  path = os.pathsep.join(map(str, (tmp_path, pathlib.Path(__file__).parents[2])))
  process = run([sys.executable, *command], cwd=tmp_path, env=os.environ | {'PYTHONPATH': path})
  program = command[0] if len(command) == 1 else 'train'
  assert (process.returncode, process.stdout) == (130, '')
  assert process.stderr == f'{program}: stopped by SIGINT; repeat the command to go on\n'


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

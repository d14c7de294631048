"""Ctrl-C, SIGTERM or SIGHUP at any moment of a program: one line, its status, and the same command goes on."""

import contextlib
import os
import random
import signal
import sys
import time

import pytest

from tests import processes
from tests.processes import STEPS, assert_same_run, attempts, start_program, status_of, wait_for, wait_for_records
from tests.programs.conftest import CHECKOUT

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SECONDS = 60  # from the signal to the end, on a machine with other work to do


def stopped(program, number):
  return f'{program}: stopped by {number.name}; repeat the command to go on'


def ended_by(number, process, output):
  """Sends a signal, and returns the status of the process and the lines of its output."""
  with contextlib.suppress(ProcessLookupError):  # It has ended.
    os.kill(process.pid, number)
  process.join(SECONDS)
  return process.exitcode, output.read_text().splitlines()


@pytest.mark.slow
def test_a_signal_at_any_moment_of_a_training(whole, tmp_path, faults):
  flags, uninterrupted = whole
  for trial in faults.trials('a signal at a random moment of bin/train', long=40, short=2):
    moments, number = random.Random(trial), NUMBERS[trial % 3]
    for attempt in attempts():
      workdir, output = tmp_path / f'run{trial}-{attempt}', tmp_path / f'output{trial}-{attempt}'
      command = (*flags, f'--workdir={workdir}')
      process = start_program('train', command, output)
      # While the run is made, after some record, or during what comes after the last one: evaluation and export.
      wait_for(output.exists, process)
      wait_for_records(workdir, moments.randrange(STEPS + 5), process)
      time.sleep(moments.uniform(0, 0.5))
      status, lines = ended_by(number, process, output)
      if status:
        break
      assert lines[-1].endswith(' to the export.'), lines  # The signal came after the end.
    assert status == 128 + number and lines[-1] == stopped('train', number), lines
    assert not any(line.startswith('train: ') for line in lines[:-1]) and 'Traceback' not in ' '.join(lines)
    assert status_of(start_program('train', command, output)) == 0, output.read_text()
    assert_same_run(uninterrupted, workdir)


@pytest.mark.slow
@pytest.mark.parametrize('program', ['evaluate', 'analyze', 'sample', 'export', 'report', 'sweep'])
def test_a_signal_at_any_moment_of_the_other_programs(whole, tmp_path, faults, program):
  flags, run = whole
  for trial in faults.trials(f'a signal at a random moment of bin/{program}', long=6):
    moments, number = random.Random(trial), NUMBERS[trial % 3]
    for attempt in attempts():
      out, output = tmp_path / f'{trial}-{attempt}', tmp_path / f'output{trial}-{attempt}'
      arguments = {
        'analyze': (run, '--what=jacobian,kde'),
        'sample': (run, f'--out={out}'),
        'export': (run, f'--out={out}'),
        'report': (run, f'--out={out}.html'),
        'sweep': (*flags[1:], '--lambdas=0.1,inf', f'--workdir={out}', '--what='),
      }.get(program, (run,))
      process = start_program(program, arguments, output)
      wait_for(output.exists, process)
      time.sleep(moments.uniform(0, 2.0**-attempt))  # Earlier each time, as some of them end soon.
      status, lines = ended_by(number, process, output)
      if status:
        break
    assert status == 128 + number and lines[-1] == stopped(program, number), lines
    assert 'Traceback' not in ' '.join(lines), lines


@pytest.mark.parametrize('program', ['bin/train', 'bin/sweep'])
def test_a_signal_while_a_program_starts(tmp_path, faults, program):
  """From the moment when the script's first line is run; before that, the signal is Python's."""
  for trial in faults.trials(f'a signal while {program} starts', long=10):
    moments, number = random.Random(trial), NUMBERS[trial % 3]
    # What bin/_checkout.py does first, so that the test knows when it was done.
    code = f"""
import os, runpy, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
os.write(1, b'started')
sys.argv[:] = [{program!r}, '--steps=1000000', {f'--workdir={tmp_path}/run'!r}]
sys.path[:0] = [{str(CHECKOUT / 'bin')!r}, {str(CHECKOUT)!r}]
runpy.run_path({str(CHECKOUT / program)!r}, run_name='__main__')
"""
    process = processes.start([sys.executable, '-c', code], cwd=CHECKOUT)
    assert process.stdout.read(7) == 'started'
    time.sleep(moments.uniform(0, 3) if trial else 0)
    process.send_signal(number)
    _, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, err.splitlines()[-1:]) == (128 + number, [stopped(program[4:], number)]), err

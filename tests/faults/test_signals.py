"""Ctrl-C, SIGTERM or SIGHUP at any moment of a program: it ends by the signal, and the same command goes on."""

import contextlib
import os
import random
import signal
import time

import pytest

from tests.processes import STEPS, assert_same_run, attempts, start_program, status_of, wait_for, wait_for_records

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SECONDS = 60  # from the signal to the end, on a machine with other work to do


def ended_by(number, process, output):
  """Sends a signal, and returns the status of the process and its output."""
  with contextlib.suppress(ProcessLookupError):  # It has ended.
    os.kill(process.pid, number)
  process.join(SECONDS)
  return process.exitcode, output.read_text()


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
      status, said = ended_by(number, process, output)
      if status:
        break
      assert said.endswith(' to the export.\n'), said  # The signal came after the end.
    assert status == -number and 'train: ' not in said and 'Traceback' not in said, said
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
      status, said = ended_by(number, process, output)
      if status:
        break
    assert status == -number and 'Traceback' not in said, said

"""SIGKILL at any moment of a training: the same command again ends with the same numbers, bit for bit."""

import random
import signal
import time

import pytest

from tests.processes import STEPS, assert_same_run, attempts, start_program, status_of, wait_for, wait_for_records


def is_saving(workdir):
  return any((workdir / 'checkpoints').glob('*/ckpt-*_temp'))  # The folder in which TensorFlow writes.


@pytest.mark.slow
@pytest.mark.parametrize('when', ['at a random moment', 'in a save'])
def test_a_killed_training_goes_on_as_if_nothing_had_been(whole, tmp_path, faults, when):
  flags, uninterrupted = whole
  for trial in faults.trials(f'SIGKILL {when} of a training', long=10):
    moments = random.Random(trial)
    for attempt in attempts():
      workdir, output = tmp_path / f'{trial}-{attempt}', tmp_path / f'{trial}-{attempt}.log'
      command = (*flags, f'--workdir={workdir}')
      process = start_program('train', command, output)
      # In a save, it is the first that begins after some number of records.
      wait_for_records(workdir, moments.randrange(STEPS + 5), process)
      if when == 'in a save':
        wait_for(lambda workdir=workdir: is_saving(workdir), process)
      time.sleep(moments.uniform(0, 0.002 if when == 'in a save' else 0.1))
      process.kill()
      status = status_of(process)
      assert status in (0, -signal.SIGKILL), output.read_text()
      if status and (when != 'in a save' or is_saving(workdir)):
        break
    assert status_of(start_program('train', command, output)) == 0, output.read_text()
    assert_same_run(uninterrupted, workdir)

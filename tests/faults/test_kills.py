"""SIGKILL at any moment of a training: the same training again ends with the same numbers, bit for bit."""

import random
import signal
import time

import pytest

from tests.processes import assert_same_run, attempts, start_training, status_of, wait_for, wait_for_records
from tests.tiny import make_config, write_images


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A training that nothing interrupts: its configuration and its folder."""
  folder = tmp_path_factory.mktemp('whole')
  config = make_config(
    {'optimizer.learning_rate': 0.01},
    objective='mle',
    dataset=write_images(folder / 'images.npz'),
    steps=12,
    eval_every=3,
  )
  assert status_of(start_training(config, folder / 'run')) == 0, (folder / 'run.log').read_text()
  return config, folder / 'run'


def _is_saving(workdir):
  return any((workdir / 'checkpoints').glob('*/ckpt-*_temp'))  # The folder in which TensorFlow writes.


@pytest.mark.parametrize('when', ['at a random moment', 'in a save'])
def test_a_killed_training_goes_on_as_if_nothing_had_been(whole, tmp_path, faults, when):
  config, uninterrupted = whole
  for trial in faults.trials(f'SIGKILL {when} of a training', short=1, long=10):
    moments = random.Random(trial)
    for attempt in attempts():
      workdir = tmp_path / f'{trial}-{attempt}'
      process = start_training(config, workdir)
      if when == 'in a save':
        # The first save that begins after some number of records.
        wait_for_records(workdir, moments.randrange(13), process)
        wait_for(lambda workdir=workdir: _is_saving(workdir), process)
        time.sleep(moments.uniform(0, 0.002))
      else:
        wait_for_records(workdir, moments.randrange(17), process)
        time.sleep(moments.uniform(0, 0.1))
      process.kill()
      status = status_of(process)
      assert status in (0, -signal.SIGKILL), workdir.with_suffix('.log').read_text()
      if status and (when != 'in a save' or _is_saving(workdir)):
        break
    assert status_of(start_training(config, workdir)) == 0, workdir.with_suffix('.log').read_text()
    assert_same_run(uninterrupted, workdir)


def test_a_fault_that_never_strikes_is_not_survived():
  struck = []
  with pytest.raises(AssertionError, match='has not struck in 3 attempts'):
    for attempt in attempts(3):
      struck.append(attempt)
  assert struck == [0, 1, 2]

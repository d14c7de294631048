"""A disk that fills up during a training: one line, status 1, and the same command goes on once there is room."""

import contextlib
import os
import pathlib
import random
import subprocess

import pytest

from tests.processes import STEPS, assert_same_run, attempts, start_program, status_of, wait_for_records

DISK_BYTES = 8 << 20


@pytest.fixture(scope='module')
def disk(tmp_path_factory):
  folder = tmp_path_factory.mktemp('disk')
  mount = ['mount', '-t', 'tmpfs', '-o', f'size={DISK_BYTES}', 'tmpfs', str(folder)]
  try:
    subprocess.run(mount, check=True, capture_output=True)
  except (OSError, subprocess.CalledProcessError) as error:
    pytest.skip(f'no tmpfs can be mounted here: {error}')
  yield folder
  subprocess.run(['umount', '--lazy', str(folder)], check=True)


def fill(disk: pathlib.Path, leave: int) -> pathlib.Path:
  """Fills the disk with a file, but for some bytes."""
  space = os.statvfs(disk)
  with contextlib.suppress(OSError), (disk / 'full').open('wb') as file:
    os.posix_fallocate(file.fileno(), 0, max(1, space.f_bavail * space.f_frsize - leave))
  return disk / 'full'


@pytest.mark.slow
def test_a_full_disk_loses_nothing(whole, disk, tmp_path, faults):
  flags, uninterrupted = whole
  for trial in faults.trials('full disk during a training', long=12):
    moments = random.Random(trial)
    for attempt in attempts():
      workdir, output = disk / f'run{trial}', tmp_path / f'output{trial}-{attempt}'
      command = (*flags, f'--workdir={workdir}')
      # At the start, or after some record; with room for nothing, or for some of the next files.
      records, leave = moments.randrange(STEPS + 4), moments.choice([0, 4096, 16_384, 65_536])
      if trial == 0:
        records, leave = 2, 0
      if records == 0:
        full = fill(disk, leave)
      process = start_program('train', command, output)
      if records > 0:
        wait_for_records(workdir, records, process)
        full = fill(disk, leave)
      status, text = status_of(process), output.read_text()
      full.unlink()
      if status:
        break
      subprocess.run(['rm', '-r', str(workdir)], check=True)  # There was room for the rest, or the rest was done.
    assert status == 1, text
    assert [line for line in text.splitlines() if line.startswith('train: ')] == [text.splitlines()[-1]], text
    assert 'No space left on device' in text.splitlines()[-1] and 'Traceback' not in text, text
    assert status_of(start_program('train', command, output)) == 0, output.read_text()
    assert 'Traceback' not in output.read_text()
    assert_same_run(uninterrupted, workdir)
    subprocess.run(['rm', '-r', str(workdir)], check=True)

"""How often each fault is tried, and the table of what was survived.

`make test` tries once what is cheap, and `make test-all` the rest. `make faults` sets FLOWGAN_TEST_FAULTS=long, which
tries each fault as often as docs/reliability.md says.
"""

import os
from collections.abc import Iterator

import pytest


class Faults:
  """Counts the trials of one test."""

  def __init__(self):
    self.case, self.tried, self.survived = '', 0, 0

  def trials(self, case: str, long: int, short: int = 1) -> Iterator[int]:
    """Yields the number of each trial, `long` in `make faults`; one is survived if the body ends without an error."""
    self.case = case
    for trial in range(long if os.environ.get('FLOWGAN_TEST_FAULTS') == 'long' else short):
      self.tried += 1
      yield trial
      self.survived += 1


@pytest.fixture
def faults(record_property):
  counted = Faults()
  yield counted
  if counted.case:
    record_property('fault', (counted.case, counted.tried, counted.survived))


@pytest.fixture(scope='session')
def whole(tmp_path_factory):
  """The flags of a training, and its folder after nothing has interrupted it."""
  # Here, so that tests without processes do not start the one that all are forked from.
  from tests.processes import STEPS, TINY, start_program, status_of
  from tests.tiny import write_images

  folder = tmp_path_factory.mktemp('whole')
  flags = (*TINY, f'--dataset={write_images(folder / "images.npz")}', f'--steps={STEPS}')
  process = start_program('train', (*flags, f'--workdir={folder / "run"}'), folder / 'output')
  assert status_of(process) == 0, (folder / 'output').read_text()
  return flags, folder / 'run'

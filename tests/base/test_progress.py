"""Lines and bars of progress, by a clock that the tests move: `_watch` runs in the test instead of in a thread."""

import contextlib
import io
import itertools
import time
import types

import pytest

from flowgan_tf.base import progress
from flowgan_tf.base.progress import Task


@pytest.fixture
def watched(monkeypatch):
  """Returns a function that runs work, a generator that yields once a second, and returns the lines and their times."""

  def watch(work, inside=True):
    now, lines = [0.0], []
    work = in_program(work) if inside else work

    def sleep(seconds):
      now[0] += seconds
      next(work, None)

    clock = types.SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    idle = types.SimpleNamespace(start=lambda: None, is_alive=lambda: True)
    monkeypatch.setattr(progress, 'time', clock)
    monkeypatch.setattr(progress, 'threading', types.SimpleNamespace(Thread=lambda **_: idle))
    monkeypatch.setattr(progress.tqdm.tqdm, 'write', lambda line, file: lines.append((now[0], line)))
    next(work)
    progress._watch()
    return lines

  return watch


def in_program(work):
  with Task(''):
    yield from work


def training(total=400, images=50, done=0):
  """Compiles for 40 seconds, then makes two steps a second, and evaluates in the middle for 30 seconds."""
  with Task('training', total, unit='steps', done=done, images=images, note=lambda: 'nll -2.50') as task:
    with Task('compiling'):
      for _ in range(40):
        yield
    for second in range((total - done) // 2):
      task.advance(2)
      yield
      if second == 99:
        with Task('evaluating step 200'), Task('likelihood', 300) as inner:
          for _ in range(30):
            inner.advance(10)
            yield


def test_there_is_a_line_at_least_every_30_seconds(watched):
  lines = watched(training())
  times = [0.0, *(at for at, _ in lines), 40 + 200 + 30]
  assert max(b - a for a, b in itertools.pairwise(times)) <= 26
  said = [line for _, line in lines]
  assert said[:3] == [
    'compiling: 3 s so far',
    'compiling: 28 s so far',
    'training: 2 of 400 steps, 40 s so far, nll -2.50',
  ]
  # Two steps a second, and 50 images in each. What was compiled before is not part of this time.
  assert said[3] == 'training: 52 of 400 steps, 3 min left, 100 images/s, nll -2.50'
  assert said[6:8] == [
    'evaluating step 200, likelihood: 10 of 300 images, 0 s so far',
    'evaluating step 200, likelihood: 260 of 300 images, 4 s left, 10 images/s',
  ]
  # 398 steps take 229 seconds with the evaluation, which does not change the speed.
  assert said[-1] == 'training: 392 of 400 steps, 5 s left, 100 images/s, nll -2.50'


def test_a_resumed_task_has_the_speed_of_this_process(watched):
  *_, last = watched(training(1000, done=900))
  assert last[1].startswith('training: 952 of 1,000 steps, 24 s left, 100 images/s')


def test_what_ends_soon_is_not_shown_unless_it_all_takes_long(watched):
  def short(count):
    for _ in range(count):
      with Task('sampling'):
        yield
        yield

  assert watched(short(10)) == []
  times = [at for at, _ in watched(short(40))]
  assert len(times) == 3 and times[0] == 25


def test_a_program_is_never_silent_for_long(watched):
  def program():
    with Task(''):
      for _ in range(30):
        yield
      with Task('loading'):
        for _ in range(5):
          yield

  assert [line for _, line in watched(program())] == [
    'working: 25 s so far',
    'loading: 3 s so far',
  ]


def test_between_two_tasks_nothing_is_shown(watched):
  def program():
    with Task(''):
      with Task('training'):
        for _ in range(60):
          yield
      for _ in range(20):
        yield
      with Task('exporting'):
        for _ in range(5):
          yield

  assert [line.partition(':')[0] for _, line in watched(program())] == ['training'] * 3 + ['exporting']


def test_work_behind_a_program_is_not_shown(watched):
  def work():
    for _ in range(60):
      yield

  def program_and_more():
    yield from in_program(work())
    with Task('loading'):
      yield from work()

  assert [line for _, line in watched(program_and_more(), inside=False)] == [
    'working: 25 s so far',
    'working: 50 s so far',
  ]


def test_a_terminal_shows_bars_below_the_lines(watched, monkeypatch):
  terminal = io.StringIO()
  terminal.isatty = lambda: True
  monkeypatch.setattr('sys.stderr', terminal)
  monkeypatch.setattr(progress.tqdm.tqdm, 'write', progress.tqdm.tqdm.write)
  assert watched(training()) == []
  shown = terminal.getvalue()
  for text in (
    'compiling: 5 s so far',
    ' 50% |######      | training: 200 of 400 steps, 2 min left, 100 images/s, nll -2.50',
    'evaluating step 200: 9 s so far',
    'likelihood: 100 of 300 images, 20 s left, 10 images/s',
  ):
    assert text in shown
  assert shown.rstrip('\r\n').endswith(' ')  # The last bar is removed.


def test_a_failure_ends_the_task_and_an_unwritable_stream_ends_nothing(monkeypatch):
  class Full(io.StringIO):
    def write(self, text):
      raise OSError('full')

  monkeypatch.setattr('sys.stderr', Full())
  monkeypatch.setattr(progress, '_TICK', 0.01)
  monkeypatch.setattr(progress, '_FIRST', 0.0)
  with contextlib.suppress(KeyError), Task(''), Task('work'):
    watcher = progress._watcher
    time.sleep(0.1)
    assert watcher.is_alive()
    raise KeyError
  assert progress._open == []
  watcher.join(5)
  assert not watcher.is_alive()


def test_the_library_is_silent(monkeypatch):
  monkeypatch.setattr(progress, '_watcher', None)
  with Task('work'), Task(''):
    assert progress._watcher is None


@pytest.mark.parametrize(
  ('seconds', 'text'), [(0.4, '0 s'), (99.4, '99 s'), (120, '2 min'), (5940, '99 min'), (6100, '1 h 42 min')]
)
def test_durations(seconds, text):
  assert progress.duration(seconds) == text

"""Lines and bars of progress, by a clock that the tests move."""

import io
import itertools
import re
import types

import pytest

from flowgan_tf.base import progress
from flowgan_tf.base.progress import Task


class Clock:
  """What `progress` and tqdm take for the time; it notes when each line comes."""

  def __init__(self):
    self.now, self.lines = 100.0, []

  def pass_(self, seconds):
    self.now += seconds

  def write(self, line, file):
    self.lines.append((self.now - 100, line))


@pytest.fixture
def clock(monkeypatch):
  clock = Clock()
  monkeypatch.setattr(progress, 'time', types.SimpleNamespace(monotonic=lambda: clock.now))
  monkeypatch.setattr(progress, '_last_line', clock.now)
  monkeypatch.setattr(progress.tqdm.std, 'time', lambda: clock.now)
  monkeypatch.setattr(progress.tqdm.tqdm, 'write', clock.write)
  return clock


def without_time(text):
  return re.sub(r'[\d:?]+ left', 'T left', text)


def training(clock, total=400, images=50, done=0):
  """Makes two steps a second, the first after 40 seconds; and evaluates for 30 seconds in the middle."""
  with Task('training', total, unit='steps', done=done, images=images, note=lambda: 'nll -2.50') as task:
    clock.pass_(5)
    with Task('compiling'):
      clock.pass_(35)
    for second in range((total - done) // 2):
      task.advance(2)
      clock.pass_(1)
      if second == 99:
        with Task('evaluating step 200'), Task('likelihood', 300) as inner:
          for _ in range(30):
            clock.pass_(1)
            inner.advance(10)


def test_there_is_a_line_every_25_seconds_and_at_the_start_of_a_wait(clock):
  with Task(''):
    training(clock)
  times, said = zip(*((at, without_time(line)) for at, line in clock.lines), strict=True)
  assert said[0] == 'compiling ...' and times[0] == 5
  assert max(b - a for a, b in itertools.pairwise(times[1:])) <= 26
  assert said[1].startswith('training: 2 of 400 steps, ') and said[1].endswith(', nll -2.50')
  # Two steps a second, and 50 images in each.
  assert said[3] == 'training: 102 of 400 steps, T left, 100 images/s, nll -2.50'
  assert [line for line in said if 'evaluating' in line or 'likelihood' in line] == [
    'evaluating step 200 ...',
    'likelihood: 250 of 300 images, T left, 10 images/s',
  ]


def test_a_resumed_task_has_the_speed_of_this_process(clock):
  with Task(''):
    training(clock, 1000, done=900)
  last = clock.lines[-1][1]
  assert without_time(last) == 'training: 952 of 1,000 steps, T left, 100 images/s, nll -2.50'
  assert re.search(' 00:2[34] left', last)


def test_padding_does_not_count(clock):
  with Task(''), Task('likelihood', 10) as task:
    clock.pass_(30)
    task.advance(8)
    clock.pass_(30)
    task.advance(8)
  assert [line.partition(',')[0] for _, line in clock.lines] == [
    'likelihood: 8 of 10 images',
    'likelihood: 10 of 10 images',
  ]


def test_waits_soon_after_another_line_are_not_shown(clock):
  with Task(''):
    for _ in range(10):
      with Task('sampling'):
        clock.pass_(2)
  assert [at for at, _ in clock.lines] == [4, 8, 12, 16]


def test_the_library_is_silent(clock):
  training(clock)
  with Task(''):
    pass
  training(clock)
  assert clock.lines == []


def test_a_terminal_shows_bars_and_removes_them(clock, monkeypatch):
  terminal = io.StringIO()
  terminal.isatty = lambda: True
  monkeypatch.setattr('sys.stderr', terminal)
  with Task(''):
    training(clock)
  shown = terminal.getvalue()
  for text in (
    'compiling ...',
    ' 50% |######      | training: 200 of 400 steps, T left, 100 images/s, nll -2.50',
    'evaluating step 200 ...',
    'likelihood: 100 of 300 images, T left, 10 images/s',
  ):
    assert text in without_time(shown)
  assert clock.lines == [] and shown.endswith('\r') and not shown.rsplit('\r', 2)[1].strip()


def on_screen(text):
  """The lines of a terminal, on which a line starts again at each carriage return."""
  lines = []
  for line in text.split('\n'):
    shown = ''
    for part in line.split('\r'):
      shown = part + shown[len(part) :]
    lines.append(shown.rstrip())
  return lines


@pytest.mark.parametrize('has_terminal', [True, False])
def test_a_line_stands_above_the_bar_and_by_itself(monkeypatch, has_terminal):
  terminal = io.StringIO()
  terminal.isatty = lambda: has_terminal
  monkeypatch.setattr('sys.stderr', terminal)
  with Task(''), Task('training', 10):
    progress.write('said')
    first, second = on_screen(terminal.getvalue())
    assert first == 'said' and ('0 of 10' in second) == has_terminal
  assert on_screen(terminal.getvalue()) == ['said', '']
  assert has_terminal or terminal.getvalue() == 'said\n'


def test_a_failure_ends_a_program():
  with pytest.raises(KeyError), Task(''), Task('work'):
    raise KeyError
  assert progress._programs == 0

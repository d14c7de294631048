"""Odd files in the folder of a run: each is named in one line, and the rest is read."""

import json
import os
import re
import shutil

import numpy as np
import pytest

from flowgan_tf.errors import UsageError
from flowgan_tf.files import sealed, write_json, write_record
from flowgan_tf.runs.log import sealed_line
from flowgan_tf.study import readers
from flowgan_tf.study.summary import read_studies, summarize
from tests.summaries import evaluated, kde

HUGE = 10**400
DEEP = '[' * 100_000 + ']' * 100_000


@pytest.fixture
def run(workdir, tmp_path):
  return shutil.copytree(workdir, tmp_path / 'run')


def found(run) -> tuple:
  """The summary of a run, and what was said about its files."""
  lines = []
  [summary] = summarize([run], lines.append)
  assert not any('\n' in line for line in lines)
  if lines:
    with pytest.raises(UsageError, match=re.escape(lines[0])):
      summarize([run])
  return summary, lines


def write_metrics(run, *records, rest: str = ''):
  lines = [json.dumps({'kind': 'validation', 'step': 2, 'seconds': 1.0} | record) for record in records]
  (run / 'metrics.jsonl').write_text('\n'.join(lines) + '\n' + rest)


def write_start(run, changes=()):
  record = {'run': '/runs/first', 'checkpoint': 'best_nll', 'step': 7, 'data': 'abc', 'config': {'seed': 0}}
  write_json(run / 'init.json', sealed(record | dict(changes)))


def test_where_a_training_started(run):
  assert found(run)[0].start is None
  write_start(run)
  summary, lines = found(run)
  assert lines == []
  assert [summary.start[name] for name in ('run', 'checkpoint', 'step')] == ['/runs/first', 'best_nll', 7]


@pytest.mark.parametrize('odd', [{'run': 3}, {'run': None}, {'checkpoint': []}, {'step': -1}, {'step': 1.5}], ids=str)
def test_odd_starts(run, odd):
  write_start(run, odd)
  summary, [line] = found(run)
  assert summary.start is None
  said = f'{run}/init.json: damaged (ValueError); the page does not say where the training started'
  assert line == said


@pytest.mark.parametrize('content', ['', '{}', '[]', DEEP, '\0', '{"run": "a", "sha256": "b"}'], ids=lambda c: c[:9])
def test_starts_that_are_none(run, content):
  (run / 'init.json').write_text(content)
  summary, [line] = found(run)
  assert summary.start is None and line.startswith(f'{run}/init.json: ')


def test_a_whole_run_has_no_damage(run):
  summary, lines = found(run)
  assert lines == [] and summary.sample_grid[0] == 4
  assert summary.sample_grid[1] == (run / 'samples' / 'step_0000004.png').read_bytes()


def test_a_rollback_is_no_damage(run):
  record = {'kind': 'rollback', 'step': 2, 'seconds': 1.0, 'diverged_at': 3, 'reason': 'nll (first in coupling_1)'}
  (run / 'metrics.jsonl').write_bytes(sealed_line(record, None).content + b'\n')
  lines = []
  assert readers.metrics(run, lines.append) == [record] and lines == []


@pytest.mark.parametrize(
  ('value', 'said'),
  [
    ({'nll': 'abc'}, "nll is 'abc'"),
    ({'nll': [1.0]}, 'nll is list'),
    ({'nll': {'a': 1}}, 'nll is dict'),
    ({'nll': True}, 'nll is True'),
    ({'nll': HUGE}, 'nll is 10000000000000000...'),
    ({'step': 2**60}, 'step is 1152921504606846976'),
    ({'step': -1}, 'step is -1'),
    ({'kind': 3}, 'kind is 3'),
    ({'scorer': 'classifier', 'mode_score': 3.0}, 'no score_samples'),
    ({'scorer': 'classifier', 'scorer_hash': 'abc', 'score_samples': 2.5}, 'score_samples is 2.5'),
  ],
)
def test_odd_metrics(run, monkeypatch, value, said):
  monkeypatch.setattr(readers, 'read_metrics', lambda workdir: [whole, whole | value, whole])
  whole = {'kind': 'validation', 'step': 2, 'seconds': 1.0, 'nll': 3.0, 'scorer_hash': 'abc'}
  summary, lines = found(run)
  assert lines == [f'{run}/metrics.jsonl: 1 of 3 records are damaged ({said}); curves lack them']
  assert summary.metrics == [whole, whole]


@pytest.mark.parametrize(
  ('value', 'said'),
  [
    ({'nll': HUGE}, 'nll is 10000000000000000...'),
    ({'standard_error': HUGE}, 'standard_error is 10000000000000000...'),
    ({'step': HUGE}, 'step is 10000000000000000...'),
    ({'score_samples': None}, 'score_samples is None'),
  ],
)
def test_odd_evaluations(run, value, said):
  records = [evaluated('best_nll', 2, 3.0, 4.0), evaluated('latest', 4, 3.0, 4.0)]
  write_record(run / 'evaluation.json', {'records': records})
  read = readers.read_evaluation(run)
  write_record(run / 'evaluation.json', {'records': [records[0] | value, records[1]]})
  summary, lines = found(run)
  assert lines == [
    f'{run}/evaluation.json: 1 of 2 records are damaged ({said}); remove it, and run bin/evaluate {run} again'
  ]
  assert summary.evaluation == read[1:] and summary.evaluated('best_nll') is None


@pytest.mark.parametrize('content', ['', '{', '[3]', '{"a": 1}', '[{}]', DEEP, '\0', '[{"nll": "abc"}]'])
def test_evaluations_that_are_none(run, content):
  (run / 'evaluation.json').write_text(content)
  summary, [line] = found(run)
  assert line.startswith(f'{run}/evaluation.json: ') and 'damaged' in line and 'bin/evaluate' in line
  assert list(summary.evaluation) == []


def test_metrics_that_are_none(run):
  (run / 'metrics.jsonl').write_text('')
  summary, lines = found(run)
  assert (summary.step, summary.seconds, lines) == (None, None, [])
  (run / 'metrics.jsonl').unlink()
  summary, lines = found(run)
  assert (summary.step, lines) == (None, [])
  # What a reader does about a line that no parser takes is its own affair; the summary is there.
  write_metrics(run, {'nll': 1.0}, rest=DEEP)
  found(run)


def test_whatever_a_reader_raises_is_a_line(run, monkeypatch):
  for error in (RecursionError, OverflowError, KeyError, MemoryError, UnicodeDecodeError('utf-8', b'', 0, 1, 'odd')):
    for name, file in (('read_metrics', 'metrics.jsonl'), ('read_evaluation', 'evaluation.json')):
      with monkeypatch.context() as patch:

        def fail(workdir, error=error):
          raise error

        patch.setattr(readers, name, fail)
        _, [line] = found(run)
        assert line.startswith(f'{run}/{file}: damaged (')


@pytest.mark.parametrize('odd', ['empty', 'text', 'cut', 'flipped', 'folder', 'link'])
def test_odd_grids(run, odd):
  """The one before is shown. Ten million steps come after all that have 7 digits."""
  path, whole = run / 'samples' / 'step_10000000.png', (run / 'samples' / 'step_0000004.png').read_bytes()
  content = {'empty': b'', 'text': b'a text', 'cut': whole[: len(whole) // 2], 'flipped': bytes(100) + whole[100:]}
  if odd == 'folder':
    path.mkdir()
  elif odd == 'link':
    path.symlink_to('nowhere.png')
  else:
    path.write_bytes(content[odd])
  summary, [line] = found(run)
  assert re.fullmatch(rf'{re.escape(str(path))}: not a readable PNG file \(\w+\); remove it', line)
  assert summary.sample_grid == (4, whole)


def test_no_grids(run):
  (run / 'samples' / 'step_final.png').write_text('mine')
  assert found(run)[0].sample_grid[0] == 4
  shutil.rmtree(run / 'samples')
  assert found(run)[0].sample_grid is None
  (run / 'samples').write_text('a file')
  assert found(run)[0].sample_grid is None


def test_odd_analyses(run):
  """Each is named, and those that are whole are there."""
  folder = run / 'analysis'
  for name in ('kde', 'ais', 'gmm'):
    write_record(folder / f'{name}.json', kde(3.0, 4.0).record | {'what': name}, {'numbers': np.arange(3.0)})
  assert read_studies(run).keys() == {'kde', 'ais', 'gmm'}
  shutil.copy(folder / 'ais.json', folder / 'jacobian.json')
  write_record(folder / 'jacobian.json', kde(3.0, 4.0).record, {})
  no_step = {name: value for name, value in kde(3.0, 4.0).record.items() if name != 'step'}
  write_record(folder / 'outliers.json', no_step | {'what': 'outliers'}, {})
  write_record(folder / 'critic_gap.json', kde(3.0, 4.0).record | {'what': 'critic_gap', 'settings': 3}, {})
  (folder / 'ais.json').write_text(DEEP)
  (folder / 'gmm.json').write_text('{')
  (folder / 'mine.json').write_text('[1, 2]')
  (folder / 'link.json').symlink_to('nowhere.json')
  (folder / 'folder.json').mkdir()
  (folder / 'notes.txt').write_text('not read')
  summary, lines = found(run)
  assert summary.studies.keys() == {'kde'}
  said = {os.path.basename(line.partition(':')[0]): line for line in lines}
  damaged = ['ais', 'gmm', 'jacobian', 'outliers', 'critic_gap', 'mine', 'link', 'folder']
  assert said.keys() == {f'{name}.json' for name in damaged}
  assert all(line.endswith(', or remove it') for line in lines)
  assert 'holds the analysis kde; give it the name that it had' in said['jacobian.json']
  for name in ('ais', 'gmm', 'outliers', 'critic_gap', 'link'):
    assert 'measure it again' in said[f'{name}.json']

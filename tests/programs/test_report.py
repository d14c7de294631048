import io
import json
import os
import shutil
import types

import pytest

from tests.programs import conftest
from tests.programs.conftest import assert_one_line, call


@pytest.fixture(scope='module')
def analyzed(finished, tmp_path_factory):
  """A run with two analyses."""
  workdir = tmp_path_factory.mktemp('analyzed') / 'run'
  shutil.copytree(finished[0], workdir)
  assert call('analyze', workdir, '--what=kde,jacobian', '--samples=50', '--noise_vectors=2').status == 0
  return workdir


def test_a_run_that_cannot_be_read_is_one_line(analyzed, tmp_path):
  workdir = shutil.copytree(analyzed, tmp_path / 'run')
  (workdir / 'config.json').write_text('[' * 100_000)
  assert_one_line(call('report', workdir), 'report', f'{workdir}/config.json', 'damaged')
  assert_one_line(call('report', analyzed, tmp_path / 'nowhere'), 'report', 'nowhere', 'no such folder')


def test_odd_files_do_not_stop_the_page(analyzed, tmp_path):
  """Each is named in a line on the terminal and on the page, which shows the rest and the other runs."""
  whole, odd, lost = (shutil.copytree(analyzed, tmp_path / name) for name in ('<b>&', 'odd', 'lost'))
  (odd / 'samples' / 'step_9999999.png').write_text('a text')
  (odd / 'analysis' / 'kde.json').write_text('{')
  (odd / 'evaluation.json').write_text('[' * 100_000)
  record = json.loads((odd / 'metrics.jsonl').read_text().splitlines()[0])
  del record['nll']
  (odd / 'metrics.jsonl').write_text(json.dumps(record | {'critic_gap': 'abc'}))
  (lost / 'config.json').write_text('{}')
  outcome = call('report', whole, odd, lost)
  assert (outcome.status, outcome.out) == (0, f'{tmp_path}/report.html\n')
  lines = outcome.err.splitlines()
  damaged = ['lost/config.json', 'odd/analysis/kde.json', 'odd/evaluation.json', 'odd/samples/step_9999999.png']
  named = {line.removeprefix(f'report: {tmp_path}/').partition(': ')[0] for line in lines}
  assert named >= set(damaged)
  page = (tmp_path / 'report.html').read_text()
  for name in damaged:
    assert f'{tmp_path}/{name}: ' in page
  assert '2 runs.' in page and 'Hybrid λ = 0.1 (&lt;b&gt;&amp;)' in page and '<b>' not in page


def test_odd_files_do_not_stop_an_analysis(analyzed, tmp_path):
  workdir = shutil.copytree(analyzed, tmp_path / 'run')
  (workdir / 'samples' / 'step_9999999.png').write_text('a text')
  (workdir / 'evaluation.json').write_text('{')
  (workdir / 'analysis' / 'jacobian.svg').unlink()
  outcome = call('analyze', workdir, '--what=jacobian', '--noise_vectors=1')
  assert (outcome.status, outcome.err) == (0, '')
  assert (workdir / 'analysis' / 'jacobian.svg').exists()


class Terminal(io.TextIOWrapper):
  """Takes UTF-8 alone, unlike `io.StringIO`."""

  def __init__(self):
    super().__init__(io.BytesIO(), encoding='utf-8', write_through=True)

  def getvalue(self) -> str:
    return os.fsdecode(self.buffer.getvalue())


def test_a_folder_whose_name_is_not_utf8(analyzed, tmp_path, monkeypatch):
  monkeypatch.setattr(conftest, 'io', types.SimpleNamespace(StringIO=Terminal))
  workdir = shutil.copytree(analyzed, tmp_path / os.fsdecode(b'run-\xff'))
  assert call('report', workdir) == (0, f'{workdir}/report.html\n', '')
  assert rf'{tmp_path}/run-\xff' in (workdir / 'report.html').read_text()


def test_a_report_of_the_run(analyzed, tmp_path):
  out = tmp_path / 'page.html'
  outcome = call('report', analyzed, f'--out={out}')
  assert (outcome.status, outcome.out) == (0, f'{out}\n')
  page = out.read_text()
  for text in (
    'Hybrid λ = 0.1',
    'bin/train --objective=hybrid',
    f'bin/evaluate {analyzed}',
    '--what=kde',
    'data:image/svg+xml',
  ):
    assert text in page
  assert call('report', analyzed).out == f'{analyzed}/report.html\n'
  assert_one_line(call('report', analyzed, analyzed), 'report', 'twice')
  elsewhere = call('report', analyzed, f'--out={tmp_path}/no/such/page.html')
  assert_one_line(elsewhere, 'report', 'no/such/page.html: cannot be written')
  for out in ('', 'x' * 5000, 'a\0b'):
    assert_one_line(call('report', analyzed, f'--out={out}'), 'report', '--out', 'must be a path')
  for out in ('.', '/', tmp_path):
    assert_one_line(call('report', analyzed, f'--out={out}'), 'report', f'{out}: cannot be written')

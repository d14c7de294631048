import shutil

import pytest

from tests.programs.conftest import assert_one_line, call


@pytest.fixture(scope='module')
def analyzed(finished, tmp_path_factory):
  """A run with two analyses."""
  workdir = tmp_path_factory.mktemp('analyzed') / 'run'
  shutil.copytree(finished[0], workdir)
  assert call('analyze', workdir, '--what=kde,jacobian', '--samples=50', '--noise_vectors=2').status == 0
  return workdir


def test_damaged_numbers_are_named(analyzed, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(analyzed, workdir)
  [arrays] = (workdir / 'analysis').glob('jacobian-*.npz')
  arrays.write_bytes(b'PK\x03\x04')
  assert_one_line(call('report', workdir), 'report', 'jacobian.json', 'damaged')
  (workdir / 'analysis' / 'jacobian.json').write_text('{')
  assert_one_line(call('report', workdir), 'report', 'jacobian.json', 'damaged')


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

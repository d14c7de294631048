"""`report`: a page of runs, and a line for each damaged file, which the page does without."""

import shutil
import sys

import pytest

from tests import processes
from tests.programs.conftest import CHECKOUT, assert_one_line, call


@pytest.fixture(scope='module')
def analyzed(finished, tmp_path_factory):
  workdir = shutil.copytree(finished[0], tmp_path_factory.mktemp('analyzed') / 'run')
  assert call('analyze', workdir, '--what=kde,jacobian', '--samples=50', '--noise_vectors=2').status == 0
  return workdir


def test_a_report_of_a_run(analyzed, tmp_path):
  out = tmp_path / 'page.html'
  assert call('report', analyzed, f'--out={out}') == (0, f'{out}\n', '')
  for text in (
    'Hybrid λ = 0.1',
    'bin/train --nojit --config.nice.couplings=2',
    f'bin/evaluate {analyzed}',
    '--what=kde',
    'image/svg',
  ):
    assert text in out.read_text()


def test_a_report_does_without_tensorflow(tmp_path):
  """Reading a run is a matter of seconds; loading TensorFlow takes more of them."""
  runs = [shutil.copytree(CHECKOUT / 'tests' / 'golden' / name, tmp_path / name[:3]) for name in ('nice', '1.0.0/run')]
  program = f"""import sys
from flowgan_tf.programs import command, report
sys.argv = ['bin/report', *{[*map(str, runs)]}]
try:
  command.run_program(report)
finally:
  print(*sorted({{'tensorflow', 'keras', 'tensorflow_probability'}} & set(sys.modules)))
"""
  done = processes.run([sys.executable, '-c', program], cwd=CHECKOUT)
  assert (done.returncode, done.stdout, done.stderr) == (0, f'{tmp_path}/report.html\n\n', '')
  page = (tmp_path / 'report.html').read_text()
  assert all(f'--what={name}' in page for name in ('kde', 'jacobian', 'outliers')) and 'image/svg' in page


@pytest.mark.slow
def test_the_page_of_a_pretrained_flow_lies_in_its_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  page = 'runs/pretrained-mnist/report.html'
  assert call('report', 'pretrained:mnist') == (0, f'{page}\n', '')
  text = (tmp_path / page).read_text()
  assert 'bin/evaluate runs/pretrained-mnist' in text and 'bin/train' not in text  # Nothing says what trained it.


def test_damaged_files_do_not_stop_the_page(analyzed, tmp_path):
  whole, odd, lost = (shutil.copytree(analyzed, tmp_path / name) for name in ('<b>&', 'odd', 'lost'))
  (odd / 'samples' / 'step_9999999.png').write_text('a text')
  (odd / 'analysis' / 'kde.json').write_text('{')
  (odd / 'evaluation.json').write_text('[' * 100_000)
  with (odd / 'metrics.jsonl').open('a') as log:
    log.write('{"kind": "tra\n')
  (lost / 'config.json').write_text('{}')
  outcome = call('report', whole, odd, lost)
  assert (outcome.status, outcome.out) == (0, f'{tmp_path}/report.html\n')
  damaged = ['lost/config.json']
  damaged += [f'odd/{name}' for name in ('analysis/kde.json', 'evaluation.json', 'metrics.jsonl')]
  damaged += ['odd/samples/step_9999999.png']
  named = {line.removeprefix(f'report: {tmp_path}/').partition(': ')[0] for line in outcome.err.splitlines()}
  assert named >= set(damaged) and outcome.err.count('metrics.jsonl') == 1
  page = (tmp_path / 'report.html').read_text()
  for name in damaged:
    assert f'{tmp_path}/{name}: ' in page
  assert '2 runs.' in page and 'Hybrid λ = 0.1 (&lt;b&gt;&amp;)' in page and '<b>' not in page


def test_mistakes(analyzed, tmp_path):
  for arguments, said in (
    ([analyzed, tmp_path / 'nowhere'], f'{tmp_path}/nowhere: no such folder'),
    ([analyzed, analyzed], f'{analyzed}: named twice'),
    ([analyzed, f'--out={tmp_path}'], f'{tmp_path}: cannot be written'),
  ):
    assert_one_line(call('report', *arguments), 'report', said)

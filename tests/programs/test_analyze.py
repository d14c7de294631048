"""`analyze`: numbers and figures of a run, in the run."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from flowgan_tf.analysis import study
from flowgan_tf.training.runs import load_run
from tests.programs.conftest import assert_one_line, call

QUICK = (
  '--samples=100',
  '--noise_vectors=3',
  '--ais_images=2',
  '--ais_chains=2',
  '--ais_steps=3',
  '--critic_steps=2',
  '--images=50',
)
FILES = {
  'gmm': {'gmm.json', 'gmm.npz', 'gmm.svg', 'gmm_samples.png'},
  'kde': {'kde.json'},
  'ais': {'ais.json', 'ais.npz'},
  'jacobian': {'jacobian.json', 'jacobian.npz', 'jacobian.svg'},
  'histograms': {'histograms.json', 'histograms.npz', 'histograms.svg'},
  'critic': {'critic.json'},
}


@pytest.fixture(scope='module')
def analyzed(finished, tmp_path_factory):
  """A run with every analysis, and what the program said."""
  workdir = tmp_path_factory.mktemp('analyzed') / 'run'
  shutil.copytree(finished[0], workdir)
  outcome = call('analyze', workdir, f'--what={",".join(FILES)}', *QUICK)
  assert outcome.status == 0, outcome
  return workdir, outcome


def test_every_analysis_leaves_its_files_and_says_so(analyzed):
  workdir, outcome = analyzed
  expected = set().union(*FILES.values())
  assert {f.name for f in (workdir / 'analysis').iterdir()} == expected
  for name in expected - {name for name in expected if name.endswith('.npz')}:
    assert f'{workdir}/analysis/{name}' in outcome.out
  with Image.open(workdir / 'analysis' / 'gmm_samples.png') as picture:
    assert picture.size[0] == picture.size[1] > 8 * 8


def test_records_say_what_they_rest_on(analyzed):
  workdir, _ = analyzed
  for what in FILES:
    record = json.loads((workdir / 'analysis' / f'{what}.json').read_text())
    assert (record['what'], record['checkpoint'], record['settings']['seed']) == (what, 'best_score', 0)
    assert record['step'] == load_run(workdir, 'best_score').step and record['seconds'] >= 0
  assert record['settings'] == {'seed': 0, 'critic_steps': 2}  # Those that count for it, and no others.


def test_numbers_agree_with_each_other(analyzed):
  """Of one run: its exact likelihood, by whatever way; log-determinants; the sets of the histograms."""
  workdir, _ = analyzed
  studies = {what: study.read(workdir, what) for what in FILES}
  kde, histograms = studies['kde'].record, studies['histograms'].record
  # 180 test images; the histograms look at 50 of them.
  log_prob = studies['histograms'].arrays['test']
  assert kde['exact_n'] == kde['n_test'] == 180 and len(log_prob) == histograms['sets']['test']['n'] == 50
  assert abs(kde['exact_nll'] + log_prob.mean()) < 4 * log_prob.std() / np.sqrt(50)
  assert histograms['sets']['test']['auroc'] is None and histograms['sets']['uniform noise']['auroc'] > 0.9
  values, jacobian = studies['jacobian'].arrays['singular_values'], studies['jacobian'].record
  assert values.shape == (3, 64)
  assert np.log(values.astype(np.float64)).sum(axis=1).mean() == pytest.approx(jacobian['mean_log_det'], rel=1e-3)
  assert jacobian['largest_relative_difference'] < 1e-3
  ais = studies['ais']
  assert ais.record['nll'] == pytest.approx(-ais.arrays['log_likelihood'].mean())
  assert ais.record['exact_n'] == ais.record['n'] == 2
  gmm = studies['gmm'].record
  assert gmm['centers'] == 1437 and gmm['best_nll'] <= min(b['nll'] for b in gmm['bandwidths'])
  assert gmm['model']['score_samples'] == gmm['bandwidths'][0]['score_samples'] == 100


def test_the_same_seed_gives_the_same_numbers(analyzed, finished, tmp_path):
  again = tmp_path / 'run'
  shutil.copytree(finished[0], again)
  assert call('analyze', again, '--what=kde,jacobian', *QUICK).status == 0
  for what in ('kde', 'jacobian'):
    first, second = (study.read(w, what).record for w in (analyzed[0], again))
    numbers = [name for name, value in first.items() if isinstance(value, float) and name != 'seconds']
    assert len(numbers) > 3
    for name in numbers:
      assert first[name] == pytest.approx(second[name], rel=1e-5), name


def test_other_data_can_be_compared(finished, images, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(finished[0], workdir)
  outcome = call('analyze', workdir, '--what=histograms', f'--other_dataset={images}', *QUICK)
  assert outcome.status == 0 and 'images' in outcome.out
  assert set(study.read(workdir, 'histograms').arrays) == {'train', 'test', 'images', 'uniform noise'}


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    (['--what=jacobian'], ['run folder']),
    (['RUN'], ['--what', 'gmm, kde']),
    (['RUN', '--what=kde,guess'], ["'guess'", 'gmm, kde']),
    (['RUN', '--what=kde', '--samples=1'], ['samples']),
    (['RUN', 'missing', '--what=kde'], ['missing', 'no such folder']),
    (['RUN', '--what=histograms', '--other_dataset=nothing'], ['nothing']),
    (['RUN', '--what=jacobian', '--checkpoint=oldest'], ['checkpoint']),
  ],
)
def test_mistakes(finished, arguments, said):
  assert_one_line(call('analyze', *[str(finished[0]) if a == 'RUN' else a for a in arguments]), 'analyze', *said)


def test_damaged_numbers_are_named(analyzed, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(analyzed[0], workdir)
  (workdir / 'analysis' / 'jacobian.npz').write_bytes(b'PK\x03\x04')
  assert_one_line(call('report', workdir), 'report', 'jacobian.json', 'damaged')
  (workdir / 'analysis' / 'jacobian.json').write_text('{')
  assert_one_line(call('report', workdir), 'report', 'jacobian.json', 'damaged')


def test_a_report_of_the_run(analyzed, tmp_path):
  out = tmp_path / 'page.html'
  outcome = call('report', analyzed[0], f'--out={out}')
  assert (outcome.status, outcome.out) == (0, f'{out}\n')
  page = out.read_text()
  for text in ('Hybrid λ = 0.1', 'bin/train --objective=hybrid', f'bin/evaluate {analyzed[0]}', '--what=ais', '<svg '):
    assert text in page
  assert call('report', analyzed[0]).out == f'{analyzed[0]}/report.html\n'
  assert_one_line(call('report', analyzed[0], analyzed[0]), 'report', 'twice')
  assert_one_line(call('report', analyzed[0], f'--out={tmp_path}/no/such/page.html'), 'report', '--out')

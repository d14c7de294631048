"""`analyze`: numbers and figures of a run, in the run."""

import json
import re
import shutil
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from flowgan_tf.runs.run import load_run, make_generator
from flowgan_tf.runs.seeds import Purpose, stateless_seed
from flowgan_tf.study import spectrum
from flowgan_tf.study.summary import read_summary
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
  'outliers': {'outliers.json', 'outliers.npz', 'outliers.svg'},
  'critic_gap': {'critic_gap.json'},
}


def analysis_files(workdir):
  """The names of the files; those of arrays without the first digits of their seal."""
  return sorted(re.sub(r'-[0-9a-f]{8}(?=\.npz$)', '', file.name) for file in (workdir / 'analysis').iterdir())


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
  assert analysis_files(workdir) == sorted(expected)
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
  """Of one run: its exact likelihood, by whatever way; log-determinants; the sets of the outliers."""
  workdir, _ = analyzed
  studies = read_summary(workdir).studies
  kde, outliers = studies['kde'].record, studies['outliers'].record
  # 180 test images; the outliers look at 50 of them.
  log_prob = studies['outliers'].arrays['test']
  assert kde['exact_n'] == kde['n_test'] == 180 and len(log_prob) == outliers['sets']['test']['n'] == 50
  assert abs(kde['exact_nll'] + log_prob.mean()) < 4 * log_prob.std() / np.sqrt(50)
  assert outliers['sets']['test']['auroc'] is None and outliers['sets']['uniform noise']['auroc'] > 0.9
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
    first, second = (read_summary(w).studies[what].record for w in (analyzed[0], again))
    numbers = [name for name, value in first.items() if isinstance(value, float) and name != 'seconds']
    assert len(numbers) > 3
    for name in numbers:
      assert first[name] == pytest.approx(second[name], rel=1e-5), name


def test_what_one_run_cannot_have_does_not_stop_the_others(finished, images, tmp_path):
  """Each failure is one line, and the exit status says that there was one."""
  workdirs = [tmp_path / name for name in ('first', 'second')]
  for workdir in workdirs:
    shutil.copytree(finished[0], workdir)
  shutil.rmtree(workdirs[0] / 'checkpoints' / 'best_nll')
  outcome = call('analyze', *workdirs, '--what=outliers,jacobian', '--other_dataset=digits', *QUICK)
  lines = outcome.err.splitlines()
  assert outcome.status == 2 and len(lines) == 2
  for workdir, line in zip(workdirs, lines, strict=True):
    assert line.startswith('analyze: --other_dataset must be another data set than') and str(workdir) in line
    assert analysis_files(workdir) == sorted(FILES['jacobian'])
    assert f'{workdir}/analysis/jacobian.svg' in outcome.out
  outcome = call('analyze', *workdirs, '--what=outliers', '--checkpoint=best_nll', *QUICK)
  assert outcome.status == 2 and outcome.err.count('\n') == 1 and 'best_nll' in outcome.err
  assert 'outliers' not in read_summary(workdirs[0]).studies and 'outliers' in read_summary(workdirs[1]).studies


def test_a_generator_without_inverse(cache, tmp_path):
  """It has no likelihood; its Jacobian, which no exact log-determinant checks, is taken in double precision."""
  workdir = tmp_path / 'run'
  flags = (
    '--generator=dcgan',
    '--objective=adversarial',
    '--batch_size=8',
    '--critic_steps=2',
    '--steps=2',
    '--samples=10',
  )
  tiny = ('--config.dcgan.channels=(8, 4)', '--config.dcgan_critic.channels=(4,)', '--config.score_samples=0')
  assert call('train', *flags, *tiny, f'--config.cache_dir={cache}', f'--workdir={workdir}').status == 0
  outcome = call('analyze', workdir, '--what=outliers,jacobian', *QUICK)
  assert outcome.status == 2 and outcome.err.count('\n') == 1
  assert outcome.err == f'analyze: {workdir}: outliers needs a likelihood, which generator dcgan does not have\n'
  found = read_summary(workdir).studies['jacobian']
  run = load_run(workdir)
  noise = run.generator.distribution.sample(3, seed=stateless_seed(0, Purpose.ANALYSIS))
  wide = make_generator(run.config, run.image_shape, 'float64')
  for variable, narrow in zip(wide.variables, run.generator.variables, strict=True):
    variable.assign(tf.cast(narrow, variable.dtype))
  values = found.arrays['singular_values']
  assert values.dtype == np.float64
  expected = spectrum(wide, noise).singular_values
  np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-13 * expected.max())


def test_many_sets_of_images_of_many_runs_are_one_program_each(finished, tmp_path):
  """TensorFlow warns where a function is traced again and again."""
  workdirs = [tmp_path / str(i) for i in range(6)]
  for workdir in workdirs:
    shutil.copytree(finished[0], workdir)
  with mock.patch.object(tf.get_logger(), 'warning') as warning:
    assert call('analyze', *workdirs, '--what=kde,outliers', *QUICK).status == 0
  assert [said for said in warning.call_args_list if 'log_prob' in str(said)] == []


def test_other_data_can_be_compared(finished, images, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(finished[0], workdir)
  outcome = call('analyze', workdir, '--what=outliers', f'--other_dataset={images}', *QUICK)
  assert outcome.status == 0 and 'images' in outcome.out
  assert set(read_summary(workdir).studies['outliers'].arrays) == {'train', 'test', 'images', 'uniform noise'}


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    (['--what=jacobian'], ['run folder']),
    (['RUN'], ['--what', 'kde, ais, gmm']),
    (['RUN', '--what=kde,guess'], ['--what', "'guess'", 'kde, ais, gmm']),
    (['RUN', '--what=kde', '--samples=1'], ['samples']),
    (['RUN', 'missing', '--what=kde'], ['missing', 'no such folder']),
    (['RUN', '--what=outliers', '--other_dataset=nothing'], ['nothing']),
    (['RUN', '--what=outliers', '--other_dataset=digits'], ['--other_dataset', 'another data set', 'digits']),
    (['RUN', '--what=jacobian', '--checkpoint=oldest'], ['checkpoint']),
  ],
)
def test_mistakes(finished, arguments, said):
  assert_one_line(call('analyze', *[str(finished[0]) if a == 'RUN' else a for a in arguments]), 'analyze', *said)


def test_a_damaged_analysis_does_not_stop_another(analyzed, tmp_path):
  workdir = shutil.copytree(analyzed[0], tmp_path / 'run')
  (workdir / 'analysis' / 'kde.json').write_text('{')
  (workdir / 'analysis' / 'jacobian.svg').unlink()
  assert call('analyze', workdir, '--what=jacobian', *QUICK).status == 0
  assert (workdir / 'analysis' / 'jacobian.svg').exists()

"""`analyze`: numbers and figures of a run, in the run; and an analysis of one file, whose flags and table follow."""

import dataclasses
import importlib
import re
import shlex
import shutil
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from flowgan_tf.base.errors import UsageError
from flowgan_tf.display.figure import Figure
from flowgan_tf.display.tables import Column
from flowgan_tf.runs.run import load_run
from flowgan_tf.study import ANALYSES, Analysis, Settings, setting
from flowgan_tf.study.summary import read_summary
from tests.programs.conftest import assert_one_line, call, untouched

QUICK = shlex.split("""--samples=100 --noise_vectors=3 --ais_images=2 --ais_chains=2 --ais_steps=3
  --critic_steps=2 --images=50""")
FILES = {
  'kde': {'kde.json'},
  'ais': {'ais.json', 'ais.npz'},
  'gmm': {'gmm.json', 'gmm.npz', 'gmm.svg', 'gmm_samples.png'},
  'jacobian': {'jacobian.json', 'jacobian.npz', 'jacobian.svg'},
  'outliers': {'outliers.json', 'outliers.npz', 'outliers.svg'},
  'independent_critic': {'independent_critic.json'},
}


def quick(*names):
  """The flags of QUICK that these analyses have."""
  own = {f'--{field.name}' for name in names for field in dataclasses.fields(ANALYSES[name].Settings)}
  return [flag for flag in QUICK if flag.partition('=')[0] in own]


def analysis_files(workdir):
  """Returns the names of the files; of arrays without the first digits of their hash."""
  return sorted(re.sub(r'-[0-9a-f]{8}(?=\.npz$)', '', file.name) for file in (workdir / 'analysis').iterdir())


@pytest.mark.slow
def test_every_analysis_leaves_its_files_and_their_numbers_agree(finished, tmp_path):
  workdir = shutil.copytree(finished[0], tmp_path / 'run')
  outcome = call('analyze', workdir, f'--what={",".join(FILES)}', *QUICK)
  assert outcome.status == 0, outcome
  assert analysis_files(workdir) == sorted(set().union(*FILES.values()))
  for file in (workdir / 'analysis').iterdir():
    assert (f'{file}\n' in outcome.out) == (file.suffix != '.npz')
  studies = read_summary(workdir).studies
  expected = {'checkpoint': 'best_nll', 'step': load_run(workdir, 'best_nll').step}
  assert all(study.record | expected == study.record for study in studies.values())
  kde, ais, gmm, jacobian, outliers, independent_critic = (studies[name].record for name in FILES)
  assert independent_critic['settings'] == {'seed': 0, 'critic_steps': 2}  # Only those that count for it.
  # 180 test images; the outliers look at 50 of them.
  log_prob = studies['outliers'].arrays['test']
  assert kde['exact_n'] == kde['n_test'] == 180 and len(log_prob) == outliers['sets']['test']['n'] == 50
  assert abs(kde['exact_nll'] + log_prob.mean()) < 4 * log_prob.std() / np.sqrt(50)
  assert studies['jacobian'].arrays['singular_values'].shape == (3, 64)
  assert jacobian['largest_relative_difference'] < 1e-3
  assert ais['exact_n'] == ais['n'] == 2 and gmm['centers'] == 1437
  assert gmm['model']['score_samples'] == gmm['bandwidths'][0]['score_samples'] == 100


@pytest.mark.slow
def test_many_runs(finished, images, tmp_path):
  """The same seed gives the same numbers; TensorFlow warns where a function is traced again and again."""
  workdirs = [shutil.copytree(finished[0], tmp_path / str(i)) for i in range(5)]
  with mock.patch.object(tf.get_logger(), 'warning') as warning:
    outcome = call('analyze', *workdirs, '--what=kde,outliers', f'--other_dataset={images}', *quick('kde', 'outliers'))
  assert outcome.status == 0 and 'images' in outcome.out
  assert [said for said in warning.call_args_list if 'log_prob' in str(said)] == []
  changed = {'rotated', 'inverted', 'one level'}
  found = set(read_summary(workdirs[0]).studies['outliers'].arrays)
  assert found == {'train', 'test', 'images', 'uniform noise', *changed}
  first, second = (read_summary(workdir).studies['kde'].record for workdir in (workdirs[0], workdirs[-1]))
  for name in ('nll', 'bandwidth', 'exact_nll'):
    assert first[name] == pytest.approx(second[name], rel=1e-5), name


@pytest.mark.slow
def test_what_one_run_cannot_have_does_not_stop_the_others(finished, tmp_path):
  workdirs = [shutil.copytree(finished[0], tmp_path / name) for name in ('first', 'second')]
  shutil.rmtree(workdirs[0] / 'checkpoints' / 'best_nll')
  outcome = call(
    'analyze', *workdirs, '--what=outliers,jacobian', '--other_dataset=digits', *quick('outliers', 'jacobian')
  )
  lines = outcome.err.splitlines()
  assert outcome.status == 2 and len(lines) == 2
  for workdir, line in zip(workdirs, lines, strict=True):
    assert line.startswith('analyze: --other_dataset must be a data set that') and str(workdir) in line
    assert analysis_files(workdir) == sorted(FILES['jacobian'])
    assert f'{workdir}/analysis/jacobian.svg' in outcome.out
  # Nor does a damaged file.
  (workdirs[1] / 'analysis' / 'jacobian.json').write_text('{')
  outcome = call('analyze', *workdirs, '--what=kde', '--checkpoint=best_nll', *quick('kde'))
  assert outcome.status == 2 and outcome.err.count('\n') == 1 and 'best_nll' in outcome.err
  assert 'kde' not in read_summary(workdirs[0]).studies and 'kde' in read_summary(workdirs[1]).studies


def test_a_failure_of_ours_does_not_stop_the_others(finished, tmp_path, monkeypatch):
  workdir = shutil.copytree(finished[0], tmp_path / 'run')
  monkeypatch.setattr(type(ANALYSES['kde']), 'measure', mock.Mock(side_effect=KeyError('a bug')))
  outcome = call('analyze', workdir, '--what=kde,jacobian', *quick('kde', 'jacobian'))
  assert outcome.status == 1 and outcome.err.startswith('Traceback') and outcome.err.endswith("KeyError: 'a bug'\n")
  assert analysis_files(workdir) == sorted(FILES['jacobian'])


def test_the_checkpoint_and_the_label_are_those_of_the_flags(finished):
  with mock.patch('flowgan_tf.study.studying', side_effect=UsageError('enough')) as begun:
    call('analyze', finished[0], '--what=kde', '--checkpoint=latest', '--label=3')
  assert begun.call_args.args == (finished[0], 'latest', '3')


def test_mistakes(finished):
  for arguments, said in (
    (['--what=jacobian'], 'expected one or more run folders, as in `analyze runs/demo --what=jacobian`; got none'),
    ([finished[0]], '--what must be one or more of kde, ais, gmm, '),
    ([finished[0], 'missing', '--what=kde'], 'missing: no such folder'),
    ([finished[0], '--what=outliers', '--other_dataset=digits'], '--other_dataset must be a data set that '),
  ):
    assert_one_line(call('analyze', *arguments), 'analyze', said)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BrightnessSettings(Settings):
  shades: int = setting(7, 'Shades of grey.', minimum=2)
  samples: int = setting(200, 'A flag of other analyses, too.', minimum=10)


class Brightness(Analysis):
  name = 'brightness'
  title = 'Brightness of samples'
  description = 'mean grey level of samples'
  caption = 'Mean grey level of samples'
  Settings = BrightnessSettings
  columns = (Column('mean grey level', 'mean', '.3f'),)
  details = (Column('shades', 'shades'), Column('samples', 'n', ','))

  def measure(self, subject, settings):
    means = subject.samples(settings.samples, settings.seed).mean(axis=(1, 2, 3))
    return {'mean': means.mean(), 'n': len(means), 'shades': settings.shades}, {'means': means}

  def figures(self, runs):
    pixels = np.full((8, 8, 1), 100, np.uint8)
    return {self.name: Figure.of_pixels(pixels, 'A grey square.', f'{len(runs)} run.')}


def test_analyses_that_share_a_flag_have_defaults_of_their_own(monkeypatch):
  monkeypatch.setitem(ANALYSES, 'brightness', Brightness())
  for arguments, expected in (
    ([], [5000, 200]),
    (['--samples=50'], [50, 50]),
  ):
    with untouched():
      program = importlib.import_module('flowgan_tf.programs.analyze')
      flags.FLAGS(['analyze', *arguments])
      found = program.analysis_settings(['kde', 'brightness'])
    assert [found[name]['samples'] for name in ('kde', 'brightness')] == expected


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightedSettings(BrightnessSettings):
  lambda_: float = setting(1.0, 'A keyword of Python.')


def test_a_setting_named_like_a_keyword_of_python_has_a_flag_without_the_underscore(monkeypatch):
  analysis = Brightness()
  monkeypatch.setattr(analysis, 'Settings', WeightedSettings, raising=False)
  monkeypatch.setitem(ANALYSES, 'brightness', analysis)
  with untouched():
    program = importlib.import_module('flowgan_tf.programs.analyze')
    flags.FLAGS(['analyze', '--lambda=2'])
    assert program.analysis_settings(['brightness']) == {
      'brightness': {'seed': 0, 'shades': 7, 'samples': 200, 'lambda_': 2.0}
    }


def test_an_analysis_of_one_file_has_flags_help_a_table_and_a_section(monkeypatch, finished, tmp_path):
  monkeypatch.setitem(ANALYSES, 'brightness', Brightness())
  said = ' '.join(call('analyze', '--helpshort').out.split())
  assert 'mean grey level of samples' in said and '--shades: brightness: Shades of grey.' in said
  assert '--samples: kde, gmm, temperature, classifiers, brightness:' in said
  run = shutil.copytree(finished[0], tmp_path / 'run')
  outcome = call('analyze', run, '--what=kde,brightness', '--shades=1')
  assert_one_line(outcome, 'analyze', '--shades must be an integer of at least 2. Got: 1.')
  assert not (run / 'analysis').exists()
  outcome = call('analyze', run, '--what=brightness,kde', '--shades=5', '--samples=100')
  assert outcome.status == 0, outcome
  study = read_summary(run).studies['brightness']
  assert study.record['settings'] == {'seed': 0, 'samples': 100, 'shades': 5}
  assert study.record['mean'] == pytest.approx(study.arrays['means'].mean())
  _, caption, header, _, row, *paths = map(str.strip, outcome.out.splitlines())
  assert caption == 'Mean grey level of samples' and header.split() == ['mean', 'grey', 'level', 'shades', 'samples']
  assert row.split() == [f'{study.record["mean"]:.3f}', '5', '100']
  assert paths[:2] == [f'{run}/analysis/brightness.{end}' for end in ('json', 'png')]
  assert call('report', run).status == 0
  page = (run / 'report.html').read_text()
  for text in ('Brightness of samples', 'mean grey level', 'A grey square.', f'{study.record["mean"]:.3f}'):
    assert text in page
  assert f'bin/analyze {run} --what=brightness --checkpoint=best_nll --seed=0 --shades=5 --samples=100' in page

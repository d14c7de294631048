"""`train`: a run, its evaluation and its export; folders that cannot be a run; generators and starts of other kinds."""

import json
import re
import shutil
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from flowgan_tf.errors import UsageError
from flowgan_tf.runs.log import read_metrics
from flowgan_tf.runs.run import load_run
from flowgan_tf.training import TrainingDiverged
from tests.programs.conftest import FAST, TINY, assert_one_line, call
from tests.tiny import write_images


def evaluation(workdir):
  return json.loads((workdir / 'evaluation.json').read_text())['records']


def test_a_finished_run(finished):
  workdir, outcome = finished
  names = {'checkpoints', 'config.json', 'evaluation.json', 'export', 'metrics.jsonl', 'samples', 'tensorboard'}
  assert {file.name for file in workdir.iterdir()} >= names
  config = json.loads((workdir / 'config.json').read_text())['config']
  assert (config['objective'], config['lambda'], config['steps'], config['dataset']) == ('hybrid', 0.1, 20, 'digits')
  assert (config['nice']['hidden_units'], config['batch_size'], config['jit']) == (16, 50, False)
  assert [record['checkpoint'] for record in evaluation(workdir)] == ['latest', 'best_nll', 'best_score']
  for record in evaluation(workdir):
    assert record['checkpoint'] in outcome.out
    # The digits have 17 levels.
    assert record['bits_per_dim'] == pytest.approx(record['nll'] / (64 * np.log(2)) + np.log2(17))
    assert (record['n'], record['score_samples']) == (180, 50)
  lines = outcome.out.splitlines()
  assert lines[-4:-1] == [
    f'samples      {workdir}/samples',
    f'metrics      {workdir}/metrics.jsonl',
    f'TensorBoard  tensorboard --logdir {workdir}/tensorboard',
  ]
  assert lines[-1] == f'SavedModel   {workdir}/export  (checkpoint best_nll)'
  images = np.random.default_rng(0).uniform(0.1, 0.9, (3, 8, 8, 1)).astype(np.float32)
  model = tf.saved_model.load(str(workdir / 'export'))
  expected = load_run(workdir, 'best_nll').generator.log_prob(images)
  np.testing.assert_allclose(model.log_prob(images), expected, atol=1e-3)


def test_log_files_and_terminal_agree(finished):
  workdir, outcome = finished
  events = EventAccumulator(str(workdir / 'tensorboard'), size_guidance={'tensors': 0})
  events.Reload()
  records = read_metrics(workdir)
  assert re.search(r'nice: [\d,]+ parameters\.\ncritic: [\d,]+ parameters\.\n', outcome.err)
  lines = iter([line for line in outcome.err.splitlines() if line.startswith('step ')])
  for record in records:
    kind, step = record['kind'], record['step']
    for name, value in record.items():
      if name not in ('kind', 'step', 'seconds') and not isinstance(value, str):
        [shown] = [event for event in events.Tensors(f'{kind}/{name}') if event.step == step]
        assert tf.make_ndarray(shown.tensor_proto) == pytest.approx(value, rel=1e-6)
    if kind == 'validation':
      line = next(lines)
      assert line.startswith(f'step {step}: nll {record["nll"]:,.2f}, bits_per_dim {record["bits_per_dim"]:.3f}, ')
      assert f'mode_score {record["mode_score"]:.2f}' in line
  assert list(lines) == []
  train = [record for record in records if record['kind'] == 'train']
  assert {'nll', 'critic_gap', 'critic_loss', 'generator_loss', 'gradient_penalty', 'gradient_norm'} <= train[0].keys()


def test_images_that_do_not_fit_are_refused(tmp_path):
  images = write_images(tmp_path / 'odd.npz', shape=(7, 7, 1))
  for generator, said in (
    ('real_nvp', "--generator 'real_nvp' does not fit: "),
    ('jet', '--config.jet.patch_size must be a divisor of'),
  ):
    outcome = call('train', f'--dataset={images}', f'--generator={generator}', f'--workdir={tmp_path / "run"}')
    assert_one_line(outcome, 'train', said)
  assert [file.name for file in tmp_path.iterdir()] == ['odd.npz']


def test_folders_that_cannot_be_a_run(tmp_path, images, finished, cache):
  flags = (*FAST, f'--dataset={images}')
  (tmp_path / 'file').write_text('precious')
  for workdir in (tmp_path / 'file', tmp_path / 'file' / 'run'):
    assert_one_line(call('train', *flags, f'--workdir={workdir}'), 'train', f'train: {workdir}: cannot be written')
  assert_one_line(call('train', *flags, f'--workdir={tmp_path}'), 'train', str(tmp_path), 'not empty')
  assert [file.name for file in tmp_path.iterdir()] == ['file'] and (tmp_path / 'file').read_text() == 'precious'
  # Somebody else's run.
  workdir, _ = finished
  config = (workdir / 'config.json').read_bytes()
  outcome = call('train', *TINY, f'--config.cache_dir={cache}', '--steps=20', '--lambda=0.5', f'--workdir={workdir}')
  assert_one_line(outcome, 'train', str(workdir), 'lambda 0.1 -> 0.5')
  assert (workdir / 'config.json').read_bytes() == config
  (tmp_path / 'cut').mkdir()
  (tmp_path / 'cut' / 'config.json').write_bytes(config[:100])
  outcome = call('train', *flags, f'--workdir={tmp_path / "cut"}')
  assert_one_line(outcome, 'train', f'{tmp_path}/cut/config.json', 'damaged')


def test_a_training_that_diverges_is_one_line_and_exit_status_1(images, monkeypatch):
  error = TrainingDiverged("not finite at step 2: the last good one is kept, or `on_nan` 'rollback'")
  monkeypatch.setattr('flowgan_tf.training.train', mock.Mock(side_effect=error))
  outcome = call('train', *FAST, f'--dataset={images}')
  said = "train: not finite at step 2: the last good one is kept, or --on_nan 'rollback'\n"
  assert outcome == (1, '', said)


@pytest.mark.slow
def test_unlabelled_images_and_a_fresh_folder(tmp_path, images):
  """The flags win over the config file, and the table has no scores."""
  (tmp_path / 'mine.py').write_text("""
from flowgan_tf.runs.config import default_config

def get_config():
  config = default_config()
  config.steps, config.nice.couplings, config.batch_size = 99, 3, 7
  return config
""")
  workdir = tmp_path / 'a' / 'run'
  flags = [flag for flag in FAST if 'batch_size' not in flag]
  outcome = call('train', f'--config={tmp_path}/mine.py', *flags, f'--dataset={images}', f'--workdir={workdir}')
  assert outcome.status == 0, outcome
  assert 'MODE' not in outcome.out and 'test NLL (nats)' in outcome.out
  config = json.loads((workdir / 'config.json').read_text())['config']
  assert (config['steps'], config['nice']['couplings'], config['batch_size']) == (2, 2, 7)


def test_folders_are_named_after_the_data_and_the_objective(images, monkeypatch):
  def train(config, workdir, **_):
    raise UsageError(str(workdir))

  monkeypatch.setattr('flowgan_tf.training.train', train)
  for flags, name in (
    (['--lambda=0.1'], 'hybrid-0.1'),
    (['--lambda=0.10000001'], 'hybrid-0.10000001'),
    (['--objective=mle'], 'mle'),
  ):
    assert call('train', f'--dataset={images}', *flags).err == f'train: runs/images-{name}\n'


@pytest.fixture(scope='module')
def dcgan(tmp_path_factory, cache):
  """A run of a generator without a likelihood, and what its program said."""
  workdir = tmp_path_factory.mktemp('dcgan') / 'run'
  outcome = call(
    'train',
    '--generator=dcgan',
    '--objective=adversarial',
    '--divergence=jensen_shannon',
    '--batch_size=8',
    '--critic_steps=2',
    '--steps=2',
    '--samples=40',
    '--config.dcgan.channels=(8, 4)',
    '--config.dcgan_critic.channels=(4,)',
    '--config.dcgan_critic.dense_units=8',
    '--config.eval_every=1',
    '--config.score_samples=64',
    f'--config.cache_dir={cache}',
    f'--workdir={workdir}',
  )
  assert outcome.status == 0, outcome
  return workdir, outcome


@pytest.mark.slow
def test_a_generator_without_a_likelihood(dcgan):
  """Its best checkpoint is chosen by score; programs say why it has no likelihood."""
  workdir, outcome = dcgan
  assert 'no likelihood: the generator is not invertible' in outcome.out
  assert 'NLL' not in outcome.out and 'FID' in outcome.out
  assert {file.name for file in (workdir / 'checkpoints').iterdir()} == {'latest', 'best_score'}
  [record, *_] = evaluation(workdir)
  assert record['score_samples'] == 40 and record['inception_score'] >= 1
  assert 'nll' not in record and 'round_trip_error' not in record
  assert_one_line(call('evaluate', workdir, '--float64'), 'evaluate', '--float64 must be False, as dcgan of ')
  outcome = call('analyze', workdir, '--what=outliers')
  assert_one_line(outcome, 'analyze', f'{workdir}: outliers needs a likelihood, which generator dcgan does not have')
  model = tf.saved_model.load(str(workdir / 'export'))
  assert set(model.signatures) == {'sample', 'decode'} and not hasattr(model, 'log_prob')


@pytest.mark.slow
def test_pictures_of_a_generator_without_a_likelihood(dcgan, tmp_path):
  for flags in ([], ['--interpolate'], ['--neighbors']):
    assert call('sample', dcgan[0], '--n=2', f'--out={tmp_path}/x', *flags).status == 0
    with np.load(tmp_path / 'x.npz') as arrays:
      assert arrays['images'].shape == arrays['noise'].shape
      assert 0 <= arrays['images'].min() < arrays['images'].max() <= 1


def test_what_cannot_be_a_start_is_refused_before_anything_is_made(finished, tmp_path):
  young = shutil.copytree(finished[0], tmp_path / 'young')
  shutil.rmtree(young / 'checkpoints')
  for run, flags, said in (
    (young, [], f'--init_from: {young}: has no checkpoint yet'),
    (finished[0], ['--config.nice.hidden_units=17'], f'{finished[0]}, whose nice.hidden_units is 16 instead of 17.'),
  ):
    outcome = call('train', *TINY, f'--init_from={run}', *flags, f'--workdir={tmp_path / "run"}')
    assert_one_line(outcome, 'train', '--init_from', said)
  assert list(tmp_path.iterdir()) == [young]

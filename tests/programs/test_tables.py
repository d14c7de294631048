"""The programs on a table: a run without pictures and scores, in the units of its columns."""

import zipfile

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf import data
from flowgan_tf.evaluation.results import read_evaluation
from flowgan_tf.export.packing import pack
from flowgan_tf.runs.log import read_metrics
from flowgan_tf.runs.run import load_run
from flowgan_tf.training import train
from tests.programs.conftest import assert_one_line, call
from tests.tiny import make_config

FLAGS = ['--config=configs/table.py', '--nojit', '--batch_size=8', '--config.eval_every=2', '--steps=4']
TINY = {'vectors.couplings': 2, 'vectors.hidden_units': 8, 'vectors.hidden_layers': 1, 'generator': 'vectors'}


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  rng, path = np.random.default_rng(0), tmp_path_factory.mktemp('table') / 'table.npz'
  rows, labels = rng.normal(0.0, 1.0, (100, 3)), np.arange(100) % 2
  np.savez(path, x_train=rows * [100.0, 1.0, 0.01] + [5000.0, 0.0, 3.0], y_train=labels)
  return path


@pytest.mark.slow
def test_a_training_starts_from_the_units_of_the_columns(path, tmp_path):
  rows = data.load(str(path)).train.images.astype(np.float64)
  assert train(make_config(TINY, dataset=str(path), steps=2), tmp_path / 'run')
  found = {v.name: v.numpy() for v in load_run(tmp_path / 'run', 'latest').generator.non_trainable_variables}
  np.testing.assert_allclose(found['mean:0'], rows.mean(axis=0), rtol=1e-6)
  np.testing.assert_allclose(found['std:0'], rows.std(axis=0), rtol=1e-6)
  [record] = [record for record in read_metrics(tmp_path / 'run') if record['kind'] == 'validation']
  pack(tmp_path / 'run', tmp_path / 'run.zip')
  zipfile.ZipFile(tmp_path / 'run.zip').extractall(tmp_path / 'packed')
  packed = {v.name: v.numpy() for v in load_run(tmp_path / 'packed').generator.non_trainable_variables}
  np.testing.assert_array_equal(packed['mean:0'], found['mean:0'])
  assert record['nll'] < 5.0 and record['round_trip_error'] < 1e-3 and not {'bits_per_dim', 'sample_std'} & set(record)


@pytest.mark.slow
def test_a_conditional_run_from_training_to_the_report(path, tmp_path):
  run, table = tmp_path / 'run', data.load(str(path))
  tiny = [f'--config.{name}={value}' for name, value in TINY.items()]
  trained = call('train', *FLAGS, *tiny, f'--dataset={path}', '--condition=label', f'--workdir={run}')
  assert trained.status == 0 and 'samples ' not in trained.out and 'test NLL (nats)' in trained.out, trained
  flow = load_run(run, 'latest').generator
  [record] = [record for record in read_evaluation(run) if record['checkpoint'] == 'latest']
  log_prob = flow.log_prob(table.test.images)
  assert record['nll'] == pytest.approx(-np.mean(log_prob), rel=1e-5)
  assert record['round_trip_error'] < 1e-3 and 'bits_per_dim' not in record and 'score_samples' not in record
  assert all('nll' in r and 'fid' not in r for r in read_metrics(run) if r['kind'] == 'validation')
  assert len([r for r in read_metrics(run) if r['kind'] == 'validation']) == 2 and not (run / 'samples').exists()
  model = tf.saved_model.load(str(run / 'export'))
  assert model.sample(n=5, label=1, seed=0, temperature=1.0).shape == (5, 3)

  drawn = call('sample', run, '--n=4', f'--out={tmp_path}/drawn')
  assert (drawn.status, drawn.out) == (0, f'{tmp_path}/drawn.npz\n'), drawn
  arrays = np.load(tmp_path / 'drawn.npz')
  assert arrays['rows'].shape == (8, 3) and arrays['labels'].tolist() == [0] * 4 + [1] * 4
  assert_one_line(call('sample', run, '--neighbors'), 'sample', 'trained on a table, for which there are no neighbors')
  for flag in ('scorer=classifier', 'samples=100'):
    assert_one_line(call('evaluate', run, f'--{flag}'), 'evaluate', 'left out for a table, as its rows have no scores')
  assert_one_line(
    call('analyze', run, '--what=gmm'), 'analyze', 'gmm needs images, and this run was trained on a table'
  )
  swept = call('sweep', f'--dataset={path}', *FLAGS, '--lambdas=inf', f'--workdir={tmp_path}/sweep')
  assert_one_line(swept, 'sweep', '--what must be empty for a table')
  reported = call('report', run, f'--out={tmp_path}/report.html')
  page = (tmp_path / 'report.html').read_text()
  assert reported.status == 0 and f'{record["nll"]:,.2f}' in page and '--what=' not in page, reported


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--lambda=0.1'], "--objective must be 'mle' with generator vectors, whose samples are not images. Got: "),
    (['--config.flip=True'], '--config.flip must be False with generator vectors'),
    (
      ['--generator=nice'],
      "--generator must be one of rows for a table, such as 'vectors' in configs/table.py, and one of images",
    ),
    (['--condition=mask:half'], "'label' or 'vector': table is a table, and nothing is computed from its rows"),
    (
      ['--dataset=digits'],
      "for images. Got: 'vectors'.",
    ),
  ],
)
def test_what_needs_images_is_rejected(path, tmp_path, flags, message):
  rejected = call('train', *FLAGS, f'--dataset={path}', f'--workdir={tmp_path}/run', *flags)
  assert_one_line(rejected, 'train', message)
  assert not (tmp_path / 'run').exists()


def test_a_constant_column_is_rejected(tmp_path):
  path = tmp_path / 'constant.npz'
  np.savez(path, x_train=np.stack([np.arange(50.0), np.full(50, 7.0)], axis=1))
  rejected = call('train', *FLAGS, f'--dataset={path}', f'--workdir={tmp_path}/run')
  assert_one_line(rejected, 'train', str(path), 'Got: column 1 with mean 7 and standard deviation 0.')

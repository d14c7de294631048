"""`evaluate`: likelihood and scores of a run, by the network that `--scorer` names."""

import re
import shutil
from unittest import mock

import keras
import numpy as np
import pytest
from PIL import Image

from flowgan_tf import data
from flowgan_tf.evaluation.results import read_evaluation
from flowgan_tf.flows import Flow
from flowgan_tf.runs.run import load_run
from flowgan_tf.runs.seeds import Purpose
from tests.programs.conftest import FAST, UNSCORED, assert_one_line, call
from tests.tiny import edit_record


@pytest.fixture
def workdir(finished, tmp_path):
  return shutil.copytree(finished[0], tmp_path / 'run')


def test_what_is_reported_and_kept(workdir):
  outcome = call('evaluate', workdir, '--split=validation', '--samples=40')
  assert outcome.status == 0, outcome
  records = read_evaluation(workdir)
  assert [r['split'] for r in records] == ['validation'] * 3 + ['test'] * 3  # The training measured these.
  records = records[:3]
  assert [record['checkpoint'] for record in records] == ['latest', 'best_nll', 'best_score']
  x = data.dequantize(data.load('digits').validation.images, 17, Purpose.EVALUATION)
  likelihood, scores, variety, path = outcome.out.strip().split('\n\n')
  header, _, *rows = likelihood.splitlines()
  assert 'validation NLL (nats)' in header and 'MODE' in scores and 'coverage' in variety
  row_of = {name: row for row in rows for name in row.split('   ')[0].split(', ')}
  for record in records:
    run = load_run(workdir, record['checkpoint'])
    assert record['nll'] == pytest.approx(-run.generator.log_prob(x).numpy().mean(), rel=1e-4)
    expected = {'step': run.step, 'n': 180, 'score_samples': 40, 'score_splits': 10, 'scorer': 'classifier'}
    assert record | expected == record
    assert f'{record["bits_per_dim"]:.3f}' in row_of[record['checkpoint']]
    assert (record['prdc_images'], record['copied_from'], record['held_out_images']) == (40, 1437, 180)
  real = scores.splitlines()[-1]
  assert real.startswith('real test images') and f'{records[0]["real_fid"]:.2f}' in real
  assert records[0]['real_precision'] > 0.5 and 'real_near_copies' not in records[0]
  assert f'classifier {records[0]["scorer_hash"]}' in variety and path == f'{workdir}/evaluation.json'


def test_one_checkpoint_and_the_likelihood_alone(workdir):
  before = read_evaluation(workdir)
  with mock.patch('flowgan_tf.devices.compute_parts') as computed_in_parts:
    outcome = call('evaluate', workdir, '--checkpoint=best_score', '--samples=0')
  assert outcome.status == 0 and 'NLL' in outcome.out and 'FID' not in outcome.out
  computed_in_parts.assert_called_once_with()
  [record, *others] = read_evaluation(workdir)
  assert others == [other for other in before if other['checkpoint'] != 'best_score']
  assert (record['checkpoint'], record['split']) == ('best_score', 'test')
  assert 'nll' in record and 'fid' in record  # The earlier scores stay.


@pytest.mark.parametrize('program', ['evaluate', 'sample', 'export', 'analyze'])
def test_what_is_not_a_run_ends_in_one_line(workdir, tmp_path, program):
  flags = ['--what=kde'] if program == 'analyze' else []
  assert_one_line(call(program, tmp_path / 'no', *flags), program, f'{tmp_path}/no: no such folder')
  assert_one_line(call(program, workdir, '--checkpoint=newest', *flags), program, '--checkpoint=newest')
  shutil.rmtree(workdir / 'checkpoints' / 'best_nll')
  outcome = call(program, workdir, '--checkpoint=best_nll', *flags)
  assert_one_line(outcome, program, "'best_nll'", 'it has: latest, best_score')
  (workdir / 'config.json').write_text('[]')
  assert_one_line(call(program, workdir, *flags), program, f'{workdir}/config.json', 'damaged')


def test_mistakes(workdir, tmp_path, monkeypatch):
  before = (workdir / 'evaluation.json').read_bytes()
  assert_one_line(call('evaluate', workdir, '--samples=9'), 'evaluate', '--samples must be 0 or at least 10. Got: 9.')
  monkeypatch.setenv('KERAS_HOME', str(tmp_path))
  monkeypatch.setattr('flowgan_tf.data.tfds.host_answers', lambda url, **_: False)
  outcome = call('evaluate', workdir, '--scorer=inception')
  assert_one_line(outcome, 'evaluate', 'pass a local copy as --inception_weights, ', "`scorer` 'classifier'")
  assert (workdir / 'evaluation.json').read_bytes() == before
  monkeypatch.setattr('flowgan_tf.runs.run.run_identity', lambda *_: {})  # The checkpoint would be rejected, too.
  edit_record(workdir / 'config.json', lambda description: description['data'].update(fingerprint='0' * 64))
  assert_one_line(call('evaluate', workdir, '--trust'), 'evaluate', str(workdir), 'other data')


def test_a_check_of_the_likelihood_decides_the_exit_status(workdir, monkeypatch):
  before = (workdir / 'evaluation.json').read_bytes()
  # The integral takes half of the time; other tests check it.
  monkeypatch.setattr('flowgan_tf.checks.densities.check_total', lambda *_: [])
  outcome = call('evaluate', workdir, '--check', '--check_images=3', '--checkpoint=latest')
  assert outcome.status == 0 and 'log-determinant, Jacobian' in outcome.out, outcome
  assert re.search(r'\nnice: no mistake found by \d\d checks\.\nNot checked: .*\n$', outcome.out)
  # Nor are samples of another density needed to see that this one is wrong.
  monkeypatch.setattr('flowgan_tf.checks.densities.check_draws', lambda *_: [])
  right = Flow.log_prob
  monkeypatch.setattr(Flow, 'log_prob', lambda *arguments, **keywords: right(*arguments, **keywords) + 1)
  outcome = call('evaluate', workdir, '--check', '--check_images=3', '--checkpoint=latest')
  assert outcome.status == 1 and 'NOT SOUND: log_prob, prior and bijector.' in outcome.out, outcome
  assert_one_line(call('evaluate', workdir, '--check', '--samples=0'), 'evaluate', '--samples must be left out')
  assert_one_line(call('evaluate', workdir, '--check_images=3'), 'evaluate', 'no effect without --check. Got: 3.')
  assert (workdir / 'evaluation.json').read_bytes() == before


def test_what_is_checked_is_what_the_flags_say(workdir):
  found = mock.Mock(sound=True)
  with mock.patch('flowgan_tf.checks.check', return_value=found) as check:
    call('evaluate', workdir, '--check', '--checkpoint=latest', '--split=validation', '--check_images=3')
  flow, images = check.call_args.args
  np.testing.assert_array_equal(images, data.load('digits').validation.images[:3])
  assert check.call_args.kwargs == {'condition': None, 'levels': 17}
  for variable, expected in zip(flow.variables, load_run(workdir, 'latest').generator.variables, strict=True):
    np.testing.assert_array_equal(variable, expected)


def test_own_images_are_compared_with_held_out_ones(workdir, tmp_path, monkeypatch):
  before = (workdir / 'evaluation.json').read_bytes()
  (tmp_path / 'mine').mkdir()
  digit = data.load('digits').train.images[0, :, :, 0]
  Image.fromarray(np.rint(digit * (255 / 16)).astype(np.uint8)).save(tmp_path / 'mine' / 'digit.png')
  Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)).save(tmp_path / 'mine' / 'noise.png')
  outcome = call('evaluate', workdir, f'--images={tmp_path}/mine', '--checkpoint=latest')
  assert outcome.status == 0 and 'share of 180 test images' in outcome.out, outcome
  assert re.search(r'\ndigit\.png .* no outlier\nnoise\.png .* unlikely\n', outcome.out)
  assert (workdir / 'evaluation.json').read_bytes() == before
  # A pretrained flow comes with the numbers of held-out images, and needs no data.
  monkeypatch.setattr('flowgan_tf.runs.pretrained.held_out_of', lambda name: np.zeros((50, 2)))
  monkeypatch.setattr('flowgan_tf.runs.load_data', mock.Mock(side_effect=AssertionError))
  outcome = call('evaluate', workdir, f'--images={tmp_path}/mine/digit.png', '--checkpoint=latest')
  assert outcome.status == 0 and 'share of 50 test images' in outcome.out, outcome


def test_own_images_that_cannot_be_judged_end_in_one_line(workdir, tmp_path):
  for flags, said in (
    ([f'--images={tmp_path}/none.png'], f'{tmp_path}/none.png: no such file or folder'),
    (['--images=a.png', '--samples=0'], '--samples must be left out, as it has no effect with --images. Got: 0.'),
    (['--images=a.png', '--check_images=2'], '--check_images must be left out, as it has no effect with --images'),
  ):
    assert_one_line(call('evaluate', workdir, *flags), 'evaluate', said)


def test_a_check_at_own_images(workdir, tmp_path):
  Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / 'black.png')
  found = mock.Mock(sound=False)
  with mock.patch('flowgan_tf.checks.check', return_value=found) as check:
    outcome = call('evaluate', workdir, '--check', f'--images={tmp_path}/black.png')
  np.testing.assert_array_equal(check.call_args.args[1], np.zeros((1, 8, 8, 1)))
  assert outcome.status == 1 and 'black.png' in outcome.out and check.call_args.kwargs == {'levels': 17}


@pytest.mark.slow
def test_inception_scores_a_run(images, tmp_path, monkeypatch):
  """Trained with it, and evaluated by it; unlabelled data will do. Here it is a small network, with the same shapes."""

  def network():
    images = keras.Input((299, 299, 3))
    features = keras.layers.GlobalAveragePooling2D(name='avg_pool')(keras.layers.Conv2D(4, 9, strides=32)(images))
    return keras.Model(images, keras.layers.Dense(1000)(features))

  monkeypatch.setattr(keras.applications, 'InceptionV3', lambda **_: network())
  keras.utils.set_random_seed(0)
  weights = tmp_path / 'inception.weights.h5'
  network().save_weights(weights)
  run = tmp_path / 'run'
  common = [*FAST, f'--dataset={images}', f'--config.cache_dir={tmp_path}/cache', f'--workdir={run}']
  flags = ['--scorer=inception', f'--inception_weights={weights}', '--config.score_samples=10']
  outcome = call('train', *common, *flags)
  assert outcome.status == 0, outcome
  assert 'inception_v3' in outcome.out and 'FID' in outcome.out and 'MODE' not in outcome.out
  record, *_ = read_evaluation(run)
  assert (record['scorer'], record['reference_images'], record['score_samples']) == ('inception_v3', 32, 10)
  # The run remembers the file, and the reference is read from the cache.
  again = call('evaluate', run, '--samples=10', '--checkpoint=latest')
  assert again.status == 0 and record['scorer_hash'] in again.out and 'Computing' not in again.err
  weights.unlink()
  assert_one_line(call('evaluate', run), 'evaluate', '--inception_weights', 'no such file')


@pytest.mark.slow
def test_a_classifier_that_was_asked_for_needs_labels(images, tmp_path, monkeypatch):
  common = [*UNSCORED, '--config=configs/digits.py', f'--dataset={images}', f'--workdir={tmp_path}/run']
  said = ["--scorer must be 'inception'", images, 'no labels']
  assert_one_line(call('train', *common, '--scorer=classifier'), 'train', *said)
  # A training without scores needs no scorer, at its end neither: Inception-v3 cannot be had here.
  monkeypatch.setenv('KERAS_HOME', str(tmp_path))
  monkeypatch.setattr('flowgan_tf.data.tfds.host_answers', lambda url, **_: False)
  outcome = call('train', *common, '--scorer=inception', '--config.score_samples=0')
  assert outcome.status == 0 and 'NLL' in outcome.out and 'FID' not in outcome.out
  assert_one_line(call('evaluate', tmp_path / 'run', '--scorer=classifier'), 'evaluate', *said)

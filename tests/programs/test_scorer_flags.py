"""Which network stands behind the scores: `--scorer` and `--inception_weights`."""

import json

import keras
import pytest

from flowgan_tf.data import tfds
from flowgan_tf.metrics import inception
from tests.programs.conftest import TINY, assert_one_line, call

TRAIN = ('--objective=mle', '--nojit', '--batch_size=8', '--steps=2', '--samples=10', *TINY[5:8])


@pytest.fixture
def weights(tmp_path, monkeypatch):
  """Of a small network with the inputs and outputs of Inception-v3, which would take a minute."""

  def network():
    images = keras.Input((299, 299, 3))
    features = keras.layers.GlobalAveragePooling2D(name='avg_pool')(keras.layers.Conv2D(4, 9, strides=32)(images))
    return keras.Model(images, keras.layers.Dense(1000)(features))

  monkeypatch.setattr(inception, '_network', network)
  keras.utils.set_random_seed(0)
  network().save_weights(tmp_path / 'inception.weights.h5')
  return tmp_path / 'inception.weights.h5'


def test_inception_scores_a_run(images, weights, tmp_path):
  """Trained with it, and evaluated by it; unlabelled data will do."""
  common = [f'--dataset={images}', f'--config.cache_dir={tmp_path}/cache', f'--workdir={tmp_path}/run']
  flags = ['--scorer=inception', f'--inception_weights={weights}', '--config.score_samples=10']
  outcome = call('train', *TRAIN, *common, *flags)
  assert outcome.status == 0, outcome
  assert 'inception_v3' in outcome.out and 'FID' in outcome.out and 'MODE' not in outcome.out
  [record, *others] = json.loads((tmp_path / 'run' / 'evaluation.json').read_text())['records']
  assert (record['scorer'], record['reference_images'], record['score_samples']) == ('inception_v3', 32, 10)
  assert 'best_score' in {other['checkpoint'] for other in [record, *others]}
  # The file is remembered; the reference is read from the cache.
  again = call('evaluate', tmp_path / 'run', '--samples=10', '--checkpoint=latest')
  assert again.status == 0 and record['scorer_hash'] in again.out and 'Computing' not in again.err
  weights.rename(weights.with_name('moved.h5'))
  assert_one_line(call('evaluate', tmp_path / 'run'), 'evaluate', '--inception_weights', 'no such file')
  weights.with_name('moved.h5').rename(weights)


def test_without_weights_one_line_names_the_remedies(finished, tmp_path, monkeypatch):
  monkeypatch.setenv('KERAS_HOME', str(tmp_path))
  monkeypatch.setattr(tfds, 'host_answers', lambda url, **_: False)
  remedies = ['pass a local copy as --inception_weights, ', "use the --scorer 'classifier'"]
  assert_one_line(call('evaluate', finished[0], '--scorer=inception'), 'evaluate', *remedies)
  run = tmp_path / 'run'
  assert_one_line(call('train', *TRAIN, '--scorer=inception', f'--workdir={run}'), 'train', *remedies)


def test_bad_files(finished, tmp_path):
  (tmp_path / 'bad.h5').write_bytes(b'not HDF5')
  for name, said in (('bad.h5', 'damaged'), ('missing.h5', 'no such file')):
    flags = ['--scorer=inception', f'--inception_weights={tmp_path / name}']
    assert_one_line(call('evaluate', finished[0], *flags), 'evaluate', name, said)


def test_weights_without_their_scorer_are_refused(finished, weights, tmp_path):
  said = ['inception_weights', str(weights), "'inception'"]
  assert_one_line(call('evaluate', finished[0], f'--inception_weights={weights}'), 'evaluate', *said)
  common = [*TRAIN, f'--workdir={tmp_path}/run']
  assert_one_line(call('train', *common, f'--inception_weights={weights}'), 'train', *said)
  assert_one_line(call('train', *common, f'--config.inception_weights={weights}'), 'train', *said)
  assert not (tmp_path / 'run').exists()


def test_a_classifier_that_was_asked_for_needs_labels(images, tmp_path):
  """Without being asked for, it is left out: the run has no scores."""
  common = [*TRAIN, f'--dataset={images}', '--config.score_samples=10', f'--workdir={tmp_path}/run']
  said = ['scorer', images, 'no labels', "'inception'"]
  assert_one_line(call('train', *common, '--scorer=classifier'), 'train', *said)
  assert call('train', *common).status == 0
  assert_one_line(call('evaluate', tmp_path / 'run', '--scorer=classifier'), 'evaluate', *said)
  assert 'Inception' not in call('evaluate', tmp_path / 'run').out


def test_a_training_without_scores_needs_no_scorer(images, tmp_path, monkeypatch):
  """At its end neither: Inception-v3 cannot be had here."""
  monkeypatch.setenv('KERAS_HOME', str(tmp_path))
  monkeypatch.setattr(tfds, 'host_answers', lambda url, **_: False)
  flags = ['--scorer=inception', '--config.score_samples=0', f'--dataset={images}', f'--workdir={tmp_path}/run']
  outcome = call('train', *TRAIN, *flags)
  assert outcome.status == 0 and 'NLL' in outcome.out and 'FID' not in outcome.out

"""The scorer that a run's settings ask for."""

from unittest import mock

import numpy as np
import pytest

from flowgan_tf import data
from flowgan_tf.base.errors import UsageError
from flowgan_tf.evaluation import make_scorer, scorer
from tests.metrics.colours import Colours
from tests.tiny import make_config, write_images


@pytest.fixture
def config(tmp_path):
  return make_config(dataset=write_images(tmp_path / 'images.npz', count=150, labels=True))


def test_a_classifier_needs_images_of_each_label(config, tmp_path, caplog):
  unlabelled = data.load(write_images(tmp_path / 'unlabelled.npz'))
  assert make_scorer(config, unlabelled) is None
  with pytest.raises(UsageError, match=r"^`scorer` must be 'inception'.* has no labels.* Got: 'classifier'\.$"):
    make_scorer(config, unlabelled, required=True)
  path = tmp_path / 'one.npz'
  np.savez(path, images=np.zeros((30, 4, 4), np.uint8), labels=np.zeros(30, int))
  assert make_scorer(config, data.load(str(path))) is None
  path = tmp_path / 'from_one.npz'
  np.savez(path, images=np.zeros((30, 4, 4), np.uint8), labels=np.arange(30) % 2 + 1)
  assert not caplog.records
  config.dataset = str(path)
  assert make_scorer(config, data.load(str(path))) is None
  [record] = caplog.records
  assert 'from_one.npz has no training images of class 0 to train' in record.getMessage()
  with pytest.raises(UsageError, match=r"^`scorer` must be .*npz has no training images of class 0 to .* Got: 'class"):
    make_scorer(config, data.load(str(path)), required=True)


def test_the_cache_is_in_the_home_by_default_and_said_if_it_cannot_be_written(config, tmp_path, monkeypatch, caplog):
  load_network = mock.Mock(return_value=Colours())
  monkeypatch.setattr(scorer, 'load_classifier', load_network)
  monkeypatch.setenv('HOME', str(tmp_path))
  (tmp_path / 'file').touch()
  dataset = data.load(config.dataset)
  make_scorer(config, dataset)
  config.cache_dir = str(tmp_path / 'file' / 'cache')
  make_scorer(config, dataset)
  folders = [tmp_path / '.cache' / 'flowgan_tf', tmp_path / 'file' / 'cache']
  assert load_network.call_args_list == [mock.call(dataset, folder, name='classifier') for folder in folders]
  first, _ = [record.getMessage() for record in caplog.records if record.levelname == 'WARNING']
  assert first.startswith(f'{config.cache_dir}: cannot be written') and '\n' not in first


def test_the_scorer_of_labels(config, tmp_path, monkeypatch):
  """Inception-v3 does not know the labels of the data."""
  monkeypatch.setattr(scorer, 'load_classifier', lambda *_, **__: Colours())
  monkeypatch.setattr(scorer, 'load_inception', lambda *_: Colours(name='inception_v3', label_distribution=None))
  config.update({'condition': 'label', 'cache_dir': str(tmp_path)})
  dataset = data.load(config.dataset)
  made = make_scorer(config, dataset, thorough=True)
  assert made.thorough and made.labeller is None
  assert [len(features) for features in made.reference.class_features] == [60, 60]
  assert not make_scorer(config, dataset).thorough
  config.scorer = 'inception'
  assert make_scorer(config, dataset).labeller.name == 'classifier'
  config.condition = ''
  assert make_scorer(config, dataset, thorough=True).reference.class_features == ()

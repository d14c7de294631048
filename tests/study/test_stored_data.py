"""A run on images that stay in files, from its training to its study."""

import json

import numpy as np
import pytest

from flowgan_tf.data import StoredImages, arrays, load
from flowgan_tf.evaluation import pictures
from flowgan_tf.evaluation.evaluate import evaluate_run
from flowgan_tf.metrics import classifier
from flowgan_tf.runs.run import load_run
from flowgan_tf.study import studying
from flowgan_tf.training.loop import train
from tests.tiny import make_config

# Analyses that look at images of the data, each in its own way, with what makes them quick.
SETTINGS = {
  'independent_critic': {'critic_steps': 2},
  'kde': {'samples': 20},
  'outliers': {'images': 10},
  'classifiers': {'samples': 20, 'epochs': 1},
}


@pytest.fixture
def folder(tmp_path):
  rng = np.random.default_rng(0)
  (tmp_path / 'faces').mkdir()
  for part, n in {'train': 60, 'validation': 20, 'test': 20}.items():
    images = rng.integers(0, 100, (n, 4, 4, 1), np.uint8)
    images[: n // 2, :2] += 150
    np.save(tmp_path / 'faces' / f'{part}.npy', images)
    np.save(tmp_path / 'faces' / f'{part}_labels.npy', np.repeat([0, 1], n // 2))
  return tmp_path / 'faces'


def results(workdir) -> dict:
  """Everything that is measured of a run, without times."""
  lines = [json.loads(line) | {'seconds': 0} for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  with studying(workdir, 'latest') as apply:
    studies = {name: apply(name, **settings).record | {'seconds': 0} for name, settings in SETTINGS.items()}
  distances = pictures.neighbors(load_run(workdir, 'latest'), 3, 0).arrays['neighbor_distances']
  evaluation = evaluate_run(workdir, ['latest'], 'train', 20)
  return {'lines': lines, 'studies': studies, 'distances': distances, 'evaluation': evaluation}


@pytest.mark.slow
def test_files_and_memory_give_the_same_run(folder, tmp_path, monkeypatch):
  """The same metrics at each step, also of a training that was resumed, and the same scores and analyses."""
  monkeypatch.setattr(classifier, '_IMAGES_SEEN', {'classifier': (200, 200)})
  config = make_config(dataset=str(folder), objective='hybrid', score_samples=20, steps=4)
  config.cache_dir = str(tmp_path / 'cache')
  assert train(config, tmp_path / 'memory')
  expected = results(tmp_path / 'memory')
  monkeypatch.setattr(arrays, 'IN_MEMORY', 0)
  monkeypatch.setattr(StoredImages, '__array__', None)  # Nothing loads a file as a whole.
  assert isinstance(load(str(folder)).train.images, StoredImages)
  config.cache_dir = str(tmp_path / 'other cache')
  for config.steps in (2, 4):
    assert train(config, tmp_path / 'files')
  np.testing.assert_equal(results(tmp_path / 'files'), expected)

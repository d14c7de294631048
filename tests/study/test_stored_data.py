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
  'critic_gap': {'critic_steps': 2},
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


def records(workdir) -> list[dict]:
  lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  return [{name: value for name, value in line.items() if name != 'seconds'} for line in lines]


@pytest.mark.slow
def test_files_and_memory_give_the_same_run(folder, tmp_path, monkeypatch):
  """The same metrics at each step, scores and analyses; and a training may go on from one with the other."""
  monkeypatch.setattr(classifier, '_IMAGES_SEEN', (200, 200))
  config = make_config(dataset=str(folder), objective='hybrid', score_samples=20, steps=4)
  config.cache_dir = str(tmp_path / 'cache')
  assert train(config, tmp_path / 'memory')
  monkeypatch.setattr(arrays, 'IN_MEMORY', 0)
  monkeypatch.setattr(StoredImages, '__array__', None)  # Nothing loads a file as a whole.
  config.cache_dir = str(tmp_path / 'other cache')
  config.steps = 2
  assert train(config, tmp_path / 'files')
  config.steps = 4
  assert train(config, tmp_path / 'files')
  assert isinstance(load(str(folder)).train.images, StoredImages)
  assert records(tmp_path / 'files') == records(tmp_path / 'memory')
  [stored] = evaluate_run(tmp_path / 'files', ['latest'], 'train', 20)
  studies = {}
  with studying(tmp_path / 'files', 'latest') as apply:
    for name in SETTINGS:
      studies[name] = apply(name, **SETTINGS[name]).record
  distances = pictures.neighbors(load_run(tmp_path / 'files', 'latest'), 3, 0).arrays['neighbor_distances']
  monkeypatch.undo()
  monkeypatch.setattr(classifier, '_IMAGES_SEEN', (200, 200))
  [loaded] = evaluate_run(tmp_path / 'memory', ['latest'], 'train', 20)
  assert stored == loaded
  with studying(tmp_path / 'memory', 'latest') as apply:
    for name, record in studies.items():
      assert {**apply(name, **SETTINGS[name]).record, 'seconds': 0} == {**record, 'seconds': 0}
  expected = pictures.neighbors(load_run(tmp_path / 'memory', 'latest'), 3, 0).arrays['neighbor_distances']
  np.testing.assert_array_equal(distances, expected)

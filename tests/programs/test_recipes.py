"""The configuration that suits the data, when no --config is given."""

import importlib
import os
import re

import numpy as np
import pytest
from PIL import ExifTags, Image

from flowgan_tf.configs import digits, images, mnist, table
from flowgan_tf.programs.recipes import choose, count_classes
from flowgan_tf.runs.config import settings
from tests.programs.conftest import call, parsed_config


def photos(folder, shape, count=3, name='a.jpg'):
  (folder / 'cats').mkdir(parents=True)
  for i in range(count):
    Image.fromarray(np.full(shape, i, np.uint8)).save(folder / 'cats' / f'{i}{name}')
  return folder


@pytest.mark.parametrize(
  ('make', 'file', 'needed', 'seen'),
  [
    (lambda path: photos(path, (32, 48, 3)), 'images.py', {}, '3 images of 32 x 48 x 3'),
    (lambda path: photos(path, (28, 28)), 'images.py', {'flip': False}, '3 images of 28 x 28 x 1'),
    (lambda path: photos(path, (30, 32, 3)), 'images.py', {'jet.patch_size': 2}, '3 images of 30 x 32 x 3'),
    (lambda path: photos(path, (25, 25, 3)), 'images.py', {'jet.patch_size': 1}, '3 images of 25 x 25 x 3'),
    (lambda path: photos(path, (8, 8)), 'digits.py', {}, '3 images of 8 x 8 x 1'),
    (
      lambda path: photos(path, (300, 400, 3)),
      'images.py',
      {},
      '3 images of 300 x 400 x 3, which train faster if --config.image_size=64 reduces them',
    ),
  ],
)
def test_folders(tmp_path, make, file, needed, seen):
  assert choose(str(make(tmp_path / 'photos')), 0) == (file, needed, seen)


@pytest.mark.parametrize(
  ('name', 'array', 'file', 'needed', 'seen'),
  [
    ('images', np.zeros((5, 28, 28), np.uint8), 'images.py', {'flip': False}, '5 images of 28 x 28 x 1'),
    ('x_train', np.zeros((7, 16, 16, 3), np.uint8), 'images.py', {}, '7 images of 16 x 16 x 3'),
    ('x_train', np.zeros((1234, 16), np.float32), 'table.py', {}, '1,234 rows of 16 numbers'),
    ('x_train', np.zeros((9, 17), np.float32), 'table.py', {'vectors.couplings': 10}, '9 rows of 17 numbers'),
  ],
)
def test_arrays(tmp_path, name, array, file, needed, seen):
  for save in (np.savez, np.savez_compressed):
    save(tmp_path / 'data.npz', **{name: array})
    assert choose(str(tmp_path / 'data.npz')) == (file, needed, seen)


def test_a_folder_of_arrays(tmp_path):
  np.save(tmp_path / 'train.npy', np.zeros((9, 100, 100, 3), np.uint8))
  assert choose(str(tmp_path)) == ('images.py', {}, '9 images of 100 x 100 x 3')


def test_hidden_files_are_not_looked_at(tmp_path):
  folder = photos(tmp_path / 'photos', (28, 28))
  (folder / 'cats' / '._0.jpg').write_bytes(b'of a Mac')
  (folder / '.cache').mkdir()
  (folder / '.cache' / '0.png').touch()
  assert choose(str(folder)) == ('images.py', {'flip': False}, '3 images of 28 x 28 x 1')


def test_a_plug_in_is_loaded_once(tmp_path, monkeypatch):
  (tmp_path / 'counted.py').write_text(
    'import numpy as np, flowgan_tf as fg\n'
    'calls = []\n'
    'def four():\n'
    '  calls.append(1)\n'
    '  split = fg.data.Split(np.zeros((4, 28, 28, 1), np.uint8), np.arange(4))\n'
    '  return fg.data.Dataset("four", 256, split, split, split, 4)\n'
  )
  monkeypatch.syspath_prepend(tmp_path)
  assert choose('counted:four') == ('images.py', {'flip': False}, '4 images of 28 x 28 x 1')
  assert count_classes('counted:four') == 4 and len(importlib.import_module('counted').calls) == 1


def test_a_new_size(tmp_path):
  assert choose(str(photos(tmp_path / 'photos', (100, 70, 3))), 64) == ('images.py', {}, '3 images of 64 x 64 x 3')


def test_sizes_that_differ_are_rejected_before_anything_is_loaded(tmp_path):
  folder, turned = photos(tmp_path / 'photos', (20, 30, 3)), Image.Exif()
  turned[ExifTags.Base.Orientation] = 6
  Image.fromarray(np.zeros((30, 20, 3), np.uint8)).save(folder / 'cats' / '9.jpg', exif=turned)
  assert choose(str(folder))[2] == '4 images of 20 x 30 x 3'
  photos(folder / 'more', (20, 31, 3))
  expected = r'got \[20, 30, 3\] and \[20, 31, 3\]; to crop and resize all of them, set --config\.image_size, for exam'
  outcome = call('train', f'--dataset={folder}')
  assert outcome.status == 2 and re.search(expected, outcome.err), outcome
  assert choose(str(folder), 16)[2] == '7 images of 16 x 16 x 3'


@pytest.mark.parametrize('kind', ['folders', 'npz', 'npy'])
def test_components_are_rounded_up_to_a_multiple_of_the_classes(tmp_path, kind):
  path, labels = tmp_path / 'photos', np.arange(9) % 3
  if kind == 'folders':
    for name in ('a', 'b', 'c'):
      photos(path / name, (8, 8))
      (path / name / 'cats').rename(path / f'{name}_')
      (path / name).rmdir()
  elif kind == 'npz':
    path = tmp_path / 'photos.npz'
    np.savez(path, x_train=np.zeros((9, 8, 8), np.uint8), y_train=labels)
  else:
    path.mkdir()
    np.save(path / 'train.npy', np.zeros((9, 8, 8, 1), np.uint8))
    np.save(path / 'train_labels.npy', labels)
  assert parsed_config([f'--dataset={path}']).nice.components == 20
  assert parsed_config([f'--dataset={path}', '--condition=label']).nice.components == 21
  assert parsed_config([f'--dataset={path}', '--condition=label', '--config.nice.components=6']).nice.components == 6


def test_names_and_what_cannot_be_read(tmp_path):
  assert [choose(name)[0] for name in ('digits', 'mnist', 'fashion_mnist')] == [
    'digits.py',
    'mnist.py',
    'fashion_mnist.py',
  ]
  (tmp_path / 'a.npz').write_bytes(b'PK')
  np.savez(tmp_path / 'b.npz', other=np.zeros(3))
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'array').mkdir()
  (tmp_path / 'array' / 'train.npy').touch()
  (tmp_path / 'pipes').mkdir()
  for name in ('pipe.npz', 'pipes/train.npy', 'pipes/train_labels.npy', 'empty/a.png'):
    os.mkfifo(tmp_path / name)  # Opening one would wait for ever.
  assert count_classes(str(tmp_path / 'pipe.npz')) == count_classes(str(tmp_path / 'pipes')) == 0
  for path in (tmp_path / 'pipe.npz', tmp_path / 'pipes'):
    assert choose(str(path)) == ('images.py', {'flip': False}, '')
  for path in ('kmnist', 'missing.npz', *(tmp_path / name for name in ('a.npz', 'b.npz', 'empty', 'array'))):
    assert choose(str(path)) == ('images.py', {'flip': False}, '')


def test_names_of_tfds_are_not_looked_for(tmp_path, monkeypatch):
  photos(tmp_path / 'cifar10', (50, 50))
  monkeypatch.chdir(tmp_path)
  assert choose('cifar10') == ('images.py', {}, 'cifar10')
  assert choose('svhn_cropped') == ('images.py', {'flip': False}, 'svhn_cropped')


def test_flags_change_the_suitable_configuration(tmp_path):
  """The default is that of the digits."""
  assert parsed_config(['--dataset=mnist', '--steps=7']).to_json() == mnist_with(steps=7).to_json()
  assert parsed_config([]).to_json() == digits.get_config().to_json()
  np.savez(tmp_path / 'table.npz', x_train=np.zeros((4, 3)))
  assert parsed_config([f'--dataset={tmp_path}/table.npz']).generator == table.get_config().generator
  found = settings(parsed_config([f'--dataset={photos(tmp_path / "photos", (30, 30, 3))}']))
  assert found['jet.patch_size'] == 2 and found['jet.couplings'] == images.get_config().jet.couplings and found['flip']


def mnist_with(**changes):
  config = mnist.get_config()
  config.update(changes)
  return config

"""The configuration that suits the data, when no --config is given."""

import numpy as np
import pytest
from PIL import Image

from flowgan_tf.configs import digits, images, mnist, table
from flowgan_tf.programs.recipes import choose
from flowgan_tf.runs.config import settings
from tests.programs.conftest import parsed_config


def photos(folder, shape, count=3, name='a.jpg'):
  (folder / 'cats').mkdir(parents=True)
  for i in range(count):
    Image.fromarray(np.full(shape, i, np.uint8)).save(folder / 'cats' / f'{i}{name}')
  return folder


@pytest.mark.parametrize(
  ('make', 'file', 'needed', 'seen'),
  [
    (lambda path: photos(path, (32, 48, 3)), 'images.py', {}, '3 images of 32 x 48 x 3'),
    (lambda path: photos(path, (28, 28)), 'images.py:grey', {}, '3 images of 28 x 28 x 1'),
    (lambda path: photos(path, (30, 32, 3)), 'images.py', {'jet.patch_size': 2}, '3 images of 30 x 32 x 3'),
    (lambda path: photos(path, (25, 25, 3)), 'images.py', {'jet.patch_size': 1}, '3 images of 25 x 25 x 3'),
    (lambda path: photos(path, (8, 8)), 'digits.py', {}, '3 images of 8 x 8 x 1'),
  ],
)
def test_folders(tmp_path, make, file, needed, seen):
  assert choose(str(make(tmp_path / 'photos')), 0) == (file, needed, seen)


@pytest.mark.parametrize(
  ('name', 'array', 'file', 'seen'),
  [
    ('images', np.zeros((5, 28, 28), np.uint8), 'images.py:grey', '5 images of 28 x 28 x 1'),
    ('x_train', np.zeros((7, 16, 16, 3), np.uint8), 'images.py', '7 images of 16 x 16 x 3'),
    ('x_train', np.zeros((1234, 6), np.float32), 'table.py', '1,234 rows of 6 numbers'),
  ],
)
def test_arrays(tmp_path, name, array, file, seen):
  for save in (np.savez, np.savez_compressed):
    save(tmp_path / 'data.npz', **{name: array})
    assert choose(str(tmp_path / 'data.npz')) == (file, {}, seen)


def test_a_folder_of_arrays_and_a_new_size(tmp_path):
  np.save(tmp_path / 'train.npy', np.zeros((9, 100, 100, 3), np.uint8))
  assert choose(str(tmp_path)) == ('images.py', {}, '9 images of 100 x 100 x 3')
  assert choose(str(photos(tmp_path / 'photos', (100, 70, 3))), 64) == ('images.py', {}, '3 images of 64 x 64 x 3')


def test_names_and_what_cannot_be_read(tmp_path):
  assert [choose(name)[0] for name in ('digits', 'mnist', 'fashion_mnist')] == [
    'digits.py',
    'mnist.py',
    'fashion_mnist.py',
  ]
  (tmp_path / 'a.npz').write_bytes(b'PK')
  np.savez(tmp_path / 'b.npz', other=np.zeros(3))
  (tmp_path / 'empty').mkdir()
  for path in ('celeb_a', 'missing.npz', tmp_path / 'a.npz', tmp_path / 'b.npz', tmp_path / 'empty'):
    assert choose(str(path)) == ('images.py', {}, '')


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

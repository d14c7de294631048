import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf import data
from flowgan_tf.evaluation import pictures
from flowgan_tf.evaluation.pictures import image_grid, neighbor_grid
from flowgan_tf.runs.run import load_run
from tests.programs.conftest import assert_one_line, call
from tests.tiny import edit_record


@pytest.fixture
def sample(finished, tmp_path):
  """Calls the program with flags; returns the arrays and the picture."""

  def run(*flags):
    out = tmp_path / 'new' / 'picture'
    outcome = call('sample', finished[0], f'--out={out}', *flags)
    assert outcome.status == 0, outcome
    assert outcome.out == f'{out}.png\n{out}.npz\n'
    with np.load(f'{out}.npz') as arrays:
      return arrays['images'], arrays['noise'], tf.io.decode_png((out.parent / 'picture.png').read_bytes()).numpy()

  return run


def test_samples(sample, finished):
  images, noise, picture = sample('--n=7')
  assert images.shape == noise.shape == (7, 8, 8, 1)
  assert images.dtype == np.float32 and images.min() >= 0 and images.max() <= 1
  assert len(np.unique(images.reshape(7, -1), axis=0)) == 7
  np.testing.assert_array_equal(picture, image_grid(images))
  flow = load_run(finished[0], 'best_nll').generator
  np.testing.assert_allclose(images, flow.decode(noise), atol=1e-6)
  np.testing.assert_allclose(noise, flow.encode(images), atol=1e-2)


def test_samples_follow_seed_and_checkpoint(sample, finished):
  images = sample('--n=5', '--seed=3')[0]
  np.testing.assert_array_equal(sample('--n=5', '--seed=3')[0], images)
  assert np.all(sample('--n=5', '--seed=4')[0] != images)
  other, noise, _ = sample('--n=5', '--seed=3', '--checkpoint=latest')
  np.testing.assert_allclose(other, load_run(finished[0], 'latest').generator.decode(noise), atol=1e-6)
  # The SavedModel draws the same.
  model = tf.saved_model.load(str(finished[0] / 'export'))
  np.testing.assert_allclose(model.sample(n=5, seed=3, temperature=1.0), images, atol=1e-5)


def test_temperature(sample, finished):
  """It scales the noise around the means of the prior."""
  _, noise, _ = sample('--n=4')
  _, cold, _ = sample('--n=4', '--temperature=0.5')
  _, means, _ = sample('--n=4', '--temperature=0')
  np.testing.assert_allclose(cold - means, 0.5 * (noise - means), atol=1e-5)
  prior = load_run(finished[0]).generator.distribution
  assert all(any(np.array_equal(mean, m) for m in prior.means.numpy()) for mean in means)


def test_interpolation(sample):
  """Each row leads from one sample to another."""
  ends = sample('--n=6', '--seed=2')[1]
  images, noise, picture = sample('--n=3', '--seed=2', '--interpolate')
  assert images.shape == (30, 8, 8, 1)
  rows = noise.reshape(3, 10, 8, 8, 1)
  np.testing.assert_allclose(rows[:, 0], ends[:3], atol=1e-5)
  np.testing.assert_allclose(rows[:, -1], ends[3:], atol=1e-5)
  # Weights cos and sin keep the variance of the noise around the means on the way.
  means = sample('--n=6', '--seed=2', '--temperature=0')[1]
  around = ends - means
  half = (np.cos(np.pi / 18 * 4) * around[:3]) + (np.sin(np.pi / 18 * 4) * around[3:])
  np.testing.assert_allclose(rows[:, 4], (5 * means[:3] + 4 * means[3:]) / 9 + half, atol=1e-5)
  np.testing.assert_array_equal(picture, image_grid(images, columns=10))


def test_neighbors(finished, tmp_path):
  """The first column is the sample; then come the training images nearest to it, and their distances."""
  out = tmp_path / 'picture'
  outcome = call('sample', finished[0], f'--out={out}', '--neighbors', '--n=6')
  assert outcome.status == 0 and outcome.out.splitlines()[:2] == [f'{out}.png', f'{out}.npz'], outcome
  with np.load(f'{out}.npz') as arrays:
    images, indices, distances = (arrays[name] for name in ('images', 'neighbor_indices', 'neighbor_distances'))
  training = (data.load('digits').train.images + 0.5) / 17
  everything = np.sqrt(np.mean((images[:, np.newaxis] - training) ** 2, axis=(2, 3, 4)))
  np.testing.assert_allclose(distances, np.sort(everything, axis=1)[:, :5], rtol=1e-4)
  np.testing.assert_allclose(np.take_along_axis(everything, indices, axis=1), distances, rtol=1e-4)
  picture = tf.io.decode_png((tmp_path / 'picture.png').read_bytes()).numpy()
  np.testing.assert_array_equal(picture, neighbor_grid(images, training[indices]))
  note = outcome.out.splitlines()[2]
  assert f'{np.median(distances[:, 0]):.4f} for samples' in note and '180 test images' in note


@pytest.fixture
def copy(finished, tmp_path):
  return shutil.copytree(finished[0], tmp_path / 'run')


def test_neighbors_in_other_data_are_refused(copy, monkeypatch):
  monkeypatch.setattr('flowgan_tf.runs.run.run_identity', lambda *_: {})  # The checkpoint is refused otherwise.
  edit_record(copy / 'config.json', lambda description: description['data'].update(fingerprint='0' * 64))
  assert_one_line(call('sample', copy, '--neighbors', '--n=2'), 'sample', str(copy), 'other data')


def test_samples_that_are_not_finite_have_no_neighbors(finished, monkeypatch):
  def with_nan(run, n, seed, temperature):
    images = np.full((n, 8, 8, 1), 0.5)
    images[:3, 0] = np.nan
    return pictures.Picture(None, {'images': images, 'noise': images})

  monkeypatch.setattr(pictures, 'samples', with_nan)
  outcome = call('sample', finished[0], '--neighbors', '--n=8')
  assert_one_line(outcome, 'sample', str(finished[0]), '3 of 8 samples are not finite')


def test_fewer_training_images_than_neighbors(finished, monkeypatch):
  dataset = data.load('digits')
  small = dataclasses.replace(dataset, train=data.Split(dataset.train.images[:3], None))
  monkeypatch.setattr(pictures, 'load_data', lambda run: small)
  arrays = pictures.neighbors(load_run(finished[0]), 4, seed=0).arrays
  assert arrays['neighbor_indices'].shape == (4, 3)


def test_one_kind_of_picture_at_a_time(finished):
  assert_one_line(
    call('sample', finished[0], '--neighbors', '--interpolate'), 'sample', 'interpolate', 'left out', 'neighbors'
  )


def test_default_path(finished):
  workdir, _ = finished
  step = load_run(workdir, 'best_nll').step
  outcome = call('sample', workdir, '--n=2', '--seed=5', '--temperature=0.7')
  stem = f'{workdir}/samples/samples_best_nll_{step}_seed5_t0.7'
  assert outcome.out == f'{stem}.png\n{stem}.npz\n'


@pytest.mark.parametrize(
  'flags',
  [
    ['--n=0'],
    ['--n=many'],
    ['--seed=-1'],
    ['--seed=4294967296'],
    ['--temperature=-1'],
    ['--temperature=nan'],
    ['--temperature=inf'],
    ['--temperature=hot'],
    ['--temperature=1e39'],
    ['--n=1000000000000'],
  ],
)
def test_bad_values(finished, tmp_path, flags):
  name, _, value = flags[0].strip('-').partition('=')
  value = value.replace('1e39', '1e+39')
  assert_one_line(call('sample', finished[0], f'--out={tmp_path}/x', *flags), 'sample', name, value)
  assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_written(finished, tmp_path):
  (tmp_path / 'file').touch()
  outcome = call('sample', finished[0], f'--out={tmp_path}/file/x', '--n=2')
  assert_one_line(outcome, 'sample', f'sample: {tmp_path}/file/x: cannot be written')


@pytest.mark.parametrize('out', ['.', '', 'folder', 'folder/', 'new/', 'x' * 5000, 'a\0b'])
def test_a_path_that_is_no_file(finished, tmp_path, monkeypatch, out):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'folder').mkdir()
  assert_one_line(call('sample', finished[0], f'--out={out}', '--n=2'), 'sample', '--out', 'must be ')
  assert [path.name for path in tmp_path.iterdir()] == ['folder']


def test_more_samples_than_memory_holds(finished, tmp_path, monkeypatch):
  monkeypatch.setattr('os.sysconf', lambda name: 20_000)
  outcome = call('sample', finished[0], f'--out={tmp_path}/x', '--n=1000000')
  assert_one_line(outcome, 'sample', 'samples and their noise must fit into the 0.4 GB of memory. Got: ')

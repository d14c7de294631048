"""`sample` and `export`: pictures and a SavedModel of a run."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from flowgan_tf import data
from flowgan_tf.display.grids import image_grid, neighbor_grid
from flowgan_tf.runs.run import load_run
from tests.programs.conftest import FAST, UNSCORED, assert_one_line, call
from tests.tiny import write_images


@pytest.fixture
def sample(finished, tmp_path):
  """Calls the program with flags; returns the arrays and the picture."""

  def run(*flags):
    out = tmp_path / 'new' / 'picture'
    outcome = call('sample', finished[0], f'--out={out}', *flags)
    assert outcome.status == 0, outcome
    assert outcome.out.startswith(f'{out}.png\n{out}.npz\n')
    with np.load(f'{out}.npz') as arrays:
      return arrays['images'], arrays['noise'], tf.io.decode_png((out.parent / 'picture.png').read_bytes()).numpy()

  return run


def test_samples_follow_seed_checkpoint_and_temperature(sample, finished):
  images, noise, picture = sample('--n=5', '--seed=3')
  assert images.shape == noise.shape == (5, 8, 8, 1) and images.dtype == np.float32
  np.testing.assert_array_equal(picture, image_grid(images))
  np.testing.assert_allclose(images, load_run(finished[0], 'best_nll').generator.decode(noise), atol=1e-6)
  np.testing.assert_array_equal(sample('--n=5', '--seed=3')[0], images)
  assert np.all(sample('--n=5', '--seed=4')[0] != images)
  other, other_noise, _ = sample('--n=5', '--seed=3', '--checkpoint=latest')
  np.testing.assert_allclose(other, load_run(finished[0], 'latest').generator.decode(other_noise), atol=1e-6)
  # The SavedModel draws the same.
  model = tf.saved_model.load(str(finished[0] / 'export'))
  np.testing.assert_allclose(model.sample(n=5, seed=3, temperature=1.0), images, atol=1e-5)
  # The temperature scales the noise around the means of the prior.
  cold, means = (sample('--n=5', '--seed=3', f'--temperature={t}')[1] for t in (0.5, 0))
  np.testing.assert_allclose(cold - means, 0.5 * (noise - means), atol=1e-5)


def test_interpolation(sample):
  ends = sample('--n=6', '--seed=2')[1]
  images, noise, picture = sample('--n=3', '--seed=2', '--interpolate')
  assert images.shape == (30, 8, 8, 1)
  np.testing.assert_allclose(noise[::10], ends[:3], atol=1e-5)
  np.testing.assert_allclose(noise[9::10], ends[3:], atol=1e-5)
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


def arrays_of(outcome):
  """The arrays that the program wrote."""
  assert outcome.status == 0, outcome
  with np.load(outcome.out.splitlines()[1]) as arrays:
    return dict(arrays)


@pytest.mark.slow
def test_a_run_with_labels(tmp_path):
  images, workdir = write_images(tmp_path / 'sides.npz', shape=(8, 8, 1), labels=True), tmp_path / 'run'
  np.savez(images, **np.load(images), class_names=['above', 'below'])
  flags = (*UNSCORED, '--condition=label', '--config.eval_every=2', '--config.score_samples=0', '--evaluate=false')
  outcome = call('train', *flags, f'--dataset={images}', f'--workdir={workdir}')
  assert 'sides: the generator is given the label of each image, one of 2 classes; p(y) ' in outcome.err, outcome
  assert (workdir / 'export').exists() and not (workdir / 'evaluation.json').exists()
  grid = tf.io.decode_png((workdir / 'samples' / 'step_0000002.png').read_bytes())
  assert grid.shape == (2 * 66 + 2, 8 * 66 + 2, 1)
  flow = load_run(workdir).generator
  assert flow.class_names == ('above', 'below')
  arrays = arrays_of(call('sample', workdir))
  np.testing.assert_array_equal(arrays['labels'], np.repeat([0, 1], 8))
  np.testing.assert_allclose(arrays['images'], flow.decode(arrays['noise'], condition=arrays['labels']), atol=1e-6)
  outcome = call('sample', workdir, '--label=below', '--n=3', '--neighbors')
  assert '_label1.png\n' in outcome.out and 'training image of class below: ' in outcome.out
  arrays = arrays_of(outcome)
  np.testing.assert_array_equal(arrays['labels'], [1, 1, 1])
  dataset = data.load(images)
  assert np.all(dataset.train.labels[arrays['neighbor_indices']] == 1)
  near = (dataset.train.images[arrays['neighbor_indices'][:, 0]] + 0.5) / 256
  distances = np.sqrt(np.mean((np.clip(arrays['images'], 0, 1) - near) ** 2, axis=(1, 2, 3)))
  np.testing.assert_allclose(arrays['neighbor_distances'][:, 0], distances, rtol=1e-4)
  said = '--label must be one of above, below, or an integer from 0 to 1. Got: '
  assert_one_line(call('sample', workdir, '--label=2'), 'sample', f'{said}2.')
  assert_one_line(call('sample', workdir, '--label=belwo'), 'sample', f'{said}belwo; did you mean below?')
  outcome = call('sample', workdir, '--condition=0.5,1')
  assert_one_line(outcome, 'sample', '--condition must be left out, as', 'not conditioned on vectors')


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['low_resolution:2', 'mask:half', 'vector'])
def test_a_run_with_other_conditions(tmp_path, kind):
  path, workdir = write_images(tmp_path / 'sides.npz', shape=(8, 8, 1)), tmp_path / 'run'
  if kind == 'vector':
    images = np.load(path)['images']
    np.savez(path, images=images, conditions=images.mean(axis=(2, 3)) / 255)
  outcome = call('train', *FAST, f'--condition={kind}', f'--dataset={path}', f'--workdir={workdir}')
  assert outcome.status == 0, outcome
  dataset, flow = data.load(path), load_run(workdir).generator
  given = data.make_condition(kind, dataset).of_split(dataset.test)
  for flags, columns in (([], 8), (['--interpolate'], 10), (['--neighbors'], 1)):
    outcome = call('sample', workdir, *flags)
    arrays = arrays_of(outcome)
    np.testing.assert_array_equal(arrays['test_indices'], np.repeat(np.arange(4), columns))
    np.testing.assert_array_equal(arrays['conditions'], np.repeat(given, columns, axis=0))
    images = flow.decode(arrays['noise'], condition=arrays['conditions'])
    np.testing.assert_allclose(arrays['images'], images, atol=1e-6)
  if kind == 'vector':
    arrays = arrays_of(call('sample', workdir, '--condition=1,2,3,4,5,6,7,8', '--n=2'))
    np.testing.assert_array_equal(arrays['conditions'], [range(1, 9)] * 2)
    outcome = call('sample', workdir, '--condition=1,2')
    assert_one_line(outcome, 'sample', '--condition must be 8 finite numbers, as')
  else:
    file = tmp_path / 'my, own.png'  # the last test image, or its small image, whose 8 bits round its means
    shown = dataset.test.images[-1] if kind == 'mask:half' else np.rint(given[-1] * 256 - 0.5).astype(np.uint8)
    Image.fromarray(shown[..., 0]).save(file)
    outcome = call('sample', workdir, f'--condition={file}', '--n=2')
    assert '_conditionmy, own.png\n' in outcome.out
    expected = np.repeat(given[-1:], 2, axis=0)
    np.testing.assert_allclose(
      arrays_of(outcome)['conditions'], expected, atol=0.5 / 256 * (kind != 'mask:half') + 1e-6
    )
  assert_one_line(call('sample', workdir, '--label=0'), 'sample', '--label must be left out, as', 'has no labels')
  assert_one_line(call('sample', workdir, '--condition=x'), 'sample', '--condition must be numbers')


def test_the_default_path_and_mistakes(finished, tmp_path, monkeypatch):
  workdir, _ = finished
  stem = f'{workdir}/samples/samples_best_nll_{load_run(workdir, "best_nll").step}_seed5_t0.7'
  assert call('sample', workdir, '--n=2', '--seed=5', '--temperature=0.7').out == f'{stem}.png\n{stem}.npz\n'
  for suffix in ('', '.png', '.npz'):
    assert (
      call('sample', workdir, '--n=1', f'--out={tmp_path}/t{suffix}').out == f'{tmp_path}/t.png\n{tmp_path}/t.npz\n'
    )
    for name in ('t.png', 't.npz'):
      (tmp_path / name).unlink()
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'folder').mkdir()
  (tmp_path / 'file').touch()
  for flags, said in (
    (['--temperature=nan'], '--temperature must be a number from 0 to 1e+06. Got: nan.'),
    (['--neighbors', '--interpolate'], '--interpolate must be left out with --neighbors.'),
    (['--out=file/x'], 'file/x.npz: cannot be written'),
    *(([f'--out={out}'], '--out') for out in ('', 'folder', 'new/')),
  ):
    assert_one_line(call('sample', workdir, '--out=x', *flags), 'sample', said)
  monkeypatch.setattr('os.sysconf', lambda name: 20_000)
  outcome = call('sample', workdir, '--out=x', '--n=1000000')
  assert_one_line(outcome, 'sample', 'samples and their noise must fit into the 0.4 GB of memory. Got: ')
  assert sorted(path.name for path in tmp_path.iterdir()) == ['file', 'folder']


def test_export(finished, tmp_path):
  workdir, out = finished[0], tmp_path / 'a' / 'model'
  outcome = call('export', workdir, '--checkpoint=latest', f'--out={out}')
  assert (outcome.status, outcome.out) == (0, f'{out}  (checkpoint latest, step 20)\n')
  images = np.random.default_rng(0).uniform(0.1, 0.9, (3, 8, 8, 1)).astype(np.float32)
  model = tf.saved_model.load(str(out))
  np.testing.assert_allclose(model.log_prob(images), load_run(workdir, 'latest').generator.log_prob(images), atol=1e-3)


def test_export_of_the_weights(finished, tmp_path):
  workdir, out = finished[0], tmp_path / 'a' / 'weights.npz'
  outcome = call('export', workdir, '--checkpoint=latest', '--format=npz', f'--out={out}')
  assert (outcome.status, outcome.out) == (0, f'{out}  (checkpoint latest, step 20)\n')
  # The run and this flow are made in one process, in which Keras goes on counting layers.
  flow, exported = load_run(workdir, 'latest').generator, dict(np.load(out))
  for i in (0, 1):
    [coupling] = (part for part in flow.submodules if part.name == f'coupling_{i}')
    names = [f'coupling_{i}/sequential_0/dense_{j}/{weight}' for j in (0, 1) for weight in ('kernel', 'bias')]
    for name, weight in zip(names, coupling.conditioner.layer.get_weights(), strict=True):
      np.testing.assert_array_equal(exported.pop(name), weight)
  assert exported.keys() == {'diagonal_scaling_0/log_scale', 'prior_means', 'prior_prototypes'}

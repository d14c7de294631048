"""Trainings that start from their data, or from the weights of another run."""

import shutil
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.base.errors import UsageError
from flowgan_tf.data import dequantize, load, training_batches
from flowgan_tf.objectives.objective import make_objective
from flowgan_tf.runs.checkpoints import Checkpoints
from flowgan_tf.runs.config import run_identity
from flowgan_tf.runs.folder import latest_step, open_workdir, read_description
from flowgan_tf.runs.log import read_metrics
from flowgan_tf.runs.run import load_data, load_run
from flowgan_tf.training import loop
from flowgan_tf.training.initialization import TrainingImages, initialize_from_data, initialize_from_run
from flowgan_tf.training.loop import train
from flowgan_tf.training.state import TrainState
from tests.tiny import edit_record, write_images


@pytest.mark.parametrize('checkpoint', ['best_nll', pytest.param('latest', marks=pytest.mark.slow)])
def test_a_training_starts_from_the_weights_of_another_run(stubbed, config, tmp_path, checkpoint):
  """The first step is the best for the stub, whose weights rise."""
  first, second = tmp_path / 'first', tmp_path / 'second'
  config.steps = 3
  train(config, first)
  config.update_from_flattened_dict({'objective': 'hybrid', 'init_from': str(first), 'steps': 2, 'seed': 5})
  config.init_checkpoint = None if checkpoint == 'best_nll' else checkpoint
  train(config, second)
  source, start = load_run(first, checkpoint), read_metrics(second)[0]
  assert (start['step'], source.step) == (0, {'best_nll': 1, 'latest': 3}[checkpoint])
  [nll] = [r['nll'] for r in read_metrics(first) if (r['kind'], r['step']) == ('validation', source.step)]
  assert start['nll'] == pytest.approx(nll, rel=1e-6)
  origin = read_description(second).init
  assert (origin['run'], origin['checkpoint'], origin['step']) == (str(first), checkpoint, source.step)
  assert origin['data'] == source.fingerprint and origin['config']['objective'] == 'mle'
  # From here on the run is on its own.
  shutil.rmtree(first)
  assert train(config, second)
  assert latest_step(second) == 2


@pytest.mark.parametrize('checkpoint', ['best_nll', 'latest'])
def test_a_training_starts_from_the_checkpoint_and_the_critic_that_it_names(config, tmp_path, checkpoint):
  """The weights of each checkpoint are the number of its step; only the latest one has a critic."""
  config.objective = 'hybrid'
  dataset, objective = load(config.dataset), make_objective(config)
  first, second = (TrainState(config, dataset.image_shape, objective) for _ in range(2))
  workdir = open_workdir(tmp_path / 'first', config, dataset)
  checkpoints = Checkpoints(workdir, first.checkpoint(), run_identity(config, dataset.fingerprint))
  for step, name in ((1, 'best_nll'), (2, 'latest')):
    for variable in (*first.ema.trainable_variables, *first.critic.trainable_variables, first.step):
      variable.assign(tf.fill(variable.shape, tf.cast(step, variable.dtype)))
    checkpoints.save(name)
  config.update({'init_from': str(workdir), 'init_checkpoint': checkpoint, 'init_critic': checkpoint == 'latest'})
  before = second.critic.trainable_variables[0].numpy()
  origin = initialize_from_run(config, dataset, second)
  step = {'best_nll': 1, 'latest': 2}[checkpoint]
  assert (origin['checkpoint'], origin['step']) == (checkpoint, step)
  for variable in (*second.generator.trainable_variables, *second.ema.trainable_variables):
    np.testing.assert_array_equal(variable, np.full(variable.shape, step))
  expected = np.full(before.shape, 2) if checkpoint == 'latest' else before
  np.testing.assert_array_equal(second.critic.trainable_variables[0], expected)


def test_a_generator_of_another_run_keeps_what_it_has_learned(config):
  """A new one places its prior in clusters and counts its histograms."""
  config.update_from_flattened_dict({'nice.components': 3, 'nice.histogram_bins': 4})
  dataset = load(config.dataset)
  for init_from in ('', 'runs/other'):
    config.init_from = init_from
    state = TrainState(config, dataset.image_shape, make_objective(config))
    before = [variable.numpy() for variable in state.generator.variables]
    initialize_from_data(state, TrainingImages(config, dataset, dataset.train))
    for part in (state.generator, state.ema):
      kept = [np.array_equal(a, b) for a, b in zip(before, part.variables, strict=True)]
      assert all(kept) if init_from else kept.count(False) == 3


def test_clusters_and_the_images_for_them_follow_the_seed(config, monkeypatch):
  config.nice.components = 2
  dataset, found = load(config.dataset), []
  monkeypatch.setattr('flowgan_tf.flows.flow._CLUSTERED', 10)
  monkeypatch.setattr('flowgan_tf.flows.clusters.initialize_prior', lambda *arguments: found.append(arguments[1:3]))
  for config.seed in (3, 4):
    state = TrainState(config, dataset.image_shape, make_objective(config))
    initialize_from_data(state, TrainingImages(config, dataset, dataset.train))
  levels, seeds = zip(*((np.floor(256 * images), seed) for images, seed in found), strict=True)
  assert seeds == (3, 4) and levels[0].shape == (10, 4, 4, 1) and not np.array_equal(*levels)


@pytest.mark.slow
def test_a_hybrid_goes_on_with_the_critic_of_another_one(stubbed, config, tmp_path):
  config.update({'objective': 'hybrid', 'steps': 1})
  train(config, tmp_path / 'first')
  config.update({'init_from': str(tmp_path / 'first'), 'init_checkpoint': 'latest', 'seed': 5})
  dataset, objective = load(config.dataset), make_objective(config)
  first, second = (TrainState(config, dataset.image_shape, objective) for _ in range(2))
  Checkpoints(tmp_path / 'first', first.checkpoint()).restore()
  for with_critic in (False, True):
    config.init_critic = with_critic
    initialize_from_run(config, dataset, second)
    kernels = (state.critic.trainable_variables[0].numpy() for state in (first, second))
    assert np.array_equal(*kernels) == with_critic
  config.dcgan_critic.dense_units = 5
  with pytest.raises(UsageError, match=r'same critic for `init_critic`\..*first, whose dcgan_critic.dense_units is 0 '):
    initialize_from_run(config, dataset, second)
  config.dcgan_critic.dense_units = 0
  edit_record(tmp_path / 'first' / 'config.json', lambda record: record['config'].update(critic_sees='logits'))
  with pytest.raises(UsageError, match="was trained with critic_sees 'logits'"):
    initialize_from_run(config, dataset, second)
  config.update({'objective': 'mle', 'init_from': '', 'init_critic': False, 'init_checkpoint': None})
  train(config, tmp_path / 'likely')
  config.update({'objective': 'hybrid', 'init_from': str(tmp_path / 'likely'), 'init_checkpoint': 'latest'})
  config.init_critic = True
  with pytest.raises(
    UsageError, match=r'^`init_critic` must be False to start from .* without a critic\. Got: .*likely'
  ):
    initialize_from_run(config, dataset, second)


def test_a_start_from_unsuitable_images_or_another_kind_of_run_is_rejected(stubbed, config, tmp_path):
  config.update_from_flattened_dict({'nice.components': 900, 'steps': 1})
  with pytest.raises(UsageError, match=r'^`nice.components` 900 does not fit: `images` must be at least 900 different'):
    train(config, tmp_path / 'few')
  config.nice.components = 5
  train(config, tmp_path / 'first')
  first = str(tmp_path / 'first')
  for settings, said in (
    ({'init_from': str(tmp_path / 'none')}, r'none: no such folder'),
    ({'init_from': first, 'pseudo_labels': True}, r'`init_from` must be a run with `pseudo_labels`, .*Got: .*first'),
    (
      {'condition': 'low_resolution:2', 'pseudo_labels': False},
      r"the same generator\. .*whose condition is '' instead of 'low_resolution:2'",
    ),
    (
      {'condition': '', 'nice.hidden_units': 9},
      r'must be a run with the same generator\. .*whose nice.hidden_units is 8 instead of 9',
    ),
  ):
    config.update_from_flattened_dict(settings)
    with pytest.raises(UsageError, match=said):
      train(config, tmp_path / 'second')
  assert not (tmp_path / 'second').exists()


@pytest.mark.slow
def test_the_weights_of_classes_are_of_the_own_data(stubbed, config, tmp_path):
  config.dataset, config.condition = write_images(tmp_path / 'first.npz', labels=True), 'label'
  train(config, tmp_path / 'first')
  with np.load(config.dataset) as arrays:
    np.savez(tmp_path / 'other.npz', images=arrays['images'], labels=(np.arange(40) % 4 == 0).astype(int))
  config.update({'dataset': str(tmp_path / 'other.npz'), 'init_from': str(tmp_path / 'first')})
  train(config, tmp_path / 'second')
  run = load_run(tmp_path / 'second')
  frequency = load_data(run).train.labels.mean()
  np.testing.assert_allclose(run.generator.class_probs, [1 - frequency, frequency], rtol=1e-6)


def test_a_start_that_saved_nothing_leaves_no_trace_of_where_it_started(stubbed, config, tmp_path, monkeypatch):
  """It may have another configuration when it starts again, and so another start."""
  train(config, tmp_path / 'first')
  config.init_from = str(tmp_path / 'first')
  with monkeypatch.context() as patch, pytest.raises(OSError, match='full'):
    patch.setattr(loop.Checkpoints, 'save', mock.Mock(side_effect=OSError('full')))
    train(config, tmp_path / 'second')
  assert read_description(tmp_path / 'second').init
  config.init_from = ''
  train(config, tmp_path / 'second')
  assert read_description(tmp_path / 'second').init is None


def test_the_means_of_a_prior_start_in_clusters_of_the_training_images(stubbed, config, tmp_path):
  config.update_from_flattened_dict({'nice.components': 5, 'steps': 1, 'optimizer.learning_rate': 1e-9})
  train(config, tmp_path / 'run')
  run = load_run(tmp_path / 'run')
  means = run.generator.distribution.means.numpy()
  dataset = load_data(run)
  images = dequantize(dataset.train.images, dataset.levels, 0)
  noise = run.generator.encode(images).numpy()
  nearest = np.square(noise[:, None] - means).sum(axis=(2, 3, 4)).argmin(axis=1)
  assert np.bincount(nearest, minlength=5).min() > len(images) / 50
  # A step of k-means leaves its result where it is.
  centres = np.stack([noise[nearest == k].mean(axis=0) for k in range(5)])
  assert np.sqrt(np.square(centres - means).mean()) < 0.2 * means.std()


@pytest.mark.slow
def test_pseudo_labels_stay_with_the_flow(stubbed, config, tmp_path):
  """A training with another seed that starts from a flow has the components that its first images chose."""
  config.update_from_flattened_dict({'nice.components': 5, 'pseudo_labels': True, 'steps': 2})
  train(config, tmp_path / 'first')
  config.update_from_flattened_dict({'objective': 'hybrid', 'init_from': str(tmp_path / 'first'), 'seed': 5})
  train(config, tmp_path / 'second')
  first, second = (load_run(tmp_path / name, 'latest').generator.distribution for name in ('first', 'second'))
  assert not np.array_equal(first.means, second.means)
  np.testing.assert_array_equal(first.prototypes, second.prototypes)


def test_first_values_come_from_images_as_the_training_shows_them(config):
  config.update({'flip': True, 'shift': 1, 'seed': 5})
  dataset = load(config.dataset)
  found, given = TrainingImages(config, dataset, dataset.train).trained(20)
  [expected] = training_batches(dataset.train, dataset.levels, 20, 5, flip=True, shift=1).take(1)
  np.testing.assert_array_equal(found, expected.images)
  assert given is None

"""A run of a tiny NICE, which several tests look at."""

import pathlib
import shutil

import pytest

from flowgan_tf import data
from flowgan_tf.runs.checkpoints import Checkpoints
from flowgan_tf.runs.config import run_identity
from flowgan_tf.runs.folder import open_workdir
from tests.tiny import make_config, make_state, write_images


@pytest.fixture(scope='session')
def images(tmp_path_factory):
  return write_images(tmp_path_factory.mktemp('data') / 'images.npz')


@pytest.fixture(scope='session')
def dataset(images):
  return data.load(images)


@pytest.fixture
def config(images):
  return make_config(objective='mle', dataset=images, steps=6)


@pytest.fixture(scope='session')
def saved_run(tmp_path_factory, images, dataset):
  config = make_config(objective='mle', dataset=images, steps=6)
  workdir = open_workdir(tmp_path_factory.mktemp('saved') / 'run', config, dataset)
  state = make_state(config, dataset.image_shape)
  state.ema.trainable_variables[0].assign_add(state.ema.trainable_variables[0] + 1)
  state.step.assign(6)
  Checkpoints(workdir, state.checkpoint(), run_identity(config, dataset.fingerprint)).save('latest')
  return workdir, state


@pytest.fixture
def run(saved_run, tmp_path):
  """A run with one checkpoint at step 6, whose average differs from its flow; and its state, which is not to change."""
  workdir, state = saved_run
  return pathlib.Path(shutil.copytree(workdir, tmp_path / 'run')), state

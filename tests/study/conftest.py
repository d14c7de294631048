"""A tiny run that the analyses are applied to."""

import pathlib

import pytest

from flowgan_tf.runs.run import load_run
from flowgan_tf.study import Subject
from flowgan_tf.training.loop import train
from tests.tiny import make_config, write_images


@pytest.fixture(scope='session')
def workdir(tmp_path_factory) -> pathlib.Path:
  """A run on images of 4 x 4 pixels in two classes. Nothing is scored."""
  folder = tmp_path_factory.mktemp('study')
  images = write_images(folder / 'images.npz', count=200, labels=True)
  assert train(make_config(dataset=images, objective='mle', steps=2), folder / 'run')
  return folder / 'run'


@pytest.fixture(scope='session')
def subject(workdir) -> Subject:
  return Subject(load_run(workdir, 'latest'))

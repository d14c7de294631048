"""Labelled images of 4 x 4 pixels, and a configuration of them."""

import pytest

from flowgan_tf import data
from tests.tiny import make_config, write_images


@pytest.fixture(scope='session')
def images(tmp_path_factory):
  return write_images(tmp_path_factory.mktemp('data') / 'images.npz', count=150, labels=True)


@pytest.fixture(scope='session')
def dataset(images):
  return data.load(images)


@pytest.fixture(scope='session')
def config(images):
  return make_config(objective='mle', dataset=images, seed=3, score_samples=10)

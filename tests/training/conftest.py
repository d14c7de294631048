"""Images, and the settings of a training of a tiny NICE on them."""

import pytest

from tests.tiny import make_config, write_images


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  return write_images(tmp_path_factory.mktemp('data') / 'images.npz')


@pytest.fixture
def config(images):
  return make_config({'optimizer.learning_rate': 0.01}, objective='mle', dataset=images, eval_every=1)

"""Images, the settings of a training of a tiny NICE on them, and trainings whose steps take no time."""

import signal

import pytest

from flowgan_tf.training import loop
from tests.tiny import make_config, write_images
from tests.training.trainings import StubEvaluator, StubStep


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  return write_images(tmp_path_factory.mktemp('data') / 'images.npz')


@pytest.fixture
def config(images):
  return make_config({'optimizer.learning_rate': 0.01}, objective='mle', dataset=images, eval_every=1)


@pytest.fixture
def stubbed(monkeypatch):
  """Trainings whose steps and measurements are stubs, for tests of the loop around them."""
  monkeypatch.setattr(loop, 'TrainStep', StubStep)
  monkeypatch.setattr(loop, 'Evaluator', StubEvaluator)
  monkeypatch.setattr(loop, 'explain', lambda *_: '')


@pytest.fixture
def interruptible():
  """SIGINT raises `KeyboardInterrupt`; in a background job it is ignored."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)

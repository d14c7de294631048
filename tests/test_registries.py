"""What is registered under a name trains, is evaluated and exported, without another edit."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf import flows, objectives
from flowgan_tf.bijectors import AlphaLogit
from flowgan_tf.errors import check_number
from flowgan_tf.flows import builder
from flowgan_tf.flows.flow import Flow
from flowgan_tf.flows.prior import standard_prior
from flowgan_tf.runs import config
from flowgan_tf.runs.run import load_run
from tests.programs.conftest import assert_one_line, call
from tests.tiny import write_images

tfb = tfp.bijectors


@builder
def toy(image_shape, *, spread=1.0, shifts=(0.0, 0.0), dtype='float32', name='toy'):
  """One log-scale and two shifts for all pixels, before a sigmoid."""
  check_number('spread', spread, 'a positive number', lambda v: v > 0)
  wide = tf.float64 if dtype == 'float64' else tf.float32
  log_scale = tf.Variable(tf.math.log(tf.cast(spread, wide)), name='log_scale')
  parts = [tfb.Shift(tf.Variable(tf.cast(shift, wide), name='shift')) for shift in shifts]
  scale = tfb.Scale(log_scale=log_scale)
  to_image = tfb.Chain([tfb.Invert(AlphaLogit()), scale, *parts], name=f'{name}_generator')
  return Flow(standard_prior('logistic', image_shape, wide), to_image, name)


def squared(outputs):
  return tf.reduce_mean(tf.square(tf.cast(outputs, tf.float32)))


TOY_DIVERGENCE = objectives.Divergence(
  name='toy_divergence',
  critic_loss=lambda real, fake: squared(real - 1.0) + squared(fake),
  generator_loss=lambda real, fake: squared(fake - 1.0),
  value=lambda real, fake: 1.0 - squared(real - 1.0) - squared(fake),
)


@pytest.fixture
def registered(monkeypatch):
  monkeypatch.setitem(flows.GENERATORS, 'toy', toy)
  monkeypatch.setitem(config.GENERATOR_SETTINGS, 'toy', {'spread': 1.0, 'shifts': (0.0, 0.0)})
  monkeypatch.setitem(objectives.DIVERGENCES, 'toy_divergence', TOY_DIVERGENCE)


FLAGS = (
  '--generator=toy',
  '--objective=hybrid',
  '--batch_size=8',
  '--critic_steps=1',
  '--steps=2',
  '--nojit',
  '--config.dcgan_critic.channels=(2,)',
  '--config.dcgan_critic.dense_units=0',
  '--config.score_samples=0',
)


@pytest.mark.usefixtures('registered')
def test_a_toy_generator_and_a_toy_divergence(tmp_path):
  data, run = write_images(tmp_path / 'images.npz'), tmp_path / 'run'
  flags = (*FLAGS, '--divergence=toy_divergence', '--config.toy.spread=2.0', f'--dataset={data}', f'--workdir={run}')
  trained = call('train', *flags)
  assert trained.status == 0, trained
  assert 'toy: 3 parameters' in trained.err
  written = json.loads((run / 'config.json').read_text())['config']
  assert written['toy'] == {'spread': 2.0, 'shifts': [0.0, 0.0]}
  logged = [json.loads(line) for line in (run / 'metrics.jsonl').read_text().splitlines()]
  assert all(np.isfinite(record['nll']) for record in logged)

  evaluated = call('evaluate', run, '--checkpoint=latest', '--samples=0', '--float64')
  assert evaluated.status == 0, evaluated
  records = json.loads((run / 'evaluation.json').read_text())['records']
  [record] = [record for record in records if record['checkpoint'] == 'latest']
  assert record['nll_float64'] == pytest.approx(record['nll'], rel=1e-4)

  exported = call('export', run, '--checkpoint=latest', f'--out={tmp_path}/model')
  assert exported.status == 0, exported
  images = np.random.default_rng(0).uniform(0.1, 0.9, (3, 4, 4, 1)).astype(np.float32)
  flow = load_run(run, 'latest').generator
  model = tf.saved_model.load(f'{tmp_path}/model')
  np.testing.assert_allclose(model.log_prob(images), flow.log_prob(images), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures('registered')
def test_what_they_check_is_named_as_their_settings(tmp_path):
  flags = (*FLAGS, f'--dataset={write_images(tmp_path / "images.npz")}', f'--workdir={tmp_path}/run')
  assert_one_line(call('train', *flags, '--config.toy.spread=-1.0'), 'train', 'toy.spread', '-1.0', 'a positive number')

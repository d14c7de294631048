"""What is registered under a name trains, is evaluated and exported, without another edit."""

import shlex

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf import flows, objectives
from flowgan_tf.bijectors import AlphaLogit
from flowgan_tf.errors import check_number
from flowgan_tf.evaluation.evaluate import read_evaluation
from flowgan_tf.flows import builder
from flowgan_tf.flows.flow import Flow
from flowgan_tf.flows.prior import standard_prior
from flowgan_tf.runs import config
from flowgan_tf.runs.log import read_metrics
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


FLAGS = shlex.split("""--config=configs/digits.py --generator=toy --objective=hybrid --divergence=toy_divergence
  --batch_size=8 --critic_steps=1 --steps=2 --nojit --config.score_samples=0 --config.dcgan_critic.channels=(2,)
  --config.dcgan_critic.dense_units=0""")


@pytest.mark.slow
def test_a_toy_generator_and_a_toy_divergence(tmp_path, monkeypatch):
  monkeypatch.setitem(flows.GENERATORS, 'toy', toy)
  monkeypatch.setitem(config.GENERATOR_SETTINGS, 'toy', {'spread': 1.0, 'shifts': (0.0, 0.0)})
  monkeypatch.setitem(objectives.DIVERGENCES, 'toy_divergence', TOY_DIVERGENCE)
  run = tmp_path / 'run'
  flags = (*FLAGS, f'--dataset={write_images(tmp_path / "images.npz")}', f'--workdir={run}')
  refused = call('train', *flags, '--config.toy.spread=-1.0')
  assert_one_line(refused, 'train', '--config.toy.spread must be a positive number. Got: -1.0.')
  trained = call('train', *flags, '--config.toy.spread=2.0')
  assert trained.status == 0 and 'toy: 3 parameters' in trained.err, trained
  assert load_run(run).config.toy.to_dict() == {'spread': 2.0, 'shifts': (0.0, 0.0)}
  assert all(np.isfinite(record['nll']) for record in read_metrics(run))
  evaluated = call('evaluate', run, '--checkpoint=latest', '--samples=0', '--float64')
  assert evaluated.status == 0, evaluated
  [record] = [record for record in read_evaluation(run) if record['checkpoint'] == 'latest']
  assert record['nll_float64'] == pytest.approx(record['nll'], rel=1e-4)
  exported = call('export', run, '--checkpoint=latest', f'--out={tmp_path}/model')
  assert exported.status == 0, exported
  images = np.random.default_rng(0).uniform(0.1, 0.9, (3, 4, 4, 1)).astype(np.float32)
  flow, model = load_run(run, 'latest').generator, tf.saved_model.load(f'{tmp_path}/model')
  np.testing.assert_allclose(model.log_prob(images), flow.log_prob(images), rtol=1e-4, atol=1e-4)

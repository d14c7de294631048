import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logit

from flowgan_tf.base.errors import UsageError
from flowgan_tf.objectives.objective import make_objective
from flowgan_tf.objectives.sight import see
from flowgan_tf.runs.config import validate
from flowgan_tf.training.step import TrainStep
from tests.tiny import IMAGE_SHAPE, images_for, make_config, make_state

ALL = {'objective': 'hybrid', 'lambda': 0.1, 'critic_sees': 'pixels+logits+noise', 'ema_decay': 0.9}


def test_what_is_seen_stands_one_behind_the_other():
  state = make_state(make_config(ALL))
  images = tf.constant(np.random.default_rng(0).uniform(0.01, 0.99, (3, *IMAGE_SHAPE)), tf.float32)
  pixels, logits, noise = np.moveaxis(see('pixels+logits+noise', state.ema, images).numpy(), -1, 0)
  np.testing.assert_array_equal(pixels, images[..., 0])
  np.testing.assert_allclose(logits, logit(pixels.astype(np.float64)) / 4, atol=1e-4)
  np.testing.assert_allclose(noise, state.ema.encode(images)[..., 0], atol=1e-6)
  assert np.isfinite(see('logits', state.ema, tf.constant([-0.05, 0.0, 1.0, 1.05]))).all()
  assert see('pixels', state.ema, images) is images


@pytest.mark.parametrize(('sees', 'shared'), [('logits', False), ('noise', False), ('noise', True)])
def test_a_generator_learns_through_what_its_critic_sees(sees, shared):
  """With the generator's own weights, the noise of a sample would have no gradient but 1e-5 of rounding."""
  settings = {'reuse_batch': True, 'critic_steps': 1} if shared else {}
  config = make_config(ALL | settings, critic_sees=sees, objective='adversarial')
  state = make_state(config)
  step = TrainStep(state, make_objective(config), config)
  before = [variable.numpy() for variable in state.generator.trainable_variables]
  assert step(images_for(config))['gradient_norm'] > 0.01
  assert any(np.any(a != b.numpy()) for a, b in zip(before, state.generator.trainable_variables, strict=True))


def test_the_critic_and_its_penalty_get_what_is_seen():
  config = make_config(ALL)
  state = make_state(config)
  assert state.critic.trainable_variables[0].shape[2] == 3
  images = images_for(config)
  step = TrainStep(state, make_objective(config), config)
  shapes = []
  step._critic = lambda condition: lambda x: shapes.append(x.shape) or state.critic(x)
  assert np.isfinite(step(images)['gradient_penalty'])
  assert {tuple(shape) for shape in shapes} == {(8, 4, 4, 3), (16, 4, 4, 3)}  # Images and samples come together.


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'critic_sees': 'pixel'}, 'pixels, logits, noise'),
    ({'critic_sees': 'noise+noise'}, 'pixels, logits, noise'),
    ({'critic_sees': ''}, 'pixels, logits, noise'),
    ({'ema_decay': 0.0}, '`ema_decay` must be above 0'),
    ({'generator': 'dcgan', 'objective': 'adversarial'}, 'only a flow'),
  ],
)
def test_refusals(settings, message):
  config = make_config(ALL | settings)
  with pytest.raises(UsageError, match=message):
    validate(config)
    make_state(config, (8, 8, 1))

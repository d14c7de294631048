import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.objectives.objective import make_objective
from flowgan_tf.training.diagnosis import explain, not_finite
from tests.tiny import images_for, make_config, make_state


def explained(config, spoil=lambda state: None, objective=None, images=None):
  """What is said of a step before which a function has spoilt the state, without Keras' numbering of layers."""
  state = make_state(config)
  spoil(state)
  images = images_for(config) if images is None else tf.constant(images)
  text = explain(state, objective or make_objective(config), config, images)
  watched = {'_forward', '_inverse', '_cached_forward', '_cached_inverse'}
  assert not any(watched & vars(part).keys() for part in state.generator.submodules)
  assert not tf.config.functions_run_eagerly()
  return re.sub(r'_\d+(?=/)(?<!coupling_\d)', '', text)


def spoiling(pattern, value=np.nan):
  def spoil(state):
    variables = [*state.generator.trainable_variables, *(state.critic.trainable_variables if state.critic else ())]
    variable = next(v for v in variables if re.search(pattern, v.name))
    variable.assign(tf.fill(variable.shape, value))

  return spoil


def at_an_infinite_rate(state):
  state.rate_factor.assign(np.inf)


MLE = {'objective': 'mle'}
REAL_NVP = MLE | {'generator': 'real_nvp', 'real_nvp.channels': 2, 'real_nvp.blocks': 1}
HYBRID = {'objective': 'hybrid', 'divergence': 'relativistic'}
# Both updates on the samples of one pass; a critic that is warmed up alone; updates with and without penalty.
SHARED = HYBRID | {'critic_steps': 1, 'reuse_batch': True}
ALONE = SHARED | {'critic_warmup': 1}
EACH = HYBRID | {'critic_steps': 2, 'critic_warmup': 1, 'penalty_interval': 2}


@pytest.mark.parametrize(
  ('settings', 'spoil', 'expected'),
  [
    (HYBRID, lambda state: None, ''),
    (MLE, spoiling('coupling_0/.*bias'), 'nll, loss (first in coupling_0); the gradient of diagonal_scaling/log_scale'),
    (MLE, spoiling('coupling_1/.*bias'), 'nll, loss (first in coupling_1); the gradient of diagonal_scaling/log_scale'),
    (
      REAL_NVP,
      spoiling('scale_1_checkerboard_1/.*offset'),
      'nll, loss (first in scale_1_checkerboard_1); the gradient of scale_',
    ),
    *(
      pytest.param(
        settings,
        spoiling(pattern),
        f'{expected}; the gradient of dcgan_critic/',
        marks=[pytest.mark.slow] if settings is not SHARED else [],
      )
      for settings in (SHARED, ALONE, EACH)
      for pattern, expected in (
        ('dcgan_critic/.*kernel', 'critic_gap, gradient_penalty, critic_loss'),
        ('coupling_0/.*bias', 'critic_gap, critic_loss (first in coupling_0)'),
      )
    ),
    # The update makes the critic's weights infinite, and the generator's loss uses this critic.
    (SHARED, at_an_infinite_rate, 'generator_loss, loss; the gradient of '),
    (MLE, at_an_infinite_rate, 'the weight diagonal_scaling/log_scale'),
  ],
)
def test_what_fails_first_is_named(settings, spoil, expected):
  text = explained(make_config(settings), spoil)
  assert text.startswith(expected) and bool(text) == bool(expected)


def test_an_image_that_fails_is_no_coupling_s_fault():
  config = make_config(SHARED, objective='adversarial')
  images = images_for(config).numpy()
  images[0, 0, 0, 0] = np.inf
  text = explained(config, images=images)
  assert text.startswith('critic_gap, ') and '(first in' not in text


@dataclasses.dataclass(frozen=True)
class InfiniteSlope:
  """The likelihood plus the square root of 0, whose value is finite and whose gradient is not."""

  objective: object
  adversary: object = None
  uses_critic: bool = False
  uses_likelihood: bool = True

  @property
  def terms(self):
    return self.objective.terms

  def generator_loss(self, drawn):
    loss, metrics = self.objective.generator_loss(drawn)
    return loss + tf.sqrt(0.0 * drawn.means['log_prob']), metrics


@pytest.mark.parametrize('precision', ['float32', 'mixed_float16'])
def test_a_gradient_is_named_if_the_loss_is_finite(precision):
  """Those of float16 may overflow."""
  config = make_config(objective='mle', precision=precision)
  text = explained(config, objective=InfiniteSlope(make_objective(config)))
  assert text == ('the gradient of diagonal_scaling/log_scale' if precision == 'float32' else '')


@pytest.mark.parametrize(('precision', 'excused'), [('float32', []), ('mixed_float16', ['gradient_norm'])])
def test_what_is_not_finite(precision, excused):
  config = make_config(objective='hybrid', precision=precision)
  state = make_state(config)
  # Its norm, of which the square is computed in float32, is not finite, but the weight is.
  spoiling('coupling_0/.*kernel', 1e30)(state)
  metrics = {'nll': tf.constant(1.0), 'critic_gap': tf.constant(-np.inf), 'gradient_norm': tf.constant(np.nan)}
  expected = [name for name in ('critic_gap', 'gradient_norm') if name not in excused]
  assert not_finite(metrics, state, config) == expected
  spoiling('dcgan_critic/.*kernel')(state)
  assert not_finite(metrics, state, config) == [*expected, 'weights']

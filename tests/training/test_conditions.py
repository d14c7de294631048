"""Conditional steps: each image goes with its own condition, wherever a step uses it."""

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.data import Batch, conditions
from flowgan_tf.flows import Flow
from flowgan_tf.networks import KerasModule
from flowgan_tf.objectives import DIVERGENCES
from flowgan_tf.objectives.objective import make_objective
from flowgan_tf.runs.seeds import Purpose
from flowgan_tf.training.state import TrainState
from flowgan_tf.training.step import TrainStep, batches_per_step
from tests.tiny import IMAGE_SHAPE, make_config

CLASSES = 3

pytestmark = pytest.mark.usefixtures('eagerly')


def class_of(images) -> np.ndarray:
  """The class of images whose pixels are near 0, near 1/2 on average, or near 1."""
  brightness = np.mean(images, axis=(1, 2, 3))
  return (brightness > 0.2).astype(int) + (brightness > 0.8)


@pytest.fixture
def seen(monkeypatch):
  """What goes into critics and densities: pairs of the classes that images show and the classes that are given."""
  seen = {'critic': [], 'likelihood': []}
  call, log_prob = KerasModule.__call__, Flow.log_prob

  def spied_call(self, inputs, *args, condition=None, **keywords):
    if condition is not None:  # The networks of the flow get none.
      seen['critic'].append((class_of(inputs.numpy()), condition.numpy().argmax(axis=1)))
    return call(self, inputs, *args, condition=condition, **keywords)

  def spied_log_prob(self, value, *args, condition=None, **keywords):
    seen['likelihood'].append((class_of(value.numpy()), condition.numpy()))
    return log_prob(self, value, *args, condition=condition, **keywords)

  monkeypatch.setattr(KerasModule, '__call__', spied_call)
  monkeypatch.setattr(Flow, 'log_prob', spied_log_prob)
  return seen


@pytest.mark.parametrize(
  'settings',
  [
    {'objective': 'mle'},
    {'objective': 'hybrid', 'critic_steps': 3},
    {'objective': 'hybrid', 'critic_steps': 3, 'reuse_batch': True, 'penalty': 'zero_centered'},
    {'objective': 'hybrid', 'critic_steps': 1, 'reuse_batch': True, 'critic_warmup': 1},
    *(
      pytest.param({'objective': 'adversarial', 'divergence': name, 'critic_steps': 1}, marks=pytest.mark.slow)
      for name in DIVERGENCES
    ),
  ],
)
def test_images_and_samples_come_with_their_own_label(seen, settings):
  """A new flow makes images as bright as their class says, so that a shuffle would be noticed."""
  config = make_config({'condition': 'label', 'nice.condition_networks': False, 'nice.components': CLASSES} | settings)
  objective = make_objective(config)
  condition = conditions.Label('label', 256, IMAGE_SHAPE, classes=CLASSES)
  state = TrainState(config, IMAGE_SHAPE, objective, condition=condition)
  means = np.array([-4.0, 0.0, 4.0])[:, None, None, None] * np.ones((CLASSES, *IMAGE_SHAPE))
  state.generator.distribution.means.assign(means.astype(np.float32))
  count = batches_per_step(objective, config.critic_steps, config.reuse_batch) * config.batch_size
  rng = np.random.default_rng(0)
  labels = rng.integers(0, CLASSES, count)
  logits = means[labels] + rng.uniform(-0.5, 0.5, (count, *IMAGE_SHAPE))
  batch = Batch(tf.constant(1 / (1 + np.exp(-logits)), tf.float32), tf.constant(labels, tf.int32))
  step = TrainStep(state, objective, config)
  for _ in range(1 + config.critic_warmup):
    step(batch)
  for shown, given in [*seen['critic'], *seen['likelihood']]:
    np.testing.assert_array_equal(shown, given)
  assert len(seen['likelihood']) == objective.uses_likelihood
  # Each update of the critic sees a batch of images and one of samples, and the update of the generator one of samples.
  batches = sum(len(given) for _, given in seen['critic']) / config.batch_size
  assert batches >= (2 * config.critic_steps + 1 if objective.uses_critic else 0)


@pytest.mark.parametrize('kind', ['low_resolution:2', 'mask:half'])
def test_samples_that_do_not_keep_to_their_conditions_have_a_larger_loss(kind):
  config = make_config({'condition': kind, 'objective': 'hybrid', 'consistency_weight': 7.0})
  objective = make_objective(config)
  condition = conditions.kind_of(kind)(
    kind, 256, IMAGE_SHAPE, shape=(2, 2, 1) if kind == 'low_resolution:2' else IMAGE_SHAPE
  )
  state = TrainState(config, IMAGE_SHAPE, objective, condition=condition)
  step = TrainStep(state, objective, config)
  rng, found = np.random.default_rng(0), {}
  real = tf.constant(rng.uniform(size=(config.batch_size, *IMAGE_SHAPE)), tf.float32)
  given = rng.uniform(size=(config.batch_size, *condition.shape)).astype(np.float32)
  for weight in (7.0, 0.0):
    config.consistency_weight = weight
    step.objective = make_objective(config)
    step.inspect = lambda metrics, gradients, _, weight=weight: found.update({weight: (metrics, gradients)})
    step._apply_to_generator = lambda gradients: None
    step.update_generator(Batch(real, tf.constant(given)), (False,), False)
  # A new flow only squashes its noise, whatever the condition is.
  samples = step._draw(Purpose.GENERATOR, Batch(real, tf.constant(given)))[1].numpy()
  if kind == 'mask:half':
    again = samples * (np.arange(4) < 2)[:, np.newaxis, np.newaxis]
  else:
    again = samples.reshape(-1, 2, 2, 2, 2, 1).mean(axis=(2, 4))
  (metrics, gradients), (without, others) = found[7.0], found[0.0]
  np.testing.assert_allclose(metrics['consistency_loss'], np.mean((again - given) ** 2), rtol=1e-5)
  np.testing.assert_allclose(metrics['loss'], without['loss'] + 7 * metrics['consistency_loss'], rtol=1e-5)
  assert 'consistency_loss' not in without
  assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(gradients, others, strict=True))

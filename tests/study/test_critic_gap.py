import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.estimators.independent_critic import critic_gap
from flowgan_tf.runs.run import make_critic
from flowgan_tf.study.critic_gap import CriticGap


def test_the_gap_is_that_of_a_critic_like_the_one_of_the_training(subject):
  numbers, arrays = CriticGap().measure(subject, CriticGap.Settings(critic_steps=3, seed=1))
  config, dataset = subject.run.config, subject.dataset
  keras.utils.set_random_seed(1)
  critic = make_critic(config, dataset.image_shape)
  expected = critic_gap(
    subject.run.generator.sample,
    train=dataset.train.images,
    validation=dataset.validation.images,
    levels=dataset.levels,
    critic=critic,
    steps=3,
    batch_size=config.batch_size,
    seed=1,
  )
  assert numbers == pytest.approx(expected._asdict())
  assert arrays == {}


def test_the_seed_decides(subject):
  first, other = (CriticGap().measure(subject, CriticGap.Settings(critic_steps=1, seed=seed))[0] for seed in (1, 2))
  assert first['gap'] != pytest.approx(other['gap'])


def test_the_callers_random_numbers_go_on(subject):
  def draws():
    of_numpy = np.random.random()  # noqa: NPY002
    return random.random(), of_numpy, float(tf.random.uniform(())), float(keras.random.uniform(()))

  keras.utils.set_random_seed(7)
  expected = draws(), draws()
  keras.utils.set_random_seed(7)
  first = draws()
  CriticGap().measure(subject, CriticGap.Settings(critic_steps=1))
  assert (first, draws()) == expected

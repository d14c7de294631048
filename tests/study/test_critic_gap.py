import pytest

from flowgan_tf.study.critic_gap import CriticGap


def test_the_gap_is_the_difference_of_the_distances(subject):
  numbers, arrays = CriticGap().measure(subject, CriticGap.Settings(critic_steps=3, seed=1))
  assert numbers['gap'] == pytest.approx(numbers['validation'] - numbers['train'])
  assert numbers['steps'] == 3 and arrays == {}


def test_the_seed_decides(subject):
  first, again, other = (CriticGap().measure(subject, CriticGap.Settings(critic_steps=2, seed=s))[0] for s in (1, 1, 2))
  assert first == pytest.approx(again)
  assert first['gap'] != pytest.approx(other['gap'])

"""The analysis `critic_gap`: overfitting, as measured by an independent critic."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from flowgan_tf.display.tables import Column
from flowgan_tf.study.analysis import Analysis, Settings, setting

if TYPE_CHECKING:
  from flowgan_tf.study.subject import Subject

__all__ = ['CriticGap']


@dataclasses.dataclass(frozen=True, kw_only=True)
class CriticGapSettings(Settings):
  """Settings of `CriticGap`."""

  critic_steps: int = setting(2000, 'Updates of the independent critic.', maximum=10**6)


class CriticGap(Analysis):
  """How much closer samples are to training than to validation images (Danihelka et al. 2017)."""

  name = 'critic_gap'
  title = 'Critic gap'
  description = (
    'overfitting: how much closer samples are to training than to validation images, for a critic trained anew '
    '(Danihelka et al. 2017)'
  )
  caption = (
    'Distance of samples from images, as measured by an independent critic (Danihelka et al. 2017); a gap more than '
    'two standard errors above 0 indicates overfitting'
  )
  Settings = CriticGapSettings
  columns = tuple(
    Column(header, key, '.4f', f'{key}_standard_error')
    for header, key in (('training − samples', 'train'), ('validation − samples', 'validation'), ('gap', 'gap'))
  )
  details = (Column('images', 'n', ','), Column('updates of the critic', 'steps', ','))

  def measure(self, subject: Subject, settings: CriticGapSettings) -> tuple[dict, dict[str, np.ndarray]]:
    from flowgan_tf.estimators.independent_critic import critic_gap
    from flowgan_tf.runs.run import make_critic

    config, dataset = subject.run.config, subject.dataset
    with _seeded(settings.seed):
      critic = make_critic(config, dataset.image_shape)
    found = critic_gap(
      subject.run.generator.sample,
      dataset.train.images,
      subject.grey_levels('validation'),
      dataset.levels,
      critic,
      settings.critic_steps,
      config.batch_size,
      settings.seed,
    )
    return found._asdict(), {}


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
  """Seeds the initial weights of Keras' layers, which Python's generator decides, and leaves that as it was."""
  state = random.getstate()
  random.seed(seed)
  try:
    yield
  finally:
    random.setstate(state)

"""The analysis `kde`: an estimate of the likelihood by a Parzen window."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from flowgan_tf.display.tables import Column
from flowgan_tf.estimators.kernel_density import kde_estimate
from flowgan_tf.study.analysis import Analysis, Settings, setting
from flowgan_tf.study.subject import Subject

__all__ = ['Kde']


@dataclasses.dataclass(frozen=True, kw_only=True)
class KdeSettings(Settings):
  """Settings of `Kde`."""

  samples: int = setting(5000, 'Samples of the generator, and of each mixture.', minimum=10)


class Kde(Analysis):
  """NLL of test images under a Parzen window of samples, beside the exact NLL (the paper's Table 3)."""

  name = 'kde'
  title = 'Estimates of the likelihood'
  description = 'NLL by a Parzen window of samples, with the bandwidth chosen on validation images'
  paper = 'Table 3'
  caption = 'NLL in nats per image, exact and estimated from the generator alone'
  Settings = KdeSettings
  columns = (
    Column('exact', 'exact_nll', ',.2f', 'exact_standard_error'),
    Column('KDE', 'nll', ',.2f', 'standard_error'),
    Column('the paper: exact', 'exact', ',.2f', source='paper'),
    Column('the paper: KDE', 'kde', ',.2f', source='paper'),
  )
  details = (
    Column('KDE: test images', 'n_test', ','),
    Column('KDE: samples', 'n_samples', ','),
    Column('KDE: bandwidth', 'bandwidth', '.4f'),
  )
  ranked = ('exact_nll', 'nll')
  published: ClassVar = {
    'mnist': {
      'MLE': {'exact': -3287.69, 'kde': -167.10},
      'ADV': {'exact': 26350.30, 'kde': -3.03},
      'Hybrid λ = 0.1': {'exact': -3121.53, 'kde': -205.69},
    }
  }

  def measure(self, subject: Subject, settings: KdeSettings) -> tuple[dict, dict[str, np.ndarray]]:
    samples, test = subject.samples(settings.samples, settings.seed), subject.images('test')
    estimate = kde_estimate(samples, subject.images('validation'), test)._asdict()
    del estimate['curve']
    return estimate | subject.exact(test), {}

"""The analysis `jacobian`: singular values of the generator's Jacobian."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from flowgan_tf.display import plots
from flowgan_tf.display.figure import Figure
from flowgan_tf.display.tables import Column, listed
from flowgan_tf.study.analysis import Analysis, Settings, setting

if TYPE_CHECKING:
  from flowgan_tf.study.subject import Subject
  from flowgan_tf.study.summary import Summary

__all__ = ['Jacobian']


@dataclasses.dataclass(frozen=True, kw_only=True)
class JacobianSettings(Settings):
  """Settings of `Jacobian`."""

  noise_vectors: int = setting(64, 'Noise vectors.', maximum=10**5)


class Jacobian(Analysis):
  """Singular values, log-determinant and condition number at random noise vectors (the paper's Figures 4 and 8)."""

  name = 'jacobian'
  title = 'Jacobian of the generator'
  description = "singular values, log-determinant and condition number of the generator's Jacobian"
  paper = 'Figures 4, 8'
  caption = 'Singular values at random noise vectors'
  Settings = JacobianSettings
  columns = (
    Column('mean log-determinant (nats)', 'mean_log_det', ',.1f', 'standard_error'),
    Column('condition number, median', 'median_condition_number', '.2e', infinite='∞'),
    Column('largest', 'largest_condition_number', '.2e', infinite='∞'),
    Column('singular values below precision', 'share_below_precision', '.1%'),
    Column('the paper: mean log-determinant', 'log_det', ',.2f', source='paper'),
  )
  details = (Column('noise vectors', 'n', ','), Column('dimensions', 'd', ','))
  # Section 5.1 and appendix D.
  published: ClassVar = {
    'mnist': {'MLE': {'log_det': -4170.34}, 'ADV': {'log_det': -15588.34}, 'Hybrid λ = 0.1': {'log_det': -5184.40}},
    'cifar10': {'MLE': {'log_det': -12818.84}, 'ADV': {'log_det': -21848.09}, 'Hybrid λ = 1': {'log_det': -14729.51}},
  }

  def measure(self, subject: Subject, settings: JacobianSettings) -> tuple[dict, dict[str, np.ndarray]]:
    from flowgan_tf.estimators.jacobian_spectrum import spectrum
    from flowgan_tf.runs.seeds import Purpose, stateless_seed

    # In float32 the smallest singular values of a nearly singular Jacobian are rounding errors.
    generator = subject.run.generator.with_dtype('float64')
    seed = stateless_seed(settings.seed, Purpose.ANALYSIS)
    noise = subject.run.generator.distribution.sample(settings.noise_vectors, seed=seed)
    found = spectrum(generator, noise)
    numbers = {
      'n': found.n,
      'd': found.d,
      'mean_log_det': found.mean_log_det,
      'standard_error': found.standard_error,
      'median_condition_number': np.median(found.condition_number),
      'largest_condition_number': found.condition_number.max(),
      'below_precision': found.below_precision.mean(),
    }
    if found.flow_log_det is not None:
      numbers['largest_relative_difference'] = np.max(np.abs(found.log_det / found.flow_log_det - 1))
    return numbers, {'singular_values': found.singular_values}

  def records(self, record: dict) -> dict[str, dict]:
    return {'': record | {'share_below_precision': record['below_precision'] / record['d']}}

  def figures(self, runs: Sequence[Summary]) -> dict[str, Figure]:
    spectra = {run.label: run.studies[self.name].arrays['singular_values'] for run in runs}
    numbers = sorted({run.studies[self.name].record['n'] for run in runs})
    figure = Figure.of_plot(
      plots.singular_values(spectra),
      f'Distribution functions of the singular values of the Jacobians of {listed(spectra)}.',
      f'Singular values of the Jacobian of the generator at {" or ".join(map(str, numbers))} noise vectors.',
    )
    return {self.name: figure}

  def notes(self, runs: Sequence[Summary]) -> list[str]:
    if not any(run.studies[self.name].record['below_precision'] for run in runs):
      return []
    return [
      'Singular values below precision are smaller than the largest one times the rounding error of the arithmetic. '
      'If there are any, the condition number is a lower bound, and the log-determinant of a generator without an '
      'inverse is an upper bound.'
    ]

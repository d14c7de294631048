"""The analysis `ais`: an estimate of the likelihood by annealed importance sampling."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from flowgan_tf.display.tables import Column
from flowgan_tf.errors import check_memory
from flowgan_tf.lazy import later
from flowgan_tf.study.analysis import Analysis, Settings, setting
from flowgan_tf.study.kde import Kde

if TYPE_CHECKING:
  from flowgan_tf.study.subject import Subject
  from flowgan_tf.study.summary import Summary

__all__ = ['Ais']

annealing = later('flowgan_tf.study.annealing')

# With these, choosing sigma takes about as long as the estimate. With the estimate's settings it would take far longer.
_SIGMA_IMAGES, _SIGMA_STEPS, _SIGMA_LEAPFROG_STEPS = 4, 50, 5
_BRACKETED_IMAGES = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class AisSettings(Settings):
  """Settings of `Ais`."""

  ais_images: int = setting(16, 'Test images.', maximum=10**5)
  ais_chains: int = setting(4, 'Chains per image.', maximum=10**4)
  ais_steps: int = setting(300, 'Temperatures per chain.', maximum=10**6)


class Ais(Analysis):
  """NLL of some test images by AIS, with bounds for simulated images (the paper's Table 3)."""

  name = 'ais'
  title = Kde.title
  description = (
    'NLL by annealed importance sampling with Gaussian noise on the images, and bounds that bracket the truth for '
    'simulated images'
  )
  paper = 'Table 3'
  caption = Kde.caption
  Settings = AisSettings
  columns = (
    Column('AIS', 'nll', ',.2f', 'standard_error'),
    Column('exact, images of AIS', 'exact_nll', ',.2f', 'exact_standard_error'),
    Column('the paper: AIS', 'ais', ',.2f', source='paper'),
  )
  details = (
    Column('AIS: test images', 'n', ','),
    Column('AIS: chains', 'chains', ','),
    Column('AIS: temperatures', 'steps', ','),
    Column('AIS: σ', 'sigma', '.4f'),
    Column('AIS: acceptance', 'acceptance', '.2f'),
    Column('AIS: gap between bounds', 'bracket_gap', ',.2f', 'bracket_gap_standard_error'),
  )
  ranked = ('nll',)
  published: ClassVar = {
    'mnist': {'MLE': {'ais': -2584.40}, 'ADV': {'ais': -2916.10}, 'Hybrid λ = 0.1': {'ais': -2703.03}}
  }

  def measure(self, subject: Subject, settings: AisSettings) -> tuple[dict, dict[str, np.ndarray]]:
    decode, prior = subject.run.generator.decode, subject.run.generator.distribution
    chains, seed = settings.ais_chains, settings.seed
    states = settings.ais_images * chains
    check_memory('states of `ais_images` times `ais_chains`', 4 * states * math.prod(subject.dataset.image_shape))
    sigma_images = subject.images('validation', _SIGMA_IMAGES, seed)
    short = annealing.AnnealedImportanceSampler(
      decode, prior, chains=chains, steps=_SIGMA_STEPS, leapfrog_steps=_SIGMA_LEAPFROG_STEPS
    )
    choice = short.choose_sigma(sigma_images, seed)
    sampler = annealing.AnnealedImportanceSampler(decode, prior, chains=chains, steps=settings.ais_steps)
    images = subject.images('test', settings.ais_images, seed)
    estimate = sampler.estimate(images, choice.sigma, seed)
    bracket = sampler.bidirectional(choice.sigma, _BRACKETED_IMAGES, seed)
    numbers = {name: value for name, value in estimate._asdict().items() if np.isscalar(value)} | {
      'effective_sample_size': estimate.effective_sample_size.mean(),
      'sigma_images': len(sigma_images),
      'sigmas_tried': choice.tried,
      'bracket_lower': bracket.lower.log_likelihood.mean(),
      'bracket_upper': bracket.upper.log_likelihood.mean(),
      'bracket_gap': bracket.gap,
      'bracket_gap_standard_error': bracket.gap_standard_error,
      'bracket_n': _BRACKETED_IMAGES,
    }
    return numbers | subject.exact(images), {'log_likelihood': estimate.log_likelihood}

  def notes(self, runs: list[Summary]) -> list[str]:
    return [
      'AIS estimates the likelihood of the generator with Gaussian noise of standard deviation σ on its images. σ is '
      'the best value for a few validation images. The gap is the difference between the stochastic upper and lower '
      'bounds of log p, in nats, for images simulated from that model. For real images it may be larger.'
    ]

  def resolution(self, record: dict) -> float:
    return record.get('bracket_gap') or 0.0

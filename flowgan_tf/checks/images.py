"""Checks of images: whether they suit a density, where it lies, and how likely they are beside samples."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import scipy.special
import tensorflow as tf

from flowgan_tf.checks.finding import Finding
from flowgan_tf.checks.target import Target
from flowgan_tf.data import dequantize
from flowgan_tf.flows.checks import DEQUANTIZE, on_grey_levels
from flowgan_tf.metrics.likelihood import bits_per_dim

_SAMPLES = 256  # samples of the flow, beside which images are ranked
_STEP = 0.01  # how far outside of the interval of the values a pixel is put
_DROP = np.log(100)  # A hundredth of the density is little mass.
_DRAWS = (1, 8, 64)  # of noise, for the bound on log P
_BOUNDED = 4  # images whose log P is bounded
_SEEDS = 4


def check_values(values: np.ndarray, levels: int | None) -> Iterator[Finding]:
  """Checks that images lie in [0, 1], and that noise was added to their grey levels."""
  flat = values.reshape(len(values), -1)
  low, high = flat.min(axis=1), flat.max(axis=1)
  outside = ~((low >= 0) & (high <= 1))
  found, image, note = float(outside.sum()), None, ''
  if outside.any():
    image = int(outside.argmax())
    note = (
      f'image {image} has values from {low[image]:g} to {high[image]:g}, where a density on [0, 1] is 0, and its '
      f'logarithm -inf; {DEQUANTIZE}.'
    )
  yield _of_image('images outside of [0, 1]', found, 0, not outside.any(), image, note)
  exact, image, note = on_grey_levels(values, levels), None, ''
  if exact.any():
    image = int(exact.argmax())
    said = 'has only exact grey levels, and a density of such images can grow without bound'
    note = f'image {image} {said}; {DEQUANTIZE}.'
  yield _of_image('images that are not dequantised', float(exact.sum()), 0, not exact.any(), image, note)


def check_finite(log_prob: np.ndarray, is_image: bool) -> Finding:
  """Checks that every value has a finite log density."""
  wrong = ~np.isfinite(log_prob)
  i = int(wrong.argmax()) if wrong.any() else None
  kind = 'image' if is_image else 'row'
  note = '' if i is None else f'{kind} {i} has the log density {log_prob[i]:g}.'
  return _of_image('log densities that are not finite', float(wrong.sum()), 0, i is None, i, note)


def check_support(target: Target, values: tf.Tensor, samples: np.ndarray) -> Iterator[Finding]:
  """Checks that samples are in [0, 1], or as far outside as alpha allows, and that the density beyond is 0 or small."""
  low, high = target.interval or (0.0, 1.0)
  beyond, allowed = np.maximum(-samples, samples - 1).max(initial=0.0), 1e-3 + max(-low, high - 1)
  note = (
    'samples leave [0, 1] by this much: the flow keeps some of its mass where no image is.' if beyond > allowed else ''
  )
  yield Finding(
    check='samples outside of [0, 1]', found=float(beyond), allowed=allowed, sound=bool(beyond <= allowed), note=note
  )
  first = np.asarray(values[:1])
  pixel = np.unravel_index(first.size // 2, first.shape)
  log_probs = []
  for moved, inside in ((low - _STEP, 0.5 * _STEP), (high + _STEP, 1 - 0.5 * _STEP)):
    for x in (moved, inside):
      changed = first.copy()
      changed[pixel] = x
      log_probs.append(target.log_prob(changed)[0])
  rises = [log_probs[0] - log_probs[1], log_probs[2] - log_probs[3]]  # NaN if one is.
  rise, note = float(np.max(rises)), ''
  if np.isnan(rise):
    note = 'it is NaN outside of [0, 1], where the density is 0 and its logarithm -inf.'
  elif rise > -_DROP:
    note = f'a pixel {_STEP + allowed - 1e-3:.2g} outside of [0, 1] has about as large a density as one inside.'
  sound = None if np.isnan(rise) else bool(rise <= -_DROP)
  yield Finding(check='log_prob just outside, less inside', found=rise, allowed=-_DROP, sound=sound, note=note)


def check_ranks(log_prob: np.ndarray, of_samples: np.ndarray) -> Finding:
  """Says how images rank among the flow's own samples by their log densities; it judges nothing."""
  ranks = (of_samples[np.newaxis] < log_prob[:, np.newaxis]).mean(axis=1)
  lowest = int(log_prob.argmin())
  note = (
    f'the share of {len(of_samples)} samples that are less likely than an image, on average over images; about 0.5 if '
    f'the flow fits. Image {lowest} has the lowest log density, {log_prob[lowest]:,.1f} nats, and rank '
    f'{ranks[lowest]:.2f}.'
  )
  return Finding(check='rank among samples', found=float(ranks.mean()), where=f'image {lowest}', note=note)


def check_noise(target: Target, levels_of: np.ndarray, levels: int, seed: int) -> Iterator[Finding]:
  """Measures what the noise of dequantisation does to the likelihood of grey levels k, `[n, ...]`.

  ```none
  log P(k) >= E log 1/m sum_j p((k + u_j) / L) - d log L
  ```

  With more draws `u_j` the bound rises to log P(k), so that bits/dim sink. With the same draws they cannot rise.

  Source: Yuri Burda, Roger Grosse, Ruslan Salakhutdinov. Importance Weighted Autoencoders. ICLR 2016, theorem 1.
  """
  means = [target.log_prob(dequantize(levels_of, levels, seed + i)).mean() for i in range(_SEEDS)]
  note = f'the deviation of the mean of log_prob, in nats, over {_SEEDS} seeds of dequantisation.'
  yield Finding(check='spread over seeds', found=float(np.std(means, ddof=1)), note=note)
  n, most = min(_BOUNDED, len(levels_of)), max(_DRAWS)
  repeated = np.repeat(levels_of[:n], most, axis=0)
  of_each = target.rows(np.repeat(np.arange(n), most))
  log_prob = of_each.log_prob(dequantize(repeated, levels, seed)).reshape(n, most)
  bits = []
  for m in _DRAWS:
    bound = scipy.special.logsumexp(log_prob.reshape(n, -1, m), axis=2) - np.log(m)
    bits.append(bits_per_dim(-float(bound.mean()), levels_of.shape[1:], levels))
    yield Finding(check=f'bits/dim with {m} draw{"s" * (m > 1)}', found=bits[-1])
  sound = all(after <= before + 1e-9 for before, after in itertools.pairwise(bits))
  note = f'bits/dim of the first {n} images that more draws of the noise save; they cannot rise.'
  yield Finding(check='bits/dim saved by more draws', found=bits[0] - bits[-1], sound=sound, note=note)


def _of_image(name, found, allowed, sound, image, note):
  where = '' if image is None else f'image {image}'
  return Finding(check=name, found=found, allowed=allowed, sound=sound, image=image, where=where, note=note)

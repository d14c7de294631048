"""Whether images are outliers: log p(x) and the size of their noise, compared with those of held-out images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.special

from flowgan_tf.base.lazy import tf
from flowgan_tf.data.dataset import bits_per_dim
from flowgan_tf.data.pipeline import dequantize
from flowgan_tf.display.tables import Column, Row, Table
from flowgan_tf.flows import Flow
from flowgan_tf.metrics.arrays import map_batches
from flowgan_tf.runs.run import Run, load_data

#: The tests, by what they call an image.
TESTS = ('unlikely', 'too likely', 'odd noise')
FALSE_ALARMS = 0.05  # of the held-out images, at most so many are called outliers by default

_IMAGES_PER_CALL = 100
_DRAWS = 16  # of the noise of dequantisation
_SAMPLES = 256
_HELD_OUT = 1000

_COLUMNS = (
  Column('image', 'name'),
  Column('log p (nats)', 'log_prob', ',.1f', 'spread'),
  Column('bits/dim', 'bits_per_dim', '.3f'),
  Column('rank', 'rank', '.3f'),
  *(Column(f'p: {test}', test, '.3f') for test in TESTS),
  Column('verdict', 'verdict'),
)


class Statistics:
  """What the tests look at, for any number of images. It is traced only once.

  For a flow with classes it is log p(x), and the noise given the most probable class.
  """

  def __init__(self, flow: Flow):
    """Prepares the measurement for a flow with a density p(x), or p(x | c) if conditions come with the images."""
    self.flow = flow

    def measure(given, images):
      log_prob, noise_of = given.log_prob(images), given
      if given is flow and flow.classes:
        noise_of = flow.given(tf.argmax(flow.class_log_probs(images), axis=-1, output_type=tf.int32))
      noise = noise_of.encode(images)
      return tf.stack([log_prob, tf.reduce_mean(tf.square(noise), axis=range(1, noise.shape.rank))], axis=1)

    self._measure = tf.function(flow.on_batches(measure), autograph=False)
    self._batch_size = max(1, _IMAGES_PER_CALL // flow.density_passes)

  def __call__(self, images: np.ndarray, conditions: np.ndarray | None = None) -> np.ndarray:
    """Returns log p(x) in nats and the mean square of the noise `encode(x)`, float64 `[n, 2]`."""
    batch_size = min(len(images), self._batch_size)
    return map_batches(self._measure, images, batch_size, conditions, what='log p').astype(np.float64)


def measure_held_out(statistics: Statistics, run: Run, split: str = 'test') -> np.ndarray:
  """Returns the statistics of 1,000 random images of a split of a run's data, or of all if there are fewer."""
  dataset = load_data(run)
  part = getattr(dataset, split)
  rows = np.sort(np.random.default_rng(0).permutation(len(part))[:_HELD_OUT])
  return statistics(dequantize(part.take(rows).images, dataset.levels, 0))


def p_values(values: np.ndarray, held_out: np.ndarray) -> np.ndarray:
  """Returns for each value the p-value of its being as small as it is, `[n]`:

  ```none
  p = (1 + number of held-out values that are at most as large) / (1 + number of held-out values)
  ```

  If the value and the held-out ones are exchangeable, p is at most a with a probability of at most a, for any a. NaN
  counts as the smallest value.

  Source: Jing Lei, James Robins, Larry Wasserman. Distribution-Free Prediction Sets. JASA 2013, section 2.
  """
  smaller = np.searchsorted(np.sort(held_out), np.nan_to_num(values, nan=-np.inf), side='right')
  return (1 + smaller) / (1 + len(held_out))


def p_values_of_tests(found: np.ndarray, held_out: np.ndarray) -> dict[str, np.ndarray]:
  """Returns the p-values of each of `TESTS`, `[n]`, from `Statistics` of images and of held-out images."""
  (log_prob, noise), (log_prob_held_out, noise_held_out) = found.T, held_out.T
  compared = (log_prob, log_prob_held_out), (-log_prob, -log_prob_held_out), (-noise, -noise_held_out)
  return dict(zip(TESTS, (p_values(*pair) for pair in compared), strict=True))


def combined(p: dict[str, np.ndarray]) -> np.ndarray:
  """Returns the p-value of all tests together, by Bonferroni: the smallest times their number, at most 1."""
  return np.minimum(1, len(p) * np.min([*p.values()], axis=0))


def judge_images(
  statistics: Statistics,
  images: np.ndarray,
  levels: int,
  held_out: np.ndarray,
  names: Sequence[str] | None = None,
  false_alarms: float = FALSE_ALARMS,
  seed: int = 0,
) -> list[dict]:
  """Says how likely images are, and which of them are outliers.

  Args:
    statistics: The `Statistics` of a flow without conditions, or with classes.
    images: Grey levels, ints `[n, height, width, channels]`.
    levels: Number of grey levels.
    held_out: The statistics of held-out images, `[m, 2]`.
    names: A name for each image; by default its number.
    false_alarms: Share of images like the held-out ones that may be called outliers.
    seed: Non-negative seed of noise and samples.

  Returns:
    A record for each image. `log_prob` is the mean over 16 draws of the noise of dequantisation, and `spread` their
    standard deviation. `bits_per_dim` belongs to the bound on the probability of the grey levels that these draws
    give together. `rank` is the share of 256 samples that are less likely. The p-values of `TESTS` are for the first
    draw, as held-out images have only one. `verdict` names the test with the smallest one if the image is an outlier.
  """
  draws = np.stack([statistics(_dequantized_often(image, levels, seed)) for image in images])
  log_prob = draws[:, :, 0]
  bound = scipy.special.logsumexp(log_prob, axis=1) - np.log(_DRAWS)
  of_samples = statistics(np.asarray(statistics.flow.sample(_SAMPLES, seed=(seed, 2))))[:, 0]
  p = p_values_of_tests(draws[:, 0], held_out)
  smallest = np.argmin([*p.values()], axis=0)
  verdicts = np.where(combined(p) <= false_alarms, np.array(TESTS)[smallest], 'no outlier')
  columns = {
    'name': names or [f'image {i}' for i in range(len(images))],
    'log_prob': log_prob.mean(axis=1),
    'spread': log_prob.std(axis=1, ddof=1),
    'bits_per_dim': bits_per_dim(-bound, images.shape[1:], levels),
    'rank': (of_samples < log_prob[:, :1]).mean(axis=1),
    **p,
    'verdict': verdicts,
  }
  return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _dequantized_often(image, levels, seed):
  # All images get the same noise, so that the answer for one does not depend on the others.
  return dequantize(np.repeat(image[np.newaxis], _DRAWS, axis=0), levels, np.random.default_rng((seed, 1)))


def images_table(records: Sequence[dict]) -> str:
  """Returns the table of what `judge_images` returned. It continues below if it is wide."""
  return str(Table('', _COLUMNS, [Row({'': record}) for record in records]))

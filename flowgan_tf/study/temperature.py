"""The analysis `temperature`: likelihood and sample quality of a flow whose noise is scaled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flowgan_tf import display, flows, metrics
from flowgan_tf.base.lazy import tf
from flowgan_tf.display.figure import Figure
from flowgan_tf.display.grids import image_grid
from flowgan_tf.display.tables import SCORE_NAMES, Column, listed
from flowgan_tf.study.analysis import Analysis, Subject, mean_nll, scored_alike
from flowgan_tf.study.kde import KdeSettings
from flowgan_tf.study.summary import Study, Summary

if TYPE_CHECKING:
  from flowgan_tf.flows import Flow


_TEMPERATURES = tuple(round(0.1 * i, 1) for i in range(4, 12))
_GRID_COLUMNS = 12
_SPLITS = 10


def tempered_log_prob(
  flow: Flow, images: tf.Tensor, temperatures: Sequence[float], condition: tf.Tensor | None = None
) -> tf.Tensor:
  """Returns log-densities of images under the flow `x = G(t z)`, `z ~ prior`, for each temperature `t`.

  ```none
  log p_t(x) = log p(x) - log prior(z) + log prior_t(z),   z = G^-1(x) in R^d
  prior_t(z) = prior(z / t) / t^d                          for a mixture: t times its scale, the same means
  ```

  The k temperatures must be positive. Returns a tensor `[n, k]`, in nats. With a condition for each image it is
  log p_t(x | c). Without one, a flow with classes gives log p_t(x) = log sum_y p(y) p_t(x | y).
  """
  if condition is None and flow.classes:

    def joint(label):
      labels = tf.fill(tf.shape(images)[:1], label)
      weight = tf.math.log(tf.cast(flow.class_probs[label], flow.dtype))
      return tempered_log_prob(flow, images, temperatures, labels) + weight

    return tf.reduce_logsumexp(tf.map_fn(joint, tf.range(flow.classes), fn_output_signature=flow.dtype), axis=0)
  given, prior = flow.given(condition), flow.distribution
  of_prior = flows.prior.label_keyword(prior, condition)
  noise = given.encode(images)
  rest = given.log_prob(images) - prior.log_prob(noise, **of_prior)
  return tf.stack([rest + flows.prior.tempered(prior, t).log_prob(noise, **of_prior) for t in temperatures], axis=-1)


class Temperature(Analysis):
  """Exact NLL and scores of the flow whose noise is multiplied by a temperature (Kingma and Dhariwal 2018).

  At temperatures below 1 images are more typical and less varied. The flow at a temperature is a flow with another
  prior, and has an exact likelihood: see `tempered_log_prob`. So this trades likelihood for sample quality as a hybrid
  does, but without training.

  #### References

  Kingma, Dhariwal. Glow: Generative Flow with Invertible 1x1 Convolutions. NeurIPS 2018, section 6.
  """

  name = 'temperature'
  title = 'Temperature'
  description = (
    'the flow with scaled noise, which is a flow as well: its exact NLL and its scores (Kingma and Dhariwal 2018)'
  )
  caption = 'Exact NLL and scores of the flow whose noise is multiplied by a temperature'
  needs_density = True
  Settings = KdeSettings
  columns = (
    Column('validation NLL (nats)', 'validation_nll', ',.2f', 'validation_standard_error'),
    Column('test NLL (nats)', 'nll', ',.2f', 'standard_error'),
    Column('MODE score', 'mode_score', '.2f', 'mode_score_std'),
    Column('Inception score', 'inception_score', '.2f', 'inception_score_std'),
    Column('FID', 'fid', '.1f'),
  )
  details = (Column('test images', 'n', ','), Column('samples', 'score_samples', ','))

  def measure(self, subject: Subject, settings: KdeSettings) -> tuple[dict, dict[str, np.ndarray]]:
    flow = subject.run.generator
    log_prob = tf.function(lambda images, c=None: tempered_log_prob(flow, images, _TEMPERATURES, c), autograph=False)
    numbers = [{'temperature': temperature} for temperature in _TEMPERATURES]
    for split, prefix in (('validation', 'validation_'), ('test', '')):
      values = subject.map(log_prob, *subject.batch(split, of_density=True))
      for record, log_probs in zip(numbers, values.T, strict=True):
        record |= mean_nll(log_probs, prefix)
    pictures = []
    for record in numbers:
      images = subject.draw(settings.samples, settings.seed, record['temperature'])
      record |= metrics.score_samples(images, subject.scorer, _SPLITS)
      pictures.append(images[:_GRID_COLUMNS])
    scorer = subject.scorer
    return {'selection': scorer and scorer.selection, 'temperatures': numbers}, {'samples': np.stack(pictures)}

  def records(self, record: dict) -> dict[str, dict]:
    return {f't = {row["temperature"]:g}': row for row in record['temperatures']}

  def figures(self, runs: Sequence[Summary]) -> dict[str, Figure]:
    studies = {run.label: run.studies[self.name] for run in runs}
    first = next(iter(studies.values())).record
    figures = {}
    name, drawn = first['selection'], {k: study.record for k, study in studies.items() if _alike(study.record, first)}
    if drawn:
      points = [point for label, record in drawn.items() for point in _points(label, record['temperatures'], name)]
      figures[self.name] = Figure.of_plot(
        display.plots.front(points, SCORE_NAMES[name]),
        f'{SCORE_NAMES[name]} against test NLL of {listed(drawn)}, a line through the temperatures of each.',
        'Likelihood and quality at temperatures t of the noise, in steps of 0.1; up and to the left is better. Bars: '
        'standard error over test images, standard deviation over splits of the samples.',
      )
    for i, (label, study) in enumerate(studies.items()):
      figures[f'{self.name}_samples' + (f'_{i}' if i else '')] = _grid(label, study)
    return figures


def _alike(record: dict, other: dict) -> bool:
  """Whether all temperatures of a record have the other's score, by the same network and number of samples."""
  return all(
    row.get(other['selection']) is not None and scored_alike(row, other['temperatures'][0])
    for row in record['temperatures']
  )


def _points(label: str, numbers: list[dict], name: str) -> list[tuple]:
  """The points of `plots.front`. The lowest and highest temperatures and 1 have notes."""
  keys = ('temperature', 'nll', name, 'standard_error', f'{name}_std')
  rows = np.array([[at[key] for key in keys] for at in numbers], np.float64)
  named = (rows[0, 0], 1, rows[-1, 0])
  return [(label, *row, f't = {row[0]:g}' if row[0] in named else '') for row in rows]


def _grid(label: str, study: Study) -> Figure:
  samples, temperatures = study.arrays['samples'], [row['temperature'] for row in study.record['temperatures']]
  said = ', '.join(f'{t:g}' for t in temperatures)
  return Figure.of_pixels(
    image_grid(samples.reshape(-1, *samples.shape[2:]), samples.shape[1]),
    f'Samples of {label}, a row for each of the temperatures {said}.',
    f'{label}: samples of the same noise in each column, at temperatures of {said} from top to bottom.',
  )

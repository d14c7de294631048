"""What a run's folder says of it, without its generator: what tables and figures of several runs are made from."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Sequence

from ml_collections import config_dict

from flowgan_tf.errors import UsageError
from flowgan_tf.evaluation.records import read_evaluation
from flowgan_tf.metrics.likelihood import bits_per_dim
from flowgan_tf.runs.history import read_metrics
from flowgan_tf.runs.run import describe_run
from flowgan_tf.study.analyses import ANALYSES
from flowgan_tf.study.study import Study, read

__all__ = ['Summary', 'summarize']


@dataclasses.dataclass(frozen=True)
class Summary:
  """A run as its files tell it.

  Attributes:
    label: 'MLE', 'ADV', 'Hybrid λ = 0.1' or the like; with the folder's name where several runs have the same.
    path: The folder as it was given.
    config: The configuration.
    dataset: Name of the data.
    image_shape: Of an image.
    levels: Number of grey levels.
    metrics: Records of `metrics.jsonl`.
    evaluation: Records of `evaluation.json`; empty if there is none.
    studies: By name, what analyses have found.
    fingerprint: Hash of the data.
    objective: The label without the folder's name.
  """

  label: str
  path: str
  config: config_dict.ConfigDict
  dataset: str
  image_shape: tuple[int, int, int]
  levels: int
  metrics: list[dict]
  evaluation: list[dict]
  studies: dict[str, Study]
  fingerprint: str = ''
  objective: str = ''

  def records(self, kind: str) -> list[dict]:
    """Records of `metrics.jsonl` of one kind, 'train' or 'validation'."""
    return [record for record in self.metrics if record.get('kind') == kind]

  def in_unit(self, nll: float | None, unit: str) -> float | None:
    """An NLL in nats, in 'nats' or 'bits/dim'."""
    if nll is None or unit == 'nats':
      return nll
    return bits_per_dim(nll, self.image_shape, self.levels)

  def error_in_unit(self, error: float | None, unit: str) -> float | None:
    """The standard error of an NLL in nats, in 'nats' or 'bits/dim'."""
    return None if error is None else self.in_unit(error, unit) - self.in_unit(0.0, unit)

  def evaluated(self, checkpoint: str) -> dict | None:
    """What `evaluation.json` has of a checkpoint and the test images, if anything."""
    found = (r for r in self.evaluation if r.get('checkpoint') == checkpoint and r.get('split') == 'test')
    return next(found, None)

  @property
  def seconds(self) -> float | None:
    """Wall time of the training until its last record."""
    return self.metrics[-1]['seconds'] if self.metrics else None

  @property
  def step(self) -> int | None:
    """Last step on record."""
    return self.metrics[-1]['step'] if self.metrics else None

  def sample_grid(self) -> pathlib.Path | None:
    """The newest grid of samples that the training has drawn."""
    return max((pathlib.Path(self.path) / 'samples').glob('step_*.png'), default=None)


def summarize(workdirs: Sequence[str | os.PathLike]) -> list[Summary]:
  """Reads runs, in the order of the paper: maximum likelihood, adversarial, hybrids by lambda, others.

  Raises:
    UsageError: If a folder is not a run, is given twice, or a file in it is damaged.
  """
  summaries = []
  for workdir in map(os.fspath, workdirs):
    if any(os.path.realpath(workdir) == os.path.realpath(other.path) for other in summaries):
      raise UsageError(f'{workdir}: named twice')
    config, facts = describe_run(workdir)
    studies = {what: study for what in ANALYSES if (study := read(workdir, what)) is not None}
    summaries.append(
      Summary(
        _label(config),
        workdir,
        config,
        facts['name'],
        tuple(facts['image_shape']),
        facts['levels'],
        read_metrics(pathlib.Path(workdir)),
        read_evaluation(pathlib.Path(workdir)),
        studies,
        facts['fingerprint'],
        _label(config),
      )
    )
  summaries.sort(key=lambda s: (s.dataset, s.fingerprint, *_rank(s.config), s.path))
  labels = [(s.dataset, s.label) for s in summaries]
  return [
    dataclasses.replace(s, label=f'{s.label} ({pathlib.Path(s.path).name})')
    if labels.count((s.dataset, s.label)) > 1
    else s
    for s in summaries
  ]


def _label(config):
  if config.generator == 'dcgan':
    return f'DCGAN {config.divergence.replace("_", " ")}'
  name = {'mle': 'MLE', 'adversarial': 'ADV', 'hybrid': f'Hybrid λ = {config["lambda"]:g}'}[config.objective]
  return name if config.objective == 'mle' or config.divergence == 'wasserstein' else f'{name} {config.divergence}'


def _rank(config):
  place = ('mle', 'adversarial', 'hybrid').index(config.objective)
  return config.generator == 'dcgan', place, config['lambda'] if config.objective == 'hybrid' else math.inf

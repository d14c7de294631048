"""What a run's folder says of it, without its generator: what tables and figures of several runs are made from."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Sequence

from ml_collections import config_dict

from flowgan_tf.analysis.study import ANALYSES, Study, read
from flowgan_tf.errors import UsageError
from flowgan_tf.metrics.likelihood import bits_per_dim
from flowgan_tf.training.logs import read_metrics
from flowgan_tf.training.runs import describe_run

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

  def records(self, kind: str) -> list[dict]:
    """Records of `metrics.jsonl` of one kind, 'train' or 'validation'."""
    return [record for record in self.metrics if record.get('kind') == kind]

  def in_unit(self, nll: float | None, unit: str) -> float | None:
    """An NLL in nats, in 'nats' or 'bits/dim'."""
    if nll is None or unit == 'nats':
      return nll
    return bits_per_dim(nll, self.image_shape, self.levels)

  def evaluated(self, checkpoint: str) -> dict | None:
    """The record of a checkpoint in `evaluation.json`, if there is one."""
    return next((record for record in self.evaluation if record.get('checkpoint') == checkpoint), None)

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
        _read_evaluation(pathlib.Path(workdir)),
        studies,
      )
    )
  summaries.sort(key=lambda s: (s.dataset, *_rank(s.config), s.path))
  labels = [(s.dataset, s.label) for s in summaries]
  return [
    dataclasses.replace(s, label=f'{s.label} ({pathlib.Path(s.path).name})')
    if labels.count((s.dataset, s.label)) > 1
    else s
    for s in summaries
  ]


def _label(config):
  if config.generator.name == 'dcgan':
    return f'DCGAN {config.divergence.replace("_", " ")}'
  name = {'mle': 'MLE', 'adversarial': 'ADV', 'hybrid': f'Hybrid λ = {config["lambda"]:g}'}[config.objective]
  return name if config.objective == 'mle' or config.divergence == 'wasserstein' else f'{name} {config.divergence}'


def _rank(config):
  place = ('mle', 'adversarial', 'hybrid').index(config.objective)
  return config.generator.name == 'dcgan', place, config['lambda'] if config.objective == 'hybrid' else math.inf


def _read_evaluation(workdir):
  path = workdir / 'evaluation.json'
  if not path.exists():
    return []
  try:
    records = json.loads(path.read_text())
    if not all(isinstance(record['step'], int) and record['checkpoint'] for record in records):
      raise ValueError('not an evaluation')
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UsageError(f'{path}: damaged ({type(error).__name__}); run bin/evaluate {workdir} again') from error
  return records

"""What the files of a run say about it, read without restoring a generator, for tables and figures."""

import collections
import dataclasses
import functools
import math
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import config_dict

from flowgan_tf import evaluation, metrics, runs
from flowgan_tf.base.errors import UsageError, printable
from flowgan_tf.base.files import fits, read_record, read_whole
from flowgan_tf.base.plugins import short_name
from flowgan_tf.display.figure import png_size
from flowgan_tf.objectives.likelihood import weight_of
from flowgan_tf.objectives.objective import OBJECTIVES, TERMS
from flowgan_tf.runs import folder as folders
from flowgan_tf.runs import pretrained

# What every analysis says, apart from its numbers.
_FORM = {'what': str, 'checkpoint': str, 'step': int, 'settings': {str: (bool, float, str, None, [(float, str)])}}
_FORM |= {'seconds': float} | dict.fromkeys(('plugin', 'given', 'label'), (str, None))


@dataclasses.dataclass(frozen=True)
class Study:
  """The result of an analysis of a run."""

  record: dict  #: Content of `RUN/analysis/WHAT.json`: `checkpoint`, `step`, `seconds`, `settings`, and the results.
  arrays: dict[str, np.ndarray]  #: Content of the .npz file that the record's file names: arrays by name.


@dataclasses.dataclass(frozen=True)
class Summary:
  """What the files of a run say about it."""

  #: The objective. The generator follows if runs on the same data have different ones, then what it is given, and the
  #: folder's name if several runs would have the same label.
  label: str
  path: str  #: The folder, as given.
  config: config_dict.ConfigDict  #: Configuration of the training.
  dataset: str  #: Name of the data.
  fingerprint: str  #: Hash of the data.
  image_shape: tuple[int, ...]  #: `(height, width, channels)`, or `(d,)` for a table.
  levels: int | None  #: Number of grey levels; None for a table.
  metrics: Sequence[dict] = ()  #: Records of `metrics.jsonl`.
  evaluation: Sequence[dict] = ()  #: Records of `evaluation.json`; empty if there is no such file.
  #: Results of analyses, by name of the analysis.
  studies: Mapping[str, Study] = dataclasses.field(default_factory=dict)
  #: Step and PNG file of the newest grid of samples from the training; None without one.
  sample_grid: tuple[int, bytes] | None = None
  real_grid: bytes | None = None  #: PNG file of validation images, laid out like the samples; None without one.
  #: The `run`, `checkpoint` and `step` that the training started from; None if it started from a new generator.
  start: dict | None = None
  class_names: Sequence[str] = ()  #: Names of the classes; empty if they have only numbers.
  damage: Sequence[str] = ()  #: A line about each file that is lost, or damaged and left out in whole or in part.

  def records(self, kind: str) -> list[dict]:
    """Returns the records of `metrics.jsonl` of one kind, 'train' or 'validation'."""
    return [record for record in self.metrics if record.get('kind') == kind]

  def in_unit(self, nll: float, unit: str) -> float:
    """Converts an NLL in nats to the unit 'nats' or 'bits/dim'."""
    if unit == 'nats' or self.levels is None:
      return nll
    return metrics.bits_per_dim(nll, self.image_shape, self.levels)

  def error_in_unit(self, error: float, unit: str) -> float:
    """Converts the standard error of an NLL in nats to the unit 'nats' or 'bits/dim'."""
    return self.in_unit(error, unit) - self.in_unit(0.0, unit)

  def evaluated(self, checkpoint: str) -> dict | None:
    """Returns the record of a checkpoint on the test images, as in `tested`, or None."""
    return next((record for record in self.tested() if record['checkpoint'] == checkpoint), None)

  def tested(self) -> list[dict]:
    """Returns the records on the test images, with the standard error in bits/dim as `bits_per_dim_error`."""

    def error(record):
      nats = record.get('standard_error')
      return None if nats is None else self.error_in_unit(nats, 'bits/dim')

    return [r | {'bits_per_dim_error': error(r)} for r in self.evaluation if r['split'] == 'test']

  @property
  def given(self) -> str:
    """What the generator is given: the setting `condition`, '' for nothing."""
    return self.config.condition

  @property
  def kind(self) -> str:
    """'MLE', 'ADV' or 'Hybrid', as in the paper."""
    return OBJECTIVES[self.config.objective]

  @property
  def weight(self) -> float:
    """Lambda: infinity for maximum likelihood, 0 for adversarial training."""
    return math.inf if self.config.objective == 'mle' else weight_of(self.config)

  @property
  def objective(self) -> str:
    """The kind, what the terms say that tells it from others, and the user's own terms, such as 'Hybrid λ = 0.1'."""
    labels = (term.label(self.config) for term in TERMS.values())
    return ' '.join([self.kind, *filter(None, labels), *(f'+ {short_name(term)}' for term in self.config.terms)])

  @property
  def seconds(self) -> float | None:
    """Wall time of the training up to its last record."""
    return self.metrics[-1]['seconds'] if self.metrics else None

  @property
  def step(self) -> int | None:
    """Step of the last record."""
    return self.metrics[-1]['step'] if self.metrics else None


def summarize(workdirs: Sequence[str | os.PathLike]) -> tuple[list[Summary], list[str]]:
  """Reads runs and sorts them, by data set and then as in the paper: maximum likelihood, adversarial, hybrid by lambda.

  It leaves out runs that have a damaged `config.json` or no checkpoint, and damaged files of other runs.

  Returns:
    The summaries, and a line about each run and file that is left out.

  Raises:
    UsageError: If a folder is not a run or is given twice, or no run is left.
  """
  workdirs = [os.fspath(pretrained.find_folder(workdir)) for workdir in workdirs]
  paths = [os.path.realpath(workdir) for workdir in workdirs]
  if repeated := [workdir for workdir, path in zip(workdirs, paths, strict=True) if paths.count(path) > 1]:
    raise UsageError(f'{repeated[-1]}: named twice')
  summaries: list[Summary] = []
  damage: list[str] = []
  for workdir in workdirs:
    try:
      summaries.append(read_summary(workdir))
      damage += summaries[-1].damage
    except UsageError as error:
      damage.append(' '.join(str(error).split()))  # An error in a setting may have several lines.
  if not summaries and damage:
    raise UsageError(damage[0])
  summaries.sort(
    key=lambda s: (s.dataset, s.fingerprint, [*OBJECTIVES].index(s.config.objective), s.weight, s.given, s.path)
  )
  # Within each data set, labels that say too little get the generator and what it is given, and then the folder.
  generators, given = collections.defaultdict(set), collections.defaultdict(set)
  for s in summaries:
    generators[s.fingerprint].add(s.config.generator)
    given[s.fingerprint].add(s.given)
  summaries = [_labelled(s, s.config.generator) if len(generators[s.fingerprint]) > 1 else s for s in summaries]
  summaries = [_labelled(s, f'given {s.given}') if s.given and len(given[s.fingerprint]) > 1 else s for s in summaries]
  for name in (lambda s: pathlib.Path(s.path).name, lambda s: s.path):
    counts = collections.Counter((s.fingerprint, s.label) for s in summaries)
    summaries = [_labelled(s, name(s)) if counts[s.fingerprint, s.label] > 1 else s for s in summaries]
  return summaries, damage


def read_summary(workdir: str | os.PathLike) -> Summary:
  """Reads one run. It imports no plug-in that the run names.

  Raises:
    UsageError: If the folder is not a run, or its `config.json` is damaged.
  """
  workdir = pathlib.Path(workdir)
  description = folders.read_description(folders.find_run(workdir), imports=False)
  assert description is not None
  facts = description.data
  damage: list[str] = []
  records = _read(lambda: runs.log.read_metrics(workdir, damage.append), damage) or []
  # A packed run has neither of these, and no log.
  has_trained = 'latest' in folders.available(workdir) or (workdir / 'tensorboard').exists()
  if has_trained and not (workdir / 'metrics.jsonl').exists():
    damage.append(f'{workdir}/metrics.jsonl: is missing; the losses of the training are lost')
  evaluated = _read(lambda: evaluation.read_evaluation(workdir), damage) or []
  studies = {}
  for path in sorted((workdir / 'analysis').glob('*.json')):
    if found := _read(functools.partial(_read_analysis, path), damage):
      studies[path.stem] = Study(*found)
  summary = Summary(
    label='',
    path=os.fspath(workdir),
    config=description.config,
    dataset=facts['name'],
    fingerprint=facts['fingerprint'],
    image_shape=tuple(facts['image_shape']),
    levels=facts['levels'],
    metrics=records,
    evaluation=evaluated,
    studies=studies,
    sample_grid=_sample_grid(workdir / 'samples', damage),
    real_grid=_png(workdir / 'samples' / 'real.png', damage),
    start=description.init,
    class_names=description.class_names or (),
    damage=damage,
  )
  return dataclasses.replace(summary, label=summary.objective)


def _read(reader: Callable[[], Any], damage: list[str]) -> Any:
  """Returns what a reader returns, or None if the file is damaged; then `damage` gets a line about it."""
  try:
    return reader()
  except UsageError as error:
    damage.append(str(error))
    return None


def _read_analysis(path: pathlib.Path) -> tuple[dict, dict[str, np.ndarray]] | None:
  remedy = '; measure it again, or remove it'
  found = read_record(path, remedy)
  # It may be a copy of another file.
  if found and not (fits(found[0], _FORM) and found[0]['what'] == path.stem):
    raise UsageError(f'{path}: does not hold the analysis {path.stem}{remedy}')
  return found


def _sample_grid(folder: pathlib.Path, damage: list[str]) -> tuple[int, bytes] | None:
  """Reads the newest grid of samples that is whole, with its step."""
  paths = [path for path in folder.glob('step_*.png') if re.fullmatch(r'step_[0-9]+', path.stem)]
  paths.sort(key=lambda path: (len(path.name), path.name))
  for path in reversed(paths):
    if png := _png(path, damage):
      return int(path.stem.removeprefix('step_')), png
  return None


def _png(path: pathlib.Path, damage: list[str]) -> bytes | None:
  """Reads a PNG file; None if there is none, or if it is damaged."""
  try:
    png = read_whole(path)
    png_size(png)
    return png
  except FileNotFoundError:
    return None
  except UsageError as error:
    damage.append(str(error))
    return None
  except (OSError, ValueError) as error:
    damage.append(f'{path}: not a readable PNG file ({type(error).__name__}); remove it')
    return None


def _labelled(summary: Summary, addition: str) -> Summary:
  return dataclasses.replace(summary, label=f'{summary.label} ({printable(addition)})')

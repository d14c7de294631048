"""The settings of a training that no other part owns: its length, its start, its optimizers, and what it reports."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from flowgan_tf.base.errors import check
from flowgan_tf.base.settings import BELOW_ONE, NOT_NEGATIVE, PATH, POSITIVE, Range, Settings, setting
from flowgan_tf.flows.registry import traits_of

PRECISIONS = ('float32', 'mixed_bfloat16', 'mixed_float16')  # names of Keras dtype policies
SCORERS = ('classifier', 'resnet', 'inception')
CHECKPOINTS = ('latest', 'best_nll', 'best_score')
DEFAULT_CHECKPOINT = 'Default: best_nll, or best_score for an adversarial run.'  # what `load_run` takes

_STRATEGY: Range = (
  "'mirrored', 'mirrored:N' with a number of devices, or 'multi_worker'",
  lambda v: re.fullmatch(r'(mirrored(:[1-9]\d{0,3})?|multi_worker)?', v) is not None,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSettings(Settings):
  """The length of a training, and how it computes."""

  seed: int = setting(0, 'Seed of everything random.', 0, 2**31 - 1, short=True)
  steps: int = setting(10_000, 'Step at which training ends.', 1, 10**9, short=True)
  ema_decay: float = setting(
    0.999, "Average of the generator's weights, warmed up as (1 + t) / (10 + t); 0 for none.", must=BELOW_ONE
  )
  # The average may lag behind by as many steps, less one.
  ema_every: int = setting(10, 'Steps from one update of that average to the next, after the first 100.', 1, 100)
  on_nan: str = setting(
    'stop',
    'When a loss is not finite: stop, or roll back to the last checkpoint with half the learning rate.',
    choices=('stop', 'rollback'),
    short=True,
    free=True,
  )
  precision: str = setting('float32', 'Keras dtype policy of the networks.', choices=PRECISIONS, short=True)
  jit: bool = setting(False, 'Compile with XLA. On a CPU, only dense networks are faster with it.', short=True)
  recompute: bool = setting(False, "Compute the flow's networks again for gradients: less memory, more time.")
  strategy: str = setting(
    '',
    'Devices that share each batch: mirrored, mirrored:N or multi_worker.',
    must=_STRATEGY,
    short=True,
    free=True,
  )

  @classmethod
  def idle(cls, name: str, config: Any) -> str:
    """Without an average, nothing updates it."""
    return 'ema_decay 0' if name == 'ema_every' and not config.ema_decay else ''

  @classmethod
  def check(cls, config: Any) -> None:
    """Checks that a generator of rows is trained by its likelihood."""
    expected = f"'mle' with generator {config.generator}, whose samples are not images"
    check('objective', config.objective, expected, not traits_of(config).draws_rows or config.objective == 'mle')


def check_strategy(strategy: str) -> None:
  """Checks the name of a strategy; see `make_replicas`."""
  TrainingSettings.declared()['strategy'].check('strategy', strategy)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StartSettings(Settings):
  """The run that a training starts from."""

  init_from: str = setting('', 'Run whose generator the training starts from.', must=PATH, short=True)
  init_checkpoint: str | None = setting(
    None, 'Checkpoint of that run. Default: the one that other programs use.', kind=str, choices=CHECKPOINTS
  )

  @classmethod
  def check(cls, config: Any) -> None:
    """Checks that a checkpoint belongs to a run."""
    started = config.init_checkpoint is None or bool(config.init_from)
    check('init_checkpoint', config.init_checkpoint, 'left out without `init_from`', started)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportSettings(Settings):
  """What a training logs, evaluates and scores."""

  log_every: int = setting(50, 'Steps from one record of the log to the next.', 1, 10**9, free=True)
  eval_every: int = setting(500, 'Steps from one evaluation to the next.', 1, 10**9)
  score_samples: int = setting(
    2000,
    'Samples behind each score during training; below 64, 64 are drawn; 0 trains without scores.',
    must=('0 or an integer from 10 to 1000000', lambda v: v == 0 or 10 <= v <= 10**6),
  )
  scorer: str = setting('classifier', 'Network behind the scores.', choices=SCORERS, short=True)
  inception_weights: str = setting(
    '', 'File with the weights of Inception-v3. Default: a download.', must=PATH, short=True, free=True
  )
  cache_dir: str = setting(
    '',
    'Folder for classifiers, features and decoded images. Default: ~/.cache/flowgan_tf.',
    must=PATH,
    free=True,
  )

  evaluate: bool = setting(
    True,
    'Whether `train` evaluates the checkpoints at the end; `evaluate RUN` does so later.',
    short=True,
    free=True,
  )

  @classmethod
  def idle(cls, name: str, config: Any) -> str:
    """Nothing scores the rows of a table, and only Inception has weights to load."""
    scores = name in ('scorer', 'inception_weights') or (name == 'score_samples' and config.score_samples > 0)
    if scores and traits_of(config).draws_rows:
      return f'generator {config.generator}'
    idle = name == 'inception_weights' and config.scorer != 'inception'
    return f'scorer {config.scorer}' if idle else ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSettings(Settings):
  """Adam."""

  learning_rate: float = setting(2e-4, 'Learning rate.', must=POSITIVE)
  beta_1: float = setting(0.5, 'Decay of the mean of gradients.', must=BELOW_ONE)
  beta_2: float = setting(0.9, 'Decay of the mean of squared gradients.', must=BELOW_ONE)
  schedule: str = setting(
    'constant',
    'How the learning rate changes; cosine falls to 0 at the last step.',
    choices=('constant', 'cosine', 'exponential'),
  )
  decay_rate: float = setting(
    1.0,
    "Factor of the learning rate per step of training, for 'exponential'.",
    must=('a number above 0 and at most 1', lambda v: 0 < v <= 1),
  )
  warmup_steps: int = setting(0, 'Steps at the start in which the learning rate rises from 0.', 0, 10**9)
  clip_norm: float = setting(0.0, 'Largest global norm of the gradient; 0 for no limit.', must=NOT_NEGATIVE)

  @classmethod
  def idle(cls, name: str, config: Any) -> str:
    """Only an exponential schedule has a rate of decay."""
    block, _, key = name.partition('.')
    schedule = config[block].schedule
    return f'{block}.schedule {schedule}' if key == 'decay_rate' and schedule != 'exponential' else ''

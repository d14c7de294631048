"""What a training starts from: the data, or another run."""

import dataclasses
import logging
import math
import os

import numpy as np
import tensorflow as tf
from ml_collections import config_dict

from flowgan_tf import data
from flowgan_tf.base.errors import UsageError, blaming
from flowgan_tf.base.plugins import short_name
from flowgan_tf.flows.initialization import InitialData
from flowgan_tf.flows.registry import traits_of
from flowgan_tf.runs.checkpoints import restore_critic
from flowgan_tf.runs.config import settings, used
from flowgan_tf.runs.folder import check_trains_on
from flowgan_tf.runs.run import load_run
from flowgan_tf.runs.seeds import Purpose
from flowgan_tf.training.state import TrainState

_LOG = logging.getLogger(__name__)

_VALUES = 2**26  # of images in memory as floats, at most
_PER_BATCH = 1000


@dataclasses.dataclass(frozen=True)
class TrainingImages(InitialData):
  """The training images of a run, from which a new generator takes its first values."""

  config: config_dict.ConfigDict  #: Configuration of the run.
  dataset: data.Dataset  #: Its data.
  split: data.Split  #: The training images, with the labels of the training.

  @property
  def seed(self) -> int:
    """The seed of the run."""
    return self.config.seed

  @property
  def labels(self) -> np.ndarray | None:
    """The labels of the training images."""
    return self.split.labels

  @property
  def _held(self):
    return max(1, _VALUES // math.prod(self.split.images.shape[1:]))

  def trained(self, n: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns images in the order of the training, mirrored and moved as there; or all rows of a table."""
    levels, kind = self.dataset.levels, self.dataset.condition
    if levels is None:
      return np.asarray(self.split.images), self._known(kind.of_split(self.split))
    n = min(len(self.split), self._held if n is None else n)
    size, moved = min(n, _PER_BATCH), {'flip': self.config.flip, 'shift': self.config.shift}
    batches = data.training_batches(self.split, levels, size, self.seed, condition=kind, **moved)
    images, conditions = zip(*batches.take(math.ceil(n / size)), strict=True)
    n = len(self.split)  # Each image counts at most once.
    return np.concatenate(images)[:n], self._known(None if conditions[0] is None else np.concatenate(conditions)[:n])

  def _known(self, conditions):
    """A label that is not known becomes the first class."""
    return conditions if self.dataset.condition.classes is None else np.maximum(conditions, 0)

  def sample(self, n: int, of_class: int = 0) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns images as they are, dequantised. If there are classes, only images with labels count."""
    order = np.random.default_rng((self.seed, Purpose.PRIOR)).permutation(len(self.split))
    labels, classes = np.asarray(self.split.labels), self.dataset.condition.classes
    if classes:
      order = order[labels[order] >= 0]
    chosen = order[: min(n, max(of_class, self._held))]
    for label in range(classes or 0):  # A rare class needs as many as it has components.
      chosen = np.union1d(chosen, order[labels[order] == label][:of_class])
    chosen = np.sort(chosen)
    images = data.dequantize(self.split.images[chosen], self.dataset.levels, self.seed + Purpose.PRIOR)
    return images, labels[chosen] if classes else None


def initialize_from_data(state: TrainState, images: TrainingImages) -> None:
  """Lets a new generator take its first values from training images, and gives them to the averaged generator too.

  A generator from another run, `config.init_from`, takes the shares of the classes alone.

  Raises:
    UsageError: If there are fewer training images than components, the flow has batch norms between its couplings, or a
      column of a table is constant.
  """
  config = images.config
  try:
    state.generator.initialize(images, new=not config.init_from)
  except ValueError as error:
    if traits_of(config).draws_rows:
      raise UsageError(f'{config.dataset}: {error}') from error
    components = getattr(state.generator.distribution, 'num_components', None)
    if components is None or not isinstance(error, UsageError):
      raise
    name = f'{short_name(config.generator)}.components'
    raise UsageError(f'`{name}` {components} does not fit: {error}', name) from error
  for average, variable in zip(state.ema.variables, state.generator.variables, strict=True):
    average.assign(variable)


def initialize_from_run(config: config_dict.ConfigDict, dataset: data.Dataset, state: TrainState) -> dict:
  """Gives a training the averaged weights from checkpoint `config.init_checkpoint` of the run `config.init_from`.

  With `config.init_critic`, the training also gets the critic from there. Returns where they come from, for `init` in
  `config.json`: the run's folder, checkpoint, step, data and settings.

  Raises:
    UsageError: If there is no such run, it has another generator, only the new training has `pseudo_labels`, or the run
      has no critic, or another one, for `init_critic`.
  """
  path = config.init_from
  with blaming('init_from'):
    run = load_run(path, config.init_checkpoint)
  found = _generator_of(run.config, run.image_shape, run.generator)
  wanted = _generator_of(config, dataset.image_shape, state.generator)
  _check_same(path, 'generator', found, wanted)
  if config.init_critic and state.critic is not None:
    if run.config.objective == 'mle':
      raise UsageError(f'`init_critic` must be False to start from a run without a critic. Got: {path}.', 'init_critic')
    check_trains_on(run.workdir)
    _check_same(path, 'critic for `init_critic`', _critic_of(run.config), _critic_of(config))
  if config.pseudo_labels and not run.config.pseudo_labels:  # Without them, images have moved to other components.
    raise UsageError(
      f'`init_from` must be a run with `pseudo_labels`, as the new one has them. Got: {path}.', 'init_from'
    )
  for part in (state.generator, state.ema):
    for variable, source in zip(part.variables, run.generator.variables, strict=True):
      variable.assign(tf.cast(source, variable.dtype))
  what = 'The generator starts'
  if config.init_critic and state.critic is not None:
    restore_critic(run.workdir, state.critic, run.identity)
    what = 'Generator and critic start'
  _LOG.info('%s from %s, checkpoint %s, step %d.', what, path, run.checkpoint, run.step)
  return {
    'run': os.fspath(path),
    'checkpoint': run.checkpoint,
    'step': run.step,
    'data': run.fingerprint,
    'config': settings(used(run.config)),
  }


def _check_same(path, kind, found, wanted):
  if name := next((name for name, value in wanted.items() if found.get(name) != value), None):
    raise UsageError(
      f'`init_from` must be a run with the same {kind}. Got: {path}, whose {name} is {found[name]!r} instead of '
      f'{wanted[name]!r}.',
      'init_from',
    )


def _block(config, kind):
  """Returns the name and the settings of the generator or the critic."""
  name = short_name(config[kind])
  return {kind: config[kind]} | {key: value for key, value in settings(config).items() if key.startswith(f'{name}.')}


def _critic_of(config):
  return {**_block(config, 'critic'), 'divergence': config.divergence}


def _generator_of(config, image_shape, generator):
  given = {'classes': generator.classes, 'condition_shape': generator.condition_shape}
  return {'image_shape': tuple(image_shape), 'condition': config.condition, **given, **_block(config, 'generator')}

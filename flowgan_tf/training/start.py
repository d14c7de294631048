"""The start of a training: a prior placed in the data, or the weights of another run."""

from __future__ import annotations

import logging
import math
import os

import numpy as np
from ml_collections import config_dict

from flowgan_tf.data import Dataset, dequantize
from flowgan_tf.errors import UsageError
from flowgan_tf.flows import MixturePrior, initialize_prior
from flowgan_tf.runs.config import settings, used
from flowgan_tf.runs.run import load_run
from flowgan_tf.runs.seeds import Purpose
from flowgan_tf.training.state import TrainState

__all__ = ['start_from_data', 'start_from_run']

_LOG = logging.getLogger(__name__)

_CLUSTERED = 10_000  # images, or all if there are fewer
_VALUES = 2**26  # of these images, at most


def start_from_data(config: config_dict.ConfigDict, dataset: Dataset, state: TrainState) -> None:
  """Places the means of a mixture prior in the clusters of training images; see `initialize_prior`.

  Args:
    config: The configuration of the training.
    dataset: Its data.
    state: Its state, of which generator and averaged generator take means and prototypes. Another prior stays as it is.

  Raises:
    UsageError: If there are fewer training images than components, or the flow has batch norms between its couplings.
  """
  prior = state.generator.distribution
  if not isinstance(prior, MixturePrior):
    return
  rng = np.random.default_rng((config.seed, Purpose.PRIOR))
  most = max(prior.num_components, min(_CLUSTERED, _VALUES // math.prod(dataset.image_shape)))
  chosen = np.sort(rng.permutation(len(dataset.train))[:most])
  images = dequantize(dataset.train.images[chosen], dataset.levels, config.seed + Purpose.PRIOR)
  _LOG.info('The means of the prior start in %d clusters of %s images.', prior.num_components, f'{len(images):,}')
  try:
    initialize_prior(state.generator, images, config.seed)
  except ValueError as error:
    raise UsageError(f'`{config.generator}.components` {prior.num_components} does not fit: {error}') from error
  for average, variable in zip(state.ema.distribution.variables, prior.variables, strict=True):
    average.assign(variable)


def start_from_run(config: config_dict.ConfigDict, dataset: Dataset, state: TrainState) -> dict:
  """Gives a training the averaged weights of the run `config.init_from`, of its checkpoint `config.init_checkpoint`.

  Args:
    config: The configuration of the training.
    dataset: Its data, which may be others than those of the run.
    state: Its state. Generator and averaged generator take the weights.

  Returns:
    Where they come from, for `init` in `config.json`: the run's folder, checkpoint, step, data and settings.

  Raises:
    UsageError: If there is no such run, its generator is another one, or only the new training has `pseudo_labels`.
  """
  path = config.init_from
  try:
    run = load_run(path, config.init_checkpoint)
  except UsageError as error:
    raise UsageError(f'`init_from`: {error}') from error
  found, wanted = _generator_of(run.config, run.image_shape), _generator_of(config, dataset.image_shape)
  if name := next((name for name, value in wanted.items() if found.get(name) != value), None):
    raise UsageError(
      f'`init_from` must be a run with the same generator. Got: {path}, whose {name} is {found[name]} instead of '
      f'{wanted[name]}.'
    )
  if config.pseudo_labels and not run.config.pseudo_labels:
    # There, images have left for other components, and a run of before has no prototypes.
    raise UsageError(f'`init_from` must be a run with `pseudo_labels`, as the new one has them. Got: {path}.')
  state.start_from(run.generator)
  _LOG.info('The generator starts from %s, checkpoint %s, step %d.', path, run.checkpoint, run.step)
  return {
    'run': os.fspath(path),
    'checkpoint': run.checkpoint,
    'step': run.step,
    'data': run.fingerprint,
    'config': settings(used(run.config)),
  }


def _generator_of(config, image_shape):
  block = {name: value for name, value in settings(config).items() if name.startswith(f'{config.generator}.')}
  return {'generator': config.generator, 'image_shape': tuple(image_shape), **block}

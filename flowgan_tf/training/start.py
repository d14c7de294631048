"""The start of a training that goes on from another run."""

from __future__ import annotations

import logging
import os

from ml_collections import config_dict

from flowgan_tf.data import Dataset
from flowgan_tf.errors import UsageError
from flowgan_tf.runs.config import settings, used
from flowgan_tf.runs.run import load_run
from flowgan_tf.training.state import TrainState

__all__ = ['start_from_run']

_LOG = logging.getLogger(__name__)


def start_from_run(config: config_dict.ConfigDict, dataset: Dataset, state: TrainState) -> dict:
  """Gives a training the averaged weights of the run `config.init_from`.

  Args:
    config: The configuration of the training.
    dataset: Its data, which may be others than those of the run.
    state: Its state. Generator and averaged generator take the weights.

  Returns:
    Where they come from, for the file `init.json`: the run's folder, checkpoint, step, data and settings.

  Raises:
    UsageError: If there is no such run, or its generator is another one.
  """
  path = config.init_from
  try:
    run = load_run(path)
  except UsageError as error:
    raise UsageError(f'`init_from`: {error}') from error
  found, wanted = _generator_of(run.config, run.image_shape), _generator_of(config, dataset.image_shape)
  if name := next((name for name, value in wanted.items() if found.get(name) != value), None):
    raise UsageError(
      f'`init_from` must be a run with the same generator. Got: {path}, whose {name} is {found[name]} instead of '
      f'{wanted[name]}.'
    )
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

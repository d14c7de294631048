"""Settings and data so small that a training takes a second or two."""

import pathlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from ml_collections import config_dict

from flowgan_tf.base.files import read_record, write_record
from flowgan_tf.data.conditions import NOTHING, Condition
from flowgan_tf.objectives.objective import make_objective
from flowgan_tf.runs.config import default_config
from flowgan_tf.training.state import TrainState
from flowgan_tf.training.step import batches_per_step

IMAGE_SHAPE = (4, 4, 1)
# What the record of a run says of its data.
FACTS = {'name': 'tiny', 'image_shape': [*IMAGE_SHAPE], 'levels': 256, 'fingerprint': '0'}

# How TensorFlow may run a function.
MODES = {
  'eager': lambda function: function,
  'graph': tf.function,
  'XLA': lambda function: tf.function(function, jit_compile=True),
}


def make_config(settings: dict | None = None, **more) -> config_dict.ConfigDict:
  """The default configuration with tiny networks; `settings` may have keys such as 'generator'."""
  config = default_config()
  tiny = {
    'batch_size': 8,
    'steps': 4,
    'critic_steps': 2,
    'log_every': 1,
    'eval_every': 2,
    'score_samples': 0,
    'jit': False,
    'nice.couplings': 2,
    'nice.hidden_units': 8,
    'nice.hidden_layers': 1,
    'nice.normalization': 'none',
    'dcgan_critic.channels': (2,),
    'dcgan_critic.dense_units': 0,
  }
  config.update_from_flattened_dict(tiny | (settings or {}) | more)
  return config


def make_state(
  config: config_dict.ConfigDict,
  image_shape: tuple[int, int, int] = IMAGE_SHAPE,
  condition: Condition = NOTHING,
) -> TrainState:
  """The state of a training that has not begun."""
  return TrainState(config, image_shape, make_objective(config), condition=condition)


def images_for(config: config_dict.ConfigDict, seed: int = 0) -> tf.Tensor:
  """Random images for one step."""
  count = batches_per_step(make_objective(config), config.critic_steps, config.reuse_batch) * config.batch_size
  return tf.constant(np.random.default_rng(seed).uniform(0.05, 0.95, (count, *IMAGE_SHAPE)), tf.float32)


def edit_record(path: pathlib.Path, edit: Callable[[dict], object]) -> None:
  """Changes the record in a JSON file, with a hash that fits."""
  record, arrays = read_record(path)
  edit(record)
  write_record(path, record, arrays)


def write_images(path: pathlib.Path, count: int = 40, shape: tuple[int, ...] = IMAGE_SHAPE, labels: bool = False):
  """Writes an .npz of images that are bright on one side; returns its path as a string."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 100, (count, *shape))
  images[:, : shape[0] // 2] += 150
  arrays = {'images': images.astype(np.uint8)}
  if labels:
    arrays['labels'] = np.arange(count) % 2
    arrays['images'][1::2] = arrays['images'][1::2, ::-1]
  np.savez(path, **arrays)
  return str(path)

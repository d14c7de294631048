"""A run: what its settings describe, and what is restored from its folder."""

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence

import keras
from ml_collections import config_dict

from flowgan_tf import data
from flowgan_tf.base.cache import cache_folder
from flowgan_tf.base.errors import UsageError, renamed
from flowgan_tf.base.plugins import short_name
from flowgan_tf.base.progress import Task
from flowgan_tf.base.settings import settings_of
from flowgan_tf.data.conditions import kind_of
from flowgan_tf.flows import GENERATORS, Generator
from flowgan_tf.objectives import CRITICS
from flowgan_tf.objectives.likelihood import weight_of
from flowgan_tf.runs.checkpoints import restore_generator
from flowgan_tf.runs.config import run_identity
from flowgan_tf.runs.folder import available, find_run, read_description
from flowgan_tf.runs.pretrained import unpack
from flowgan_tf.runs.record import check_data


@dataclasses.dataclass(frozen=True)
class Run:
  """A trained generator with its configuration."""

  workdir: pathlib.Path  #: Folder of the run.
  config: config_dict.ConfigDict = dataclasses.field(repr=False)  #: Configuration of the training.
  image_shape: tuple[int, ...]  #: `(height, width, channels)`, or `(d,)` for a table.
  fingerprint: str = dataclasses.field(repr=False)  #: Hash of the data.
  checkpoint: str  #: Name of the restored checkpoint.
  step: int  #: Training step of that checkpoint.
  generator: Generator  #: The generator, with averaged weights.
  identity: dict[str, object] = dataclasses.field(repr=False)  #: What the run is, from `run_identity`.


def load_run(workdir: str | os.PathLike, checkpoint: str | None = None) -> Run:
  """Restores the generator of a run.

  Args:
    workdir: Folder of the run. `pretrained:NAME` is unpacked into `runs/pretrained-NAME`.
    checkpoint: One of `checkpoints.CHECKPOINTS`. The default is `best_nll`, or `best_score` for an adversarial run,
      whose NLL is best before it has learned anything; the first that exists if that checkpoint does not.

  Raises:
    UsageError: If the folder is not a run, has no such checkpoint, or holds a damaged file.
  """
  workdir = find_run(workdir)
  description = read_description(workdir)
  assert description is not None
  config, facts = description.config, description.data
  best = 'best_score' if weight_of(config) == 0 else 'best_nll'
  checkpoint = checkpoint or (best if best in (have := available(workdir)) else have[0])
  image_shape = tuple(facts['image_shape'])
  identity = run_identity(config, facts['fingerprint'])
  with Task(f'loading {workdir}'):
    generator = make_generator(config, image_shape, arguments=facts.get('condition'))
    step = restore_generator(workdir, checkpoint, generator, identity)
  generator.condition_check = kind_of(config.condition).check
  if generator.classes:
    generator.class_names = description.class_names
  return Run(workdir, config, image_shape, facts['fingerprint'], checkpoint, step, generator, identity)


def load_pretrained(name: str) -> Generator:
  """Returns a trained flow that comes with the package.

  `mnist` is a Jet p(x | y) of images `[28, 28, 1]` in [0, 1], given the digit that they show, from 0 to 9. It was
  trained as a hybrid, by the variant `jet_label_hybrid` of `configs/mnist.py`; docs/results/conditions.md says how good
  it is.

  `mnist-best` is a Jet p(x) of such images with our best likelihood, 0.956 bits/dim. Its six networks of histograms are
  a six-step autoregressive model of grey levels. It was trained by the variants `jet_one_shift` and `jet_one` in turn,
  as docs/results/histograms.md says.

  ```python
  flow = fg.load_pretrained('mnist')
  threes = flow.sample(16, seed=(0, 1), condition=3)  # [16, 28, 28, 1]
  flow.log_prob(threes)                               # [16], log p(x) in nats
  ```

  Raises:
    UsageError: If there is no such flow, or its file is damaged.
  """
  with tempfile.TemporaryDirectory() as folder:
    unpack(name, pathlib.Path(folder))
    return load_run(folder).generator


def load_data(run: Run) -> data.Dataset:
  """Loads the data that a run was trained on.

  Raises:
    UsageError: If the data cannot be read or have changed.
  """
  name = run.config.dataset
  check_data(run.workdir)
  if os.path.isabs(name) and not os.path.exists(name):
    raise UsageError(f'{run.workdir}: was trained on {name}, which is no longer there; put it back')
  dataset = data_of(run.config)
  if dataset.fingerprint != run.fingerprint:
    raise UsageError(f'{run.workdir}: was trained on other data than {run.config.dataset} holds now')
  return dataset


def data_of(config: config_dict.ConfigDict) -> data.Dataset:
  """Loads the data that a configuration names, with what it gives a generator."""
  with Task(f'loading {config.dataset}'):
    dataset = data.load(config.dataset, config.data_dir, config.image_size, cache_folder(config.cache_dir))
  return dataclasses.replace(dataset, condition_kind=config.condition)


def make_generator(
  config: config_dict.ConfigDict,
  image_shape: Sequence[int],
  dtype: str = 'float32',
  arguments: Mapping[str, object] | None = None,
) -> Generator:
  """Builds the generator that a configuration describes, with a Keras dtype policy.

  `arguments` come from a `Condition`, if the generator is conditional. A `UsageError` says which setting is wrong or
  does not fit the shape of the images.
  """
  return _build(GENERATORS, 'generator', config, image_shape, dtype, arguments or {})


def make_critic(
  config: config_dict.ConfigDict,
  image_shape: Sequence[int],
  dtype: str = 'float32',
  condition_shape: Sequence[int] | None = None,
) -> keras.Layer:
  """Builds the critic that a configuration describes, like `make_generator`."""
  return _build(CRITICS, 'critic', config, image_shape, dtype, {'condition_shape': condition_shape})


def _build(builders, setting, config, image_shape, dtype, arguments):
  name = short_name(config[setting])
  try:
    build = builders[config[setting]]
    return build(image_shape, dtype=dtype, **vars(settings_of(build).of(config[name])), **arguments)
  except ValueError as error:
    if getattr(error, 'argument', None) in config[name]:
      raise renamed(error, {argument: f'{name}.{argument}' for argument in config[name]}) from error
    raise UsageError(f'`{setting}` {config[setting]!r} does not fit: {error}', setting) from error

"""The settings of the data: where they come from, and what of them a training sees."""

from __future__ import annotations

import dataclasses
from typing import Any

from flowgan_tf.base.errors import LARGEST_IMAGE, check
from flowgan_tf.base.settings import PATH, Settings, setting
from flowgan_tf.data import conditions
from flowgan_tf.data.names import is_of_tfds
from flowgan_tf.flows.registry import traits_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSettings(Settings):
  """The settings of data and batches."""

  dataset: str = setting(
    'digits',
    'Name of a data set, path of a folder of images or .npy files, or of an .npz file, or MODULE:FUNCTION.',
    must=PATH,
    short=True,
  )
  data_dir: str = setting(
    '', 'Folder with data prepared by TFDS. Default: TFDS_DATA_DIR.', must=PATH, short=True, free=True
  )
  image_size: int = setting(
    0, 'Height and width to which images are cropped and resized; 0 takes them as they are.', 0, LARGEST_IMAGE
  )
  condition: str = setting(
    '',
    f'What the generator is conditioned on: {conditions.expected_kinds()}, which is the default.',
    must=(conditions.expected_kinds(), conditions.is_kind),
    short=True,
  )
  labelled: int = setting(0, 'Training images that keep their labels, equally many in each class; 0 for all.', 0, 10**9)
  flip: bool = setting(False, 'Random horizontal flips of training images.')
  shift: int = setting(0, 'Largest number of pixels by which training images are moved, in both directions.', 0, 1000)
  batch_size: int = setting(100, 'Images per batch.', 1, 65_536, short=True)

  @classmethod
  def check(cls, config: Any) -> None:
    """Checks what a table and a vector exclude."""
    rows = traits_of(config).draws_rows
    for name, only in (('flip', False), ('shift', 0)):
      expected = f'{only!r} with generator {config.generator}, whose samples are not images'
      check(name, config[name], expected, not rows or config[name] == only)
    expected = "0 with `condition` 'vector', because a vector may say where things are in the image"
    check('shift', config.shift, expected, not config.shift or config.condition != 'vector')

  @classmethod
  def idle(cls, name: str, config: Any) -> str:
    """Only data sets of TFDS are prepared."""
    return f'dataset {config.dataset}' if name == 'data_dir' and not is_of_tfds(config.dataset) else ''

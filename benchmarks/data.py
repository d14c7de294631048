"""Memory and time of training on images that stay in a file, beside the same images in memory. It runs on Linux.

  python -m benchmarks.data --images=200000 --steps=200

Writes images of 64x64x3 into a temporary folder, 2.5 GB for 200,000, and trains NICE on them. The memory is what the
process uses after the first 20 steps, and its most after a later one. For the times, rounds of steps from the file and
from memory alternate, so that both see the same load of the machine; memory holds 40,000 of the images, because tf.data
takes several times their size there. The best round of each counts. The processor time counts all cores.
"""

from __future__ import annotations

import os
import pathlib
import tempfile
import time

import numpy as np
from absl import app, flags

from flowgan_tf import data
from flowgan_tf.objectives.objective import make_objective
from flowgan_tf.runs.config import default_config
from flowgan_tf.training.state import TrainState
from flowgan_tf.training.step import TrainStep

IMAGES = flags.DEFINE_integer('images', 200_000, 'Number of images.', lower_bound=1)
STEPS = flags.DEFINE_integer('steps', 200, 'Steps over which memory and time are measured.', lower_bound=10)
FOLDER = flags.DEFINE_string('folder', None, 'Where the temporary folder is made.')

IMAGE_SHAPE = (64, 64, 3)
_WARM_UP = 20
_ROUND = 10
_IN_MEMORY = 40_000


def main(argv: list[str]) -> None:
  """Prints the memory, and then the times."""
  del argv
  config = default_config()
  config.nice.hidden_units, config.nice.hidden_layers = 256, 2
  objective = make_objective(config)
  state = TrainState(config, IMAGE_SHAPE, objective)
  step = TrainStep(state, objective, config)
  with tempfile.TemporaryDirectory(dir=FOLDER.value) as folder:
    path = pathlib.Path(folder, 'train.npy')
    write(path, IMAGES.value)
    images = data.StoredImages(path)
    print(f'{IMAGES.value:,} images, {path.stat().st_size / 1e9:.2f} GB of file')
    from_file = iter(data.training_batches(data.Split(images, None), 256, config.batch_size, seed=0))
    run(step, from_file, _WARM_UP)
    before = memory()
    most = max(run(step, from_file, STEPS.value, memory))
    print(f'memory {before / 1e6:,.0f} MB, at most {most / 1e6:,.0f} MB: growth {most / before - 1:.2%}', flush=True)
    from_memory = iter(data.training_batches(data.Split(images[:_IN_MEMORY], None), 256, config.batch_size, seed=0))
    run(step, from_memory, _WARM_UP)
    times = {'file': [], 'memory': []}
    for _ in range(0, STEPS.value, _ROUND):
      for name, batches in (('file', from_file), ('memory', from_memory)):
        start = time.perf_counter(), time.process_time()
        run(step, batches, _ROUND)
        times[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    print('best round          wall       processor')
    for name, found in times.items():
      wall, processor = (1e3 * min(column) / _ROUND for column in zip(*found, strict=True))
      print(f'{name:15s} {wall:8.2f} ms {processor:11.2f} ms')


def write(path: pathlib.Path, count: int) -> None:
  """Writes random images, a thousand at a time."""
  rng = np.random.default_rng(0)
  with path.open('wb') as file:
    header = {'descr': '|u1', 'fortran_order': False, 'shape': (count, *IMAGE_SHAPE)}
    np.lib.format.write_array_header_1_0(file, header)
    for start in range(0, count, 1000):
      rng.integers(0, 256, (min(1000, count - start), *IMAGE_SHAPE), np.uint8).tofile(file)


def run(step, batches, steps: int, measure=lambda: None) -> list:
  """Trains for some steps, and returns what `measure` finds after each."""
  found = []
  for _ in range(steps):
    step(next(batches))['loss'].numpy()
    found.append(measure())
  return found


def memory() -> int:
  """Bytes of the process that are in memory."""
  return int(pathlib.Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')


if __name__ == '__main__':
  app.run(main)

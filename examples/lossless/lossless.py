"""Compresses the test images of a run's data by its flow, without loss.

python examples/lossless/lossless.py encode RUN images.bin
python examples/lossless/lossless.py decode RUN images.bin images.npz
python examples/lossless/lossless.py table RUN...

`encode` writes one file, and `decode` writes the arrays `images` and, if the flow has classes, `labels`. `table` does
both for each run, counts wrong images, and compares with PNG, WebP and LZMA. It shows the bits/dim
that the likelihood promises, the bits/dim that the file takes, and milliseconds per image. The bits/dim leave out the
initial bytes of the file, which are the noise of the first image. RUN is the folder of a training, or pretrained:mnist.
"""

import lzma
import math
import pathlib
import tempfile
import time
from collections.abc import Callable

import numpy as np
import PIL.Image
from absl import app, flags, logging
from codec import Codec

import flowgan_tf as fg
from flowgan_tf.base.errors import UsageError
from flowgan_tf.display.tables import Column, Row, Table
from flowgan_tf.programs.command import errors_reported

FLAGS = flags.FLAGS
FLAGS.set_gnu_getopt()  # Flags may follow arguments.
flags.DEFINE_integer('images', None, 'Compress only this many test images.', lower_bound=1)
flags.DEFINE_string('data_dir', None, 'Where the data of the runs are, if not where the training found them.')
flags.DEFINE_string('checkpoint', None, 'Checkpoint of the runs, such as latest.')

_COLUMNS = (
  Column('coded by', 'name'),
  Column('promised', 'promised', '.4f'),
  Column('bits/dim', 'net', '.4f'),
  Column('excess', 'excess', '+.2%'),
  Column('bytes', 'bytes', ',d'),
  Column('initial', 'initial', ',d'),
  Column('ms, coding', 'encoding', '.2f'),
  Column('ms, decoding', 'decoding', '.2f'),
  Column('wrong', 'wrong', ',d'),
)


def load(workdir: str) -> tuple[fg.runs.Run, fg.data.Dataset]:
  """Returns a run, and the data that it was trained on."""
  run = fg.runs.load_run(workdir, FLAGS.checkpoint)
  run.config.data_dir = FLAGS.data_dir or run.config.data_dir
  return run, fg.runs.load_data(run)


def test_images(run: fg.runs.Run, dataset: fg.data.Dataset) -> tuple[np.ndarray, np.ndarray | None]:
  """Returns grey levels, and the labels that a flow with classes needs."""
  images, labels = dataset.test.images[: FLAGS.images], dataset.test.labels
  return np.asarray(images), labels[: FLAGS.images] if run.generator.classes else None


def promised(flow: fg.flows.Flow, images: np.ndarray, levels: int, labels: np.ndarray | None) -> float:
  """Returns the mean of -log2 p(x), or of -log2 p(x, y), in bits/dim, of images with uniform noise."""
  x, found = fg.data.dequantize(images, levels, seed=0), []
  for i in range(0, len(x), 200):
    own = None if labels is None else labels[i : i + 200]
    log_prob = flow.log_prob(x[i : i + 200], condition=own).numpy().astype(np.float64)
    found.append(log_prob if own is None else log_prob + np.log(np.asarray(flow.class_probs)[own]))
  return math.log2(levels) - np.concatenate(found).mean() / (images[0].size * math.log(2))


def encode(run: fg.runs.Run, dataset: fg.data.Dataset, path: pathlib.Path) -> None:
  """Writes the file: the number of grey levels, which the decoder must know, and the words of `Codec.compress`."""
  words = Codec(run.generator, dataset.levels).compress(*test_images(run, dataset))
  path.write_bytes(np.append(words, dataset.levels).astype('<u4').tobytes())


def decode(run: fg.runs.Run, path: pathlib.Path) -> tuple[np.ndarray, np.ndarray | None]:
  """Reads the file."""
  content = path.read_bytes()
  words = np.frombuffer(content, '<u4', len(content) // 4).astype(np.uint32)
  if len(content) % 4 or len(words) < 2 or not words[-2] or not 2 <= words[-1] <= 256:
    raise UsageError(f'{path}: is not a file of `lossless.py encode`')
  return Codec(run.generator, int(words[-1])).decompress(words[:-1])


def measured(compress: Callable, decompress: Callable, images: np.ndarray) -> dict[str, float]:
  """Compresses images to a file and back; returns its size, the times, and the number of wrong images."""
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, 'images')
    started = time.perf_counter()
    compress(path)
    encoded = time.perf_counter()
    decoded = decompress(path)
    ended, size = time.perf_counter(), path.stat().st_size
  return {
    'net': 8 * size / images.size,
    'bytes': size,
    'encoding': 1000 * (encoded - started) / len(images),
    'decoding': 1000 * (ended - encoded) / len(images),
    'wrong': np.count_nonzero(np.any(decoded.reshape(len(images), -1) != images.reshape(len(images), -1), axis=1)),
  }


def of_run(workdir: str) -> dict[str, object]:
  """Returns the row of a run."""
  run, dataset = load(workdir)
  images, labels = test_images(run, dataset)

  def decompress(path):
    decoded, theirs = decode(run, path)
    return np.where(np.equal(theirs, labels), decoded.T.astype(int), -1).T  # An image with a wrong label is wrong.

  found = measured(lambda path: encode(run, dataset, path), decompress, images)
  initial = Codec(run.generator, dataset.levels).start.nbytes
  net, rate = found['net'] - 8 * initial / images.size, promised(run.generator, images, dataset.levels, labels)
  more = {'name': workdir, 'initial': initial, 'net': net, 'promised': rate, 'excess': net / rate - 1}
  return found | more


def of_others(images: np.ndarray) -> list[dict[str, object]]:
  """Returns the rows of formats that know nothing of digits. PNG and WebP get all images side by side in one."""
  n, height, width, channels = images.shape
  columns = math.ceil(n**0.5)
  padding = np.zeros((-n % columns, *images.shape[1:]), images.dtype)
  tiles = np.concatenate([images, padding]).reshape(-1, columns, height, width, channels)
  page = tiles.swapaxes(1, 2).reshape(-1, columns * width, channels).squeeze()

  def from_page(path):
    page = np.asarray(PIL.Image.open(path).convert('L' if channels == 1 else 'RGB'))
    return page.reshape(-1, height, columns, width, channels).swapaxes(1, 2).reshape(-1, height, width, channels)[:n]

  def saved(format, **options):
    return lambda path: PIL.Image.fromarray(page).save(path, format, **options), from_page

  formats = {
    'PNG': saved('PNG', optimize=True),
    'WebP, lossless': saved('WebP', lossless=True, quality=100, method=6),
    'LZMA': (
      lambda path: path.write_bytes(lzma.compress(images.tobytes(), preset=9 | lzma.PRESET_EXTREME)),
      lambda path: np.frombuffer(lzma.decompress(path.read_bytes()), np.uint8),
    ),
  }
  return [{'name': name} | measured(*both, images) for name, both in formats.items()]


def main(arguments: list[str]) -> None:
  """Runs one of the three commands."""
  logging.set_verbosity(logging.WARNING)
  match arguments[1:]:
    case ['encode', workdir, path]:
      encode(*load(workdir), pathlib.Path(path))
    case ['decode', workdir, path, output]:
      images, labels = decode(fg.runs.load_run(workdir, FLAGS.checkpoint), pathlib.Path(path))
      np.savez(output, images=images, **({} if labels is None else {'labels': labels}))
    case ['table', first, *others]:
      rows = [of_run(workdir) for workdir in (first, *others)]
      rows += of_others(test_images(*load(first))[0])
      print(Table('', _COLUMNS, [Row({'': row}) for row in rows]))
    case _:
      raise UsageError('expected `encode RUN FILE`, `decode RUN FILE OUTPUT` or `table RUN...`')


if __name__ == '__main__':
  with errors_reported():
    app.run(main)

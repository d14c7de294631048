"""Files that somebody made to take memory or time: they are rejected in one line, and cost no more than their size."""

import contextlib
import copy
import io
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
import zlib
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from flowgan_tf.base.cache import cached
from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.files import LARGEST_FILE, digest, read_record, write_record
from flowgan_tf.data import load
from flowgan_tf.programs.recipes import choose, count_classes
from flowgan_tf.runs.log import read_metrics
from flowgan_tf.study import summarize

GOLDEN = pathlib.Path(__file__).parent.parent / 'golden' / 'nice'
LARGE = 2**24  # bytes that a file of a few kilobytes unpacks to
SMALL = 2**21
COMPRESSIONS = {'deflate': zipfile.ZIP_DEFLATED, 'bzip2': zipfile.ZIP_BZIP2, 'lzma': zipfile.ZIP_LZMA}


@contextlib.contextmanager
def little_memory(most: int = SMALL):
  """Checks that Python and NumPy take little memory in the block, and that nothing warns."""
  tracemalloc.start()
  try:
    with warnings.catch_warnings(record=True) as warned:
      warnings.simplefilter('always')
      yield
    assert not warned
    assert tracemalloc.get_traced_memory()[1] < most
  finally:
    tracemalloc.stop()


@contextlib.contextmanager
def rejected(path, said: str = '.'):
  with little_memory(), pytest.raises(UsageError, match=said) as caught:
    yield
  assert str(caught.value).startswith(str(path)) and '\n' not in str(caught.value) and len(str(caught.value)) < 700


def npy(shape, content: bytes = b'', dtype: str = '|u1') -> bytes:
  """The bytes of an .npy file whose header claims a shape."""
  file = io.BytesIO()
  np.lib.format.write_array_header_1_0(file, {'descr': dtype, 'fortran_order': False, 'shape': shape})
  return file.getvalue() + content


def write_zip(path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
  with zipfile.ZipFile(path, 'w', compression) as archive:
    for name, content in members.items():
      archive.writestr(name, content)


def pickled() -> bytes:
  file = io.BytesIO()
  np.save(file, np.array([{}, None], object))
  return file.getvalue()


HEADERS = {
  'more than the file holds': npy((2**30,), bytes(100)),
  'less than the file holds': npy((10,), bytes(100)),
  'beyond all integers': npy((2**40, 2**40), bytes(100)),
  'negative': npy((-10, -10), bytes(100)),
  'a hundred axes': npy((1,) * 100, bytes(1)),
  'a trillion rows of nothing': npy((10**12, 0)),
  'texts of no length': npy((10**10,), dtype='<U0'),
  'Python objects': pickled(),
  'a header of 4 GB': b'\x93NUMPY\2\0' + struct.pack('<L', 2**32 - 1) + bytes(100),
  'no header': bytes(100),
  'brackets': b'\x93NUMPY\1\0' + struct.pack('<H', 2000) + 2000 * b'(',
  'an unknown version': b'\x93NUMPY\7\0' + npy((4,), bytes(4))[8:],
}


# Records and caches.


@pytest.fixture
def record(tmp_path):
  """A record whose hash is right, and the file of its arrays, which compress well."""
  write_record(tmp_path / 'record.json', {'a': 1}, {'x': np.zeros(LARGE, np.uint8)})
  [arrays] = tmp_path.glob('*.npz')
  return tmp_path / 'record.json', arrays


@pytest.mark.parametrize('compression', COMPRESSIONS)
def test_arrays_of_a_record_are_not_larger_than_their_file(record, compression):
  write_zip(record[1], {'x.npy': npy((LARGE,), bytes(LARGE))}, COMPRESSIONS[compression])
  assert record[1].stat().st_size < LARGE / 500
  with rejected(record[0]):
    read_record(record[0])


@pytest.mark.parametrize('header', HEADERS)
def test_the_header_of_an_array_is_not_believed(record, header):
  write_zip(record[1], {'x.npy': HEADERS[header]})
  with rejected(record[0]):
    read_record(record[0])


@pytest.mark.parametrize('names', ['{}.npy', 'x.npy'])
def test_arrays_that_share_their_bytes_are_rejected(tmp_path, names):
  write_record(tmp_path / 'record.json', {}, {'x': np.zeros(2**19, np.uint8)})
  [arrays] = tmp_path.glob('*.npz')
  with zipfile.ZipFile(arrays, 'w') as archive:
    archive.writestr('x.npy', npy((2**19,), bytes(2**19)))
    for i in range(100):
      archive.filelist.append(copy.copy(archive.getinfo('x.npy')))
      archive.filelist[-1].filename = names.format(i)
  with rejected(tmp_path / 'record.json'):
    read_record(tmp_path / 'record.json')


def test_a_file_of_a_cache_is_not_larger_than_it_is(tmp_path, caplog):
  cached(tmp_path, 'x', lambda: {'x': np.zeros(LARGE, np.uint8)})
  with zipfile.ZipFile(tmp_path / 'x.npz') as archive:
    members = {name: archive.read(name) for name in archive.namelist()}
  write_zip(tmp_path / 'x.npz', members, zipfile.ZIP_DEFLATED)
  with little_memory():
    assert cached(tmp_path, 'x', lambda: {'x': 3}) == {'x': 3}
  assert 'damaged' in caplog.text


def test_a_table_of_contents_is_read_only_if_it_is_short(record):
  """Its entries take twenty times as much memory as in the file."""
  entry = struct.pack('<4s42x', b'PK\1\2')
  count = 2**25 // len(entry)
  end = struct.pack('<4s4H2LH', b'PK\5\6', 0, 0, 1, 1, count * len(entry), 4, 0)
  record[1].write_bytes(b'PK\3\4' + count * entry + end)
  with rejected(record[0]):
    read_record(record[0])


@pytest.mark.parametrize('number', ['1e999', 'NaN', '-Infinity', '-1' + 400 * '0', '1' + 5000 * '0'])
def test_a_number_of_a_record_is_finite(record, number):
  """Whoever writes the file computes the hash, as far as there is one."""
  content = f'{{"a": {number}}}'
  with contextlib.suppress(ValueError):
    content = f'{{"a": {number}, "sha256": "{digest(json.loads(content))}"}}'
  record[0].write_text(content)
  with rejected(record[0]):
    read_record(record[0])


def test_a_large_record_is_not_read(record):
  record[0].write_bytes(b'{"a": 1}')
  os.truncate(record[0], LARGEST_FILE + 1)
  with rejected(record[0]):
    read_record(record[0])


# Data.


@pytest.fixture
def npz(tmp_path):
  return tmp_path / 'data.npz'


def open_data(path) -> None:
  """Does what a training does with data: it looks which configuration fits them, and loads them."""
  choose(str(path))
  count_classes(str(path))
  load(str(path))


@pytest.mark.parametrize('compression', ['bzip2', 'lzma'])
def test_only_what_numpy_writes_is_decompressed(npz, compression):
  images = npy((100, 2, 2), bytes(400)) + bytes(LARGE)
  write_zip(npz, {'images.npy': images, 'labels.npy': images}, COMPRESSIONS[compression])
  with rejected(npz):
    open_data(npz)


def test_nothing_is_decompressed_for_which_memory_is_too_small(npz):
  np.savez_compressed(npz, images=np.zeros((LARGE // 100, 10, 10), np.uint8), labels=np.zeros(LARGE // 8, int))
  with mock.patch('os.sysconf', return_value=1000), rejected(npz):
    open_data(npz)


def test_a_member_takes_what_the_table_of_contents_says(npz):
  images = npy((30, 2, 2), bytes(120))
  with zipfile.ZipFile(npz, 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('images.npy', images + bytes(LARGE))
    member = archive.getinfo('images.npy')
    member.file_size, member.CRC = len(images), zlib.crc32(images)
  with little_memory():
    open_data(npz)


@pytest.mark.parametrize('header', HEADERS)
def test_the_header_of_images_is_not_believed(tmp_path, npz, header):
  folder = tmp_path / 'folder'
  folder.mkdir()
  for part in ('train', 'validation', 'test'):
    (folder / f'{part}.npy').write_bytes(npy((4, 2, 2, 1), bytes(16)))
  for array in ('train', 'train_labels', 'class_names'):
    whole = (folder / 'train.npy').read_bytes()
    (folder / f'{array}.npy').write_bytes(HEADERS[header])
    with rejected(folder):
      open_data(folder)
    (folder / f'{array}.npy').unlink()
    (folder / 'train.npy').write_bytes(whole)
  for name in ('images', 'labels'):
    write_zip(npz, {'images.npy': npy((4, 2, 2), bytes(16))} | {f'{name}.npy': HEADERS[header]})
    with rejected(npz):
      open_data(npz)


def test_labels_that_memory_cannot_hold_are_not_read(tmp_path):
  for part in ('train', 'validation', 'test'):
    (tmp_path / f'{part}.npy').write_bytes(npy((4, 2, 2, 1), bytes(16)))
  (tmp_path / 'train_labels.npy').write_bytes(npy((LARGE,)))
  os.truncate(tmp_path / 'train_labels.npy', LARGE + len(npy((LARGE,))))
  with mock.patch('os.sysconf', return_value=1000), rejected(tmp_path):
    open_data(tmp_path)


# Images.

# The peak of a child would be the one of its parent at first, by `getrusage`.
PEAK = """
import pathlib, sys
from flowgan_tf.data.images import load_folder
peak = lambda: 1024 * int(pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])
found = [peak()]
for image_size in (8, 0):
  load_folder(sys.argv[1], image_size)
  found.append(peak())
print(*found)
"""


def test_one_large_image_is_in_memory_at_a_time(tmp_path):
  side = 3000
  for i in range(3):
    Image.new('RGB', (side, side)).save(tmp_path / f'{i}.png', compress_level=1)
  found = subprocess.run([sys.executable, '-c', PEAK, str(tmp_path)], capture_output=True, text=True, check=True)
  start, one, three = map(int, found.stdout.split())
  # For each pixel Pillow takes 4 bytes, an array 3, and the array of the image before 3; libraries take a few
  # megabytes when they are first used.
  assert one - start < 10.5 * side**2
  assert three - start < (3 * 3 + 13.5) * side**2


def test_memory_is_counted_before_an_image_is_decoded(tmp_path):
  for i in range(3):
    Image.new('L', (1000, 1000)).save(tmp_path / f'{i}.png')
  decoded = mock.patch('PIL.ImageFile.ImageFile.load', side_effect=AssertionError)
  for image_size in (0, 8):
    with mock.patch('os.sysconf', return_value=2000), decoded, rejected(tmp_path, 'of memory'):
      load(str(tmp_path), image_size=image_size)


def chunk(name: bytes, content: bytes) -> bytes:
  return struct.pack('>L', len(content)) + name + content + struct.pack('>L', zlib.crc32(name + content))


def png(width: int, height: int) -> bytes:
  """A PNG file of black and white pixels, cut off after the first."""
  header = chunk(b'IHDR', struct.pack('>2L5B', width, height, 1, 0, 0, 0, 0))
  return b'\x89PNG\r\n\x1a\n' + header + chunk(b'IDAT', zlib.compress(bytes(2))) + chunk(b'IEND', b'')


@pytest.mark.parametrize('side', [10_000, 40_000, 2**31 - 1])
def test_large_images_give_no_warning_of_pillow(tmp_path, side):
  """It warns of more than 89 megapixels, and rejects more than 178."""
  for i in range(3):
    (tmp_path / f'{i}.png').write_bytes(png(side, side))
  with rejected(tmp_path):
    open_data(tmp_path)


@pytest.mark.slow
def test_an_image_of_which_pillow_warns_is_read(tmp_path):
  Image.new('1', (9500, 9500)).save(tmp_path / '0.png')
  for i in (1, 2):
    shutil.copy(tmp_path / '0.png', tmp_path / f'{i}.png')
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    assert load(str(tmp_path), image_size=2).image_shape == (2, 2, 1)


# Pictures and the log of a run.


@pytest.fixture
def run(tmp_path):
  folder = shutil.copytree(GOLDEN, tmp_path / 'run')
  (folder / 'samples').mkdir()
  return folder


@pytest.mark.parametrize(('size', 'content'), [(LARGEST_FILE + 1, b'\x89PNG'), (0, png(40_000, 40_000))])
def test_a_picture_of_a_run_is_small(run, size, content):
  path = run / 'samples' / 'real.png'
  path.write_bytes(content)
  os.truncate(path, max(size, len(content)))
  summarize([GOLDEN])  # Imports what it needs.
  with little_memory():
    [summary], [line] = summarize([run])
  assert line.startswith(str(path)) and '\n' not in line and summary.real_grid is None


def test_a_picture_is_not_decoded(run):
  Image.new('RGB', (4000, 4000)).save(run / 'samples' / 'real.png', compress_level=1)
  with mock.patch('PIL.ImageFile.ImageFile.load', side_effect=AssertionError):
    [summary], lines = summarize([run])
  assert summary.real_grid and not lines


def test_odd_lines_of_a_log_are_damaged_lines(run, caplog):
  good = {'kind': 'train', 'step': 1, 'seconds': 1.5, 'nll': 3.0, 'shares': [0.5, None], 'name': 'a'}
  values = ('NaN', '-Infinity', '1e999', '1' + 30 * '0', '1' + 5000 * '0', 900 * '[' + 900 * ']', '{"a": 1}')
  odd = [f'{{"{name}": {value}, ' for name in ('step', 'seconds', 'nll', 'other') for value in values]
  odd += [f'{{"other": [{value}], ' for value in values]
  odd += [f'{{"step": {value}, ' for value in ('"1"', 'true', 'null')]
  rest = {name: json.dumps({key: good[key] for key in good if key != name})[1:] for name in (*good, 'other')}
  lines = [start + rest[start.split('"')[1]] for start in odd]
  lines += [json.dumps(good | {'name': 2**20 * 'a'}), *2000 * [''], json.dumps(good)]
  (run / 'metrics.jsonl').write_text('\n'.join(lines) + '\n')
  assert read_metrics(run) == [good]
  assert caplog.messages == [
    f'{run}/metrics.jsonl: damaged lines are left out: 1, 2, 3, 4, 5 and {len(lines) - 6} more.'
  ]


def test_a_log_that_memory_cannot_hold_is_not_read(run):
  os.truncate(run / 'metrics.jsonl', LARGE)
  with mock.patch('os.sysconf', return_value=4000), rejected(run / 'metrics.jsonl'):
    read_metrics(run)

"""Checks, batches, standard errors and the cache."""

import hashlib
import io
import math

import numpy as np
import pytest
from scipy import stats

from flowgan_tf.errors import UsageError
from flowgan_tf.metrics.arrays import cached, check_images, map_batches, standard_error, weights_hash


def test_images_are_finite_floats_of_any_range():
  images = np.full((3, 2, 2, 1), 7, np.float16)
  assert check_images(images) is images
  bad = np.zeros((3, 2, 2, 1))
  bad[0, 0, 0], bad[2, 1] = np.nan, -np.inf
  for images, message in [
    (np.zeros((2, 4, 3, 1), int), r'floats \[n, height, width, channels\] in \[0, 1\]\. Got: int64 of shape \(2, 4'),
    (np.zeros((2, 4, 3)), r'Got: float64 of shape \(2, 4, 3\)\.$'),
    (bad, r'^`images` must be finite\. Got: 2 of 3 images with NaN or infinity\.$'),
  ]:
    with pytest.raises(UsageError, match=message) as caught:
      check_images(images)
    assert caught.value.argument == 'images'


@pytest.mark.parametrize('n', [1, 4, 9])
def test_batches_are_full_and_results_are_of_all_entries(n):
  sizes = []

  def function(batch):
    sizes.append(len(batch))
    return 2 * batch, batch.sum(axis=1)

  array = np.random.default_rng(n).normal(size=(n, 3))
  doubled, sums = map_batches(function, array, 4)
  np.testing.assert_array_equal(doubled, 2 * array)
  np.testing.assert_array_equal(sums, array.sum(axis=1))
  assert sizes == [4] * -(-n // 4)


@pytest.mark.filterwarnings('error')
def test_standard_errors():
  """Of 1, 2 and 6 the squared deviations from the mean 3 sum to 14, over n - 1 = 2 and n = 3."""
  assert standard_error([1, 2, 6]) == pytest.approx(math.sqrt(14 / 2 / 3), rel=1e-15)
  assert math.isnan(standard_error([2.5])) and math.isnan(standard_error([]))
  # The sum of these overflows float16, and their squares lose all digits of a spread of 1.
  values = (100 + np.random.default_rng(1).normal(size=(100, 100))).astype(np.float16)
  assert standard_error(values) == pytest.approx(stats.sem(values.astype(np.float64), axis=None), rel=1e-12)


def test_the_hash_is_of_all_weights():
  weights = [np.arange(4, dtype=np.float32), np.ones((2, 3))]
  expected = hashlib.sha256(weights[0].tobytes() + weights[1].tobytes()).hexdigest()
  assert weights_hash(weights) == expected[:16]


# The cache.


def arrays():
  return {'numbers': np.arange(4.0), 'n': 4, 'name': 'λ'}


def again():
  pytest.fail('made again')


def test_a_result_is_made_once_and_stays_in_the_folder_whatever_its_name(tmp_path):
  folder = tmp_path / 'new' / 'cache'
  assert cached(folder, '../a b/é.npz', arrays)['n'] == 4
  assert [path.name for path in tmp_path.rglob('*.npz')] == ['-a-b-npz.npz']
  assert [path.name for path in folder.iterdir()] == ['-a-b-npz.npz']
  found = cached(folder, '../a b/é.npz', again)
  np.testing.assert_array_equal(found['numbers'], np.arange(4.0))
  assert (int(found['n']), str(found['name']), len(found)) == (4, 'λ', 3)


def edited(content, **arrays):
  file = io.BytesIO()
  np.savez(file, **dict(np.load(io.BytesIO(content))) | arrays)
  return file.getvalue()


def commented(content):
  """A damaged bit in the length of a comment in the zip file's directory makes a reader skip the next member."""
  at = content.index(b'PK\x01\x02') + 33
  return content[:at] + bytes([content[at] | 0x10]) + content[at + 1 :]


@pytest.mark.parametrize(
  'damage',
  [
    lambda content: content[: len(content) // 2],
    lambda content: b'text',
    lambda content: edited(content, numbers=np.arange(4)),
    lambda content: edited(content, others=np.ones(1)),
    commented,
  ],
)
def test_a_damaged_file_is_made_again_with_a_warning(tmp_path, caplog, damage):
  path = tmp_path / 'sum.npz'
  cached(tmp_path, 'sum', arrays)
  path.write_bytes(damage(path.read_bytes()))
  assert cached(tmp_path, 'sum', lambda: {'n': 7}) == {'n': 7}
  [message] = caplog.messages
  assert message.startswith(f'{path}: damaged (') and message.endswith(', and is made again.') and '\n' not in message
  assert cached(tmp_path, 'sum', again) == {'n': 7}
  assert len(caplog.messages) == 1 and list(tmp_path.iterdir()) == [path]


def test_a_cache_that_cannot_be_written_costs_no_result(tmp_path, caplog):
  (tmp_path / 'file').touch()
  assert cached(tmp_path / 'file', 'sum', arrays)['n'] == 4
  said = f'{tmp_path}/file/sum.npz: cannot be written (Not a directory), and will be computed every time.'
  assert caplog.messages == [said]

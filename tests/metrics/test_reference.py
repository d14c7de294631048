import dataclasses
import errno
import os

import numpy as np
import pytest

from flowgan_tf import data
from flowgan_tf.metrics import reference as reference_module
from flowgan_tf.metrics.predictions import Predictions
from flowgan_tf.metrics.reference import load_or_compute

LEVELS = 256


class MeanColours:
  """A cheap network whose features are the mean colours. It keeps the images that it was shown."""

  name = 'mean_colours'

  def __init__(self, weights_hash='0123456789abcdef'):
    self.hash = weights_hash
    self.seen = []

  def predict(self, images):
    self.seen.append(images)
    return Predictions(images.mean(axis=(1, 2)).astype(np.float32), np.ones([len(images), 1]))


def _dataset(name='colours', seed=0, train=40):
  rng = np.random.default_rng(seed)
  splits = (data.Split(rng.integers(0, LEVELS, (n, 4, 5, 3)).astype(np.uint8), None) for n in (train, 7, 9))
  return data.Dataset(name, LEVELS, *splits, None)


def _messages(caplog):
  return [record.getMessage() for record in caplog.records if record.name.startswith('flowgan_tf.metrics')]


def _assert_equal(reference, other):
  for array, same in zip((*reference.statistics, reference.features), (*other.statistics, other.features), strict=True):
    np.testing.assert_array_equal(array, same)


def test_statistics_are_those_of_the_training_images(tmp_path):
  dataset = _dataset()
  network = MeanColours()
  reference = load_or_compute(dataset, network, tmp_path)
  images = np.concatenate(network.seen)
  np.testing.assert_array_equal(np.floor(LEVELS * images), dataset.train.images)
  # The noise adds half a level on average, with a standard deviation of 0.29; each mean is over 20 pixels.
  colours = (dataset.train.images.astype(np.float64) + 0.5).mean(axis=(1, 2)) / LEVELS
  np.testing.assert_allclose(reference.features, colours, atol=5 * 0.29 / np.sqrt(20) / LEVELS)
  assert (reference.features.dtype, reference.statistics.n) == (np.float32, 40)
  features = images.mean(axis=(1, 2), dtype=np.float64)
  np.testing.assert_allclose(reference.statistics.mean, features.mean(axis=0), rtol=1e-6)
  np.testing.assert_allclose(reference.statistics.covariance, np.cov(features, rowvar=False), rtol=1e-4, atol=1e-9)


def test_only_the_first_features_are_kept_but_all_count(tmp_path, monkeypatch):
  everything = load_or_compute(_dataset(), MeanColours(), tmp_path / 'all')
  monkeypatch.setattr(reference_module, '_KERNEL_FEATURES', 6)
  some = load_or_compute(_dataset(), MeanColours(), tmp_path / 'some')
  assert some.statistics.n == 40
  np.testing.assert_array_equal(some.features, everything.features[:6])
  np.testing.assert_array_equal(some.statistics.covariance, everything.statistics.covariance)


def test_chunks_hold_all_images_in_order_with_noise_of_their_own(tmp_path, monkeypatch):
  monkeypatch.setattr(reference_module, '_CHUNK_VALUES', 1000)
  dataset = _dataset()
  network = MeanColours()
  load_or_compute(dataset, network, tmp_path)
  assert [len(images) for images in network.seen] == [16, 16, 8]  # 60 values in an image
  images = LEVELS * np.concatenate(network.seen)
  np.testing.assert_array_equal(np.floor(images), dataset.train.images)
  noise = (images % 1).reshape(40, -1)
  assert len(np.unique(noise[:, :4], axis=0)) == 40


def test_of_very_many_images_a_random_part_counts(tmp_path, monkeypatch, caplog):
  monkeypatch.setattr(reference_module, '_MOST_IMAGES', 30)
  dataset, network = _dataset(), MeanColours()
  with caplog.at_level('INFO', logger='flowgan_tf'):
    reference = load_or_compute(dataset, network, tmp_path)
  assert _messages(caplog) == ['Computing mean_colours features of 30 of the 40 train images of colours.']
  assert reference.statistics.n == 30
  [images] = network.seen
  seen = [image.tobytes() for image in np.floor(LEVELS * images).astype(np.uint8)]
  order = [[image.tobytes() for image in dataset.train.images].index(image) for image in seen]
  assert len(set(order)) == 30
  assert order != sorted(order)  # The first of them, which KID uses, must not be those of a class.


def test_the_same_each_time_whatever_the_global_seed(tmp_path):
  references = []
  for i in range(2):
    np.random.seed(i)  # noqa: NPY002
    references.append(load_or_compute(_dataset(), MeanColours(), tmp_path / str(i)))
  _assert_equal(*references)


# Cache.


def test_second_call_reads_the_cache_in_silence(tmp_path, caplog):
  folder = tmp_path / 'new' / 'cache'
  with caplog.at_level('INFO', logger='flowgan_tf'):
    first = load_or_compute(_dataset(), MeanColours(), folder)
    assert _messages(caplog) == ['Computing mean_colours features of the 40 train images of colours.']
    caplog.clear()
    network = MeanColours()
    second = load_or_compute(_dataset(), network, folder)
    assert not _messages(caplog)
  assert not network.seen
  _assert_equal(first, second)
  assert (second.features.dtype, type(second.statistics.n)) == (np.float32, int)


def test_another_network_or_data_set_has_its_own_file(tmp_path):
  dataset = _dataset()
  other_network = MeanColours()
  other_network.name = 'others'
  variants = [
    (dataset, MeanColours()),
    (dataset, MeanColours('fedcba9876543210')),
    (dataset, other_network),
    (_dataset(seed=1), MeanColours()),
    (dataclasses.replace(dataset, levels=257), MeanColours()),
    (_dataset(name='others'), MeanColours()),
  ]
  for number, (data_set, network) in enumerate(variants, 1):
    load_or_compute(data_set, network, tmp_path)
    assert len(network.seen) == 1
    assert len(os.listdir(tmp_path)) == number


def test_file_says_what_it_holds_and_awkward_names_stay_inside_the_cache(tmp_path):
  dataset = _dataset(name='../my data/v1.0')
  load_or_compute(dataset, MeanColours(), tmp_path)
  [file] = os.listdir(tmp_path)
  start = f'reference--my-data-v1-0-train-{dataset.fingerprint[:12]}-mean_colours-0123456789abcdef-'
  assert file.startswith(start) and file.endswith('.npz')


def _one_bit_flipped(content):
  middle = len(content) // 2
  return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
  'damage',
  [lambda content: b'', lambda content: content[: len(content) // 2], lambda content: b'text', _one_bit_flipped],
  ids=['empty', 'truncated', 'text', 'flipped bit'],
)
def test_a_damaged_file_is_computed_over_with_a_warning(tmp_path, caplog, damage):
  first = load_or_compute(_dataset(), MeanColours(), tmp_path)
  [path] = tmp_path.iterdir()
  path.write_bytes(damage(path.read_bytes()))
  network = MeanColours()
  caplog.clear()
  with caplog.at_level('WARNING', logger='flowgan_tf'):
    _assert_equal(load_or_compute(_dataset(), network, tmp_path), first)
    [message] = _messages(caplog)
    assert path.name in message and '\n' not in message
    _assert_equal(load_or_compute(_dataset(), network, tmp_path), first)
    assert _messages(caplog) == [message]  # the file is whole again
  assert len(network.seen) == 1
  assert list(tmp_path.iterdir()) == [path]


def test_a_file_without_what_it_should_hold_is_computed_over(tmp_path):
  first = load_or_compute(_dataset(), MeanColours(), tmp_path)
  [path] = tmp_path.iterdir()
  np.savez(path, mean=first.statistics.mean)
  _assert_equal(load_or_compute(_dataset(), MeanColours(), tmp_path), first)


def test_the_version_of_the_recipe_is_part_of_the_name(tmp_path, monkeypatch):
  first = load_or_compute(_dataset(), MeanColours(), tmp_path)
  monkeypatch.setattr(reference_module, '_VERSION', reference_module._VERSION + 1)
  network = MeanColours()
  _assert_equal(load_or_compute(_dataset(), network, tmp_path), first)
  assert network.seen and len(os.listdir(tmp_path)) == 2


def test_a_full_disk_costs_the_cache_but_not_the_result(tmp_path, caplog, monkeypatch):
  def write_array(file, *_, **__):
    file.write(b'some of it')
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(np.lib.format, 'write_array', write_array)
  with caplog.at_level('WARNING', logger='flowgan_tf'):
    assert load_or_compute(_dataset(), MeanColours(), tmp_path).statistics.n == 40
  [message] = _messages(caplog)
  assert str(tmp_path) in message and 'No space left on device' in message and '\n' not in message
  assert not os.listdir(tmp_path)


def test_so_does_a_folder_that_cannot_be_made(tmp_path, caplog):
  (tmp_path / 'file').touch()
  with caplog.at_level('WARNING', logger='flowgan_tf'):
    assert load_or_compute(_dataset(), MeanColours(), tmp_path / 'file' / 'cache').statistics.n == 40
  [message] = _messages(caplog)
  assert 'cannot be written' in message and str(tmp_path / 'file' / 'cache') in message


def test_a_failed_computation_leaves_no_file(tmp_path):
  network = MeanColours()
  network.predict = lambda images: 1 / 0
  with pytest.raises(ZeroDivisionError):
    load_or_compute(_dataset(), network, tmp_path)
  assert not os.listdir(tmp_path)

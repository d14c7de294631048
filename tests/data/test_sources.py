import dataclasses

import numpy as np
import pytest
from sklearn.datasets import load_digits

from flowgan_tf.data import Dataset, Split, load
from flowgan_tf.data.dataset import hold_out, three_way
from flowgan_tf.errors import UsageError


def numbered(n: int) -> Split:
  """Images and labels that carry their own number."""
  numbers = np.arange(n)
  return Split((numbers % 256).astype(np.uint8).reshape(n, 1, 1, 1), numbers.astype(np.int64))


@pytest.mark.parametrize(('n', 'fraction', 'expected'), [(60, 1 / 6, 10), (3_500, 1 / 10, 350), (2, 1 / 10, 1)])
@pytest.mark.parametrize('shuffle', [False, True])
def test_hold_out_divides_without_loss(n, fraction, expected, shuffle):
  kept, held_out = hold_out(numbered(n), fraction, shuffle, 'source')
  assert len(held_out) == expected
  np.testing.assert_array_equal(np.sort(np.concatenate([kept.labels, held_out.labels])), np.arange(n))
  for part in (kept, held_out):
    np.testing.assert_array_equal(part.images.ravel(), part.labels % 256)
    assert np.all(np.diff(part.labels) > 0)


def test_hold_out_takes_the_last_or_a_fixed_random_part():
  _, last = hold_out(numbered(60), 1 / 6, shuffle=False, source='source')
  np.testing.assert_array_equal(last.labels, np.arange(50, 60))
  _, random = hold_out(numbered(60), 1 / 6, shuffle=True, source='source')
  # Written down, so that no later version moves the border between training and validation.
  np.testing.assert_array_equal(random.labels, [2, 3, 6, 11, 18, 21, 35, 36, 52, 59])


def test_hold_out_keeps_missing_labels_missing():
  kept, held_out = hold_out(Split(numbered(5).images, None), 1 / 5, shuffle=True, source='source')
  assert kept.labels is None
  assert held_out.labels is None


def test_too_few_images():
  with pytest.raises(UsageError, match=r'few\.npz: expected at least 2 images to divide, got 1'):
    hold_out(numbered(1), 1 / 10, shuffle=True, source='few.npz')
  with pytest.raises(UsageError, match=r'few\.npz: expected at least 3 images, one for each split, got 2'):
    three_way(numbered(2), 'few.npz')
  assert [len(split) for split in three_way(numbered(3), 'few.npz')] == [1, 1, 1]


def test_digits():
  dataset = load('digits')
  assert (dataset.name, dataset.levels, dataset.num_classes, dataset.image_shape) == ('digits', 17, 10, (8, 8, 1))
  assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [1437, 180, 180]
  splits = (dataset.train, dataset.validation, dataset.test)
  assert all(split.images.dtype == np.uint8 and split.labels.dtype == np.int64 for split in splits)
  images = np.concatenate([split.images for split in splits])
  labels = np.concatenate([split.labels for split in splits])
  found = np.column_stack([images.reshape(len(images), -1), labels])
  expected = np.column_stack([load_digits().data, load_digits().target])
  np.testing.assert_array_equal(np.unique(found, axis=0), np.unique(expected, axis=0))
  assert len(np.unique(expected, axis=0)) == len(found)
  # A random part of 180 misses one of ten classes with probability below 1e-7.
  assert all(set(split.labels) == set(range(10)) for split in splits)


def test_fingerprint_tells_every_part():
  def dataset(**changes) -> Dataset:
    splits = {'train': numbered(4), 'validation': numbered(2), 'test': numbered(2)}
    return dataclasses.replace(Dataset('name', 256, **splits, num_classes=4), **changes)

  assert load('digits').fingerprint == load('digits').fingerprint
  other = numbered(4)
  other.images[3, 0, 0, 0] += 1
  relabelled = numbered(4)
  relabelled.labels[3] += 1
  variants = [
    dataset(),
    dataset(name='other'),
    dataset(levels=17),
    dataset(train=other),
    dataset(train=relabelled),
    dataset(train=Split(numbered(4).images, None)),
    dataset(train=Split(numbered(4).images.reshape(2, 2, 1, 1), numbered(4).labels)),
    dataset(train=numbered(2), validation=numbered(4)),
    dataset(test=numbered(3)),
  ]
  assert dataset().fingerprint == dataset().fingerprint
  assert len({variant.fingerprint for variant in variants}) == len(variants)
  assert len(dataset().fingerprint) == 64


def test_unknown_name_lists_the_choices():
  names = 'digits, mnist, fashion_mnist, cifar10, svhn_cropped'
  with pytest.raises(UsageError, match=rf"^`dataset` must be one of {names}, a folder .* Got: 'mnits'\.$"):
    load('mnits')

import dataclasses
import hashlib

import numpy as np
import pytest

from flowgan_tf.data import Dataset, Split
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


def test_three_way_is_80_10_10_without_loss():
  parts = three_way(numbered(200), 'source')
  assert [len(part) for part in parts] == [160, 20, 20]
  np.testing.assert_array_equal(np.sort(np.concatenate([part.labels for part in parts])), np.arange(200))
  for part in parts:
    np.testing.assert_array_equal(part.images.ravel(), part.labels % 256)
    assert np.any(np.diff(part.labels) > 1)  # Drawn at random, and not a run of neighbours.
  again = three_way(numbered(200), 'another name')
  for part, same in zip(parts, again, strict=True):
    np.testing.assert_array_equal(part.labels, same.labels)


def test_fingerprint_tells_every_part():
  def dataset(**changes) -> Dataset:
    splits = {'train': numbered(4), 'validation': numbered(2), 'test': numbered(2)}
    return dataclasses.replace(Dataset('name', 256, **splits, num_classes=4), **changes)

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


def test_fingerprint_is_the_hash_of_name_levels_and_arrays():
  """Written down, since it is part of the names of cache files."""
  splits = [Split(np.full((1, 1, 1, 1), value, np.uint8), None) for value in (7, 8, 9)]
  arrays = ''.join(f' |u1 (1, 1, 1, 1) {chr(value)} none' for value in (7, 8, 9))
  expected = hashlib.sha256(f'name 17{arrays}'.encode()).hexdigest()
  assert Dataset('name', 17, *splits, num_classes=None).fingerprint == expected


def test_the_memory_layout_does_not_count():
  images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 2)).astype(np.uint8)
  reference, *others = (
    Dataset('name', 256, *3 * [Split(layout, None)], num_classes=None).fingerprint
    for layout in (images, np.asfortranarray(images), images[:, ::-1].copy()[:, ::-1])
  )
  assert others == [reference, reference]


def test_image_shape():
  splits = [Split(np.zeros((n, 4, 5, 3), np.uint8), None) for n in (2, 1, 1)]
  assert Dataset('name', 256, *splits, num_classes=None).image_shape == (4, 5, 3)


def test_splits_and_data_sets_are_compared_by_identity():
  """The generated equality of dataclasses would raise for arrays."""
  split, twin = numbered(3), numbered(3)
  assert split == split and split != twin
  assert Dataset('name', 256, split, split, split, 3) != Dataset('name', 256, split, split, split, 3)

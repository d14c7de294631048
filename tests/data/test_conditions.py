"""Conditions against NumPy, what is rejected, and how they come with the batches of a training."""

import dataclasses

import numpy as np
import pytest

import flowgan_tf as fg
from flowgan_tf.base.errors import UsageError
from flowgan_tf.data import Dataset, Split, StoredImages, conditions, make_condition, training_batches

LEVELS = 17
IMAGES = np.random.default_rng(0).integers(0, LEVELS, (10, 6, 4, 3), np.uint8)
CONDITIONS = np.random.default_rng(1).normal(size=(10, 3, 4, 2)).astype(np.float32)
KINDS = tuple(name + (':2' if kind.options else '') for name, kind in fg.data.CONDITIONS.items() if name)


def dataset(images=IMAGES, labels=(), test_labels=(), conditions=None, num_classes=3) -> Dataset:
  """A data set whose validation images are the training images; by default its labels are 0, 1, 2, 0, ..."""
  train = Split(images, np.resize(labels or np.arange(num_classes), len(images)).astype(np.int64), conditions)
  test = Split(images, np.resize(test_labels or np.arange(num_classes), len(images)).astype(np.int64), conditions)
  return Dataset('toy', LEVELS, train, train, test, num_classes)


def unlabelled(shape=(6, 4, 3)) -> Dataset:
  split = Split(np.zeros((10, *shape), np.uint8), None)
  return Dataset('toy', LEVELS, split, split, split, None)


def stored(split: Split, folder) -> Split:
  np.save(folder / 'images.npy', split.images)
  return Split(StoredImages(folder / 'images.npy'), split.labels, split.conditions)


@pytest.mark.parametrize('factor', [2, 3])
def test_low_resolution_is_the_mean_over_blocks(factor):
  images = IMAGES[:, :, :3] if factor == 3 else IMAGES
  condition = make_condition(f'low_resolution:{factor}', dataset(images))
  middle = (images + 0.5) / LEVELS
  n, height, width, channels = images.shape
  blocks = middle.reshape(n, height // factor, factor, width // factor, factor, channels).mean(axis=(2, 4))
  assert condition.arguments == {'condition_shape': blocks.shape[1:]}
  np.testing.assert_allclose(condition.of_split(Split(images, None)), blocks, rtol=1e-6)
  np.testing.assert_allclose(condition.reduce(middle.astype(np.float32)), blocks, rtol=1e-6)


@pytest.mark.parametrize(('height', 'seen'), [(6, 3), (5, 3), (2, 1)])
def test_a_mask_hides_the_lower_half(height, seen):
  images = IMAGES[:, :height]
  condition = make_condition('mask:half', dataset(images))
  found = condition.of_split(Split(images, None))
  np.testing.assert_allclose(found[:, :seen], (images[:, :seen] + 0.5) / LEVELS, rtol=1e-6)
  assert found.shape == images.shape and not found[:, seen:].any()


@pytest.mark.parametrize('kind', KINDS)
def test_conditions_of_a_split_start_again_and_may_be_computed_in_parts(monkeypatch, tmp_path, kind):
  data = dataset(conditions=CONDITIONS)
  condition = make_condition(kind, data)
  whole = condition.of_split(data.train)
  monkeypatch.setattr('flowgan_tf.data.conditions._AT_ONCE', 3 * IMAGES[0].size)
  for split in (data.train, stored(data.train, tmp_path)):
    np.testing.assert_array_equal(condition.of_split(split), whole)
    np.testing.assert_array_equal(condition.of_split(split, 23), np.concatenate([whole, whole, whole[:3]]))
    np.testing.assert_array_equal(condition.of_split(split, 4), whole[:4])
  assert condition.network_shape == {'label': (3,), 'vector': (3, 4, 2)}.get(kind, whole.shape[1:])
  if kind in ('label', 'vector'):
    np.testing.assert_array_equal(whole, data.train.labels if kind == 'label' else CONDITIONS)
  else:
    np.testing.assert_array_equal(condition.of_images((data.train.images + 0.9) / LEVELS), whole)
  # Samples get the conditions of images; labels have the probabilities that they are given.
  drawn = condition.draw(1000, 0, data.train, np.array([0.5, 0.5, 0.0]))
  if kind == 'label':
    assert abs((drawn == 0).mean() - 0.5) < 0.07 and not (drawn == 2).any()
  else:
    assert {c.tobytes() for c in drawn} == {c.tobytes() for c in whole}


def test_without_conditions_nothing_is_given():
  data = unlabelled()
  condition = make_condition('', data)
  assert not condition and condition.has_marginal and not condition.comes_from_image
  assert condition.arguments == {} and condition.network_shape is None and condition.describe(data) == []
  found = (
    condition.of_split(data.train, 3),
    condition.of_images(np.zeros((2, 6, 4, 3))),
    condition.draw(3, 0, data.train, None),
  )
  assert found == (None, None, None)


@pytest.mark.parametrize(
  ('kind', 'data', 'said'),
  [
    ('labels', dataset(), r"^`condition` must be 'label', 'vector', .* Got: 'labels'\.$"),
    ('low_resolution:x', dataset(), r"^`condition` must be 'label', .* Got: 'low_resolution:x'\.$"),
    ('low_resolution:1', dataset(), r"an N of at least 2, .* Got: 'low_resolution:1'\.$"),
    ('low_resolution:3', dataset(), r"N divides the height and width of toy, 6 and 4\. Got: 'low_resolution:3'\.$"),
    ('low_resolution:0', dataset(), r"an N of at least 2, .* Got: 'low_resolution:0'\.$"),
    (
      'mask:half',
      unlabelled((1, 4, 1)),
      r"other than 'mask:half', which hides all or nothing of 1 x 4 pixels\.",
    ),
    ('label', unlabelled(), r"something other than 'label': toy does not have a label for each image\."),
    ('label', dataset(num_classes=1), r"something other than 'label': toy has a single class\."),
    ('label', dataset(labels=(0, 2)), r'^toy: `condition` label needs .* of its 3 classes, got none of class 1$'),
    ('label', dataset(labels=(1,), num_classes=20), r'none of classes 0, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 9 more$'),
    ('vector', dataset(), r"something other than 'vector': toy has no array of conditions\."),
  ],
)
def test_conditions_that_the_data_do_not_have_are_rejected(kind, data, said):
  with pytest.raises(UsageError, match=said) as error:
    make_condition(kind, data)
  assert error.value.argument == 'condition' and '\n' not in str(error.value)


def test_lines_about_conditions():
  def lines(kind, data):
    data = dataclasses.replace(data, condition_kind=kind)
    return data.condition.describe(data)

  assert lines('label', dataset(IMAGES[:9])) == [
    'toy: the generator is given the label of each image, one of 3 classes; p(y) is uniform.'
  ]
  assert lines('label', dataset(labels=(0, 1, 1, 2, 1), test_labels=(1,))) == [
    'toy: the generator is given the label of each image, one of 3 classes; p(y) is the share of each class in the '
    'labelled training images, from 20.0 % for class 0 to 60.0 % for class 1.',
    'toy: no test image of classes 0, 2; what is measured within classes leaves them out.',
  ]
  assert lines('label', dataset(labels=(0, -1, 1, 2)))[1:] == ['toy: 7 of 10 training images have a label.']
  assert lines('low_resolution:2', dataset()) == [
    'toy: the generator is given each image at low resolution, 3 x 2 x 3.'
  ]
  assert lines('mask:half', dataset()) == ['toy: the generator is given the upper half of each image.']
  assert lines('vector', dataset(conditions=CONDITIONS)) == [
    'toy: the generator is given the condition that comes with each image, 3 x 4 x 2 numbers.'
  ]


# Batches of a training.


def take(split, condition, count, start=0, flip=True, **shard):
  batches = training_batches(split, LEVELS, 12, 8, start, flip, condition, **shard)
  images, conditions = zip(*batches.take(count).as_numpy_iterator(), strict=True)
  return np.stack(images), np.stack(conditions)


@pytest.mark.parametrize('kind', KINDS)
def test_each_image_comes_with_its_own_condition(kind):
  """An image is flipped before its condition is taken; a stored image is flipped with it; other ones stay."""
  data = dataset(conditions=CONDITIONS)
  condition = make_condition(kind, data)
  of_both = {}  # The conditions of both forms of an image, by its grey levels.
  for images in (IMAGES, IMAGES[:, :, ::-1]):
    given = data.train.conditions if images is IMAGES else data.train.conditions[:, :, ::-1]
    found = condition.of_split(Split(images, data.train.labels, given))
    of_both |= {image.tobytes(): value for image, value in zip(images, found, strict=True)}
  images, conditions = (np.concatenate(part) for part in take(data.train, condition, 4))
  grey_levels = np.floor(images * LEVELS).astype(np.uint8)
  mirrored = {image[:, ::-1].tobytes() for image in IMAGES}
  assert 10 < sum(image.tobytes() in mirrored for image in grey_levels) < 38
  for image, value in zip(grey_levels, conditions, strict=True):
    np.testing.assert_array_equal(value, of_both[image.tobytes()])


@pytest.mark.parametrize(
  'kind', [kind if kind == 'low_resolution:2' else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_a_resumed_stream_and_a_share_of_it_have_the_same_conditions(tmp_path, kind):
  """Bit for bit, for images in memory and in a file."""
  data = dataset(conditions=CONDITIONS)
  condition = make_condition(kind, data)
  whole = take(data.train, condition, 5)
  for split in (data.train, stored(data.train, tmp_path)):
    for resumed, part in zip(take(split, condition, 3, start=2), whole, strict=True):
      np.testing.assert_array_equal(resumed, part[2:])
    shares = [take(split, condition, 5, shard=i, num_shards=3) for i in range(3)]
    for *parts, part in zip(*shares, whole, strict=True):
      np.testing.assert_array_equal(np.stack(parts, axis=2).reshape(part.shape), part)
  # A training without a condition has the same images.
  plain = np.stack([batch.images for batch in training_batches(data.train, LEVELS, 12, 8, flip=True).take(5)])
  np.testing.assert_array_equal(plain, whole[0])


class LeftHalf(conditions.Mask):
  """The left half of an image: a new kind of condition."""

  written = "'mask:left'"

  @classmethod
  def visible(cls, height, width):
    return np.broadcast_to(np.arange(width) < width // 2, (height, width))


def test_a_new_kind_of_condition_is_one_class_and_one_line(monkeypatch):
  monkeypatch.setitem(conditions.CONDITIONS, 'mask:left', LeftHalf)
  data = dataclasses.replace(dataset(), condition_kind='mask:left')
  condition = data.condition
  whole = condition.of_split(data.train)
  np.testing.assert_allclose(whole[:, :, :2], (IMAGES[:, :, :2] + 0.5) / LEVELS, rtol=1e-6)
  assert not whole[:, :, 2:].any() and condition.draw(3, 0, data.train, None).shape == (3, 6, 4, 3)
  flow = fg.flows.nice((6, 4, 3), couplings=2, hidden_units=8, hidden_layers=1, **condition.arguments)
  images = ((IMAGES + 0.5) / LEVELS).astype(np.float32)
  assert flow.given(whole).log_prob(images).shape == (10,)
  config = fg.runs.default_config(condition='mask:left')
  fg.runs.config.validate(config)
  with pytest.raises(UsageError, match=r"or 'mask:left'|'mask:left' or empty"):
    conditions.kind_of('mask:right')


def test_a_whole_image_is_no_mask_of_itself():
  flow = fg.flows.nice((6, 4, 3), couplings=2, hidden_units=8, hidden_layers=1, condition_shape=(6, 4, 3))
  flow.condition_check = conditions.kind_of('mask:half').check
  half = np.array((IMAGES[:2] + 0.5) / LEVELS, np.float32)
  half[:, 3:] = 0
  assert flow.sample(2, condition=half).shape == (2, 6, 4, 3)
  half[1, 5, 3, 2] = 0.1
  for use in (lambda: flow.sample(2, condition=half), lambda: flow.given(half)):
    with pytest.raises(
      UsageError, match=r"^`condition` must be images whose hidden pixels are 0, as 'mask:half' hides"
    ):
      use()

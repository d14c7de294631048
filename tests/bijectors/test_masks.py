import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from flowgan_tf.bijectors import AdditiveCoupling, masks
from flowgan_tf.networks import dense_conditioner

SIDES = st.integers(1, 5)


@st.composite
def any_mask(draw):
  """A mask of any kind, with the array of its kept entries built by hand."""
  kind, swap = (
    draw(st.sampled_from(['even_odd', 'channel', 'checkerboard', 'squares', 'rows', 'columns', 'array'])),
    draw(st.booleans()),
  )
  if kind == 'even_odd':
    shape = draw(st.one_of(st.tuples(st.integers(2, 9)), st.tuples(SIDES, st.integers(2, 5))))
    mask, ones = masks.even_odd(shape, swap), np.broadcast_to(np.arange(shape[-1]) % 2 == 0, shape)
  elif kind == 'channel':
    shape = draw(st.tuples(SIDES, SIDES, st.integers(2, 7)))
    mask, ones = masks.channel(shape, swap), np.broadcast_to(np.arange(shape[-1]) < (shape[-1] + 1) // 2, shape)
  elif kind == 'checkerboard':
    shape = draw(st.tuples(SIDES, SIDES, SIDES).filter(lambda s: s[0] * s[1] > 1))
    mask, ones = masks.checkerboard(shape, swap), np.indices(shape)[:2].sum(axis=0) % 2 == 1
  elif kind == 'squares':
    shape, size = draw(st.tuples(st.integers(3, 7), SIDES, SIDES)), draw(st.integers(1, 2))
    mask = masks.checkerboard(shape, swap, size)
    ones = (np.indices(shape)[:2] // size).sum(axis=0) % 2 == 1
  elif kind == 'rows':
    shape = draw(st.tuples(st.integers(2, 5), SIDES, SIDES))
    mask, ones = masks.rows(shape, swap), np.indices(shape)[0] % 2 == 1
  elif kind == 'columns':
    shape = draw(st.tuples(SIDES, st.integers(2, 5), SIDES))
    mask, ones = masks.columns(shape, swap), np.indices(shape)[1] % 2 == 1
  else:
    shape, swap = (2, 3), False
    ones = np.array(draw(st.lists(st.booleans(), min_size=6, max_size=6).filter(lambda b: len(set(b)) == 2)))
    ones = ones.reshape(shape)
    mask = masks.BinaryMask(ones)
  return mask, (1 - ones if swap else ones).astype(float), draw(st.sampled_from([(), (3,), (2, 3)]))


@hypothesis.settings(deadline=None, max_examples=40, derandomize=True)
@hypothesis.given(any_mask())
def test_split_and_merge_are_inverse_and_the_parts_a_partition(case):
  mask, ones, batch_shape = case
  event_ndims = ones.ndim
  assert mask.event_shape == ones.shape
  x = 1.0 + np.random.default_rng(0).uniform(size=(*batch_shape, *ones.shape))
  kept, changed = mask.split(tf.constant(x))
  assert kept.shape == (*batch_shape, *mask.kept_shape) and changed.shape == (*batch_shape, *mask.changed_shape)
  np.testing.assert_array_equal(mask.merge(kept, changed), x)

  # The kept part alone: everything else is zero after merging, and the other way round.
  axes = tuple(range(-event_ndims, 0))
  np.testing.assert_array_equal(mask.merge(kept, tf.zeros_like(changed)), x * ones)
  np.testing.assert_array_equal(mask.merge(tf.zeros_like(kept), changed), x * (1 - ones))
  np.testing.assert_allclose(tf.reduce_sum(kept, axes), np.sum(x * ones, axes))

  # The inverted mask keeps what the mask changes.
  for part, expected in zip((~mask).split(tf.constant(x)), (changed, kept), strict=True):
    np.testing.assert_array_equal(part, expected)
  np.testing.assert_array_equal((~mask).merge(changed, kept), x)

  # `restrict` leaves nothing that would touch a kept entry, and everything that counts.
  noise = tf.constant(1.0 + np.random.default_rng(1).uniform(size=changed.shape))
  restricted = mask.merge(tf.zeros_like(kept), mask.restrict(noise)).numpy()
  assert not np.any(restricted[..., ones == 1])
  assert np.all(restricted[..., ones == 0] >= 1)


def test_patterns():
  checkerboard, _ = masks.checkerboard((3, 4, 2)).split(tf.ones((3, 4, 2)))
  np.testing.assert_array_equal(checkerboard[..., 1], [[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]])
  x = tf.range(1.0, 6.0)
  np.testing.assert_array_equal(masks.even_odd(5).split(x)[0], [1, 3, 5])
  np.testing.assert_array_equal(masks.channel((1, 1, 5)).split(x[None, None])[0], [[[1, 2, 3]]])
  np.testing.assert_array_equal(masks.rows((5, 1, 1)).split(x[:, None, None])[0][:, 0, 0], [0, 2, 0, 4, 0])
  np.testing.assert_array_equal(masks.columns((1, 5, 1)).split(x[None, :, None])[0][0, :, 0], [0, 2, 0, 4, 0])


def test_merge_with_a_batch_of_unknown_size():
  mask = masks.even_odd(5)

  @tf.function(input_signature=[tf.TensorSpec([None, 5])])
  def there_and_back(x):
    return mask.merge(*mask.split(x))

  for n in (1, 3):
    x = tf.random.stateless_uniform((n, 5), seed=(0, n))
    np.testing.assert_array_equal(there_and_back(x), x)


def test_masks_that_would_keep_or_change_nothing_are_refused():
  for build in (
    lambda: masks.even_odd(1),
    lambda: masks.channel((4, 4, 1)),
    lambda: masks.checkerboard((1, 1, 3)),
    lambda: masks.checkerboard((2, 2, 3), size=2),
    lambda: masks.checkerboard((4, 4, 1), size=0),
    lambda: masks.rows((1, 4, 3)),
    lambda: masks.columns((4, 1, 3)),
    lambda: masks.BinaryMask(np.zeros((2, 2))),
    lambda: masks.BinaryMask(np.array([0.0, 0.5, 1.0])),
    lambda: AdditiveCoupling(dense_conditioner(2, 4, 1), np.array([0, 2, 1])),
  ):
    with pytest.raises(ValueError, match=r'`(mask|event_shape|size)`.*Got: '):
      build()


@pytest.mark.parametrize('mask', [masks.even_odd(6), masks.channel((2, 2, 2)), masks.checkerboard((2, 2, 2))])
def test_events_of_another_shape_are_refused(mask):
  for shape in ((), (5,), (2, 2, 3), (4, 2, 2, 1)):
    with pytest.raises(ValueError, match=r'^The mask expects events of shape \(.*Got: input of shape'):
      mask.split(tf.zeros(shape))


def test_sizes_may_be_integers_of_numpy():
  for mask in (masks.even_odd(np.int64(4)), masks.even_odd([np.int64(4)]), masks.even_odd(tf.TensorShape([4]))):
    assert mask.event_shape == (4,)

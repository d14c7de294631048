import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from flowgan_tf.bijectors import masks

SIDES = st.integers(1, 5)

# name: (shapes, function from shape and swap to a mask, function from indices and shape to whether an entry is kept).
KINDS = {
  'even_odd': (st.tuples(SIDES, st.integers(2, 9)), masks.even_odd, lambda i, shape: i[-1] % 2 == 0),
  'channel': (st.tuples(SIDES, SIDES, st.integers(2, 7)), masks.channel, lambda i, shape: 2 * i[-1] < shape[-1]),
  'checkerboard': (st.tuples(st.integers(2, 5), SIDES, SIDES), masks.checkerboard, lambda i, _: (i[0] + i[1]) % 2 == 1),
  'squares': (
    st.tuples(st.integers(3, 7), SIDES, SIDES),
    lambda shape, swap=False: masks.checkerboard(shape, swap, size=2),
    lambda i, _: (i[0] // 2 + i[1] // 2) % 2 == 1,
  ),
  'rows': (st.tuples(st.integers(2, 5), SIDES, SIDES), masks.rows, lambda i, _: i[0] % 2 == 1),
  'columns': (st.tuples(SIDES, st.integers(2, 5), SIDES), masks.columns, lambda i, _: i[1] % 2 == 1),
  'lattice': (
    st.tuples(st.integers(2, 7), SIDES, SIDES),
    lambda shape, swap=False: masks.lattice(shape, 3, swap),
    lambda i, _: i[0] % 3 + i[1] % 3 > 0,
  ),
}


@hypothesis.settings(deadline=None, max_examples=40, derandomize=True)
@hypothesis.given(st.data())
def test_split_and_merge_are_inverse_and_the_parts_a_partition(data):
  shapes, make, kept = KINDS[data.draw(st.sampled_from([*KINDS]))]
  shape, swap, batch_shape = data.draw(shapes), data.draw(st.booleans()), data.draw(st.sampled_from([(), (3,), (2, 3)]))
  mask, ones = make(shape, swap) if swap else make(shape), (kept(np.indices(shape), shape) != swap).astype(float)
  assert mask.event_shape == ones.shape
  x = 1.0 + np.random.default_rng(0).uniform(size=(*batch_shape, *ones.shape))
  kept, changed = mask.split(tf.constant(x))
  assert kept.shape == (*batch_shape, *mask.kept_shape) and changed.shape == (*batch_shape, *mask.changed_shape)
  np.testing.assert_array_equal(mask.merge(kept, changed), x)

  # The kept part alone: everything else is zero after merging, and the other way round.
  axes = tuple(range(-ones.ndim, 0))
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


def test_masks_that_would_keep_or_change_nothing_are_rejected():
  for build in (
    lambda: masks.even_odd(1),
    lambda: masks.channel((4, 4, 1)),
    lambda: masks.checkerboard((2, 2, 3), size=2),
    lambda: masks.checkerboard((4, 4, 1), size=0),
    lambda: masks.checkerboard((4, 4)),
    lambda: masks.rows((1, 4, 3)),
    lambda: masks.columns((4, 1, 3)),
    lambda: masks.lattice((4, 4, 3), 1),
    lambda: masks.lattice((1, 1, 3), 2),
    lambda: masks.BinaryMask(np.zeros((2, 2))),
    lambda: masks.BinaryMask(np.array([0.0, 0.5, 1.0])),
  ):
    with pytest.raises(ValueError, match=r'`(mask|event_shape|size)`.*Got: '):
      build()
  with pytest.raises(
    ValueError, match=r'^`event_shape` must be .*, which `even_odd` divides; `tfb\.Reshape` makes vect'
  ):
    masks.even_odd((8, 8, 1))

"""Components placed in clusters of images, against known clusters."""

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf import flows


def clustered_images(n=60):
  """Images of three kinds, which differ in the pixel that is white."""
  kinds = np.arange(n) % 3
  images = np.random.default_rng(0).uniform(0.05, 0.15, (n, 2, 2, 1))
  images.reshape(n, 4)[np.arange(n), kinds] += 0.8
  return images.astype(np.float32), kinds


@pytest.mark.parametrize('build', [flows.nice, flows.real_nvp, flows.jet])
def test_means_start_in_the_clusters_of_images(build):
  sizes = {flows.nice: {'hidden_units': 8}, flows.real_nvp: {'scales': 1, 'channels': 4, 'blocks': 1}}
  sizes[flows.jet] = {'patch_size': 1, 'width': 4, 'hidden_units': 4}
  flow = build((2, 2, 1), components=3, **sizes[build])
  images, kinds = clustered_images()
  flows.initialize_prior(flow, images)
  noise = flow.encode(images).numpy()
  expected = np.stack([noise[kinds == kind].mean(axis=0) for kind in range(3)])
  means = flow.distribution.means.numpy()
  np.testing.assert_allclose(
    means[np.lexsort(means.reshape(3, 4).T)], expected[np.lexsort(expected.reshape(3, 4).T)], atol=1e-4
  )
  before = means.copy()
  flows.initialize_prior(flow, images)
  np.testing.assert_array_equal(flow.distribution.means, before)
  # Each kind has the component whose mean is its own, whatever the flow and its means become.
  components = np.square(noise[:, None] - means).sum(axis=(2, 3, 4)).argmin(axis=1)
  flow.distribution.means.assign(means[::-1])
  np.testing.assert_array_equal(flow.distribution.nearest_prototype(images), components)
  assert [set(components[kinds == kind]) for kind in range(3)] == [{components[kind]} for kind in range(3)]
  assert set(components) == {0, 1, 2}


def test_images_may_have_another_floating_point_type():
  images, _ = clustered_images()
  means = []
  for dtype in ('float32', 'float64'):
    flow = flows.nice((2, 2, 1), components=3, hidden_units=8)
    flows.initialize_prior(flow, images.astype(dtype))
    means.append(flow.distribution.means.numpy())
  np.testing.assert_array_equal(*means)


def test_means_cannot_be_placed():
  images, _ = clustered_images()
  with pytest.raises(ValueError, match=r'`flow` must be a flow with `components` of at least 2\. Got: .*nice'):
    flows.initialize_prior(flows.nice((2, 2, 1), hidden_units=8), images)
  flow = flows.nice((2, 2, 1), components=3, hidden_units=8)
  for few in (images[:2], np.tile(images[:2], (5, 1, 1, 1)), np.tile(images[:2], (50, 1, 1, 1))):
    with pytest.raises(ValueError, match=r'`images` must be at least 3 different images, .*\. Got: 2\.'):
      flows.initialize_prior(flow, few)
  with pytest.raises(ValueError, match=r'`flow` must be a flow with `components` of at least 2'):
    flows.initialize_prior(tf.Module(), images)
  normed = flows.real_nvp((2, 2, 1), scales=1, channels=4, blocks=1, components=3, batch_norm_between=True)
  with pytest.raises(ValueError, match=r'`flow` must be without batch norms between its couplings'):
    flows.initialize_prior(normed, images)
  with pytest.raises(ValueError, match=r'`images` must be inside of the support of the flow'):
    flows.initialize_prior(flow, np.where(images > 0.5, np.nan, images))

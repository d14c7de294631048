import re

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logit

from flowgan_tf.base.errors import UsageError
from flowgan_tf.study.critic_inputs import critic_input, parts_of
from tests.tiny import IMAGE_SHAPE, make_config, make_state


def test_what_is_seen_stands_one_behind_the_other():
  state = make_state(make_config(objective='mle'))
  images = tf.constant(np.random.default_rng(0).uniform(0.01, 0.99, (3, *IMAGE_SHAPE)), tf.float32)
  pixels, logits, noise = np.moveaxis(critic_input('pixels+logits+noise', state.ema, images).numpy(), -1, 0)
  np.testing.assert_array_equal(pixels, images[..., 0])
  np.testing.assert_allclose(logits, logit(pixels.astype(np.float64)) / 4, atol=1e-4)
  np.testing.assert_allclose(noise, state.ema.encode(images)[..., 0], atol=1e-6)
  assert np.isfinite(critic_input('logits', state.ema, tf.constant([-0.05, 0.0, 1.0, 1.05]))).all()


@pytest.mark.parametrize('sees', ['pixel', 'noise+noise', ''])
def test_names_that_are_unknown_or_there_twice_are_rejected(sees):
  with pytest.raises(UsageError, match=rf"`sights` must be one or several of .*Got: '{re.escape(sees)}'"):
    parts_of(sees)

"""The gradient penalties that bound the slopes of a critic."""

from __future__ import annotations

from collections.abc import Callable

from flowgan_tf import devices
from flowgan_tf.base.lazy import tf
from flowgan_tf.objectives.critic import mean_output


def gradient_penalty(
  critic: Callable[[tf.Tensor], tf.Tensor], real: tf.Tensor, fake: tf.Tensor, seed: tf.Tensor
) -> tf.Tensor:
  """Mean squared distance of the critic's gradient norm from 1, between real and fake images.

  ```none
  E_xhat[(||grad_x critic(xhat)||_2 - 1)^2],    xhat = eps real + (1 - eps) fake,    eps ~ U[0, 1) for each sample
  ```

  The norm runs over all elements of a sample. The paper's code sums over one image axis only. That is a mistake, and a
  different constraint: it holds the gradient of each image column at norm 1, so it holds the gradient of a whole MNIST
  image at norm sqrt(28).

  Args:
    critic: Maps images to outputs of shape `[n, ...]`. Several outputs for an image count as their mean. It must treat
      samples independently (no batch normalisation), because one gradient of the sum over samples serves them all.
    real: Float tensor `[n, ...]`.
    fake: Float tensor of the same shape and dtype as `real`.
    seed: Stateless seed, int tensor of shape `[2]`. The same seed gives different results with and without XLA, which
      convert random bits to uniform floats differently.

  Returns:
    A float32 scalar. It is differentiable in the critic's weights even where the critic's gradient vanishes.

  Raises:
    ValueError: If the static shapes of `real` and `fake` differ.

  #### References

  [1]: I. Gulrajani et al. Improved Training of Wasserstein GANs. NIPS 2017, section 4 and algorithm 1.
       https://arxiv.org/abs/1704.00028
  """
  # Otherwise one of the two would be broadcast silently.
  real.shape.assert_is_compatible_with(fake.shape)
  rest = [1] * (real.shape.rank - 1)
  epsilon = devices.draw(lambda n: tf.random.stateless_uniform((n, *rest), seed, dtype=real.dtype), tf.shape(real)[0])
  interpolates = epsilon * real + (1.0 - epsilon) * fake
  squared_norm = _squared_slopes(critic, interpolates)
  # The square root has an infinite slope at 0, and 0 * inf would make every weight NaN. Both branches must be finite.
  vanishes = tf.equal(squared_norm, 0.0)
  norm = tf.where(vanishes, 0.0, tf.sqrt(tf.where(vanishes, 1.0, squared_norm)))
  return tf.reduce_mean(tf.square(norm - 1.0))


def zero_centered_penalty(
  critic: Callable[[tf.Tensor], tf.Tensor], real: tf.Tensor, fake: tf.Tensor, seed: tf.Tensor | None = None
) -> tf.Tensor:
  """Half the mean squared gradient norm of the critic on real images, plus the same on fake images: R1 + R2.

  ```none
  E_P[||grad_x critic(x)||^2] / 2 + E_Q[||grad_y critic(y)||^2] / 2
  ```

  Unlike `gradient_penalty` it lets the critic become flat as the model approaches the data, so that training converges.

  Args:
    critic: Maps images to outputs of shape `[n, ...]`, as for `gradient_penalty`.
    real: Float tensor `[n, ...]`.
    fake: Float tensor `[m, ...]`.
    seed: Not used. It is there because `gradient_penalty` takes one.

  Returns:
    A float32 scalar.

  #### References

  [1]: L. Mescheder, A. Geiger, S. Nowozin. Which Training Methods for GANs do actually Converge? ICML 2018,
       section 4.1. https://arxiv.org/abs/1801.04406
  """
  del seed
  return sum(tf.reduce_mean(_squared_slopes(critic, images)) for images in (real, fake)) / 2


def _squared_slopes(critic: Callable[[tf.Tensor], tf.Tensor], images: tf.Tensor) -> tf.Tensor:
  """Squared norm of the critic's gradient at each image, a float32 tensor `[n]`."""
  with tf.GradientTape() as tape:
    tape.watch(images)
    outputs = mean_output(critic(images))
  gradients = tape.gradient(outputs, images, unconnected_gradients=tf.UnconnectedGradients.ZERO)
  # Squares of a half-precision gradient over thousands of pixels overflow, or vanish.
  return tf.reduce_sum(tf.square(tf.cast(gradients, tf.float32)), axis=tf.range(1, tf.rank(gradients)))


PENALTIES = {'one_centered': gradient_penalty, 'zero_centered': zero_centered_penalty}

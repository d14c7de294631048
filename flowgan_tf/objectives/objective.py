"""The three learning objectives of a Flow-GAN, and the gradient penalties that bound the slopes of its critic."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from flowgan_tf.errors import UsageError, check_choice, check_integer, check_number
from flowgan_tf.lazy import lazy_import
from flowgan_tf.objectives.divergences import DIVERGENCES, Divergence

tf = lazy_import('tensorflow')
replicas = lazy_import('flowgan_tf.replicas')

OBJECTIVES = ('mle', 'adversarial', 'hybrid')

# The weights must be finite in float32, too.
_LARGEST = float(np.finfo(np.float32).max)


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
    critic: Maps images to outputs of shape `[n]` or `[n, 1]`. It must treat samples independently (no batch
      normalisation), because the gradient of the summed outputs is taken as the gradient of each sample.
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
  epsilon = replicas.draw(lambda n: tf.random.stateless_uniform((n, *rest), seed, dtype=real.dtype), tf.shape(real)[0])
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
    critic: Maps images to outputs of shape `[n]` or `[n, 1]`. It must treat samples independently (no batch
      normalisation).
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
    outputs = critic(images)
  gradients = tape.gradient(outputs, images, unconnected_gradients=tf.UnconnectedGradients.ZERO)
  # Squares of a half-precision gradient over thousands of pixels overflow, or vanish.
  return tf.reduce_sum(tf.square(tf.cast(gradients, tf.float32)), axis=tf.range(1, tf.rank(gradients)))


PENALTIES = {'one_centered': gradient_penalty, 'zero_centered': zero_centered_penalty}


@dataclasses.dataclass(frozen=True)
class Objective:
  """A learning objective: the losses that generator and critic minimise.

  ```none
  min_G max_D  V(G, D) - lambda E_data[log p_G(x)]
  ```

  `V` is the variational form of a divergence; `mle` drops it and sets lambda to 1, `adversarial` has lambda 0. The
  log-density is in nats per image, averaged over the batch. The paper's code minimises V / lambda + NLL instead. That
  has the same minimiser, but a gradient of another scale, which matters when its norm is clipped.

  With a critic, the generator may also minimise the cost of the transport from noise to samples [3]:

  ```none
  transport_weight mean (G(z) - S(z))^2,   the mean over samples and pixels
  ```

  `S` is the last step of the flow alone, from logits to pixels, so that a flow without any other layers costs nothing.

  #### References

  [1]: A. Grover, M. Dhar, S. Ermon. Flow-GAN. AAAI 2018, section 4, eq. 7. https://arxiv.org/abs/1705.08868
  [2]: T. Karras et al. Analyzing and Improving the Image Quality of StyleGAN. CVPR 2020, section 3.1 on lazy
       regularisation. https://arxiv.org/abs/1912.04958
  [3]: S. Lin et al. Adversarial Flow Models. 2025. https://arxiv.org/abs/2511.22475
  """

  name: str  #: One of `OBJECTIVES`.
  #: Defines the losses of critic and generator. With `jensen_shannon`, `least_squares` and `relativistic` the generator
  #: minimises that divergence's own generator loss instead of V.
  divergence: Divergence
  likelihood_weight: float  #: Lambda, at least 0.
  #: Lambda at the end of the training. In between, each step changes it by the same factor.
  final_likelihood_weight: float
  gradient_penalty_weight: float  #: Weight of the critic's gradient penalty, at least 0.
  penalty: str  #: Kind of that penalty, a key of `PENALTIES`.
  penalty_interval: int  #: Only one in this many critic updates has the penalty, with this many times its weight [2].
  transport_weight: float = 0.0  #: Weight of the cost of the transport, at least 0.
  final_transport_weight: float = 0.0  #: That weight at the end of the training; it moves as lambda does.

  @property
  def uses_critic(self) -> bool:
    """Whether the objective has an adversarial part, and needs a critic."""
    return self.name != 'mle'

  @property
  def uses_likelihood(self) -> bool:
    """Whether log-densities are needed. False for `hybrid` with lambda = 0, which is exactly `adversarial`."""
    return self.likelihood_weight != 0.0

  @property
  def uses_transport(self) -> bool:
    """Whether the objective has an adversarial part and the cost of the transport from noise to samples."""
    return self.uses_critic and self.transport_weight != 0.0

  def critic_loss(
    self,
    critic: Callable[[tf.Tensor], tf.Tensor],
    real: tf.Tensor,
    fake: tf.Tensor,
    seed: tf.Tensor,
    penalized: bool = True,
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Returns the divergence's critic loss plus the weighted gradient penalty, and what to log.

    Args:
      critic: Maps images to outputs of shape `[n]` or `[n, 1]`.
      real: Data, float tensor `[n, ...]`.
      fake: Samples of the model, float tensor `[n, ...]`.
      seed: Stateless seed of the gradient penalty, int tensor of shape `[2]`.
      penalized: Whether this update has the penalty.

    Returns:
      The float32 scalar to minimise, and float32 scalars to log: `critic_loss` (the same scalar), `critic_gap` (the
      divergence as this critic estimates it) and, if it is part of the loss, `gradient_penalty` (before weighting).
    """
    real_outputs, fake_outputs = critic(real), critic(fake)
    loss = self.divergence.critic_loss(real_outputs, fake_outputs)
    metrics = {'critic_gap': self.divergence.value(real_outputs, fake_outputs)}
    if self.gradient_penalty_weight != 0.0 and penalized:
      metrics['gradient_penalty'] = PENALTIES[self.penalty](critic, real, fake, seed)
      loss += self.penalty_interval * self.gradient_penalty_weight * metrics['gradient_penalty']
    metrics['critic_loss'] = loss
    return loss, metrics

  def generator_loss(
    self,
    nll_mean: tf.Tensor | None,
    fake_outputs: tf.Tensor | None,
    real_outputs: tf.Tensor | None = None,
    progress: float | tf.Tensor = 0.0,
    transport: tf.Tensor | None = None,
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Returns the adversarial loss plus the weighted negative log-likelihood and transport, and what to log.

    Args:
      nll_mean: -log p(x) in nats per image, averaged over the batch: a scalar. With pseudo-labels k it is -log p(x, k),
        which is at least as large. Ignored unless `uses_likelihood`.
      fake_outputs: Critic outputs at samples of the model, `[n]` or `[n, 1]`. Ignored unless `uses_critic`.
      real_outputs: Critic outputs at data. Ignored unless the divergence is `relativistic`.
      progress: Fraction of the training that is over, from 0 to 1. It determines lambda and the transport's weight.
      transport: Cost of the transport, before weighting, a scalar. Ignored unless `uses_transport`.

    Returns:
      The float32 scalar to minimise, and float32 scalars to log: `loss` (the same scalar), `generator_loss` (the
      adversarial part) if `uses_critic`, and before weighting `nll` if `uses_likelihood` and `transport` if
      `uses_transport`.

    Raises:
      ValueError: If an argument that this objective uses is None.
    """
    metrics = {}
    loss = tf.constant(0.0)
    if self.uses_critic:
      metrics['generator_loss'] = self.divergence.generator_loss(real_outputs, fake_outputs)
      loss += metrics['generator_loss']
    if self.uses_likelihood:
      metrics['nll'] = tf.cast(nll_mean, tf.float32)
      loss += _between(self.likelihood_weight, self.final_likelihood_weight, progress) * metrics['nll']
    if self.uses_transport:
      metrics['transport'] = tf.cast(transport, tf.float32)
      loss += _between(self.transport_weight, self.final_transport_weight, progress) * metrics['transport']
    metrics['loss'] = loss
    return loss, metrics


def _between(first, last, progress):
  """Returns a weight that moves from the first to the last by the same factor in each step."""
  return first if last == first else first * (last / first) ** progress


def make(
  name: str,
  *,
  lambda_: float = 1.0,
  final_lambda: float | None = None,
  divergence: str = 'wasserstein',
  gradient_penalty_weight: float | None = None,
  penalty: str | None = None,
  penalty_interval: int = 1,
  transport_weight: float = 0.0,
  final_transport_weight: float | None = None,
) -> Objective:
  """Builds an objective.

  Args:
    name: One of `OBJECTIVES`.
    lambda_: Weight of the negative log-likelihood (nats per image) in `hybrid`. `mle` always has weight 1 and
      `adversarial` 0.
    final_lambda: Weight at the end of a hybrid training. None means `lambda_`.
    divergence: A key of `DIVERGENCES`.
    gradient_penalty_weight: Weight of the critic's gradient penalty. None means the divergence's default: 10 for
      `wasserstein`, 1 for `relativistic`, 0 for all others.
    penalty: A key of `PENALTIES`. None means the divergence's default: 'zero_centered' for `relativistic` and
      'one_centered' for all others.
    penalty_interval: Number of critic updates from one penalty to the next.
    transport_weight: Weight of the cost of the transport from noise to samples. 'mle' has no such cost.
    final_transport_weight: That weight at the end of the training. None means `transport_weight`.

  Raises:
    UsageError: If a name is unknown, a weight is not a finite number of at least 0, only one of `lambda_` and
      `final_lambda` is 0 or one of the two transport weights, or `penalty_interval` is not a positive integer.
  """
  check_choice('name', name, OBJECTIVES)
  check_choice('divergence', divergence, DIVERGENCES)
  if penalty is not None:
    check_choice('penalty', penalty, PENALTIES)
  check_integer('penalty_interval', penalty_interval, 1)
  moving = (
    ('lambda_', lambda_, 'final_lambda', final_lambda),
    ('transport_weight', transport_weight, 'final_transport_weight', final_transport_weight),
  )
  weights = {'gradient_penalty_weight': gradient_penalty_weight}
  for first, weight, last, final in moving:
    weights |= {first: weight, last: final}
  for argument, weight in weights.items():
    if weight is not None or argument in ('lambda_', 'transport_weight'):
      check_number(argument, weight, 'a finite number of at least 0', lambda v: 0 <= v <= _LARGEST)
  for first, weight, last, final in moving:
    if final is not None and (weight == 0) != (final == 0):
      raise UsageError(f'`{last}` must be 0 if and only if `{first}` is, here {weight}. Got: {final}.', last)
  chosen, fixed = DIVERGENCES[divergence], {'mle': 1.0, 'adversarial': 0.0}
  if gradient_penalty_weight is None:
    gradient_penalty_weight = chosen.default_gradient_penalty
  return Objective(
    name=name,
    divergence=chosen,
    likelihood_weight=fixed.get(name, float(lambda_)),
    final_likelihood_weight=fixed.get(name, float(lambda_ if final_lambda is None else final_lambda)),
    gradient_penalty_weight=float(gradient_penalty_weight),
    penalty=penalty or chosen.default_penalty,
    penalty_interval=penalty_interval,
    transport_weight=float(transport_weight),
    final_transport_weight=float(transport_weight if final_transport_weight is None else final_transport_weight),
  )

"""The three learning objectives of a Flow-GAN: maximum likelihood, adversarial, hybrid."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from flowgan_tf.arguments import check_choice, check_number
from flowgan_tf.objectives.divergences import DIVERGENCES, Divergence
from flowgan_tf.objectives.penalties import gradient_penalty

__all__ = ['OBJECTIVES', 'Objective', 'make']

OBJECTIVES: tuple[str, ...] = ('mle', 'adversarial', 'hybrid')


@dataclasses.dataclass(frozen=True)
class Objective:
  """A learning objective: the losses that generator and critic minimise.

  ```none
  min_G max_D  V(G, D) - lambda E_data[log p_G(x)]
  ```

  `V` is the variational form of a divergence; `mle` drops it and sets lambda to 1, `adversarial` has lambda 0. The
  log-density is in nats per image, averaged over the batch. The paper's code minimises V / lambda + NLL instead. That
  has the same minimiser, but a gradient of another scale, which matters when its norm is clipped.

  Attributes:
    name: One of `OBJECTIVES`.
    divergence: Defines the losses of critic and generator. With `jensen_shannon` and `least_squares` the generator
      minimises that divergence's own generator loss instead of V.
    likelihood_weight: Lambda, at least 0.
    gradient_penalty_weight: Weight of the critic's gradient penalty, at least 0.

  #### References

  [1]: A. Grover, M. Dhar, S. Ermon. Flow-GAN. AAAI 2018, section 4, eq. 7. https://arxiv.org/abs/1705.08868
  """

  name: str
  divergence: Divergence
  likelihood_weight: float
  gradient_penalty_weight: float

  @property
  def uses_critic(self) -> bool:
    """Whether there is an adversarial part, and therefore a critic to train."""
    return self.name != 'mle'

  @property
  def uses_likelihood(self) -> bool:
    """Whether log-densities are needed. False for `hybrid` with lambda = 0, which is exactly `adversarial`."""
    return self.likelihood_weight != 0.0

  def critic_loss(
    self, critic: Callable[[tf.Tensor], tf.Tensor], real: tf.Tensor, fake: tf.Tensor, seed: tf.Tensor
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Computes the divergence's critic loss plus the weighted gradient penalty.

    Args:
      critic: Maps images to outputs of shape `[n]` or `[n, 1]`.
      real: Data, float tensor `[n, ...]`.
      fake: Samples of the model, float tensor `[n, ...]`.
      seed: Stateless seed of the gradient penalty, int tensor of shape `[2]`.

    Returns:
      The float32 scalar to minimise, and float32 scalars to log: `critic_loss` (the same scalar), `critic_gap` (the
      divergence as this critic estimates it) and, unless its weight is 0, `gradient_penalty` (before weighting).
    """
    real_outputs, fake_outputs = critic(real), critic(fake)
    loss = self.divergence.critic_loss(real_outputs, fake_outputs)
    metrics = {'critic_gap': self.divergence.value(real_outputs, fake_outputs)}
    if self.gradient_penalty_weight != 0.0:
      metrics['gradient_penalty'] = gradient_penalty(critic, real, fake, seed)
      loss += self.gradient_penalty_weight * metrics['gradient_penalty']
    metrics['critic_loss'] = loss
    return loss, metrics

  def generator_loss(
    self, nll_mean: tf.Tensor | None, fake_outputs: tf.Tensor | None
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Computes the adversarial generator loss plus lambda times the negative log-likelihood.

    Args:
      nll_mean: -log p(x) in nats per image, averaged over the batch: a scalar. Ignored unless `uses_likelihood`.
      fake_outputs: Critic outputs at samples of the model, `[n]` or `[n, 1]`. Ignored unless `uses_critic`.

    Returns:
      The float32 scalar to minimise, and float32 scalars to log: `loss` (the same scalar), `generator_loss` (the
      adversarial part) if `uses_critic`, and `nll` (before weighting) if `uses_likelihood`.

    Raises:
      ValueError: If an argument that this objective uses is None.
    """
    metrics = {}
    loss = tf.constant(0.0)
    if self.uses_critic:
      metrics['generator_loss'] = self.divergence.generator_loss(fake_outputs)
      loss += metrics['generator_loss']
    if self.uses_likelihood:
      metrics['nll'] = tf.cast(nll_mean, tf.float32)
      loss += self.likelihood_weight * metrics['nll']
    metrics['loss'] = loss
    return loss, metrics


def make(
  name: str,
  *,
  lambda_: float = 1.0,
  divergence: str = 'wasserstein',
  gradient_penalty_weight: float | None = None,
) -> Objective:
  """Builds an objective.

  Args:
    name: One of `OBJECTIVES`.
    lambda_: Weight of the negative log-likelihood (nats per image) in `hybrid`. It is checked for every objective, but
      `mle` always has weight 1 and `adversarial` 0.
    divergence: A key of `DIVERGENCES`.
    gradient_penalty_weight: Weight of the critic's gradient penalty. None means the divergence's default: 10 for
      `wasserstein`, 0 for all others.

  Raises:
    ValueError: If `name` or `divergence` is unknown, or a weight is not a finite number of at least 0.
  """
  check_choice('name', name, OBJECTIVES)
  check_choice('divergence', divergence, DIVERGENCES)
  if gradient_penalty_weight is None:
    gradient_penalty_weight = DIVERGENCES[divergence].default_gradient_penalty
  for argument, weight in (('lambda_', lambda_), ('gradient_penalty_weight', gradient_penalty_weight)):
    # It must be finite as a float32, too.
    check_number(argument, weight, 'a finite number of at least 0', lambda v: 0 <= v <= float(tf.float32.max))
  return Objective(
    name=name,
    divergence=DIVERGENCES[divergence],
    likelihood_weight={'mle': 1.0, 'adversarial': 0.0, 'hybrid': float(lambda_)}[name],
    gradient_penalty_weight=float(gradient_penalty_weight),
  )

"""The three learning objectives of a Flow-GAN: maximum likelihood, adversarial, hybrid."""

import dataclasses
import numbers
from collections.abc import Callable

import tensorflow as tf

from flowgan_tf.errors import UsageError
from flowgan_tf.objectives.divergences import DIVERGENCES, Divergence
from flowgan_tf.objectives.penalties import gradient_penalty

__all__ = ['OBJECTIVES', 'Objective', 'make']

OBJECTIVES: tuple[str, ...] = ('mle', 'adversarial', 'hybrid')


@dataclasses.dataclass(frozen=True)
class Objective:
  """What generator and critic minimise.

  ```none
  min_G max_D  V(G, D) - lambda E_data[log p_G(x)]
  ```

  `V` is the variational form of a divergence; `mle` drops it and sets lambda to 1, `adversarial` has lambda 0. The
  log-density is in nats per image, a mean over the batch. The paper's code minimises V / lambda + NLL instead: the same
  minimiser, but the scale of the gradient differs, and with it what a clip of the gradient norm does.

  Attributes:
    name: one of `OBJECTIVES`.
    divergence: gives the losses of critic and generator. With `jensen_shannon` and `least_squares` the generator does
      not minimise V itself but that divergence's own generator loss.
    likelihood_weight: lambda, at least 0.
    gradient_penalty_weight: weight of the critic's gradient penalty, at least 0.

  #### References

  [1]: A. Grover, M. Dhar, S. Ermon. Flow-GAN. AAAI 2018, section 4, eq. 7. https://arxiv.org/abs/1705.08868
  """

  name: str
  divergence: Divergence
  likelihood_weight: float
  gradient_penalty_weight: float

  @property
  def uses_critic(self) -> bool:
    """Whether there is an adversarial part, and so a critic to train."""
    return self.name != 'mle'

  @property
  def uses_likelihood(self) -> bool:
    """Whether log-densities are needed. False for `hybrid` with lambda = 0, which then is exactly `adversarial`."""
    return self.likelihood_weight != 0.0

  def critic_loss(
    self, critic: Callable[[tf.Tensor], tf.Tensor], real: tf.Tensor, fake: tf.Tensor, seed: tf.Tensor
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """The divergence's critic loss plus the weighted gradient penalty.

    Args:
      critic: images -> outputs of shape `[n]` or `[n, 1]`.
      real: data, float tensor `[n, ...]`.
      fake: samples of the model, float tensor `[n, ...]`.
      seed: stateless seed of the gradient penalty, int tensor of shape `[2]`.

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
    """The adversarial generator loss plus lambda times the negative log-likelihood.

    Args:
      nll_mean: -log p(x) in nats per image, a mean over the batch; scalar. Not looked at unless `uses_likelihood`.
      fake_outputs: critic outputs at samples of the model, `[n]` or `[n, 1]`. Not looked at unless `uses_critic`.

    Returns:
      The float32 scalar to minimise, and float32 scalars to log: `loss` (the same scalar), `generator_loss` (the
      adversarial part) if `uses_critic`, and `nll` (before weighting) if `uses_likelihood`.

    Raises:
      ValueError: if an argument is None that this objective uses.
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
  """Checks a user's choice and builds the objective.

  Args:
    name: one of `OBJECTIVES`.
    lambda_: weight of the negative log-likelihood (nats per image) in `hybrid`. The others check it but do not use it,
      since a configuration always carries one: `mle` has weight 1 and `adversarial` 0.
    divergence: a key of `DIVERGENCES`.
    gradient_penalty_weight: None for the divergence's default: 10 for `wasserstein`, 0 for all others.

  Raises:
    UsageError: if `name` or `divergence` is unknown, or a weight is not a finite number >= 0.
  """
  if name not in OBJECTIVES:
    raise UsageError(f'objective: got {name!r}, expected one of {", ".join(OBJECTIVES)}')
  if divergence not in DIVERGENCES:
    raise UsageError(f'divergence: got {divergence!r}, expected one of {", ".join(DIVERGENCES)}')
  if gradient_penalty_weight is None:
    gradient_penalty_weight = DIVERGENCES[divergence].default_gradient_penalty
  for label, weight in (('lambda', lambda_), ('gradient_penalty_weight', gradient_penalty_weight)):
    # Finite as a float32, too.
    if not (isinstance(weight, numbers.Real) and 0 <= weight <= tf.float32.max):
      raise UsageError(f'{label}: got {weight!r}, expected a finite number >= 0')
  return Objective(
    name=name,
    divergence=DIVERGENCES[divergence],
    likelihood_weight={'mle': 1.0, 'adversarial': 0.0, 'hybrid': float(lambda_)}[name],
    gradient_penalty_weight=float(gradient_penalty_weight),
  )

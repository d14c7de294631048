"""The adversary: a critic that estimates a divergence between images and samples, which the generator minimises."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from flowgan_tf.base import settings
from flowgan_tf.base.errors import check
from flowgan_tf.base.lazy import tf
from flowgan_tf.base.plugins import short_name
from flowgan_tf.base.settings import NOT_NEGATIVE, setting
from flowgan_tf.objectives.critic import CRITICS
from flowgan_tf.objectives.divergences import DIVERGENCES
from flowgan_tf.objectives.penalties import PENALTIES
from flowgan_tf.objectives.term import Drawn, Number, Term


class Adversary(Term):
  """The divergence `V` between data and model, as a critic estimates it.

  With `jensen_shannon`, `least_squares` and `relativistic` the generator minimises that divergence's own generator loss
  instead of V. A lazy penalty [1] is part of the loss of only one in `penalty_interval` critic updates, with
  `penalty_interval` times its weight.

  #### References

  [1]: T. Karras et al. Analyzing and Improving the Image Quality of StyleGAN. CVPR 2020, section 3.1 on lazy
       regularisation. https://arxiv.org/abs/1912.04958
  """

  adversarial_only = needs_samples = True
  numbers = (
    Number('generator_loss'),
    Number('critic_loss'),
    Number('critic_gap', form='.3g'),
    Number('gradient_penalty'),
  )

  @dataclasses.dataclass(frozen=True, kw_only=True)
  class Settings(settings.Settings):
    """The critic, how often it is updated, and the divergence that it estimates."""

    divergence: str = setting(
      'wasserstein',
      'Divergence that the critic estimates. Your own is MODULE:NAME.',
      choices=DIVERGENCES,
      short=True,
    )
    gradient_penalty: float | None = setting(
      None, "Weight of the critic's gradient penalty. Default: the divergence's own.", kind=float, must=NOT_NEGATIVE
    )
    penalty: str | None = setting(
      None, "Kind of the gradient penalty. Default: the divergence's own.", kind=str, choices=PENALTIES
    )
    penalty_interval: int = setting(
      1, 'Critic updates from one penalty to the next. A penalty counts for all of them.', 1, 10**9
    )
    critic: str = setting('dcgan_critic', 'Critic. Your own is MODULE:FUNCTION.', choices=CRITICS, training_only=True)
    critic_steps: int = setting(5, 'Updates of the critic per step.', 1, 1000, short=True, training_only=True)
    critic_warmup: int = setting(0, 'Steps at the start that train the critic alone.', 0, 10**9, training_only=True)
    reuse_batch: bool = setting(
      False, "One batch of images and noise for all critic steps, as in the paper's code.", training_only=True
    )
    mixed_statistics: bool = setting(
      False,
      "Samples, too, use and move the statistics of a hybrid's batch norms, as in the paper's code.",
      training_only=True,
    )
    init_critic: bool = setting(
      False, 'Also start from the critic of `init_from`. Only its checkpoint `latest` has one.', training_only=True
    )

    @classmethod
    def check(cls, config: Any) -> None:
      """Checks that the generator is trained at all, and that the critic to start from exists."""
      expected = f'below `steps` {config.steps}'
      check('critic_warmup', config.critic_warmup, expected, config.critic_warmup < config.steps)
      expected = "False unless `init_checkpoint` is 'latest', the only checkpoint with a critic"
      check('init_critic', config.init_critic, expected, not config.init_critic or config.init_checkpoint == 'latest')

    @classmethod
    def idle(cls, name: str, config: Any) -> str:
      """Not each critic has a penalty."""
      weight = config.gradient_penalty
      if weight is None:
        weight = DIVERGENCES[config.divergence].default_gradient_penalty
      return 'gradient_penalty 0' if name in ('penalty', 'penalty_interval') and not weight else ''

  def __init__(self, settings: Any, config: Any):
    """Takes what the divergence leaves open from its defaults."""
    super().__init__(settings, config)
    self.divergence = divergence = DIVERGENCES[settings.divergence]
    weight = settings.gradient_penalty
    self.gradient_penalty = float(divergence.default_gradient_penalty if weight is None else weight)
    self.penalty = settings.penalty or divergence.default_penalty
    self.needs_real_outputs = divergence.relativistic

  @classmethod
  def label(cls, config: Any) -> str:
    """Returns the divergence if it is not the paper's."""
    named = cls.applies(config) and config['divergence'] != 'wasserstein'
    return short_name(config['divergence']) if named else ''

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
      critic: Maps images to outputs of shape `[n, ...]`, each by itself: it gets data and samples in one batch.
      real: Data, float tensor `[n, ...]`.
      fake: Samples of the model, float tensor `[n, ...]`.
      seed: Stateless seed of the gradient penalty, int tensor of shape `[2]`.
      penalized: Whether this update has the penalty.

    Returns:
      The float32 scalar to minimise, and float32 scalars to log: `critic_loss` (the same scalar), `critic_gap` (the
      divergence as this critic estimates it) and, if it is part of the loss, `gradient_penalty` (before weighting).
    """
    # One pass for both: one large product takes less time than two small ones with the same weights.
    outputs, n = critic(tf.concat([real, fake], axis=0)), tf.shape(real)[0]
    real_outputs, fake_outputs = outputs[:n], outputs[n:]
    loss = self.divergence.critic_loss(real_outputs, fake_outputs)
    metrics = {'critic_gap': self.divergence.value(real_outputs, fake_outputs)}
    if self.gradient_penalty != 0.0 and penalized:
      metrics['gradient_penalty'] = PENALTIES[self.penalty](critic, real, fake, seed)
      loss += self.settings.penalty_interval * self.gradient_penalty * metrics['gradient_penalty']
    metrics['critic_loss'] = loss
    return loss, metrics

  def loss(self, drawn: Drawn) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Logs `generator_loss`."""
    loss = self.divergence.generator_loss(drawn.real_outputs, drawn.fake_outputs)
    return loss, {'generator_loss': loss}

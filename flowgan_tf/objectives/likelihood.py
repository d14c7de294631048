"""The likelihood of the images, the term that trains a flow alone by maximum likelihood."""

from __future__ import annotations

import dataclasses
from typing import Any

from flowgan_tf.base import settings
from flowgan_tf.base.errors import check
from flowgan_tf.base.lazy import tf
from flowgan_tf.base.plugins import short_name
from flowgan_tf.base.settings import NOT_NEGATIVE, setting
from flowgan_tf.data.conditions import kind_of
from flowgan_tf.flows.registry import traits_of
from flowgan_tf.objectives.term import Drawn, Number, Seen, Term, between, is_moving, moving

# The weight of the likelihood in the objectives that fix it.
_FIXED = {'mle': 1.0, 'adversarial': 0.0}


class Likelihood(Term):
  """Lambda times the mean negative log-likelihood, in nats per image.

  ```none
  - lambda E_data[log p(x)]
  ```

  With pseudo-labels `k` it is -log p(x, k), which is at least as large. Lambda is 1 in `mle` and 0 in `adversarial`. If
  only some labels are known, images without one, whose label is -1, count with log p(x) and others with log p(x | y).

  Source: A. Grover, M. Dhar, S. Ermon. Flow-GAN. AAAI 2018, section 4, eq. 7. https://arxiv.org/abs/1705.08868
  """

  needs_density = True
  numbers = (Number('nll', form=',.1f'),)

  @dataclasses.dataclass(frozen=True, kw_only=True)
  class Settings(settings.Settings):
    """The weight of the likelihood, and pseudo-labels."""

    lambda_: float = setting(
      0.1, 'Weight of the likelihood in the hybrid objective, in V - lambda log p.', must=NOT_NEGATIVE, short=True
    )
    final_lambda: float | None = setting(
      None,
      'Lambda after the last step. Each step changes it by the same factor. Default: lambda.',
      kind=float,
      must=NOT_NEGATIVE,
    )
    pseudo_labels: bool = setting(False, 'Use the joint likelihood of an image and the component of its cluster.')

    def __post_init__(self):
      super().__post_init__()
      check_moving('lambda', self.lambda_, 'final_lambda', self.final_lambda)

    @classmethod
    def check(cls, config: Any) -> None:
      """Checks that pseudo-labels have components and a likelihood, and what hidden labels exclude."""
      traits, pseudo_labels = traits_of(config), config.pseudo_labels
      for expected, holds in (
        (
          f'False for a generator with a single component, here {config.generator}',
          traits.components > 1,
        ),
        (
          f'False with `{short_name(config.generator)}.histogram_bins`, as clusters and prototypes would disagree',
          not traits.has_histograms,
        ),
        (
          "False unless `condition` is 'label' or empty, because samples draw components whatever the condition is",
          kind_of(config.condition).has_marginal,
        ),
        ("False without a likelihood, as with `objective` 'adversarial' or `lambda` 0", weight_of(config) != 0),
      ):
        check('pseudo_labels', pseudo_labels, expected, holds or not pseudo_labels)
      for expected, holds in (
        ("0 unless `objective` is 'mle', because the critic needs all labels", config.objective == 'mle'),
        ("0 unless `condition` is 'label'", config.condition == 'label'),
      ):
        check('labelled', config.labelled, expected, holds or not config.labelled)
      check_batch_norms('labelled', config)

    @classmethod
    def idle(cls, name: str, config: Any) -> str:
      """Only a hybrid has a lambda."""
      return f'objective {config.objective}' if config.objective != 'hybrid' and 'lambda' in name else ''

  def __init__(self, settings: Any, config: Any):
    """Takes the final weight, and whether labels are hidden, from the settings of a training."""
    super().__init__(settings, config)
    self.weight = weight_of(config)
    self.final_weight = _FIXED.get(config['objective'], settings.final_lambda)
    self._labelled = bool(config.get('labelled'))

  @classmethod
  def applies(cls, config: Any) -> bool:
    """Whether the weight is not 0."""
    return weight_of(config) != 0

  @classmethod
  def label(cls, config: Any) -> str:
    """Returns lambda, which only a hybrid has."""
    return f'λ = {moving(config, "lambda")}' if config['objective'] == 'hybrid' else ''

  @classmethod
  def moves(cls, config: Any) -> bool:
    """Whether lambda changes during the training."""
    return config['objective'] not in _FIXED and is_moving(config, 'lambda')

  def of_images(self, seen: Seen) -> dict[str, tf.Tensor]:
    """Returns `log_prob` in nats."""
    # What an image without a label gets from the first class is not used.
    given = seen.generator.given(tf.maximum(seen.condition, 0) if self._labelled else seen.condition)
    component = given.nearest_component(seen.images) if self.settings.pseudo_labels else None
    log_prob = given.log_prob(seen.images, training=True, component=component)
    if self._labelled:
      log_prob = tf.where(
        tf.greater_equal(seen.condition, 0), log_prob, tf.reduce_logsumexp(seen.class_log_probs, axis=-1)
      )
    return {'log_prob': log_prob}

  def loss(self, drawn: Drawn) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Logs `nll`, in nats per image."""
    nll = -tf.cast(drawn.means['log_prob'], tf.float32)
    return between(self.weight, self.final_weight, drawn.progress) * nll, {'nll': nll}


def weight_of(config: Any) -> float:
  """Returns the weight of the likelihood; 0 without one. A hybrid with lambda 0 is exactly adversarial."""
  return _FIXED.get(config['objective'], float(config['lambda']))


def check_moving(first: str, weight: float, last: str, final: float | None) -> None:
  """Checks that a weight that moves by a constant factor does not start or end at 0."""
  expected = f'0 if and only if `{first}` is, here {weight}'
  check(last, final, expected, final is None or (weight == 0) == (final == 0))


def check_batch_norms(name: str, config: Any) -> None:
  """Checks a setting that passes each image through the networks under every label.

  Batch norms would take that for the batch.
  """
  traits = traits_of(config)
  expected = f'0 with batch norms, unless `{short_name(config.generator)}.condition_networks` is False'
  check(name, config[name], expected, not (config[name] and traits.has_batch_norm and traits.sees_condition))

"""The three learning objectives of a Flow-GAN, as sums of terms."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from flowgan_tf.base.errors import UsageError, check, renamed
from flowgan_tf.base.lazy import tf
from flowgan_tf.base.plugins import Registry, is_plugin, short_name
from flowgan_tf.base.settings import Settings, setting, with_current_names, wrong_settings
from flowgan_tf.objectives.adversary import Adversary
from flowgan_tf.objectives.consistency import Consistency
from flowgan_tf.objectives.labels import Labels
from flowgan_tf.objectives.likelihood import Likelihood
from flowgan_tf.objectives.term import OF_LOG, Drawn, Number, Term, as_floats, own_numbers
from flowgan_tf.objectives.transport import Transport

#: The objectives, and what the paper calls them.
OBJECTIVES = {'mle': 'MLE', 'adversarial': 'ADV', 'hybrid': 'Hybrid'}

#: The terms of the loss by name, in the order in which they are added.
TERMS: Registry[type[Term]] = Registry(
  'terms',
  'a subclass of `flowgan_tf.objectives.Term`',
  lambda part: isinstance(part, type) and issubclass(part, Term),
  {
    'adversary': Adversary,
    'likelihood': Likelihood,
    'transport': Transport,
    'labels': Labels,
    'consistency': Consistency,
  },
  lambda part: 'it must define `loss`' if inspect.isabstract(part) else wrong_settings(part),
)

#: What the terms of the package log, by name.
NUMBERS: dict[str, Number] = {number.name: number for term in TERMS.values() for number in term.numbers}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectiveSettings(Settings):
  """The choice of an objective, and of terms from outside of the package."""

  objective: str = setting(
    'mle',
    'Loss of the generator. Default: hybrid with --lambda, and otherwise what the config file says.',
    choices=OBJECTIVES,
    short=True,
  )
  terms: tuple[str, ...] = setting((), 'Further terms of the loss, each MODULE:CLASS.', short=True)

  @classmethod
  def check(cls, config: Any) -> None:
    """Checks that each further term counts, and only once."""
    expected = 'different terms, as one that is named twice would count twice'
    check('terms', config.terms, expected, len(set(config.terms)) == len(config.terms))
    left_out = [short_name(name) for name in config.terms if TERMS[name].adversarial_only]
    expected = f"'adversarial' or 'hybrid', as 'mle' would leave out {', '.join(left_out)}"
    check('objective', config.objective, expected, config.objective != 'mle' or not left_out)


def kinds_of(config: Mapping[str, Any]) -> Iterator[type[Term]]:
  """Yields the kinds of terms that a training may have: those of the package, and those that its setting names."""
  yield from TERMS.values()
  for name in config['terms']:
    check('terms', name, 'MODULE:CLASS of a subclass of `flowgan_tf.objectives.Term`', is_plugin(name))
    yield TERMS[name]


@dataclasses.dataclass(frozen=True)
class Objective:
  """A learning objective: the losses that generator and critic minimise.

  ```none
  min_G max_D  V(G, D) - lambda E_data[log p_G(x)] + further terms
  ```

  `V` is the variational form of a divergence; `mle` drops it and sets lambda to 1, `adversarial` has lambda 0. The
  log-density is in nats per image, averaged over the batch. The paper's code minimises V / lambda + NLL instead. That
  has the same minimiser, but a gradient of another scale, which matters when its norm is clipped.

  Source: A. Grover, M. Dhar, S. Ermon. Flow-GAN. AAAI 2018, section 4, eq. 7. https://arxiv.org/abs/1705.08868
  """

  terms: tuple[Term, ...]  #: The terms, whose sum the generator minimises.

  @property
  def adversary(self) -> Adversary | None:
    """The adversarial term; None in `mle`."""
    return next((term for term in self.terms if isinstance(term, Adversary)), None)

  @property
  def uses_critic(self) -> bool:
    """Whether the objective has an adversarial part, and needs a critic."""
    return self.adversary is not None

  @property
  def uses_likelihood(self) -> bool:
    """Whether densities are needed. False for `hybrid` with lambda = 0, which is exactly `adversarial`."""
    return any(term.needs_density for term in self.terms)

  def generator_loss(self, drawn: Drawn) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Returns the sum of the terms, and what to log.

    Args:
      drawn: What the terms need: `means['log_prob']`, the mean log p(x) in nats per image, for the likelihood;
        `fake_outputs` of the critic and, for a `relativistic` divergence, `real_outputs` for the adversary.

    Returns:
      The float32 scalar to minimise, and float32 scalars to log: `loss` (the same scalar) and, before weighting, the
      terms: `generator_loss` of the adversary, `nll` of the likelihood, and so on.
    """
    loss = tf.constant(0.0)
    metrics: dict[str, tf.Tensor] = {}
    for term in self.terms:
      value, found = term.loss(drawn)
      loss += tf.cast(as_floats(term, '`loss` returns a loss', value, tf.TensorShape([])), tf.float32)
      others = OF_LOG | metrics.keys() | (NUMBERS.keys() - {number.name for number in term.numbers})
      numbers = own_numbers(term, 'loss', found, tf.TensorShape([]), others)
      metrics |= {name: tf.cast(number, tf.float32) for name, number in numbers.items()}
    return loss, metrics | {'loss': loss}


def make_objective(config: Mapping[str, Any]) -> Objective:
  """Builds the objective that the settings of a training describe."""
  kinds = [kind for kind in kinds_of(config) if kind.applies(config)]
  return Objective(tuple(kind(kind.Settings.of(config), config) for kind in kinds))


def make(name: str, **settings: Any) -> Objective:
  """Builds an objective.

  ```python
  fg.objectives.make('hybrid', lambda_=0.1, divergence='jensen_shannon')
  ```

  Args:
    name: One of `OBJECTIVES`.
    **settings: Settings of the terms, such as `lambda_`, `final_lambda`, `divergence`, `gradient_penalty`, `penalty`,
      `penalty_interval` and `transport_weight`, with the defaults of a training. `mle` always has weight 1 and
      `adversarial` 0. None means the divergence's default for the penalty, and for a final weight that it does not
      change.

  Raises:
    UsageError: If a setting has the wrong type or is out of range.
    TypeError: If there is no such setting, or only a training uses it.
  """
  known = {name: declared for kind in TERMS.values() for name, declared in kind.Settings.declared().items()}
  given = with_current_names('', {key.rstrip('_'): value for key, value in settings.items()})
  if unknown := given.keys() - {name for name, declared in known.items() if not declared.training_only}:
    names = ', '.join(sorted(unknown))
    raise TypeError(f'`make` takes the settings that change the losses in any training loop. Got: {names}.')
  defaults = {name: declared.default for name, declared in known.items()}
  values = defaults | {'condition': '', 'terms': ()} | given | {'objective': name}
  try:
    kinds: list[type[Settings]] = [ObjectiveSettings, *(term.Settings for term in TERMS.values())]
    for kind in kinds:
      kind.of(values)
    return make_objective(values)
  except UsageError as error:
    raise renamed(error, {'objective': 'name', 'lambda': 'lambda_'}) from error

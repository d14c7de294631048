"""The analysis `critic`: how much of the divergence between two flows, whose densities are known, critics see."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from ml_collections import config_dict

from flowgan_tf import display, runs
from flowgan_tf.base.errors import blaming, check, check_choice
from flowgan_tf.base.lazy import keras, lazy_import, tf
from flowgan_tf.base.progress import Task
from flowgan_tf.base.settings import Range
from flowgan_tf.display.figure import Figure
from flowgan_tf.display.tables import Column
from flowgan_tf.metrics import arrays
from flowgan_tf.objectives.critic import CRITICS, mean_output
from flowgan_tf.objectives.divergences import DIVERGENCES
from flowgan_tf.runs import config as configs
from flowgan_tf.runs import folder as folders
from flowgan_tf.runs import seeds as streams
from flowgan_tf.runs.pretrained import PREFIX, PRETRAINED
from flowgan_tf.study.analysis import Analysis, Settings, Subject, setting
from flowgan_tf.study.critic_inputs import critic_input, parts_of
from flowgan_tf.study.exact import KNOWN, exact, right
from flowgan_tf.study.summary import Summary

if TYPE_CHECKING:
  from flowgan_tf import data

stats = lazy_import('scipy.stats')

_BATCH = 200  # samples of each flow in an update
_MEASURED = 500  # samples of each flow in a pass that measures
_MEASUREMENTS = 4  # after an eighth of the updates, a quarter, a half and all
_RATE, _BETA = 3e-4, 0.5  # of Adam
_MEASUREMENT, _TRAINING, _DIRECTION = range(3)  # They have different samples.


_NAMES: Range = ('one or more names', lambda v: len(v) > 0 and all(isinstance(name, str) for name in v))


@dataclasses.dataclass(frozen=True, kw_only=True)
class CriticSettings(Settings):
  other: str = setting(
    '', 'Run on the same data, whose samples play the model. Samples of the studied run play the data.'
  )
  other_checkpoint: str = setting('', 'Checkpoint of --other. Default: its best.')
  critics: tuple[str, ...] = setting(
    ('dcgan_critic', 'dense_critic'),
    'Critics that are trained, each with its settings in the studied run.',
    must=_NAMES,
  )
  sights: tuple[str, ...] = setting(
    ('pixels', 'logits', 'pixels+logits', 'pixels+logits+noise'),
    'What each critic sees: pixels, logits and noise, or several with + between them.',
    must=_NAMES,
  )
  divergences: tuple[str, ...] = setting(
    ('jensen_shannon',), f'Divergences that each critic estimates, of {", ".join(KNOWN)}.', must=_NAMES
  )
  updates: int = setting(2000, 'Updates of each critic.', _MEASUREMENTS * 2, 10**7)
  held_out: int = setting(10_000, 'Samples of each flow that measure.', _MEASURED, 10**7)

  def __post_init__(self):
    super().__post_init__()
    if self.other and self.other not in {PREFIX + name for name in PRETRAINED}:  # A pretrained flow would be unpacked.
      with blaming('other'):
        folders.find_run(self.other)
    for name in self.divergences:
      check_choice('divergences', name, KNOWN)
    for sees in self.sights:
      parts_of(sees)


class Critic(Analysis):
  """How much of the divergence between two flows critics see.

  A GAN trusts its critic's estimate of the divergence between data and model. The estimate cannot be checked, because
  the densities are unknown. Here samples of one flow play the data, and samples of another flow the model. Both
  densities p and q are known, and with them the divergence, the accuracy of the Bayes classifier, the optimal critic,
  which is a function of log p/q, and the gradient that the model would follow if its critic were optimal.

  The tables compare these with critics that are trained on samples, as in a GAN. The estimate is measured on samples
  that no critic was trained on. `rank` is the Spearman correlation of a critic's outputs with log p/q; `direction` is
  the cosine of the angle between the gradients of the generator's loss in the model's weights, with this critic and
  with the optimal one.
  """

  name = 'critic'
  title = 'What a critic sees'
  description = 'how much of the divergence from --other, whose density is also known, critics see'
  caption = 'What critics see of the divergence between samples of two flows, beside what their densities say'
  needs_density = True
  needs_marginal = 'samples of two flows would be given different conditions'
  needs_flags = ('--other=RUN',)
  draws_runs_together = False
  Settings = CriticSettings
  columns = (
    Column('estimate', 'estimate', '.4f'),
    Column('exact', 'exact', '.4f', 'exact_standard_error'),
    Column('share seen', 'share', '.0%'),
    Column('accuracy', 'accuracy', '.1%'),
    Column('Bayes accuracy', 'exact_accuracy', '.1%', 'exact_accuracy_standard_error'),
    Column('rank', 'rank', '.2f'),
    Column('direction', 'direction', '.2f'),
  )
  details = (Column('updates', 'updates', ','), Column('samples', 'n', ','))

  def check(self, settings: CriticSettings, config: config_dict.ConfigDict, dataset: data.Dataset) -> None:
    check('other', settings.other, 'the folder of another run, which plays the model', settings.other != '')
    with blaming('other'):
      description = folders.read_description(folders.find_run(settings.other))
    same = description is not None and description.data['fingerprint'] == dataset.fingerprint
    check('other', settings.other, f'a run that was trained on {dataset.name} as it is now', same)
    for name in settings.critics:
      check('critics', name, f'one of {", ".join(CRITICS)}, or MODULE:FUNCTION', name in CRITICS)

  def measure(self, subject: Subject, settings: CriticSettings) -> tuple[dict, dict[str, np.ndarray]]:
    self.check(settings, subject.run.config, subject.dataset)
    model = runs.load_run(settings.other, settings.other_checkpoint or None)
    # Both flows are given the label, or only one of them has classes.
    other = Subject(model, subject.label if model.config.condition == 'label' else None)
    check('other', settings.other, 'a run with a likelihood', model.generator.has_density)
    check('other', settings.other, 'a run with a density p(x)', other.condition.has_marginal)
    is_known = model.generator.classes is None or other.label is not None
    expected = f'without noise for {model.workdir} unless --label says which class, as each class has its own noise'
    check('sights', ','.join(settings.sights), expected, is_known or 'noise' not in '+'.join(settings.sights))
    flows = _Flows(subject, other, settings.seed)
    held_out = flows.held_out(settings.held_out)
    ratios = [flows.log_ratios(images) for images in held_out]
    bad = sum(np.count_nonzero(~np.isfinite(r)) for r in ratios)
    check('other', settings.other, 'a run whose samples have finite densities under this one, and the reverse', not bad)
    truth, critics = exact(*ratios), _make_critics(flows, settings)
    measured = {settings.updates // 2**i for i in range(_MEASUREMENTS)}
    for updates in _train(list(critics.values()), flows, settings.updates):
      for critic in critics.values() if updates in measured else ():
        critic.curve[str(updates)] = critic.measure(held_out, ratios)
    rows = {}
    for label, critic in critics.items():
      value, error = truth[critic.divergence], truth[f'{critic.divergence}_standard_error']
      for found in critic.curve.values():  # Where the flows do not differ, there is nothing to see.
        found['share'] = found['estimate'] / value if value > 2 * error else None
      rows[label] = {'exact': value, 'exact_standard_error': error, 'curve': dict(critic.curve)}
    numbers = {'other': str(model.workdir), 'other_step': model.step, 'n': settings.held_out, 'exact': truth}
    return numbers | {'critics': rows}, {}

  def records(self, record: dict) -> dict[str, dict]:
    truth = record['exact']
    shared = {'exact_accuracy': truth['accuracy'], 'exact_accuracy_standard_error': truth['accuracy_standard_error']}
    rows = {}
    for label, critic in record['critics'].items():
      updates, last = list(critic['curve'].items())[-1]
      rows[label] = critic | last | shared | {'updates': int(updates), 'n': record['n']}
    return rows

  def figures(self, runs: Sequence[Summary]) -> dict[str, Figure]:
    [run] = runs
    record = run.studies[self.name].record
    series = {
      label: (
        [int(step) for step in critic['curve']],
        np.array([f['share'] for f in critic['curve'].values()], np.float64),
      )
      for label, critic in record['critics'].items()
    }
    return {
      self.name: Figure.of_plot(
        display.plots.shares_seen(series),
        f'The estimate of each critic over the exact divergence between {run.label} and {record["other"]}.',
        'What critics see of the exact divergence after a number of updates; 1 would be all of it.',
      )
    }

  def notes(self, runs: Sequence[Summary]) -> list[str]:
    notes = []
    for run in runs:
      record = run.studies[self.name].record
      truth = {name: f'{value:.4g}' for name, value in record['exact'].items()}
      notes.append(
        f'{run.label} plays the data p, and {record["other"]} at step {record["other_step"]} the model q: KL(p, q) = '
        f'{truth["kl"]} and KL(q, p) = {truth["reverse_kl"]} nats, by the densities of {record["n"]:,} samples each.'
      )
    return notes


class _Flows:
  """The flow that plays the data and the flow that plays the model: their samples, and log p/q of images."""

  def __init__(self, data: Subject, model: Subject, seed: int):
    self.data, self.model, self._seed = data, model, seed
    self._given, self.given_model = (of.run.generator.given(of.label) for of in (data, model))
    self._draw = [tf.function(of.sample, autograph=False) for of in (data, model)]
    self._log_ratio = tf.function(self.log_ratio, autograph=False)

  def seeds(self, use: int, step: int | tf.Tensor) -> list[tf.Tensor]:
    """Returns the seed of each flow's samples."""
    return [streams.stateless_seed(self._seed, streams.Purpose.ANALYSIS, 2 * use + i, step) for i in range(2)]

  def sample(self, n: int, use: int, step: tf.Tensor) -> list[tf.Tensor]:
    """Draws `n` samples of each flow, as TensorFlow code."""
    return [of.sample(n, seed) for of, seed in zip((self.data, self.model), self.seeds(use, step), strict=True)]

  def held_out(self, n: int) -> list[np.ndarray]:
    """Draws `n` samples of each flow that measure."""
    steps = range(-(-n // _MEASURED))
    seeds = [self.seeds(_MEASUREMENT, step) for step in steps]
    return [
      np.concatenate([draw(_MEASURED, pair[i]).numpy() for pair in seeds])[:n] for i, draw in enumerate(self._draw)
    ]

  def log_ratio(self, images: tf.Tensor) -> tf.Tensor:
    """Returns log p/q of images in nats, as TensorFlow code."""
    return self._given.log_prob(images) - self.given_model.log_prob(images)

  def log_ratios(self, images: np.ndarray) -> np.ndarray:
    """Returns log p/q of images in nats, float64."""
    return arrays.map_batches(self._log_ratio, images, _MEASURED).astype(np.float64)


class _Trained:
  """A critic in training, and the curve of what it sees."""

  def __init__(self, model: keras.Model, sees: str, divergence: str, flows: _Flows):
    self.model, self.sees, self.divergence, self._flows = model, sees, divergence, flows
    self.curve: dict[str, dict] = {}
    self._optimizer = keras.optimizers.Adam(_RATE, beta_1=_BETA)
    self._optimizer.build(model.trainable_variables)
    self._outputs_of = tf.function(self._outputs, autograph=False)
    self._cosine_of = tf.function(self._cosine, autograph=False)

  def _outputs(self, images):
    return mean_output(self.model(critic_input(self.sees, self._flows.given_model, images), training=False))

  def update(self, real: tf.Tensor, fake: tf.Tensor) -> None:
    """Makes an update, as TensorFlow code, from what the critic sees of samples."""
    weights = self.model.trainable_variables
    with tf.GradientTape() as tape:
      loss = DIVERGENCES[self.divergence].critic_loss(self.model(real), self.model(fake))
    self._optimizer.apply(tape.gradient(loss, weights), weights)

  def measure(self, held_out: Sequence[np.ndarray], ratios: Sequence[np.ndarray]) -> dict[str, float | None]:
    """Returns what the critic sees of samples that it was not trained on, whose log p/q are known."""
    known, divergence = KNOWN[self.divergence], DIVERGENCES[self.divergence]
    real, fake = (arrays.map_batches(self._outputs_of, images, _MEASURED).astype(np.float64) for images in held_out)
    pooled = np.concatenate([real, fake])
    threshold = np.median(pooled) if known.threshold is None else known.threshold
    parts = [np.array_split(outputs, max(1, len(outputs) // _MEASURED)) for outputs in (real, fake)]
    found = {
      'estimate': np.mean([divergence.value(*map(tf.constant, part)) for part in zip(*parts, strict=True)]),
      'accuracy': right(real, fake, threshold).mean(),
    }
    if not np.ptp(np.concatenate(ratios)) or not np.ptp(pooled):  # The flows are the same, or the critic is constant.
      return {name: float(value) for name, value in found.items()}
    found['rank'] = stats.spearmanr(pooled, np.concatenate(ratios)).statistic
    if known.optimum is not None:
      found['direction'] = self._cosine_of(held_out[0][:_MEASURED]).numpy()
    return {name: float(value) for name, value in found.items()}

  def _cosine(self, real):
    flows, optimum, loss_of = self._flows, KNOWN[self.divergence].optimum, DIVERGENCES[self.divergence].generator_loss
    variables = flows.model.run.generator.trainable_variables
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as of_weights:
      of_weights.watch(variables)
      samples = flows.model.sample(_MEASURED, flows.seeds(_DIRECTION, 0)[1])
    gradients = []
    for outputs in (self._outputs, lambda images: optimum(flows.log_ratio(images))):
      with tf.GradientTape(watch_accessed_variables=False) as of_samples:  # Critic and densities stay as they are.
        # TFP's bijectors remember the noise of images that they have seen, which would have no gradient.
        of_samples.watch(images := tf.identity(samples))
        loss = loss_of(outputs(real), outputs(images))
      found = of_weights.gradient(samples, variables, of_samples.gradient(loss, images))
      gradients.append(tf.concat([tf.reshape(g, [-1]) for g in found if g is not None], axis=0))
    return -keras.losses.cosine_similarity(*gradients)


def _make_critics(flows: _Flows, settings: CriticSettings) -> dict[str, _Trained]:
  """Returns new critics by label, all with the same seed."""
  model, made = flows.model.run, {}
  for critic in settings.critics:
    config = flows.data.run.config.copy_and_resolve_references()
    config.critic = critic
    for sees, divergence in itertools.product(settings.sights, settings.divergences):
      keras.utils.set_random_seed(settings.seed)  # It decides the initial weights.
      *front, channels = model.image_shape
      network = runs.run.make_critic(configs.extend(config), (*front, len(parts_of(sees)) * channels))
      label = f'{critic} on {sees}' + (f', {divergence}' if len(settings.divergences) > 1 else '')
      made[label] = _Trained(network, sees, divergence, flows)
  return made


def _train(critics: Sequence[_Trained], flows: _Flows, updates: int) -> Iterator[int]:
  """Trains critics, all from the same fresh samples; yields the number of updates at each of them."""

  @tf.function(autograph=False)
  def update(step):
    # A copy, because TFP's bijectors remember the noise of what they have just made, before it was rounded to pixels.
    samples = [tf.identity(images) for images in flows.sample(_BATCH, _TRAINING, step)]
    seen = {}
    for sees in {critic.sees for critic in critics}:
      seen[sees] = [critic_input(sees, flows.given_model, images) for images in samples]
    for critic in critics:
      critic.update(*seen[critic.sees])

  with Task('training the critics', updates, unit='updates', images=2 * _BATCH) as task:
    for step in range(updates):
      update(tf.constant(step))
      task.advance()
      yield step + 1

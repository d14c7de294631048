"""Measures a run: likelihood of a split, samples and their scores; `evaluation.json` keeps the results."""

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from ml_collections import config_dict

from flowgan_tf import data
from flowgan_tf.base.errors import UsageError, check, check_choice, check_memory
from flowgan_tf.base.files import locked, make_writable
from flowgan_tf.base.progress import Task
from flowgan_tf.bijectors import clearing_caches
from flowgan_tf.data.names import SPLITS
from flowgan_tf.data.pipeline import bin_centers
from flowgan_tf.data.split import take
from flowgan_tf.devices.replicas import make_replicas
from flowgan_tf.evaluation.results import merge_records, read_evaluation, write_evaluation
from flowgan_tf.evaluation.scorer import make_scorer
from flowgan_tf.flows import Generator
from flowgan_tf.metrics.arrays import map_batches
from flowgan_tf.metrics.conditional import consistency, psnr, sample_spread, ssim
from flowgan_tf.metrics.likelihood import Likelihood, make_likelihood_fn
from flowgan_tf.metrics.samples import Scorer, score_samples
from flowgan_tf.runs.checkpoints import CHECKPOINTS, restore_generator
from flowgan_tf.runs.config import shared_settings
from flowgan_tf.runs.run import load_data, load_run
from flowgan_tf.runs.seeds import Purpose, stateless_seed
from flowgan_tf.runs.settings import SCORERS, check_strategy

_LOG = logging.getLogger(__name__)

IMAGES_PER_CALL = 500

# Pixels lie in [0, 1], where one of 256 grey levels is 0.004 wide. In half precision the networks of a sound flow round
# differently on the way back: errors of 0.03 are usual in bfloat16, and float16 has three bits more. Where a network is
# almost sure that a pixel is black or white, either may come back as the other.
_LARGEST_ROUND_TRIP_ERROR = {'float32': 0.01, 'mixed_bfloat16': 0.25, 'mixed_float16': 0.05}
_SAMPLES = {'classifier': 5000, 'resnet': 5000, 'inception': 50_000}  # by default
_SCORE_SPLITS = 10
_REAL_SEED = 1  # The reference's noise has another seed.
_ORDER_SEED = 0  # Data may be sorted by class, but each split of the samples must see all classes.
_SPREAD_CONDITIONS, _SPREAD_SAMPLES = 100, 8
_FEWEST_QUICK = 500
# Not scores of images: the same for samples and real images, or meaningless for real images.
_ONLY_OF_SAMPLES = (
  *('classifier_accuracy', 'score_splits', 'scorer', 'scorer_hash', 'reference_images'),
  *('labeller_accuracy', 'saturated', 'non_finite', 'sample_std', 'psnr', 'ssim'),
  *('prdc_images', 'near_copies', 'near_copies_error', 'copied_from', 'held_out_images'),
)


def warn_of_wrong_inverse(
  generator: Generator, record: Mapping[str, Any], step: int, precision: str = 'float32'
) -> None:
  """Warns if the round trip in a record is so wrong that a flow has blown up, which says that likelihoods mean little.

  Networks of histograms may turn black into white on the way back, and do not change the likelihood.
  """
  error = record.get('round_trip_error', 0.0)
  if not error <= (math.inf if generator.has_steep_inverse else _LARGEST_ROUND_TRIP_ERROR[precision]):
    text = 'Step %d: the round trip of an image is wrong by %.1e, so its likelihoods mean little: the flow blew up.'
    _LOG.warning(text, step, error)


def check_room_for_samples(n: int, generator: Generator) -> None:
  """Checks that memory can hold n samples of a generator and their noise, in float32."""
  check_memory('samples and their noise', 2 * 4 * n * generator.event_shape.num_elements())


class Evaluator:
  """Measures one generator repeatedly, with functions that are traced only once."""

  def __init__(
    self,
    generator: Generator,
    dataset: data.Dataset,
    config: config_dict.ConfigDict,
    *,
    round_trips: int | None = None,
    distribute: Callable[[Callable], Callable] = lambda function: function,
  ):
    """Prepares the measurements of a generator, whose variables may change between calls.

    `dataset.condition_kind` must say what the generator is given. `load_data` sets it. A `UsageError` says if the
    generator was made for something else.
    `round_trips` is the number of images whose round trip is measured with their likelihood, by default all.
    `distribute`, such as `Replicas.map`, divides a function of batches among devices.
    """
    classes, shape = made_for = generator.classes, generator.condition_shape
    expected = f'the condition of {generator.name!r}, made with classes={classes} and condition_shape={shape}'
    suits = (dataset.condition.classes, dataset.condition.shape) == made_for
    check('dataset.condition_kind', dataset.condition_kind, expected, suits)
    self._generator, self._dataset, self._config = generator, dataset, config
    # On a CPU, XLA makes only steps of large products faster, but not single passes.
    jit = config.jit and not (generator.traits.computed_whole and not tf.config.list_physical_devices('GPU'))
    decode = generator.on_batches(lambda given, noise: given.decode(noise))
    self._decode = distribute(tf.function(decode, jit_compile=jit, autograph=False))
    self._likelihood, self._passes = None, 1
    if generator.has_density:
      # Matrix products are faster for large batches, but more images than the validation split has would be padding.
      self._batch_size = max(config.batch_size, 100, min(IMAGES_PER_CALL, len(dataset.validation.images)))
      self._passes = generator.density_passes
      self._batch_size = max(1, self._batch_size // self._passes)
      unit = np.std(dataset.train.images, axis=0, dtype=np.float64) if dataset.is_table else 1.0
      self._likelihood = make_likelihood_fn(
        generator,
        dataset.levels,
        self._batch_size,
        jit=jit,
        round_trips=round_trips,
        unit=unit,
        distribute=distribute,
      )

  def likelihood(self, split: str, quick: bool = False) -> Likelihood | None:
    """Measures the likelihood of all images of 'train', 'validation' or 'test'; None without a density.

    If `quick`, and if the networks of the flow see the label, it measures only 1 / classes of the images, and at least
    500. That takes about as long as all images with a flow without classes.
    """
    if self._likelihood is None:
      return None
    part = getattr(self._dataset, split)
    if quick and self._passes > 1:
      part = self.shuffled(split, min(len(part), max(_FEWEST_QUICK, len(part) // self._passes)))
    seed = self._config.seed + Purpose.EVALUATION
    chunks = data.dequantized_chunks(part.images, self._dataset.levels, seed, self._batch_size)
    return self._likelihood(chunks, self._dataset.condition.of_split(part))

  def sample(
    self,
    n: int,
    purpose: Purpose,
    step: int = 0,
    temperature: float = 1.0,
    condition: np.ndarray | None = None,
    split: str = 'validation',
  ) -> np.ndarray:
    """Draws samples, float `[n, height, width, channels]`; `purpose` and `step` determine their noise.

    `temperature` scales the noise, or a mixture's noise around its means. `condition` is what the samples are given,
    `[n, ...]`; by default what comes with `n` images of `split`, in the order of `shuffled`.

    Raises:
      UsageError: If the samples would not fit into memory.
    """
    check_room_for_samples(n, self._generator)
    seed = stateless_seed(self._config.seed, purpose, step)
    # The batches are full, because the noise of the first samples must not depend on the number of samples.
    full = -(-n // IMAGES_PER_CALL) * IMAGES_PER_CALL
    conditions = take(self._conditions(split, n) if condition is None else condition, np.arange(full) % n)
    noise = self._generator.given(conditions).sample_noise(full, seed, temperature)
    return map_batches(self._decode, noise.numpy(), IMAGES_PER_CALL, conditions, what='sampling')[:n]

  def shuffled(self, split: str, n: int) -> data.Split:
    """Returns n images of a split in an order that mixes classes and is always the same, more than once if need be."""
    return getattr(self._dataset, split).take(self._order(split, n))

  def _order(self, split, n):
    return np.resize(np.random.default_rng(_ORDER_SEED).permutation(len(getattr(self._dataset, split))), n)

  def _conditions(self, split, n):
    """What the generator is given with the images of `shuffled`."""
    return self._dataset.condition.of_rows(getattr(self._dataset, split), self._order(split, n))

  def score(
    self, samples: np.ndarray, scorer: Scorer | None, splits: int = 1, split: str = 'validation'
  ) -> dict[str, Any]:
    """Returns the health of samples, their scores, and how well they match what `split` gives them.

    The samples must be those that `sample` draws by default, or the images of `shuffled`. If what is given is computed
    from images, `psnr` and `ssim` compare the samples with these images. `consistency` reduces the samples again, and
    compares the results with what was given. `splits` is as for `Scorer`.
    """
    kind, n = self._dataset.condition, len(samples)
    record = score_samples(samples, scorer, splits, self._conditions(split, n) if kind.classes else None)
    if kind.comes_from_image and not record['non_finite']:
      originals = bin_centers(self.shuffled(split, n).images, self._dataset.levels)
      record |= {
        'psnr': psnr(samples, originals),
        'ssim': ssim(samples, originals),
        'consistency': consistency(samples, self._conditions(split, n), kind.reduce),
      }
    return record

  def spread_of_samples(self, split: str) -> dict[str, float | int]:
    """Measures how much samples with one condition, an image or a vector, differ; empty for other generators."""
    if self._dataset.condition.has_marginal:
      return {}
    n = min(_SPREAD_CONDITIONS, len(getattr(self._dataset, split)))
    conditions = np.repeat(self._conditions(split, n), _SPREAD_SAMPLES, axis=0)
    samples = self.sample(len(conditions), Purpose.SCORE, step=1, condition=conditions)
    value = sample_spread(samples.reshape(n, _SPREAD_SAMPLES, *samples.shape[1:]))
    return {'spread': value, 'spread_conditions': n, 'spread_samples': _SPREAD_SAMPLES}


@clearing_caches()
def evaluate_run(
  workdir: str | os.PathLike,
  checkpoints: Sequence[str],
  split: str,
  samples: int | None = None,
  *,
  float64: bool = False,
  scorer: str | None = None,
  inception_weights: str | None = None,
  strategy: str = '',
) -> list[dict]:
  """Evaluates checkpoints of a run and saves the results in its `evaluation.json`.

  The file keeps the results of other checkpoints and splits. It also keeps the scores of a checkpoint if only its
  likelihood is measured again.

  Args:
    workdir: Folder of the run.
    checkpoints: Names of the checkpoints, at least one.
    split: 'train', 'validation' or 'test', for the likelihood.
    samples: Number of samples, scored in 10 splits. The default is 50,000 with Inception-v3 and otherwise 5,000; 0
      measures only the likelihood.
    float64: Whether to measure the likelihood in double precision, too.
    scorer: 'classifier', 'resnet' or 'inception'. By default the run's configuration decides, and data without labels
      get no scores instead of an error.
    inception_weights: File with the weights of Inception-v3, instead of the one in the run's configuration.
    strategy: Devices that share the work, as in `make_replicas`, whatever the training used. Every worker of
      'multi_worker' reads the folder, and takes the checkpoints and weights that the chief found there. The chief alone
      scores samples and saves.

  Returns:
    One record for each checkpoint: step, likelihood, scores, and the network and numbers of images behind the scores.
    If there are as many test images as samples, `real_mode_score` and the like are the scores of that many real images:
    what a perfect sampler would have. `float64` adds `nll_float64` and the like. A generator without a likelihood has
    only scores. Workers other than the chief get an empty list.

    A conditional run is given what comes with the split, and its records name its `condition`. With labels they also
    have the numbers about p(y | x) in `Likelihood`, and what `metrics.label_agreement` and `metrics.class_distances`
    return. With images or vectors they have `spread`, and with what is computed from the images `psnr`, `ssim` and
    `consistency`.

  Raises:
    UsageError: If the run or its data cannot be read, double precision is requested for a generator without a
      likelihood, `samples` are too few for 10 splits, `scorer` is unknown, `inception_weights` are given for another
      scorer, the run, its data or an argument differ from the chief's, or `make_scorer` or `make_replicas` fails.
  """
  check('checkpoints', checkpoints, 'at least one name', len(checkpoints) > 0)
  check_choice('split', split, SPLITS)
  check('samples', samples, f'0 or at least {_SCORE_SPLITS}', not samples or samples >= _SCORE_SPLITS)
  check_strategy(strategy)
  replicas = make_replicas(strategy)
  with replicas.reporting_lost_workers():
    checkpoints = _found_by_chief(checkpoints, replicas)
    with replicas.scope():  # All workers take part in making a variable, so nothing else is made here.
      run = load_run(workdir, checkpoints[0])
    if scorer:
      check_choice('scorer', scorer, SCORERS)
      run.config.scorer = scorer
    if inception_weights:
      if run.config.scorer != 'inception':
        raise UsageError(
          f"`inception_weights` must go with `scorer` 'inception'. Got: {inception_weights}.", 'inception_weights'
        )
      run.config.inception_weights = inception_weights
    if float64 and not run.generator.has_density:
      raise UsageError(
        f'`float64` must be False, as {run.config.generator} of {run.workdir} has no likelihood. Got: True.', 'float64'
      )
    if replicas.is_chief:  # Before the work, because the file may be damaged, or the folder read-only.
      read_evaluation(make_writable(run.workdir))
    dataset = load_data(run)
    arguments = {'split': split, 'samples': samples, 'float64': float64}
    replicas.check_same(arguments | shared_settings(run.config, dataset))
    n = _SAMPLES[run.config.scorer] if samples is None else samples
    if dataset.is_table:
      for name, value in (('samples', samples), ('scorer', scorer)):
        check(name, value, 'left out for a table, as its rows have no scores', not value)
      n = 0
    made = None
    if n and replicas.is_chief:
      made = make_scorer(run.config, dataset, required=bool(scorer), thorough=True)
    records = _measure(run, dataset, checkpoints, split, n, float64, made, replicas)
    if replicas.is_chief:
      # We read it again, because another process may have evaluated the run meanwhile. A training locks the run itself.
      with locked(run.workdir / 'checkpoints'):
        write_evaluation(run.workdir, merge_records(read_evaluation(run.workdir), records))
    replicas.wait_for_all()
    return records if replicas.is_chief else []


def _measure(run, dataset, checkpoints, split, n, float64, scorer, replicas):
  evaluator = Evaluator(run.generator, dataset, run.config, distribute=replicas.map)
  # Scores of fewer images are lower, and give no bound.
  with Task('evaluating real images'):
    real = _real_scores(evaluator, dataset, scorer, n) if scorer and len(dataset.test) >= n else {}
  facts = {'condition': dataset.condition_kind} if dataset.condition_kind else {}
  if names := dataset.condition.class_names:
    facts['class_names'] = [*names]
  by_step, records = {}, []
  for checkpoint in checkpoints:
    step = replicas.from_chief(restore_generator(run.workdir, checkpoint, run.generator, run.identity))
    replicas.broadcast(run.generator.variables)  # A training may have replaced the checkpoint meanwhile.
    if step not in by_step:  # Checkpoints of the same step hold the same generator.
      with Task(f'evaluating {checkpoint} on the {split} images'):
        measured = by_step[step] = {'step': step, 'split': split} | facts
        if likelihood := evaluator.likelihood(split):
          measured |= likelihood.record()
          if replicas.is_chief:
            warn_of_wrong_inverse(run.generator, measured, step)
        if float64:
          with replicas.scope():
            generator = run.generator.with_dtype('float64')
          if wide := Evaluator(generator, dataset, run.config, distribute=replicas.map).likelihood(split):
            measured |= {f'{name}_float64': value for name, value in wide.record().items() if name != 'n'}
        if n:
          drawn = evaluator.sample(n, Purpose.SCORE, split=split)
          measured |= evaluator.spread_of_samples(split)
          if replicas.is_chief:
            measured |= evaluator.score(drawn, scorer, _SCORE_SPLITS, split) | real
    records.append(by_step[step] | {'checkpoint': checkpoint})
  return records


def _real_scores(evaluator: Evaluator, dataset: data.Dataset, scorer: Scorer, n: int) -> dict:
  """What n test images themselves get in place of samples, with names that start with `real_`."""
  images = data.dequantize(evaluator.shuffled('test', n).images, dataset.levels, _REAL_SEED)
  scores = evaluator.score(images, scorer, _SCORE_SPLITS, 'test')
  return {f'real_{name}': value for name, value in scores.items() if name not in _ONLY_OF_SAMPLES}


def _found_by_chief(checkpoints, replicas):
  if replicas.workers == 1:
    return checkpoints
  found = replicas.from_chief(sum(2**i for i, name in enumerate(CHECKPOINTS) if name in checkpoints))
  return [name for i, name in enumerate(CHECKPOINTS) if found & 2**i] or checkpoints

"""NLL and scores of a run whose batch norms have running statistics of images, of samples, or of both.

python -m benchmarks.batch_statistics runs/mnist-paper-mle latest

In the paper's code each pass in training uses the statistics of its batch and moves the running ones, which evaluation
uses: a step of maximum likelihood makes one pass of samples and one of images, a hybrid six and one. TensorFlow may
make the last two of them in either order. This script starts from the statistics of a run, makes the passes of 100
steps, and evaluates on validation images, and on samples in ten parts.
"""

import sys
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from flowgan_tf import data
from flowgan_tf.evaluation.scorer import make_scorer
from flowgan_tf.metrics.arrays import map_batches
from flowgan_tf.metrics.samples import score_samples
from flowgan_tf.runs.run import load_data, load_run

#: The passes of a step, in turn: i of a batch of images, s of a batch of samples.
PASSES = {
  'as trained': '',
  'images alone': 'i',
  "paper's maximum likelihood": 'si',
  "paper's maximum likelihood, other order": 'is',
  "paper's hybrid": 'ssssssi',
  "paper's hybrid, other order": 'sssssis',
  "paper's adversarial training": 'ssssss',
}
_STEPS, _BATCH, _SAMPLES = 100, 100, 5000


def mix(flow, images: Callable[[int], tf.Tensor], passes: str, steps: int = _STEPS, batch: int = _BATCH) -> None:
  """Makes the passes of some steps, in which the weights stay as they are and the running statistics move."""
  of_images = tf.function(lambda x: flow.log_prob(x, training=True), autograph=False)
  of_samples = tf.function(lambda seed: flow.sample(batch, seed, training=True), autograph=False)
  for step in range(steps):
    for kind in passes:
      if kind == 'i':
        of_images(images(step))
      else:
        of_samples(tf.constant((step, 1)))  # All passes of a step see the same noise.


def main(workdir: str, checkpoint: str) -> None:
  run = load_run(workdir, checkpoint)
  dataset = load_data(run)
  flow, scorer = run.generator, make_scorer(run.config, dataset)
  validation = data.dequantize(dataset.validation.images, dataset.levels, 0)
  order = np.random.default_rng(0).permutation(len(dataset.train))
  running = flow.non_trainable_variables
  trained = [variable.numpy() for variable in running]

  def images(step):
    rows = np.sort(order[step * _BATCH : (step + 1) * _BATCH])
    return tf.constant(data.dequantize(dataset.train.images[rows], dataset.levels, step))

  for name, passes in PASSES.items():
    for variable, value in zip(running, trained, strict=True):
      variable.assign(value)
    mix(flow, images, passes)
    nll = -map_batches(tf.function(flow.log_prob, autograph=False), validation, 500)
    draw = tf.function(lambda seed: flow.sample(500, seed), autograph=False)
    samples = np.concatenate([draw(tf.constant((part, 2))) for part in range(_SAMPLES // 500)])
    scores = score_samples(samples, scorer, 10)
    print(
      f'{run.workdir.name}, step {run.step}, {name}: NLL {nll.mean():,.1f} ± {nll.std() / np.sqrt(len(nll)):.1f}, '
      f'median {np.median(nll):,.1f}, MODE score {scores["mode_score"]:.2f} ± {scores["mode_score_std"]:.2f}, '
      f'FID {scores["fid"]:.1f}',
      flush=True,
    )


if __name__ == '__main__':
  main(*sys.argv[1:])

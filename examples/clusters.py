"""What the samples of a flow owe to the clusters of training images at which its prior starts.

python examples/clusters.py runs/mnist-jet-label-hybrid

It scores the images of the clusters, the decoded means, samples at two temperatures, samples of which a tenth are
replaced by training images, and test images, 5,000 of each.
"""

import numpy as np
from absl import app, flags

import flowgan_tf as fg
from flowgan_tf.display.tables import Column, Row, Table
from flowgan_tf.runs.seeds import Purpose

FLAGS = flags.FLAGS
flags.DEFINE_string('checkpoint', 'latest', 'Checkpoint of the run.')
flags.DEFINE_integer('samples', 5000, 'Number of images of each kind.')

_COLUMNS = (
  Column('images', 'name'),
  Column('FID', 'fid', '.1f'),
  *(Column(name, name, '.2f') for name in ('precision', 'recall', 'density', 'coverage')),
  Column('near copies', 'near_copies', '.1%', 'near_copies_error'),
)


def kinds_of_images(run: fg.runs.Run, dataset: fg.data.Dataset, n: int):
  """Yields the name of each kind, and n images."""
  rng, train, prior = np.random.default_rng(0), dataset.train.images, run.generator.distribution
  evaluator = fg.evaluation.Evaluator(run.generator, dataset, run.config)
  test = evaluator.shuffled('test', n)
  components = rng.integers(0, prior.components_per_class, n)
  if prior.classes:
    components += test.labels * prior.components_per_class
  grey_levels = np.floor(np.minimum(prior.prototypes.numpy(), 1 - 1e-6) * dataset.levels).astype(np.uint8)
  yield 'clusters, without training', fg.data.dequantize(grey_levels[components], dataset.levels, 2)
  for name, temperature in (('trained means', 0.0), ('samples, temperature 0.7', 0.7), ('samples', 1.0)):
    images = evaluator.sample(n, Purpose.SCORE, temperature=temperature, split='test')
    yield name, images
  copied = n // 10
  copies = fg.data.dequantize(train[rng.permutation(len(train))[:copied]], dataset.levels, 3)
  yield 'samples, a tenth copied', np.concatenate([copies, images[copied:]])
  yield 'test images', fg.data.dequantize(test.images, dataset.levels, 1)


def main(arguments: list[str]) -> None:
  """Prints a table of a run's kinds of images."""
  _, workdir = arguments
  run = fg.runs.load_run(workdir, FLAGS.checkpoint)
  if not isinstance(run.generator.distribution, fg.flows.MixturePrior):
    raise app.UsageError(f'{workdir}: the prior of its flow has one component, so no clusters.')
  dataset = fg.runs.load_data(run)
  scorer = fg.evaluation.make_scorer(run.config, dataset, thorough=True)
  if scorer is None:
    raise app.UsageError(f'{workdir}: its data have no labels of each class, which the scores need.')
  rows = [Row({'': {'name': n} | scorer(images)}) for n, images in kinds_of_images(run, dataset, FLAGS.samples)]
  print(Table('', _COLUMNS, rows))


if __name__ == '__main__':
  app.run(main)

"""Trainings with few labels: which images keep their label."""

import dataclasses

import numpy as np

from flowgan_tf.base.errors import check
from flowgan_tf.data.dataset import random_order
from flowgan_tf.data.split import Split


def hide_labels(split: Split, labelled: int, classes: int) -> Split:
  """Returns a split in which only `labelled` images keep their labels; the others get -1.

  Each class keeps as many, or one more. Which images these are depends only on the data.

  Raises:
    UsageError: If there are fewer labels than classes, or a class has fewer images than it should keep.
  """
  check('labelled', labelled, f'0 or at least {classes}, one for each class', labelled >= classes)
  assert split.labels is not None
  order = random_order(len(split))
  kept = np.full(len(split), -1)
  for label in range(classes):
    rows, wanted = order[split.labels[order] == label], labelled // classes + (label < labelled % classes)
    expected = f'so small that each class has that many images; class {label} has {len(rows)}, not {wanted}'
    check('labelled', labelled, expected, wanted <= len(rows))
    kept[rows[:wanted]] = label
  return dataclasses.replace(split, labels=kept)

"""What the tests of data from files share."""

import numpy as np
import pytest

from flowgan_tf.base.errors import UsageError
from flowgan_tf.data import load


def joined(dataset) -> tuple[np.ndarray, np.ndarray | None]:
  splits = (dataset.train, dataset.validation, dataset.test)
  labels = None if splits[0].labels is None else np.concatenate([split.labels for split in splits])
  return np.concatenate([split.images for split in splits]), labels


def raises(path, message: str) -> None:
  """Checks that `load` ends with one line that starts with the file's name."""
  with pytest.raises(UsageError, match=message) as error:
    load(str(path))
  assert '\n' not in str(error.value)

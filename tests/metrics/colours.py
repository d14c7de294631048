"""A network for scores whose features and classes are known."""

import numpy as np


class Colours:
  """Sees the mean colour of an image, and whether its upper half is brighter than the lower. It keeps the images."""

  name, hash, test_accuracy, label_distribution = 'classifier', '0123456789abcdef', 0.75, np.array([0.5, 0.5])

  def __init__(self, **attributes):
    self.seen = []
    vars(self).update(attributes)

  def predict(self, images):
    self.seen.append(images)
    upper, lower = images[:, :2].mean(axis=(1, 2, 3)), images[:, 2:].mean(axis=(1, 2, 3))
    return images.mean(axis=(1, 2)).astype(np.float32), np.eye(2)[(upper > lower).astype(int)]

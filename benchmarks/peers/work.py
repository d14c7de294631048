"""The work that all peers do: tasks, sizes, and the file of images and weights that they start from.

It needs only NumPy. The docstrings of the flows in `flowgan_tf.flows` say what each computes.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np

__all__ = ['CRITIC_STEPS', 'TASKS', 'TINY', 'Inputs', 'Prepared', 'Task', 'coupling_masks', 'decay']

# Constants of the hybrid iteration and of Adam.
CRITIC_STEPS = 5
GRADIENT_PENALTY = 10.0
LIKELIHOOD_WEIGHT = 0.1
LEARNING_RATE, BETA_1, BETA_2, EPSILON = 2e-4, 0.5, 0.9, 1e-7
ALPHA = 1e-7  # Alpha of the alpha-logit.


def decay(step: float) -> float:
  """Decay of the averaged weights at a step that is counted from 0: `average = decay average + (1 - decay) weight`."""
  return min(0.999, (1 + step) / (10 + step))


@dataclasses.dataclass(frozen=True)
class Task:
  """One piece of work.

  Attributes:
    name: A key of `TASKS`.
    flow: 'nice', 'real_nvp' or 'jet'.
    action: 'train', a step of maximum likelihood: loss, gradients, Adam, averaged weights; 'hybrid', an iteration of
      `CRITIC_STEPS` updates of a critic with gradient penalty, each on images of its own, and such a step of the flow
      on likelihood and critic; 'sample' or 'log_prob', without gradients.
    batch_size: Images of a step or of an update of the critic, or images to draw or to give a density.
    image_shape: `(height, width, channels)`.
    sizes: Arguments of the flow's builder.
  """

  name: str
  flow: str
  action: str
  batch_size: int
  image_shape: tuple[int, int, int]
  sizes: dict[str, int]

  @property
  def is_single_pass(self) -> bool:
    """Whether it only draws samples or computes densities."""
    return self.action in ('sample', 'log_prob')


def _tasks(nice, nice_shape, real_nvp, real_nvp_shape, jet, jet_shape, batch_size, real_nvp_batch_size):
  def task(flow, action, batch_size, image_shape, sizes):
    return Task(f'{flow}_{action}', flow, action, batch_size, image_shape, sizes)

  found = [task('nice', action, batch_size, nice_shape, nice) for action in ('train', 'hybrid', 'sample', 'log_prob')]
  for action in ('train', 'log_prob'):
    found.append(task('real_nvp', action, real_nvp_batch_size, real_nvp_shape, real_nvp))
  found += [task('jet', action, batch_size, jet_shape, jet) for action in ('train', 'log_prob')]
  return {task.name: task for task in found}


# NICE is of the paper's size and Jet of the default size. Real-NVP has an eighth of the paper's convolutions between
# hidden layers, with half of the channels, so that a step takes less than a second.
TASKS = _tasks(
  nice={'couplings': 4, 'hidden_units': 1000, 'hidden_layers': 6},
  nice_shape=(28, 28, 1),
  real_nvp={'scales': 2, 'channels': 32, 'blocks': 1},
  real_nvp_shape=(32, 32, 3),
  jet={'couplings': 12, 'patch_size': 4, 'width': 128, 'blocks': 1, 'hidden_units': 256},
  jet_shape=(28, 28, 1),
  batch_size=100,
  real_nvp_batch_size=32,
)
# Tasks for tests: they have every part, and hardly any work.
TINY = _tasks(
  nice={'couplings': 2, 'hidden_units': 16, 'hidden_layers': 1},
  nice_shape=(8, 8, 1),
  real_nvp={'scales': 2, 'channels': 4, 'blocks': 1},
  real_nvp_shape=(8, 8, 3),
  jet={'couplings': 8, 'patch_size': 4, 'width': 8, 'blocks': 1, 'hidden_units': 16},
  jet_shape=(8, 8, 1),
  batch_size=4,
  real_nvp_batch_size=4,
)


@dataclasses.dataclass(frozen=True)
class Inputs:
  """What every peer starts from.

  Attributes:
    images: float32 `[n, height, width, channels]`, within the unit interval; one batch, or what the critic needs too.
    noise: Noise for one batch, from the prior.
    weights: Weights of the flow, by part: 'coupling_0', ..., 'diagonal_scaling'; 'scale_0_checkerboard_0', ... of
      Real-NVP. Each part is a list in the order in which its Keras layers list them, with their shapes.
    statistics: Running means and variances of batch norms in the same form, in turn.
    critic: Weights of the critic in the order of its layers.
  """

  images: np.ndarray
  noise: np.ndarray
  weights: dict[str, list[np.ndarray]]
  statistics: dict[str, list[np.ndarray]]
  critic: list[np.ndarray]

  def save(self, path: pathlib.Path) -> None:
    arrays = {'images': self.images, 'noise': self.noise}
    arrays |= {f'critic/{i:03d}': array for i, array in enumerate(self.critic)}
    for kind in ('weights', 'statistics'):
      for part, found in getattr(self, kind).items():
        arrays |= {f'{kind}/{part}/{i:03d}': array for i, array in enumerate(found)}
    np.savez(path, **arrays)

  @classmethod
  def load(cls, path: pathlib.Path) -> Inputs:
    weights, statistics, critic = {}, {}, []
    with np.load(path) as file:
      for key in sorted(file.files):
        if key.startswith('critic/'):
          critic.append(file[key])
        elif '/' in key:
          kind, part, _ = key.split('/')
          {'weights': weights, 'statistics': statistics}[kind].setdefault(part, []).append(file[key])
      return cls(file['images'], file['noise'], weights, statistics, critic)


@dataclasses.dataclass(frozen=True)
class Prepared:
  """A task that is ready to be timed.

  Attributes:
    call: Does the task once, and waits for its end.
    outputs: Computes what is compared between peers, with averaged weights: 'log_prob' `[n]` of one batch of images, in
      nats; 'images', the noise decoded, if the task is to sample; 'critic' and 'slopes' `[n]`, the critic's output and
      the norm of its gradient at these images, in a hybrid.
    flops: Counts the operations of matrix products and convolutions in one call; None where they are not counted.
  """

  call: Callable[[], None]
  outputs: Callable[[], dict[str, np.ndarray]]
  flops: Callable[[], int] | None = None


def coupling_masks(task: Task) -> dict[str, np.ndarray]:
  """Returns what each coupling of Real-NVP or Jet keeps, from image to noise: ones of the shape of its event.

  Channel couplings of Real-NVP, which keep half of the channels, are left out.
  """
  height, width, channels = task.image_shape

  def grid(height, width, channels, number):
    row, column, _ = np.indices((height, width, channels))
    return (number(row, column) % 2).astype(np.float32)

  if task.flow == 'real_nvp':
    masks = {}
    for level in range(task.sizes['scales']):
      last = level == task.sizes['scales'] - 1
      for i in range(4 if last else 3):
        ones = grid(height >> level, width >> level, channels << level, lambda row, column, i=i: row + column + i)
        masks[f'scale_{level}_checkerboard_{i}'] = ones
    return masks
  size = task.sizes['patch_size']
  patterns = [
    lambda row, column: row + column,
    lambda row, column: row,
    lambda row, column: row // size + column // size,
    lambda row, column: column,
  ]
  masks = {}
  for i in range(task.sizes['couplings']):
    ones = grid(height, width, channels, patterns[i // 2 % 4])
    masks[f'coupling_{i}'] = 1 - ones if i % 2 else ones
  return masks

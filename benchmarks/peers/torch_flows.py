"""The flows and the critic in PyTorch, by hand.

Images of Real-NVP are channels first, with channels last in memory, which is the faster of the two on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.peers import work


def parameter(array: np.ndarray) -> nn.Parameter:
  return nn.Parameter(torch.tensor(array))


class Dense(nn.Module):
  """A dense layer whose kernel comes as `[inputs, outputs]`."""

  def __init__(self, arrays: Iterator[np.ndarray]):
    super().__init__()
    self.weight, self.bias = parameter(next(arrays).T.copy()), parameter(next(arrays))

  def forward(self, x):
    return F.linear(x, self.weight, self.bias)


class LayerNorm(nn.Module):
  def __init__(self, arrays: Iterator[np.ndarray]):
    super().__init__()
    self.gain, self.bias = parameter(next(arrays)), parameter(next(arrays))

  def forward(self, x):
    return F.layer_norm(x, x.shape[-1:], self.gain, self.bias, 1e-3)


def dense_conditioner(arrays: list[np.ndarray]) -> nn.Sequential:
  """The network of NICE."""
  count, arrays = len(arrays) // 4, iter(arrays)
  layers = []
  for i in range(count):
    layers += [LayerNorm(arrays), Dense(arrays)]
    if i < count - 1:
      layers.append(nn.ReLU())
  return nn.Sequential(*layers)


class WeightNormConv(nn.Module):
  """A convolution with kernel `gain direction / |direction|`."""

  def __init__(self, arrays: Iterator[np.ndarray]):
    super().__init__()
    self.direction = nn.Parameter(
      torch.tensor(next(arrays).transpose(3, 2, 0, 1)).contiguous(memory_format=torch.channels_last)
    )
    self.gain, self.bias = parameter(next(arrays)), parameter(next(arrays))

  def forward(self, x):
    norm = torch.sqrt(self.direction.square().sum((1, 2, 3)) + 1e-12)
    kernel = self.direction * (self.gain / norm)[:, None, None, None]
    return F.conv2d(x, kernel, self.bias, padding='same')


class BatchNorm(nn.Module):
  def __init__(self, arrays: Iterator[np.ndarray], statistics: Iterator[np.ndarray]):
    super().__init__()
    self.gain, self.bias = parameter(next(arrays)), parameter(next(arrays))
    self.register_buffer('mean', torch.tensor(next(statistics)))
    self.register_buffer('variance', torch.tensor(next(statistics)))

  def forward(self, x):
    return F.batch_norm(x, self.mean, self.variance, self.gain, self.bias, self.training, momentum=0.05, eps=1e-3)


class ResidualConditioner(nn.Module):
  """The network of Real-NVP."""

  def __init__(self, blocks: int, arrays: Iterator[np.ndarray], statistics: Iterator[np.ndarray]):
    super().__init__()

    def normalized_conv():
      return [BatchNorm(arrays, statistics), nn.ReLU(), WeightNormConv(arrays)]

    self.first = WeightNormConv(arrays)
    self.blocks = nn.ModuleList(nn.Sequential(*normalized_conv(), *normalized_conv()) for _ in range(blocks))
    self.last = nn.Sequential(*normalized_conv())

  def forward(self, x):
    h = self.first(x)
    for block in self.blocks:
      h = h + block(h)
    return self.last(h)


class MixerConditioner(nn.Module):
  """The network of Jet."""

  def __init__(self, patch_size: int, blocks: int, arrays: Iterator[np.ndarray]):
    super().__init__()
    self.patch_size = patch_size
    self.positions = parameter(next(arrays))
    self.embedding = Dense(arrays)
    self.blocks = nn.ModuleList(MixerBlock(arrays) for _ in range(blocks))
    self.norm, self.last = LayerNorm(arrays), Dense(arrays)

  def forward(self, x):
    n, height, width, channels = x.shape
    size = self.patch_size
    rows, columns = height // size, width // size
    patches = (x * 0.25).reshape(n, rows, size, columns, size, channels).permute(1, 3, 0, 2, 4, 5)
    h = self.embedding(patches.reshape(rows * columns, n, -1))
    h = h + self.positions.to(h.dtype)
    for block in self.blocks:
      h = block(h)
    y = self.last(self.norm(h)).reshape(rows, columns, n, size, size, -1)
    return y.permute(2, 0, 3, 1, 4, 5).reshape(n, height, width, -1)


class MixerBlock(nn.Module):
  def __init__(self, arrays: Iterator[np.ndarray]):
    super().__init__()
    self.up, self.up_bias, self.down, self.down_bias = (parameter(next(arrays)) for _ in range(4))
    self.norms = nn.ModuleList(LayerNorm(arrays) for _ in range(2))
    self.wide, self.narrow = Dense(arrays), Dense(arrays)

  def forward(self, h):
    first, second = self.norms
    y = torch.matmul(self.up, first(h).reshape(len(h), -1))
    y = F.gelu(y + self.up_bias.to(y.dtype), approximate='tanh')
    y = torch.matmul(self.down, y) + self.down_bias.to(y.dtype)
    h = h + y.reshape(h.shape)
    return h + self.narrow(F.gelu(self.wide(second(h)), approximate='tanh'))


def to_logits(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
  """The alpha-logit and its log-determinant."""
  shrink = 1 - 2 * work.ALPHA
  log_p, log_q = torch.log(work.ALPHA + shrink * x), torch.log(work.ALPHA + shrink * (1 - x))
  return log_p - log_q, (math.log(shrink) - log_p - log_q).flatten(1).sum(1)


def to_images(y: torch.Tensor) -> torch.Tensor:
  """The inverse of the alpha-logit, kept in the interval where it has a density."""
  return ((torch.sigmoid(y) - work.ALPHA) / (1 - 2 * work.ALPHA)).clamp(-work.ALPHA, 1.0)


def logistic_log_prob(z: torch.Tensor) -> torch.Tensor:
  return (-z - 2 * F.softplus(-z)).flatten(1).sum(1)


class Nice(nn.Module):
  def __init__(self, task: work.Task, inputs: work.Inputs):
    super().__init__()
    self.image_shape = task.image_shape
    count = task.sizes['couplings']
    self.networks = nn.ModuleList(dense_conditioner(inputs.weights[f'coupling_{i}']) for i in range(count))
    self.raw_log_scale = parameter(inputs.weights['diagonal_scaling'][0])

  def log_prob(self, images):
    y, log_det = to_logits(images.flatten(1))
    halves = [y[:, 0::2], y[:, 1::2]]
    for i, network in enumerate(self.networks):
      kept, changed = i % 2, 1 - i % 2
      halves[changed] = halves[changed] - network(halves[kept]).float()
    log_scale = 10 * torch.tanh(self.raw_log_scale / 10)
    z = torch.stack(halves, 2).flatten(1) * torch.exp(log_scale)
    return logistic_log_prob(z) + log_det + log_scale.sum()

  def decode(self, noise):
    y = noise.flatten(1) * torch.exp(-10 * torch.tanh(self.raw_log_scale / 10))
    halves = [y[:, 0::2], y[:, 1::2]]
    for i, network in reversed(list(enumerate(self.networks))):
      kept, changed = i % 2, 1 - i % 2
      halves[changed] = halves[changed] + network(halves[kept]).float()
    return to_images(torch.stack(halves, 2).flatten(1)).reshape(-1, *self.image_shape)


class Affine(nn.Module):
  """Shift and log-scale of an affine coupling, from the kept part of the event."""

  def __init__(self, axis: int, network: nn.Module, scale: np.ndarray, offset: np.ndarray):
    super().__init__()
    self.axis, self.network = axis, network
    self.scale, self.offset = parameter(scale), parameter(offset)

  def forward(self, kept):
    shift, h = self.network(kept).float().chunk(2, self.axis)
    return shift, 2 * torch.tanh((self.scale * torch.tanh(h) + self.offset) / 2)


def encode_masked(affine: Affine, ones: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
  """From image to noise through a coupling that keeps the ones of a mask."""
  shift, log_scale = affine(ones * x)
  log_scale = (1 - ones) * log_scale
  return ones * x + (1 - ones) * (x - shift) * torch.exp(-log_scale), -log_scale.flatten(1).sum(1)


class RealNvp(nn.Module):
  def __init__(self, task: work.Task, inputs: work.Inputs):
    super().__init__()
    self.scales = task.sizes['scales']
    self.couplings = nn.ModuleDict()
    for part in inputs.weights:
      offset, scale, *arrays = inputs.weights[part]
      network = ResidualConditioner(task.sizes['blocks'], iter(arrays), iter(inputs.statistics[part]))
      self.couplings[part] = Affine(1, network, scale, offset)
    for part, ones in work.coupling_masks(task).items():
      self.register_buffer(f'mask_{part}', torch.tensor(ones.transpose(2, 0, 1)), persistent=False)

  def checkerboards(self, x, log_prob, level, count):
    for i in range(count):
      part = f'scale_{level}_checkerboard_{i}'
      x, log_det = encode_masked(self.couplings[part], getattr(self, f'mask_{part}'), x)
      log_prob = log_prob + log_det
    return x, log_prob

  def log_prob(self, images):
    x, log_prob = to_logits(images)
    noise = []
    for level in range(self.scales - 1):
      x, log_prob = self.checkerboards(x, log_prob, level, 3)
      n, channels, height, width = x.shape
      x = x.reshape(n, channels, height // 2, 2, width // 2, 2).permute(0, 3, 5, 1, 2, 4)
      x = x.reshape(n, 4 * channels, height // 2, width // 2).contiguous(memory_format=torch.channels_last)
      halves = list(x.chunk(2, 1))
      for i in range(3):
        kept, changed = i % 2, 1 - i % 2
        shift, log_scale = self.couplings[f'scale_{level}_channel_{i}'](halves[kept])
        halves[changed] = (halves[changed] - shift) * torch.exp(-log_scale)
        log_prob = log_prob - log_scale.flatten(1).sum(1)
      noise.append(halves[0])
      x = halves[1]
    x, log_prob = self.checkerboards(x, log_prob, self.scales - 1, 4)
    for z in (*noise, x):
      log_prob = log_prob - (0.5 * z.square() + 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)
    return log_prob


class Jet(nn.Module):
  def __init__(self, task: work.Task, inputs: work.Inputs):
    super().__init__()
    self.affine = nn.ModuleList()
    for i, (part, ones) in enumerate(work.coupling_masks(task).items()):
      offset, scale, *arrays = inputs.weights[part]
      network = MixerConditioner(task.sizes['patch_size'], task.sizes['blocks'], iter(arrays))
      self.affine.append(Affine(-1, network, scale, offset))
      self.register_buffer(f'mask_{i}', torch.tensor(ones), persistent=False)
    self.raw_log_scale = parameter(inputs.weights['diagonal_scaling'][0])

  def log_prob(self, images):
    x, log_prob = to_logits(images)
    for i, affine in enumerate(self.affine):
      x, log_det = encode_masked(affine, getattr(self, f'mask_{i}'), x)
      log_prob = log_prob + log_det
    log_scale = 10 * torch.tanh(self.raw_log_scale / 10)
    return log_prob + logistic_log_prob(x * torch.exp(log_scale)) + log_scale.sum()


class Critic(nn.Module):
  """5x5 convolutions with stride 2, and a hidden dense layer."""

  def __init__(self, arrays: list[np.ndarray], image_shape: tuple[int, int, int]):
    super().__init__()
    *convolutions, kernel, bias, last_kernel, last_bias = arrays
    self.kernels = nn.ParameterList(parameter(a.transpose(3, 2, 0, 1).copy()) for a in convolutions[0::2])
    self.biases = nn.ParameterList(map(parameter, convolutions[1::2]))
    sides = [-(-size // 2 ** len(self.kernels)) for size in image_shape[:2]]
    # The features come as height, width, channels.
    kernel = kernel.reshape(*sides, -1, kernel.shape[-1]).transpose(2, 0, 1, 3).reshape(kernel.shape)
    self.hidden, self.last = Dense(iter([kernel, bias])), Dense(iter([last_kernel, last_bias]))

  def forward(self, images):
    x = images.movedim(-1, 1)
    for kernel, bias in zip(self.kernels, self.biases, strict=True):
      # Enough to make the output half as large; an odd row or column goes at the end.
      padding = [max(0, (-(-size // 2) - 1) * 2 + 5 - size) for size in x.shape[2:]]
      before, after = [p // 2 for p in padding], [p - p // 2 for p in padding]
      x = F.pad(x, (before[1], after[1], before[0], after[0]))
      x = F.leaky_relu(F.conv2d(x, kernel, bias, stride=2), 0.2)
    return self.last(F.leaky_relu(self.hidden(x.flatten(1)), 0.2))[:, 0].float()


FLOWS: dict[str, Callable[[work.Task, work.Inputs], nn.Module]] = {'nice': Nice, 'real_nvp': RealNvp, 'jet': Jet}

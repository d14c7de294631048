"""normflows: its couplings, masks and flow classes, with networks of `torch_flows` and the training of `torch_peer`.

normflows has no alpha-logit, no logistic prior and no diagonal scaling with bounded scales; they are added here in its
own form, a `Flow` with `forward` and `inverse`. Jet has no counterpart.
"""

from __future__ import annotations

import importlib.metadata
import math

import normflows as nf
import torch
from torch import nn

from benchmarks.peers import torch_flows, torch_peer, work

VARIANTS = {'float32': ['eager'], 'bfloat16': ['eager']}
product = torch_peer.product


def versions() -> dict[str, str]:
  return {'normflows': importlib.metadata.version('normflows'), 'torch': torch.__version__}


def supports(task: work.Task) -> bool:
  return task.flow != 'jet'


class Logits(nf.flows.Flow):
  """From logits to images."""

  def forward(self, z):
    x = torch_flows.to_images(z)
    return x, -torch_flows.to_logits(x)[1]

  def inverse(self, z):
    return torch_flows.to_logits(z)


class DiagonalScaling(nf.flows.Flow):
  def __init__(self, raw_log_scale):
    super().__init__()
    self.raw_log_scale = torch_flows.parameter(raw_log_scale)

  def forward(self, z):
    log_scale = 10 * torch.tanh(self.raw_log_scale / 10)
    return z * torch.exp(-log_scale), -log_scale.sum()

  def inverse(self, z):
    log_scale = 10 * torch.tanh(self.raw_log_scale / 10)
    return z * torch.exp(log_scale), log_scale.sum()


class Logistic(nf.distributions.BaseDistribution):
  def __init__(self, size):
    super().__init__()
    self.size = size

  def forward(self, num_samples=1):
    uniform = torch.rand(num_samples, self.size).clamp_(1e-7, 1 - 1e-7)
    z = torch.log(uniform) - torch.log1p(-uniform)
    return z, self.log_prob(z)

  def log_prob(self, z):
    return torch_flows.logistic_log_prob(z)


def permutation(order: torch.Tensor) -> nf.flows.Permute:
  """`nf.flows.Permute` whose inverse puts the features into the given order."""
  permute = nf.flows.Permute(len(order), mode='shuffle')
  permute.inv_perm.copy_(order)
  permute.perm.copy_(torch.argsort(order))
  return permute


class Single(nn.Module):
  """Casts the output of a network to the dtype of densities."""

  def __init__(self, network):
    super().__init__()
    self.network = network

  def forward(self, kept):
    return self.network(kept).float()


class Nice(nn.Module):
  def __init__(self, task: work.Task, inputs: work.Inputs):
    super().__init__()
    self.image_shape = task.image_shape
    pixels = math.prod(task.image_shape)
    to_noise = [Logits(), permutation(torch.cat([torch.arange(0, pixels, 2), torch.arange(1, pixels, 2)]))]
    for i in range(task.sizes['couplings']):
      network = Single(torch_flows.dense_conditioner(inputs.weights[f'coupling_{i}']))
      mode = 'channel' if i % 2 == 0 else 'channel_inv'
      to_noise.append(nf.flows.AffineCouplingBlock(network, scale=False, split_mode=mode))
    # The scaling has the order of the image.
    to_noise += [
      permutation(torch.arange(pixels).reshape(2, -1).T.flatten() if pixels % 2 == 0 else torch.arange(pixels)),
      DiagonalScaling(inputs.weights['diagonal_scaling'][0]),
    ]
    self.flow = nf.NormalizingFlow(Logistic(pixels), to_noise[::-1])

  def log_prob(self, images):
    return self.flow.log_prob(images.flatten(1))

  def decode(self, noise):
    return self.flow.forward(noise.flatten(1)).reshape(-1, *self.image_shape)


class LogScale(nn.Module):
  """The log-scale of a `MaskedAffineFlow`, which calls it before the shift: both come from one pass of a network."""

  def __init__(self, affine: torch_flows.Affine):
    super().__init__()
    self.affine = affine

  def forward(self, kept):
    self.shift, log_scale = self.affine(kept)
    return log_scale


class Shift(nn.Module):
  def __init__(self, log_scale: LogScale):
    super().__init__()
    self.found = [log_scale]  # The list keeps the weights from being registered twice.

  def forward(self, kept):
    return self.found[0].shift


class Interleaved(nn.Module):
  """Shift and log-scale in turn along the channels, as `AffineCouplingBlock` reads them."""

  def __init__(self, affine: torch_flows.Affine):
    super().__init__()
    self.affine = affine

  def forward(self, kept):
    return torch.stack(self.affine(kept), 2).flatten(1, 2)


class RealNvp(nn.Module):
  def __init__(self, task: work.Task, inputs: work.Inputs):
    super().__init__()

    def affine(part):
      offset, scale, *arrays = inputs.weights[part]
      network = torch_flows.ResidualConditioner(task.sizes['blocks'], iter(arrays), iter(inputs.statistics[part]))
      return torch_flows.Affine(1, network, scale, offset)

    masks = work.coupling_masks(task)
    scales = task.sizes['scales']
    height, width, channels = task.image_shape
    levels, merges, priors = [], [], []
    for level in range(scales):
      to_noise = []
      for i in range(4 if level == scales - 1 else 3):
        part = f'scale_{level}_checkerboard_{i}'
        ones = torch.tensor(masks[part].transpose(2, 0, 1))
        log_scale = LogScale(affine(part))
        to_noise.append(nf.flows.MaskedAffineFlow(ones, t=Shift(log_scale), s=log_scale))
      if level < scales - 1:
        # normflows orders squeezed channels by channel, row and column; the flow by row, column and channel.
        order = torch.arange(4 * channels).reshape(channels, 4).T.flatten()
        to_noise += [nf.flows.Squeeze(), permutation(order)]
        for i in range(3):
          mode = 'channel' if i % 2 == 0 else 'channel_inv'
          network = Interleaved(affine(f'scale_{level}_channel_{i}'))
          to_noise.append(nf.flows.AffineCouplingBlock(network, split_mode=mode))
        height, width, channels = height // 2, width // 2, 2 * channels
        merges.append(nf.flows.Merge('channel_inv'))
      priors.append(nf.distributions.DiagGaussian((channels, height, width), trainable=False))
      levels.append(to_noise[::-1])
    # normflows wants the levels from the coarsest scale to the image.
    levels[0].append(Logits())
    self.flow = nf.MultiscaleFlow(priors[::-1], levels[::-1], merges[::-1], class_cond=False)

  def log_prob(self, images):
    return self.flow.log_prob(images, None)


FLOWS = {'nice': Nice, 'real_nvp': RealNvp}


def prepare(task: work.Task, inputs: work.Inputs, dtype: str, variant: str) -> work.Prepared:
  return torch_peer.prepare_flow(FLOWS[task.flow](task, inputs), task, inputs, dtype, compiles=False)

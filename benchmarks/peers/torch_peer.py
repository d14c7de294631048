"""PyTorch by hand, eager and with `torch.compile`, with fused Adam; `torch_flows` has the flows and the critic.

Products are in bfloat16 by `torch.autocast`. With `torch.compile`, the densities, their gradients and the samples are
compiled; the critic is not, as compiled functions have no second derivatives.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.peers import torch_flows, work

VARIANTS = {'float32': ['eager', 'compile'], 'bfloat16': ['eager', 'compile']}


def versions() -> dict[str, str]:
  return {'torch': torch.__version__}


def supports(task: work.Task) -> bool:
  return True


def adam(module: nn.Module) -> torch.optim.Adam:
  betas = (work.BETA_1, work.BETA_2)
  return torch.optim.Adam(module.parameters(), work.LEARNING_RATE, betas, work.EPSILON, fused=True)


def slopes(critic: nn.Module, images: torch.Tensor, differentiable: bool) -> torch.Tensor:
  """Norms of the critic's gradient at each image."""
  images = images.detach().requires_grad_()
  gradient = torch.autograd.grad(critic(images).sum(), images, create_graph=differentiable)[0]
  return torch.sqrt(gradient.flatten(1).square().sum(1) + 1e-12)


def prepare(task: work.Task, inputs: work.Inputs, dtype: str, variant: str) -> work.Prepared:
  return prepare_flow(torch_flows.FLOWS[task.flow](task, inputs), task, inputs, dtype, variant == 'compile')


def prepare_flow(flow: nn.Module, task: work.Task, inputs: work.Inputs, dtype: str, compiles: bool) -> work.Prepared:
  """Prepares a task for any module with `log_prob(images)` and, to draw samples, `decode(noise)`."""
  average = copy.deepcopy(flow).requires_grad_(False).eval()
  critic = torch_flows.Critic(inputs.critic, task.image_shape) if inputs.critic else None
  images = torch.tensor(inputs.images)
  if task.flow == 'real_nvp':
    images = images.movedim(-1, 1).contiguous(memory_format=torch.channels_last)
  batches = images.split(task.batch_size)
  noise = torch.tensor(inputs.noise)
  optimizer = adam(flow)
  critic_optimizer = adam(critic) if critic else None
  step = 0

  def compiled(function):
    return torch.compile(function, dynamic=False) if compiles else function

  # We compile only what is timed: it takes a minute.
  log_prob = compiled(flow.log_prob)
  average_log_prob = compiled(average.log_prob) if task.action == 'log_prob' else average.log_prob
  decode = compiled(flow.decode) if task.action == 'hybrid' else None
  average_decode = compiled(average.decode) if task.action == 'sample' else None

  def draw(count):
    uniform = torch.rand(count, *task.image_shape).clamp_(1e-7, 1 - 1e-7)
    return torch.log(uniform) - torch.log1p(-uniform)

  def products():
    return torch.autocast('cpu', torch.bfloat16, enabled=dtype == 'bfloat16')

  def update(loss):
    nonlocal step
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    share = 1 - work.decay(step)
    with torch.no_grad():
      torch._foreach_lerp_(list(average.parameters()), list(flow.parameters()), share)
      for copied, buffer in zip(average.buffers(), flow.buffers(), strict=True):
        copied.copy_(buffer)
    step += 1

  def train():
    with products():
      loss = -log_prob(batches[0]).mean()
    update(loss)
    loss.item()

  def train_critic(real, fake):
    with products():
      loss = critic(fake).mean() - critic(real).mean()
      share = torch.rand(len(real), 1, 1, 1)
      norms = slopes(critic, share * real + (1 - share) * fake, differentiable=True)
      loss = loss + work.GRADIENT_PENALTY * (norms - 1).square().mean()
    critic_optimizer.zero_grad()
    loss.backward()
    critic_optimizer.step()

  def hybrid():
    with torch.no_grad(), products():
      fakes = decode(draw(work.CRITIC_STEPS * task.batch_size)).split(task.batch_size)
    for real, fake in zip(batches[:-1], fakes, strict=True):
      train_critic(real, fake)
    critic.requires_grad_(False)
    with products():
      likelihood = log_prob(batches[-1]).mean()
      loss = -critic(decode(draw(task.batch_size))).mean() - work.LIKELIHOOD_WEIGHT * likelihood
    update(loss)
    critic.requires_grad_(True)
    loss.item()

  @torch.no_grad()
  def score():
    with products():
      average_log_prob(batches[0])

  @torch.no_grad()
  def sample():
    with products():
      average_decode(draw(task.batch_size))

  def outputs():
    with torch.no_grad(), products():
      found = {'log_prob': average_log_prob(batches[0])}
      if task.action == 'sample':
        found['images'] = average_decode(noise)
    if task.action == 'hybrid':
      with products():
        found |= {'critic': critic(batches[0]), 'slopes': slopes(critic, batches[0], differentiable=False)}
    return {name: tensor.detach().float().numpy() for name, tensor in found.items()}

  return work.Prepared({'train': train, 'hybrid': hybrid, 'sample': sample, 'log_prob': score}[task.action], outputs)


def product(size: int, dtype: str) -> Callable[[], None]:
  a, b = (torch.rand(size, size).to(getattr(torch, dtype)) for _ in range(2))
  return lambda: torch.matmul(a, b)[0, 0].item()

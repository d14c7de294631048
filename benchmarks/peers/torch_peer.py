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
  made = _Work(flow, task, inputs, dtype, compiles)
  actions = {'train': made.train, 'hybrid': made.hybrid, 'sample': made.sample, 'log_prob': made.score}
  return work.Prepared(actions[task.action], made.outputs)


class _Work:
  """A flow with its average, its critic and their optimizers, and what is done with them."""

  def __init__(self, flow: nn.Module, task: work.Task, inputs: work.Inputs, dtype: str, compiles: bool):
    self.flow, self.task, self.dtype = flow, task, dtype
    self.average = copy.deepcopy(flow).requires_grad_(False).eval()
    self.critic = torch_flows.Critic(inputs.critic, task.image_shape) if inputs.critic else None
    images = torch.tensor(inputs.images)
    if task.flow == 'real_nvp':
      images = images.movedim(-1, 1).contiguous(memory_format=torch.channels_last)
    self.batches = images.split(task.batch_size)
    self.noise = torch.tensor(inputs.noise)
    self.optimizer = adam(flow)
    self.critic_optimizer = adam(self.critic) if self.critic else None
    self.step = 0

    def compiled(function):
      return torch.compile(function, dynamic=False) if compiles else function

    # We compile only what is timed: it takes a minute.
    self.log_prob = compiled(flow.log_prob)
    self.average_log_prob = self.average.log_prob
    if task.action == 'log_prob':
      self.average_log_prob = compiled(self.average_log_prob)
    self.decode = compiled(flow.decode) if task.action == 'hybrid' else None
    self.average_decode = compiled(self.average.decode) if task.action == 'sample' else None

  def draw(self, count):
    uniform = torch.rand(count, *self.task.image_shape).clamp_(1e-7, 1 - 1e-7)
    return torch.log(uniform) - torch.log1p(-uniform)

  def products(self):
    return torch.autocast('cpu', torch.bfloat16, enabled=self.dtype == 'bfloat16')

  def update(self, loss):
    self.optimizer.zero_grad()
    loss.backward()
    self.optimizer.step()
    share = 1 - work.decay(self.step)
    with torch.no_grad():
      torch._foreach_lerp_(list(self.average.parameters()), list(self.flow.parameters()), share)
      for copied, buffer in zip(self.average.buffers(), self.flow.buffers(), strict=True):
        copied.copy_(buffer)
    self.step += 1

  def train(self):
    with self.products():
      loss = -self.log_prob(self.batches[0]).mean()
    self.update(loss)
    loss.item()

  def train_critic(self, real, fake):
    critic = self.critic
    with self.products():
      loss = critic(fake).mean() - critic(real).mean()
      share = torch.rand(len(real), 1, 1, 1)
      norms = slopes(critic, share * real + (1 - share) * fake, differentiable=True)
      loss = loss + work.GRADIENT_PENALTY * (norms - 1).square().mean()
    self.critic_optimizer.zero_grad()
    loss.backward()
    self.critic_optimizer.step()

  def hybrid(self):
    size = self.task.batch_size
    with torch.no_grad(), self.products():
      fakes = self.decode(self.draw(work.CRITIC_STEPS * size)).split(size)
    for real, fake in zip(self.batches[:-1], fakes, strict=True):
      self.train_critic(real, fake)
    self.critic.requires_grad_(False)
    with self.products():
      likelihood = self.log_prob(self.batches[-1]).mean()
      loss = -self.critic(self.decode(self.draw(size))).mean() - work.LIKELIHOOD_WEIGHT * likelihood
    self.update(loss)
    self.critic.requires_grad_(True)
    loss.item()

  @torch.no_grad()
  def score(self):
    with self.products():
      self.average_log_prob(self.batches[0])

  @torch.no_grad()
  def sample(self):
    with self.products():
      self.average_decode(self.draw(self.task.batch_size))

  def outputs(self):
    batch = self.batches[0]
    with torch.no_grad(), self.products():
      found = {'log_prob': self.average_log_prob(batch)}
      if self.task.action == 'sample':
        found['images'] = self.average_decode(self.noise)
    if self.task.action == 'hybrid':
      with self.products():
        found |= {'critic': self.critic(batch), 'slopes': slopes(self.critic, batch, differentiable=False)}
    return {name: tensor.detach().float().numpy() for name, tensor in found.items()}


def product(size: int, dtype: str) -> Callable[[], None]:
  a, b = (torch.rand(size, size).to(getattr(torch, dtype)) for _ in range(2))
  return lambda: torch.matmul(a, b)[0, 0].item()

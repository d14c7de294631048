"""What `fg.check` says of the flows of other libraries, in 2 and 8 dimensions, in float32 and float64.

  .venv-bench/bin/python -m benchmarks.libraries --libraries=zuko,normflows,nflows,pyro,flowjax,distrax
  .venv-bench/bin/python -m benchmarks.libraries --libraries=zuko --flows=UNAF,CNF --seconds=420
  .venv/bin/python -m benchmarks.libraries --libraries=tfp
  .venv-bench/bin/python -m benchmarks.libraries --libraries=zuko --flows=GF --seeds=10

Each flow is checked as it is built and, in two dimensions, after 200 steps of maximum likelihood on two moons. Rows are
printed as they come and kept in a JSON file. Rows that are there are not computed again. Each library has a function
that yields the names of its flows, each with a function of the number of dimensions that builds it. A check may
take `--seconds`, so run it on a machine that does nothing else.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import itertools
import json
import pathlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from absl import app, flags

from flowgan_tf.checks.callables import Density
from flowgan_tf.checks.finding import Report

LIBRARIES = flags.DEFINE_list('libraries', ['zuko'], 'Libraries: zuko, normflows, nflows, pyro, flowjax, distrax, tfp.')
FLOWS = flags.DEFINE_list('flows', [], 'Names of flows; all by default.')
STATES = flags.DEFINE_list('states', ['new', 'moons'], 'new, moons.')
SEEDS = flags.DEFINE_integer('seeds', 1, 'Seeds of each flow.', lower_bound=1)
SECONDS = flags.DEFINE_integer('seconds', 100, 'Most seconds for a check.', lower_bound=1)
JSON = flags.DEFINE_string('json', 'build/libraries.json', 'File of rows.')

STEPS, BATCH, LEARNING_RATE = 200, 256, 1e-3


@dataclasses.dataclass(frozen=True)
class Built:
  """A flow of a library."""

  density: Density
  fit: Callable[[Iterator[np.ndarray]], None] | None = None  # Trains it with batches of data.


def moons(seed: int, dtype: str) -> Iterator[np.ndarray]:
  """Yields batches of two moons."""
  rng = np.random.default_rng(seed)
  for _ in range(STEPS):
    angle, upper = np.pi * rng.uniform(size=BATCH), rng.uniform(size=BATCH) < 0.5
    x = np.where(upper, np.cos(angle), 1 - np.cos(angle)) - 0.5
    y = np.where(upper, np.sin(angle), 0.5 - np.sin(angle)) - 0.25
    yield (np.stack([x, y], axis=1) + 0.08 * rng.normal(size=(BATCH, 2))).astype(dtype)


def of_torch(module: Any, size: int, functions: dict[str, Callable], **more: Any) -> Built:
  """Returns a flow whose functions take tensors; `sample` takes a number."""
  import torch

  def in_numpy(function):
    return lambda x: function(torch.as_tensor(x, dtype=torch.get_default_dtype())).detach().numpy()

  def fit(batches):
    module.train()
    optimizer = torch.optim.Adam(module.parameters(), LEARNING_RATE)
    for batch in batches:
      optimizer.zero_grad()
      (-functions['log_prob'](torch.as_tensor(batch)).mean()).backward()
      optimizer.step()
    module.eval()

  module.eval()
  sample = functions['sample']
  ours = {name: in_numpy(function) for name, function in functions.items() if name != 'sample'}
  density = Density(**ours, sample=lambda n: sample(n).detach().numpy(), shape=(size,), **more)
  return Built(density, fit if any(True for _ in module.parameters()) else None)


def zuko() -> Iterator[tuple[str, Callable[[int], Built]]]:
  """Flows of zuko with its defaults."""
  import zuko

  def build(kind, size, interval=None, **settings):
    flow = getattr(zuko.flows, kind)(size, **settings)
    functions = {'log_prob': lambda x: flow().log_prob(x), 'sample': lambda n: flow().sample((n,))}
    if kind != 'GMM':
      functions |= {
        'encode': lambda x: flow().transform(x),
        'decode': lambda z: flow().transform.inv(z),
        'log_det': lambda x: flow().transform.log_abs_det_jacobian(x, flow().transform(x)),
        'prior': lambda z: flow().base.log_prob(z),
      }
    return of_torch(flow, size, functions, interval=interval)

  for kind in ('GMM', 'NICE', 'RealNVP', 'MAF', 'NSF', 'SOSPF', 'BPF', 'GF', 'NAF', 'UNAF', 'CNF'):
    yield kind, functools.partial(build, kind)
  yield 'NCSF', functools.partial(build, 'NCSF', interval=(-np.pi, np.pi))
  yield 'MAF, coupling', functools.partial(build, 'MAF', passes=2)
  yield 'MAF, random order', functools.partial(build, 'MAF', randperm=True)
  yield 'CNF, exact=False', functools.partial(build, 'CNF', exact=False)


def normflows() -> Iterator[tuple[str, Callable[[int], Built]]]:
  """Flows of normflows: three layers of each kind."""
  import normflows
  import torch

  flows, nets = normflows.flows, normflows.nets

  def build(layers, size, base=None, **more):
    prior = base(size) if base else normflows.distributions.DiagGaussian(size, trainable=False)
    model = normflows.NormalizingFlow(prior, [layer for i in range(3) for layer in layers(size, i)])
    functions = {
      'log_prob': model.log_prob,
      'sample': lambda n: model.sample(n)[0],
      'encode': model.inverse,
      'decode': model.forward,
      'log_det': lambda x: model.inverse_and_log_det(x)[1],
      'prior': prior.log_prob,
    }
    return of_torch(model, size, functions, **more)

  def masked(size, i):
    mask = torch.tensor([(i + j) % 2 for j in range(size)], dtype=torch.get_default_dtype())
    return [flows.MaskedAffineFlow(mask, nets.MLP([size, 32, size]), nets.MLP([size, 32, size]))]

  def coupling(size, i, **settings):
    return [flows.AffineCouplingBlock(nets.MLP([size // 2, 32, size]), **settings), flows.Permute(size, mode='swap')]

  def residual(size, i, **settings):
    net = nets.LipschitzMLP([size, 32, 32, size], lipschitz_const=0.9)
    return [flows.Residual(net, reduce_memory=False, **settings)]

  def circular(kind):
    return lambda size, i: [kind(size, 1, 32, ind_circ=list(range(size)), tail_bound=3.0)]

  def of_layer(layer):
    return lambda size, i: [layer(size)]

  kinds: dict[str, Callable] = {
    'MaskedAffineFlow': masked,
    'AffineCouplingBlock': coupling,
    'AffineCouplingBlock, sigmoid': functools.partial(coupling, scale_map='sigmoid'),
    'AffineCouplingBlock, sigmoid_inv': functools.partial(coupling, scale_map='sigmoid_inv'),
    'MaskedAffineAutoregressive': of_layer(lambda size: flows.MaskedAffineAutoregressive(size, 32)),
    'CoupledRationalQuadraticSpline': lambda size, i: [
      flows.CoupledRationalQuadraticSpline(size, 1, 32),
      flows.LULinearPermute(size),
    ],
    'AutoregressiveRationalQuadraticSpline': lambda size, i: [
      flows.AutoregressiveRationalQuadraticSpline(size, 1, 32),
      flows.LULinearPermute(size),
    ],
    'Planar, leaky_relu': of_layer(lambda size: flows.Planar((size,), act='leaky_relu')),
    'Residual': residual,
    'Residual, exact_trace': functools.partial(residual, exact_trace=True),
    'InvertibleAffine': of_layer(flows.InvertibleAffine),
    'LULinearPermute': of_layer(lambda size: flows.LULinearPermute(size, identity_init=False)),
    'ActNorm': lambda size, i: [*masked(size, i), flows.ActNorm((size,))],
  }
  for name, layers in kinds.items():
    yield name, functools.partial(build, layers)
  uniform = functools.partial(normflows.distributions.base.Uniform, low=-3.0, high=3.0)
  for kind in ('CircularCoupledRationalQuadraticSpline', 'CircularAutoregressiveRationalQuadraticSpline'):
    layers = circular(getattr(flows, kind))
    yield kind, functools.partial(build, layers, base=uniform, interval=(-3.0, 3.0))


def nflows() -> Iterator[tuple[str, Callable[[int], Built]]]:
  """Flows of nflows: three layers of each kind, in turn with reversed coordinates."""
  import torch
  from nflows import distributions, flows, transforms
  from nflows.nn.nets import ResidualNet

  def build_flow(flow, size, **more):
    functions = {
      'log_prob': flow.log_prob,
      'sample': flow.sample,
      'encode': flow.transform_to_noise,
      'decode': lambda z: flow._transform.inverse(z)[0],
      'log_det': lambda x: flow._transform(x)[1],
      'prior': flow._distribution.log_prob,
    }
    return of_torch(flow, size, functions, **more)

  def build(layer, size, **more):
    layers = [part for i in range(3) for part in (layer(size, i), transforms.ReversePermutation(size))]
    prior = distributions.StandardNormal([size])
    return build_flow(flows.Flow(transforms.CompositeTransform(layers), prior), size, **more)

  def coupling(kind, **settings):
    def layer(size, i):
      net = functools.partial(ResidualNet, hidden_features=32, num_blocks=1)
      return kind(torch.arange(i, size + i) % 2, net, **settings)

    return layer

  def autoregressive(kind, **settings):
    return lambda size, i: kind(size, hidden_features=32, **settings)

  tails = {'tails': 'linear', 'tail_bound': 3.0}
  kinds: dict[str, Callable] = {
    'AdditiveCoupling': coupling(transforms.AdditiveCouplingTransform),
    'AffineCoupling': coupling(transforms.AffineCouplingTransform),
    'MaskedAffineAutoregressive': autoregressive(transforms.MaskedAffineAutoregressiveTransform),
    'MaskedPiecewiseQuadraticAutoregressive': autoregressive(
      transforms.MaskedPiecewiseQuadraticAutoregressiveTransform, **tails
    ),
    'MaskedPiecewiseRationalQuadraticAutoregressive': autoregressive(
      transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform, **tails
    ),
  }
  for spline in ('Linear', 'Quadratic', 'Cubic', 'RationalQuadratic'):
    kinds[f'Piecewise{spline}Coupling'] = coupling(getattr(transforms, f'Piecewise{spline}CouplingTransform'), **tails)
    cdf = getattr(transforms, f'Piecewise{spline}CDF')
    kinds[f'Piecewise{spline}CDF'] = lambda size, i, cdf=cdf: cdf([size], **tails)
  for linear in ('NaiveLinear', 'LULinear', 'QRLinear', 'SVDLinear'):
    settings = {'num_householder': 4} if linear in ('QRLinear', 'SVDLinear') else {}
    kinds[linear] = lambda size, i, name=linear, settings=settings: getattr(transforms, name)(size, **settings)
  kinds['HouseholderSequence'] = lambda size, i: transforms.HouseholderSequence(size, 4)
  kinds['LeakyReLU'] = lambda size, i: transforms.LeakyReLU(0.5)
  kinds['LogTanh'] = lambda size, i: transforms.LogTanh()
  kinds['BatchNorm'] = lambda size, i: transforms.BatchNorm(size)
  kinds['ActNorm'] = lambda size, i: transforms.ActNorm(size)
  for name, layer in kinds.items():
    yield name, functools.partial(build, layer)
  yield (
    'Logit',
    functools.partial(
      build, lambda size, i: transforms.IdentityTransform() if i else transforms.Logit(), interval=(0.0, 1.0)
    ),
  )
  yield 'SimpleRealNVP', lambda size: build_flow(flows.SimpleRealNVP(size, 32, 3, 1), size)
  yield 'MaskedAutoregressiveFlow', lambda size: build_flow(flows.MaskedAutoregressiveFlow(size, 32, 3, 1), size)


def pyro() -> Iterator[tuple[str, Callable[[int], Built]]]:
  """Transforms of Pyro that have an inverse: three of each kind."""
  import torch
  from pyro import distributions
  from pyro.distributions import transforms

  def build(make, size):
    parts = [make(size) for _ in range(3)]
    parts = [part for each in parts for part in (each, transforms.permute(size, torch.arange(size).flip(0)))]
    prior = distributions.Normal(torch.zeros(size), torch.ones(size), validate_args=False).to_event(1)
    flow = distributions.TransformedDistribution(prior, parts, validate_args=False)
    composed = transforms.ComposeTransform(parts)

    def log_prob(x):
      for part in parts:
        if hasattr(part, 'clear_cache'):
          part.clear_cache()
      return flow.log_prob(x)

    functions = {
      'log_prob': log_prob,
      'sample': lambda n: flow.sample((n,)),
      'encode': composed.inv,
      'decode': composed,
      'log_det': lambda x: -composed.log_abs_det_jacobian(composed.inv(x), x),
      'prior': prior.log_prob,
    }
    module = torch.nn.ModuleList([part for part in parts if isinstance(part, torch.nn.Module)])
    return of_torch(module, size, functions)

  kinds: dict[str, Callable] = {
    'affine_autoregressive': transforms.affine_autoregressive,
    'affine_autoregressive, stable': lambda size: transforms.affine_autoregressive(size, stable=True),
    'affine_coupling': transforms.affine_coupling,
    'batchnorm': transforms.batchnorm,
    'householder': lambda size: transforms.householder(size, count_transforms=2),
    'leaky_relu': lambda size: transforms.IndependentTransform(transforms.leaky_relu(), 1),
    'elu': lambda size: transforms.IndependentTransform(transforms.elu(), 1),
    'matrix_exponential': transforms.matrix_exponential,
    'spline': transforms.spline,
    'spline, quadratic': lambda size: transforms.spline(size, order='quadratic'),
    'spline_autoregressive': transforms.spline_autoregressive,
    'spline_autoregressive, quadratic': lambda size: transforms.spline_autoregressive(size, order='quadratic'),
    'spline_coupling': transforms.spline_coupling,
  }
  for name, make in kinds.items():
    yield name, functools.partial(build, make)


def padded(function: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], np.ndarray]:
  """The same for three numbers of rows only, as JAX compiles a function for each."""

  def call(x):
    n = len(x)
    rows = next((m for m in (64, 4096, 2**15) if m >= n), n)
    return np.asarray(function(np.concatenate([x, np.repeat(x[:1], rows - n, axis=0)])))[:n]

  return call


def flowjax() -> Iterator[tuple[str, Callable[[int], Built]]]:
  """Flows of FlowJAX with its defaults."""
  import equinox
  import jax
  from flowjax import bijections, distributions, flows, train

  def build(make, size, **more):
    keys = map(jax.random.key, itertools.count(SEED[0] * 1000))
    base = distributions.Normal(jax.numpy.zeros(size))
    flow = [make(next(keys), base_dist=base)]  # A list, because training returns another flow.

    def in_numpy(function):
      mapped = equinox.filter_jit(lambda flow, x: jax.vmap(lambda value: function(flow, value))(x))
      return padded(lambda x: mapped(flow[0], x))

    def fit(batches):
      rows = jax.numpy.asarray(np.concatenate(list(batches)))
      settings = {'max_epochs': 1, 'batch_size': BATCH, 'val_prop': 0.01, 'show_progress': False}
      flow[0], _ = train.fit_to_data(next(keys), flow[0], data=rows, learning_rate=LEARNING_RATE, **settings)

    density = Density(
      log_prob=in_numpy(lambda flow, x: flow.log_prob(x)),
      sample=lambda n: np.asarray(flow[0].sample(next(keys), (n,))),
      encode=in_numpy(lambda flow, x: flow.bijection.inverse(x)),
      decode=in_numpy(lambda flow, z: flow.bijection.transform(z)),
      log_det=in_numpy(lambda flow, x: flow.bijection.inverse_and_log_det(x)[1]),
      prior=in_numpy(lambda flow, z: flow.base_dist.log_prob(z)),
      shape=(size,),
      **more,
    )
    return Built(density, fit)

  def spline():
    return bijections.RationalQuadraticSpline(knots=8, interval=4)

  yield 'coupling_flow', functools.partial(build, flows.coupling_flow)
  yield 'coupling_flow, spline', lambda size: build(functools.partial(flows.coupling_flow, transformer=spline()), size)
  yield 'masked_autoregressive_flow', functools.partial(build, flows.masked_autoregressive_flow)
  yield (
    'masked_autoregressive_flow, spline',
    lambda size: build(functools.partial(flows.masked_autoregressive_flow, transformer=spline()), size),
  )
  yield 'block_neural_autoregressive_flow', functools.partial(build, flows.block_neural_autoregressive_flow)
  yield 'planar_flow', functools.partial(build, functools.partial(flows.planar_flow, negative_slope=0.1))
  yield 'triangular_spline_flow', functools.partial(build, flows.triangular_spline_flow)


def of_distrax(make: Callable, size: int, interval: tuple[float, float] | None = None) -> Built:
  """Returns normal noise through the bijector that `make(size, normal)` builds from random numbers."""
  import distrax
  import jax
  import jax.numpy as jnp
  import optax

  rng = np.random.default_rng(SEED[0])
  parameters: list[jax.Array] = []

  def normal(*shape):
    parameters.append(jnp.asarray(0.5 * rng.normal(size=shape)))
    return parameters[-1]

  make(size, normal)
  prior = distrax.MultivariateNormalDiag(jnp.zeros(size), jnp.ones(size))
  keys = map(jax.random.key, itertools.count(SEED[0] * 1000))

  def flow(parameters):
    given = iter(parameters)
    return distrax.Transformed(prior, make(size, lambda *shape: next(given)))

  def in_numpy(function):
    mapped = jax.jit(lambda parameters, x: function(flow(parameters), x))
    return padded(lambda x: mapped(parameters, x))

  def fit(batches):
    optimizer = optax.adam(LEARNING_RATE)
    state = optimizer.init(parameters)
    gradients = jax.jit(jax.grad(lambda parameters, x: -flow(parameters).log_prob(x).mean()))
    for batch in batches:
      updates, state = optimizer.update(gradients(parameters, batch), state)
      parameters[:] = optax.apply_updates(parameters, updates)

  density = Density(
    log_prob=in_numpy(lambda flow, x: flow.log_prob(x)),
    sample=lambda n: np.asarray(flow(parameters).sample(seed=next(keys), sample_shape=(n,))),
    encode=in_numpy(lambda flow, x: flow.bijector.inverse(x)),
    decode=in_numpy(lambda flow, z: flow.bijector.forward(z)),
    log_det=in_numpy(lambda flow, x: flow.bijector.inverse_log_det_jacobian(x)),
    prior=in_numpy(lambda flow, z: prior.log_prob(z)),
    shape=(size,),
    interval=interval,
  )
  return Built(density, fit if parameters else None)


def distrax() -> Iterator[tuple[str, Callable[[int], Built]]]:
  """Bijectors of Distrax with random parameters, and as conditioners one layer of tanh."""
  import distrax
  import jax.numpy as jnp

  def net(normal, n, *shape):
    first, last = normal(n, 16), normal(16, *shape)
    return lambda x: jnp.tensordot(jnp.tanh(x @ first), last, 1)

  def affine(parameters):
    return distrax.ScalarAffine(parameters[..., 0], log_scale=parameters[..., 1])

  def spline(parameters):
    return distrax.RationalQuadraticSpline(parameters, -3.0, 3.0, boundary_slopes='identity')

  def masked(inner, count):
    def make(size, normal):
      masks = [jnp.arange(size) % 2 == i % 2 for i in range(2)]
      return distrax.Chain([distrax.MaskedCoupling(m, net(normal, size, size, count), inner) for m in masks])

    return make

  def split(size, normal):
    half = size // 2
    inner = [net(normal, half, half, 2) for _ in range(2)]
    parts = [
      distrax.SplitCoupling(half, 1, net, lambda p: distrax.Block(affine(p), 1), swap=bool(i))
      for i, net in enumerate(inner)
    ]
    return distrax.Chain(parts)

  def each(kind):
    return lambda size, normal: distrax.Block(kind(), 1)

  kinds = {
    'MaskedCoupling, affine': masked(affine, 2),
    'MaskedCoupling, spline': masked(spline, 25),
    'SplitCoupling, affine': split,
    'RationalQuadraticSpline': lambda size, normal: distrax.Block(spline(normal(size, 25)), 1),
    'LowerUpperTriangularAffine': lambda size, normal: distrax.LowerUpperTriangularAffine(
      jnp.eye(size) + normal(size, size) / size, normal(size)
    ),
    'UnconstrainedAffine': lambda size, normal: distrax.UnconstrainedAffine(
      jnp.eye(size) + normal(size, size) / size, normal(size)
    ),
    'TriangularLinear': lambda size, normal: distrax.TriangularLinear(jnp.eye(size) + jnp.tril(normal(size, size))),
    'DiagLinear': lambda size, normal: distrax.DiagLinear(jnp.exp(normal(size))),
    'DiagPlusLowRankLinear': lambda size, normal: distrax.DiagPlusLowRankLinear(
      jnp.exp(normal(size)), normal(size, 1), normal(size, 1)
    ),
    'Inverse of a spline': lambda size, normal: distrax.Inverse(distrax.Block(spline(normal(size, 25)), 1)),
  }
  for name, make in kinds.items():
    yield name, functools.partial(of_distrax, make)
  yield 'Sigmoid', functools.partial(of_distrax, each(distrax.Sigmoid), interval=(0.0, 1.0))
  yield 'Tanh', functools.partial(of_distrax, each(distrax.Tanh), interval=(-1.0, 1.0))
  yield 'GumbelCDF', functools.partial(of_distrax, each(distrax.GumbelCDF), interval=(0.0, 1.0))


def of_tfp(make: Callable, size: int, interval: tuple[float, float] | None = None) -> Built:
  """Returns normal noise through the bijector that `make(size, normal)` builds from random numbers."""
  import keras
  import tensorflow as tf
  from tensorflow_probability import distributions as tfd

  rng, seeds = np.random.default_rng(SEED[0]), itertools.count(SEED[0] * 1000)
  parameters: list[tf.Variable] = []

  def normal(*shape):
    parameters.append(tf.Variable(0.5 * rng.normal(size=shape), dtype=keras.config.floatx()))
    return parameters[-1]

  make(size, normal)
  prior = tfd.MultivariateNormalDiag(scale_diag=tf.ones(size, keras.config.floatx()))

  def flow():
    given = iter(parameters)
    return tfd.TransformedDistribution(prior, make(size, lambda *shape: next(given)))

  def in_numpy(function):
    any_rows = tf.function(function, input_signature=[tf.TensorSpec([None, size], keras.config.floatx())])
    return lambda x: any_rows(tf.convert_to_tensor(x, keras.config.floatx())).numpy()

  def fit(batches):
    optimizer = keras.optimizers.Adam(LEARNING_RATE)

    @tf.function
    def gradients(x):
      with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(flow().log_prob(x))
      return tape.gradient(loss, parameters)

    for batch in batches:
      optimizer.apply_gradients(zip(gradients(tf.constant(batch)), parameters, strict=True))

  density = Density(
    log_prob=in_numpy(lambda x: flow().log_prob(x)),
    sample=lambda n: flow().sample(n, seed=(next(seeds), 0)).numpy(),
    encode=in_numpy(lambda x: flow().bijector.inverse(x)),
    decode=in_numpy(lambda z: flow().bijector.forward(z)),
    log_det=in_numpy(lambda x: flow().bijector.inverse_log_det_jacobian(x, event_ndims=1)),
    prior=in_numpy(prior.log_prob),
    shape=(size,),
    interval=interval,
  )
  return Built(density, fit if parameters else None)


def number(value: float) -> Any:
  """Returns a number for TFP in the dtype that is checked."""
  import keras
  import tensorflow as tf

  return tf.constant(value, keras.config.floatx())


def layers_of_tfp() -> dict[str, Callable]:
  """Returns functions of the size and of random numbers that build layers with networks of one layer of tanh."""
  import tensorflow as tf
  from tensorflow_probability import bijectors as tfb

  def net(normal, n, *shape):
    first, last = normal(n, 16), normal(16, *shape)
    return lambda x: tf.tensordot(tf.tanh(x @ first), last, 1)

  def spline(parameters):
    width, height, slope = tf.split(parameters, [8, 8, 7], axis=-1)
    return tfb.RationalQuadraticSpline(
      6 * tf.nn.softmax(width), 6 * tf.nn.softmax(height), tf.nn.softplus(slope) + 0.1, range_min=-3.0
    )

  def coupling(size, normal):
    function = net(normal, size // 2, size - size // 2, 2)
    return tfb.RealNVP(size // 2, shift_and_log_scale_fn=lambda x, *_: tf.unstack(function(x), axis=-1))

  def coupling_of_splines(size, normal):
    function = net(normal, size // 2, size - size // 2, 23)
    return tfb.RealNVP(size // 2, bijector_fn=lambda x, *_: spline(function(x)))

  def autoregressive(size, normal):
    functions = [net(normal, size, 2) for _ in range(size)]

    def shift_and_log_scale(x):
      seen = [function(x * tf.cast(tf.range(size) < i, x.dtype)) for i, function in enumerate(functions)]
      return tf.unstack(tf.stack(seen, axis=-2), axis=-1)

    return tfb.MaskedAutoregressiveFlow(shift_and_log_scale)

  def ode(size, normal):
    function = net(normal, size, size)
    exact = tfb.ffjord.trace_jacobian_exact
    return tfb.FFJORD(lambda t, x: function(x), trace_augmentation_fn=exact, dtype=number(0).dtype)

  return {
    'RealNVP': coupling,
    'RealNVP, spline': coupling_of_splines,
    'MaskedAutoregressiveFlow': autoregressive,
    'Invert of MaskedAutoregressiveFlow': lambda *given: tfb.Invert(autoregressive(*given)),
    'FFJORD': ode,
    'RationalQuadraticSpline': lambda size, normal: spline(normal(size, 23)),
  }


def tfp() -> Iterator[tuple[str, Callable[[int], Built]]]:
  """Bijectors of TFP with random parameters."""
  import tensorflow as tf
  from tensorflow_probability import bijectors as tfb

  def two(layer, size, normal):
    """Two layers, each followed by the reversed order of columns."""
    return tfb.Chain([part for _ in range(2) for part in (layer(size, normal), tfb.Permute([*range(size)][::-1]))])

  def lower(size, normal):
    values = normal(size, size)
    return tf.eye(size, dtype=values.dtype) + tf.linalg.band_part(values, -1, 0) / size

  kinds: dict[str, Callable] = {
    **{name: functools.partial(two, layer) for name, layer in layers_of_tfp().items()},
    'ScaleMatvecTriL': lambda size, normal: tfb.ScaleMatvecTriL(lower(size, normal)),
    'ScaleMatvecLU': lambda size, normal: tfb.ScaleMatvecLU(lower(size, normal), [*range(size)][::-1]),
    'ScaleMatvecDiag': lambda size, normal: tfb.ScaleMatvecDiag(tf.exp(normal(size))),
    'Householder': lambda size, normal: tfb.Householder(normal(size)),
    'SinhArcsinh': lambda size, normal: tfb.SinhArcsinh(normal(size), tf.exp(normal(size))),
    'LambertWTail': lambda size, normal: tfb.LambertWTail(normal(size), tf.exp(normal(size)), 0.2 + normal(size) ** 2),
    'Softplus': lambda size, normal: tfb.Softplus(),
  }
  for name, make in kinds.items():
    yield name, functools.partial(of_tfp, make)
  bounded: dict[str, tuple[Callable, float, float]] = {
    'Softsign': (tfb.Softsign, -1.0, 1.0),
    'Tanh': (tfb.Tanh, -1.0, 1.0),
    'Sigmoid': (tfb.Sigmoid, 0.0, 1.0),
    'NormalCDF': (tfb.NormalCDF, 0.0, 1.0),
    'GumbelCDF': (lambda: tfb.GumbelCDF(number(0), number(1)), 0.0, 1.0),
    'SoftClip': (lambda: tfb.SoftClip(number(-2), number(2)), -2.0, 2.0),
  }
  for name, (kind, low, high) in bounded.items():
    make = functools.partial(lambda kind, size, normal: kind(), kind)
    yield name, functools.partial(of_tfp, make, interval=(low, high))


def prepare(library: str, dtype: str, seed: int) -> None:
  """Sets the dtype and the seed of a library."""
  SEED[:] = [seed]
  if library in ('flowjax', 'distrax'):
    import jax

    jax.config.update('jax_enable_x64', dtype == 'float64')
  elif library == 'tfp':
    import keras

    keras.config.set_floatx(dtype)
  else:
    import torch

    torch.set_num_threads(1)
    torch.set_default_dtype(getattr(torch, dtype))
    torch.manual_seed(seed)


SEED = [0]  # of the flow of JAX that is built
ALL = {f.__name__: f for f in (zuko, normflows, nflows, pyro, flowjax, distrax, tfp)}
NAMES = {'pyro': 'pyro-ppl', 'tfp': 'tensorflow-probability'}  # on PyPI


def too_long(*_: object) -> None:
  """Ends the check of a flow that takes too long."""
  raise TimeoutError(f'not done in {SECONDS.value} seconds')


@np.errstate(all='ignore')
def judged(build: Callable[[int], Built], size: int, dtype: str, state: str, seed: int) -> dict[str, Any]:
  """Returns what the check says of a flow, or the error of its library."""
  start = time.perf_counter()
  signal.signal(signal.SIGALRM, too_long)
  signal.alarm(SECONDS.value)
  try:
    built = build(size)
    if state == 'moons' and built.fit is None:
      return {'left_out': 'it has no parameters'}
    if state == 'moons':
      built.fit(moons(seed, dtype))
    findings = list(built.density.findings(None, seed))
  except Exception as error:  # Another library may raise anything, and the table says so.
    return {'error': f'{type(error).__name__}: {error}'[:300]}
  finally:
    signal.alarm(0)
  report = Report('flow', findings)
  integral = [finding.found for finding in findings if finding.check == 'integral of the density, less 1']
  return {
    'sound': report.sound,
    'integral': integral[0] + 1 if integral else None,
    'wrong': [[f.check, f.found, f.allowed, f.note] for f in report.wrong],
    'undecided': [[f.check, f.note] for f in findings if f.sound is None],
    'seconds': round(time.perf_counter() - start, 1),
  }


def main(_: list[str]) -> None:
  """Checks flows, and prints and keeps a row for each."""
  path = pathlib.Path(JSON.value)
  rows = json.loads(path.read_text()) if path.exists() else {}
  cases = [('new', 2), ('moons', 2), ('new', 8)]
  for (state, size), library in itertools.product(cases, LIBRARIES.value):
    if state not in STATES.value:
      continue
    for (name, build), dtype, seed in itertools.product(ALL[library](), ('float32', 'float64'), range(SEEDS.value)):
      key = f'{library} | {name} | {state} | {size} | {dtype} | {seed}'
      if key in rows or (FLOWS.value and name not in FLOWS.value):
        continue
      prepare(library, dtype, seed)
      rows[key] = judged(build, size, dtype, state, seed)
      rows[key]['version'] = importlib.metadata.version(NAMES.get(library, library))
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_text(json.dumps(rows, indent=1))
      row = rows[key]
      verdict = 'sound' if row.get('sound') else row.get('error') or row.get('left_out') or [w[0] for w in row['wrong']]
      print(f'{key}: {verdict} {row.get("integral") or ""} {row.get("seconds", "")}', flush=True)


if __name__ == '__main__':
  app.run(main)

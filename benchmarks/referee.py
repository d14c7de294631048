"""What `fg.check` finds and whom it accuses: densities that are broken on purpose, and right ones.

  python -m benchmarks.referee [--seeds=1]

Prints each broken density that was not found, each right one that was called wrong, and both shares. A density is given
by functions of NumPy arrays, in 1 to 100 dimensions. It takes 15 minutes on one core.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import scipy.special
import scipy.stats
from absl import app, flags

from flowgan_tf.checks.callables import Density
from flowgan_tf.checks.finding import Report

SEEDS = flags.DEFINE_integer('seeds', 1, 'Seeds of each density.', lower_bound=1)

DIMENSIONS = (1, 2, 5, 20)


def flow(size: int, seed: int, dtype: str = 'float64') -> Density:
  """Three affine maps with an arsinh between them, of normal noise."""
  rng = np.random.default_rng(seed)
  maps = [np.eye(size) + 0.3 * rng.normal(size=(size, size)) / np.sqrt(size) for _ in range(2)]
  inverses, shift = [np.linalg.inv(m) for m in maps], rng.normal(size=size)

  def parts(x):
    y = (np.asarray(x, np.float64) - shift) @ inverses[0].T
    z = np.arcsinh(y) @ inverses[1].T
    log_det = -0.5 * np.log1p(y**2).sum(axis=-1) + sum(np.linalg.slogdet(inverse)[1] for inverse in inverses)
    return z.astype(dtype), log_det.astype(dtype)

  def prior(z):
    return scipy.stats.norm.logpdf(z).sum(axis=-1).astype(dtype)

  def decode(z):
    return (np.sinh(np.asarray(z, np.float64) @ maps[1].T) @ maps[0].T + shift).astype(dtype)

  return Density(
    log_prob=lambda x: prior(parts(x)[0]) + parts(x)[1],
    sample=lambda n: decode(rng.normal(size=(n, size))),
    encode=lambda x: parts(x)[0],
    decode=decode,
    log_det=lambda x: parts(x)[1],
    prior=prior,
    shape=(size,),
  )


def only_samples(density: Density) -> Density:
  """The same without the noise: what a library without an inverse gives."""
  return Density(log_prob=density.log_prob, sample=density.sample, shape=density.shape, interval=density.interval)


def changed(density: Density, **functions: Callable) -> Density:
  """The same with functions of the functions that it has."""
  parts = {name: getattr(density, name) for name in ('log_prob', 'sample', 'encode', 'decode', 'log_det', 'prior')}
  for name, function in functions.items():
    parts[name] = functools.partial(function, parts[name])
  return Density(**parts, shape=density.shape, interval=density.interval)


def mistakes_of(right: Density) -> dict[str, dict[str, Callable]]:
  """Returns the functions of each mistake, which take the place of right ones."""
  both = {'log_prob': lambda f, x: f(x) - 2 * right.log_det(x), 'log_det': lambda f, x: -f(x)}
  return {
    'sign of the log-determinant': both,
    'a term of the log-determinant is missing': {
      'log_prob': lambda f, x: f(x) - 0.5,
      'log_det': lambda f, x: f(x) - 0.5,
    },
    'log-determinant one percent off': {'log_det': lambda f, x: 1.01 * f(x) + 0.01 * len(x.T)},
    'prior not normalised': {'log_prob': lambda f, x: f(x) + 0.2, 'prior': lambda f, z: f(z) + 0.2},
    'depends on the batch': {'log_prob': lambda f, x: f(x) + 0.05 * np.tanh(x[:, 0].mean())},
    'inverse wrong away from the middle': {
      'decode': lambda f, z: f(np.where(np.abs(z) > 2.2, np.sign(z) * 2.2, z)),
      'sample': lambda f, n: f(n),
    },
    'coarse inverse': {'encode': lambda f, x: np.round(f(x), 2)},
    'clipped samples': {'sample': lambda f, n: np.clip(f(n), -1.5, 1.5)},
    'temperature 0.8 in samples only': {
      'sample': lambda f, n: right.decode(0.8 * right.encode(f(n))),
    },
    'samples moved by 0.2 standard deviations': {'sample': lambda f, n: (x := f(n)) + 0.2 * x.std(axis=0)},
    'samples 1.1 times too wide': {
      'sample': lambda f, n: (x := f(n)) + 0.1 * (x - np.median(x, axis=0)),
    },
    'NaN in one of a hundred': {
      'log_prob': lambda f, x: np.where(right.encode(x)[:, 0] > 2.3, np.nan, f(x)),
    },
  }


def broken(seed: int) -> Iterator[tuple[str, Density]]:
  """Yields densities with one mistake each."""
  for size in DIMENSIONS:
    right = flow(size, seed)
    mistakes = mistakes_of(right)
    for name, functions in mistakes.items():
      yield f'{name}, {size} dimensions', changed(right, **functions)
    for name in (
      'clipped samples',
      'temperature 0.8 in samples only',
      'samples moved by 0.2 standard deviations',
      'samples 1.1 times too wide',
      'depends on the batch',
      'NaN in one of a hundred',
    ):
      yield f'{name}, {size} dimensions, no inverse', only_samples(changed(right, **mistakes[name]))
  for size in (1, 2, 3):
    yield (
      f'mixture whose weights have the sum 0.9, {size} dimensions',
      Density(
        log_prob=lambda x: mixture_log_prob(x, (0.5, 0.4)), sample=lambda n, d=size: mixture_sample(n, d), shape=(size,)
      ),
    )
    yield (
      f'mixture sampled with other weights, {size} dimensions',
      Density(
        log_prob=lambda x: mixture_log_prob(x, (0.7, 0.3)), sample=lambda n, d=size: mixture_sample(n, d), shape=(size,)
      ),
    )
    yield (
      f'cancellation in float32, {size} dimensions',
      changed(flow(size, seed, 'float32'), encode=lambda f, x: (f(x) + np.float32(1e5)) - np.float32(1e5)),
    )


def mixture_log_prob(x: np.ndarray, weights: tuple[float, float]) -> np.ndarray:
  """Two normals at -2 and 2."""
  parts = [scipy.stats.norm.logpdf(x, m).sum(axis=-1) for m in (-2, 2)]
  return scipy.special.logsumexp(np.stack(parts, -1) + np.log(weights), axis=-1)


def mixture_sample(n: int, size: int) -> np.ndarray:
  """Samples with equal weights."""
  return scipy.stats.norm.rvs(size=(n, size), random_state=n) + np.where(np.arange(n) % 2, 2, -2)[:, np.newaxis]


LAWS = {
  'normal': scipy.stats.norm,
  'logistic': scipy.stats.logistic,
  'laplace': scipy.stats.laplace,
  'cauchy': scipy.stats.cauchy,
  'gumbel': scipy.stats.gumbel_r,
  'student 2': scipy.stats.t(2),
  'student 5': scipy.stats.t(5),
  'skewed normal': scipy.stats.skewnorm(4),
  'hyperbolic secant': scipy.stats.hypsecant,
  'generalised normal 0.5': scipy.stats.gennorm(0.5),
  'generalised normal 8': scipy.stats.gennorm(8),
  'johnson': scipy.stats.johnsonsu(1, 0.7),
  'exponential': scipy.stats.expon,
  'gamma 0.5': scipy.stats.gamma(0.5),
  'gamma 3': scipy.stats.gamma(3),
  'log-normal': scipy.stats.lognorm(1.0),
  'pareto': scipy.stats.pareto(3),
  'uniform': scipy.stats.uniform,
  'beta 0.5': scipy.stats.beta(0.5, 0.5),
  'beta 2, 5': scipy.stats.beta(2, 5),
  'triangular': scipy.stats.triang(0.3),
  'normal at 1e6': scipy.stats.norm(1e6, 0.1),
}


def right(seed: int) -> Iterator[tuple[str, Density]]:
  """Yields densities without a mistake."""
  for (name, law), size, dtype in itertools.product(LAWS.items(), (1, 2, 10, 100), ('float64', 'float32')):
    rng = np.random.default_rng(seed)

    def log_prob(x, law=law, dtype=dtype):
      return law.logpdf(x).sum(axis=-1).astype(dtype)

    def sample(n, law=law, size=size, dtype=dtype, rng=rng):
      return law.rvs(size=(n, size), random_state=rng).astype(dtype)

    interval = law.support() if np.isfinite(law.support()).all() else None
    density = Density(log_prob=log_prob, sample=sample, shape=(size,), interval=interval)
    yield f'{name}, {size} dimensions, {dtype}', density
  for size, dtype in itertools.product((1, 2, 3, 5, 10, 50), ('float64', 'float32')):
    yield f'flow, {size} dimensions, {dtype}', flow(size, seed, dtype)
    yield f'flow, {size} dimensions, {dtype}, no inverse', only_samples(flow(size, seed + 1, dtype))


@np.errstate(all='ignore')
def judged(density: Density, seed: int) -> Report:
  """Returns the report about a density."""
  return Report('density', list(density.findings(None, seed)))


def main(_: list[str]) -> None:
  """Counts what was found and who was accused."""
  for kind, densities, expected in (('broken', broken, False), ('right', right, True)):
    count, mistaken, undecided = 0, 0, 0
    for seed in range(SEEDS.value):
      for name, density in densities(seed):
        report = judged(density, seed)
        count += 1
        undecided += expected and any('judge' in finding.note for finding in report.findings)
        if report.sound != expected:
          mistaken += 1
          print(f'{kind}: {name}, seed {seed}: {", ".join(f.check for f in report.wrong) or "not found"}', flush=True)
    said = f'{count - mistaken} of {count} found' if not expected else f'{mistaken} of {count} accused'
    print(f'{kind}: {said}' + f'; of {undecided} at least one check could not judge' * expected, flush=True)


if __name__ == '__main__':
  app.run(main)

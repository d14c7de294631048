"""Densities of any library, as functions of NumPy arrays: right ones pass, and what is wrong is named."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats

import flowgan_tf as fg
from flowgan_tf.base.errors import UsageError
from flowgan_tf.checks.callables import Density
from flowgan_tf.checks.finding import Report

SCALES = np.array([[1.5, 0.0], [0.7, 0.6]])


def affine(size=2, dtype='float64', **changed):
  """A normal distribution of two numbers, as a flow."""
  matrix = SCALES if size == 2 else np.eye(size) + 0.1 * np.tri(size, k=-1)
  inverse = np.linalg.inv(matrix)
  rng = np.random.default_rng(0)

  def encode(x):
    return (x @ inverse.T - 1).astype(dtype)

  def log_det(x):
    return np.full(len(x), np.linalg.slogdet(inverse)[1], dtype)

  def prior(z):
    return scipy.stats.norm.logpdf(z).sum(axis=-1).astype(dtype)

  def decode(z):
    return ((z + 1) @ matrix.T).astype(dtype)

  parts = {
    'log_prob': lambda x: prior(encode(x)) + log_det(x),
    'sample': lambda n: decode(rng.normal(size=(n, size))),
    'encode': encode,
    'decode': decode,
    'log_det': log_det,
    'prior': prior,
    'shape': (size,),
  }
  return Density(**parts | changed)


@np.errstate(invalid='ignore')  # as `fg.check` does
def wrong(density, values=None):
  return {finding.check for finding in density.findings(values, 0) if finding.sound is False}


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
@pytest.mark.parametrize('size', [1, 2, 3, 20])
def test_a_right_one_passes(size, dtype):
  report = Report('affine', list(affine(size, dtype).findings(None, 0)))
  assert report.sound, report
  judged = {finding.check for finding in report.findings if finding.sound}
  assert {'image, noise, image', 'log-determinant, differences', 'samples, stretched'} <= judged
  assert ('integral of the density, less 1' in judged) == (size <= 3)


BROKEN = {
  'integral of the density, less 1': {'log_prob': lambda x: affine().log_prob(x) + 0.03},
  'log-determinant, differences': {'log_det': lambda x: -affine().log_det(x)},
  'log_prob, prior and log_det': {'log_det': lambda x: 1.02 * affine().log_det(x)},
  'image, noise, image': {'decode': lambda z: affine().decode(z) + 0.01},
  'log_prob alone and in a batch': {'log_prob': lambda x: affine().log_prob(x) + 0.01 * x.mean()},
  'samples, shifted': {'sample': lambda n: affine().sample(n) + 0.3},
  'samples in cells, integral': {'sample': lambda n: np.clip(affine().sample(n), -1, 1)},
  'shape of log_prob': {'log_prob': lambda x: affine().log_prob(x)[:, np.newaxis]},
  'samples without a finite density': {
    'log_prob': lambda x: np.where(x[:, 0] > 2.0, -np.inf, affine().log_prob(x)),
  },
}


@pytest.mark.parametrize('check', BROKEN)
def test_what_is_wrong_is_named(check):
  assert check in wrong(affine(**BROKEN[check]))


def test_what_cannot_be_checked_is_named():
  density = affine(encode=None, decode=None, log_det=None, prior=None)
  *_, last = density.findings(None, 0)
  assert last.check == 'checks that are left out' and 'encode, decode, log_det, prior' in last.note
  assert wrong(density) == set()


@pytest.mark.parametrize('missing', ['encode', 'decode'])
def test_one_direction_alone_is_checked_as_far_as_it_goes(missing):
  findings = list(affine(**{missing: None}).findings(None, 0))
  assert not any(finding.sound is False for finding in findings)
  names = {finding.check for finding in findings}
  assert not names & {'image, noise, image', 'samples that do not come back'}
  assert ('log-determinant, differences' in names) == (missing == 'decode')


def test_clipped_samples_are_named_as_such():
  found = affine(sample=lambda n: np.clip(affine().sample(n), -1, 1)).findings(None, 0)
  [note] = [finding.note for finding in found if finding.check == 'samples in cells, integral']
  assert 'pile up at -1 or 1' in note


def test_a_density_without_samples_is_checked_at_values():
  values = affine().sample(5)
  assert wrong(affine(sample=None), values) == set()
  assert 'log-determinant, differences' in wrong(affine(sample=None, log_det=lambda x: 2 * affine().log_det(x)), values)


def test_the_functions_are_arguments_of_check():
  functions = {name: getattr(affine(), name) for name in ('log_prob', 'sample', 'encode', 'decode', 'shape')}
  report = fg.check(**functions)
  assert report.sound and str(report).startswith('check') and 'The density: no mistake found by' in str(report)
  assert fg.check(affine()).sound
  with pytest.raises(TypeError, match='shape'):
    fg.check(log_prob=functions['log_prob'])
  with pytest.raises(UsageError, match=r'^`flow` must be left out'):
    fg.check('flow', **functions)
  with pytest.raises(UsageError, match=r'^`sample` must return 8 samples of shape \(3,\)'):
    fg.check(log_prob=functions['log_prob'], sample=functions['sample'], shape=(3,))
  for images in (np.zeros((4, 3)), np.zeros((4, 2), np.int64), np.zeros((0, 2))):
    with pytest.raises(UsageError, match=r'^`images` must be floats of shape \[n, \(2,\)\]'):
      fg.check(images=images, **functions)
  for wrong in ({'shape': 2}, {'interval': (1, 0)}, {'levels': 256}):
    with pytest.raises(UsageError, match=f'^`{next(iter(wrong))}` must be'):
      fg.check(**functions | wrong)


def test_it_needs_no_tensorflow_and_no_other_room():
  code = """
import sys
import numpy as np
import flowgan_tf as fg
rng = np.random.default_rng(0)
prior = lambda z: -0.5 * np.sum(z**2 + np.log(2 * np.pi), axis=-1)
functions = {'log_prob': lambda x: prior(x / 2) - 2 * np.log(2), 'sample': lambda n: 2 * rng.normal(size=(n, 2))}
functions |= {'encode': lambda x: x / 2, 'decode': lambda z: 2 * z}
functions |= {'log_det': lambda x: np.full(len(x), -2 * np.log(2))}
report = fg.check(**functions, prior=prior, shape=(2,))
assert report.sound, report
rooms = {name.split('.')[1] for name in sys.modules if name.startswith('flowgan_tf.')}
assert rooms == {'base', 'checks', 'display', 'version'}, rooms
assert not {'tensorflow', 'keras', 'matplotlib', 'PIL'} & {*sys.modules}
"""
  subprocess.run([sys.executable, '-c', code], check=True, cwd=pathlib.Path(fg.__file__).parent.parent)


@np.errstate(invalid='ignore')
def test_differences_that_agree_by_chance_accuse_nobody():
  """The identity in float32, with 1e-5 of rounding: of the steps of differences, some two agree by chance."""
  noisy = affine(4, 'float32', encode=lambda x: (x + np.float32(100)) - np.float32(100), log_det=lambda x: 0 * x[:, 0])
  rng = np.random.default_rng(1)
  values = rng.normal(size=(200, 8, 4)).astype(np.float32)
  findings = [noisy._jacobian(each, np.zeros(8)) for each in values]
  assert not [finding for finding in findings if finding.sound is False]
  assert sum(finding.sound is True for finding in findings) > 100


def test_samples_that_are_not_finite_are_named():
  infinite = affine(sample=lambda n: np.where(np.arange(n)[:, np.newaxis] % 9, affine().sample(n), np.inf))
  assert wrong(infinite, affine().sample(4)) == {'samples without a finite density'}

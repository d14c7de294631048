"""The lossless codec of examples/lossless: every image comes back, and takes as many bits as its likelihood says."""

import importlib
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

import flowgan_tf as fg
from flowgan_tf.base.errors import UsageError
from tests.tiny import make_config

pytest.importorskip('constriction', reason='examples/lossless needs `pip install constriction`')

FOLDER = pathlib.Path(__file__).resolve().parent.parent / 'examples' / 'lossless'
SHAPE, LEVELS = (4, 4, 1), 17


@pytest.fixture
def codec(monkeypatch):
  monkeypatch.syspath_prepend(FOLDER)
  return importlib.import_module('codec')


def random_words(n):
  return np.random.default_rng(1).integers(1, 2**32, n, np.uint32)


def smooth_images(n):
  """Images whose columns become brighter from left to right, with noise."""
  grey = np.linspace(1, 14, 4)[:, np.newaxis] + np.random.default_rng(0).normal(0, 1, (n, *SHAPE))
  return np.clip(grey, 0, LEVELS - 1).astype(np.uint8)


def shaken(flow, images):
  """Gives a flow the histograms of images, and random weights."""
  if any(isinstance(part, fg.bijectors.HistogramLogit) for part in flow.submodules):
    fg.flows.fit_histograms(flow, fg.data.dequantize(images, LEVELS, seed=2))
  rng = np.random.default_rng(0)
  for variable in flow.trainable_variables:
    variable.assign_add(rng.normal(0, 0.2, variable.shape))
  return flow


FLOWS = {
  'additive couplings': lambda: fg.flows.nice(SHAPE, couplings=3, hidden_units=8, hidden_layers=1),
  'affine couplings, components and classes': lambda: fg.flows.jet(
    SHAPE, couplings=3, width=4, hidden_units=8, components=6, classes=3
  ),
  'components of the prior have classes': lambda: fg.flows.nice(
    SHAPE, coupling='affine', hidden_units=8, hidden_layers=1, components=6, classes=3, condition_networks=False
  ),
  'histograms with networks': lambda: fg.flows.jet(
    SHAPE,
    couplings=2,
    width=4,
    hidden_units=8,
    histogram_bins=LEVELS,
    histogram_networks=4,
    histogram_channels=4,
    histogram_blocks=1,
  ),
}


@pytest.mark.parametrize(
  'kind',
  [
    'additive couplings',
    pytest.param('affine couplings, components and classes', marks=pytest.mark.slow),
    'components of the prior have classes',
    pytest.param('histograms with networks', marks=pytest.mark.slow),
  ],
)
def test_images_come_back_and_take_the_bits_that_the_likelihood_promises(codec, kind, monkeypatch):
  images = smooth_images(200)
  flow = shaken(FLOWS[kind](), images)
  labels = None if flow.classes is None else np.arange(len(images)) % flow.classes
  batches, push = [], codec.Codec._push
  monkeypatch.setattr(
    codec.Codec, '_push', lambda self, stack, *batch: [batches.append(batch), push(self, stack, *batch)]
  )
  compressor = codec.Codec(flow, LEVELS)
  words = compressor.compress(images, labels)
  decoded, their_labels = codec.Codec(flow, LEVELS).decompress(words)
  np.testing.assert_array_equal(decoded, images)
  promised = 16 * np.log2(LEVELS) + np.zeros(len(images))
  if labels is not None:
    np.testing.assert_array_equal(their_labels, labels)
    promised += np.log2(flow.classes)
  noisy = np.stack([fg.data.dequantize(images, LEVELS, seed) for seed in range(4)])
  promised = promised - flow.log_prob(noisy, condition=labels).numpy() / np.log(2)
  # The size of each batch takes bits, too. And the noise of the codec is another one.
  net = (32 * (len(words) - len(compressor.start)) - (len(batches) + 1) * np.log2(codec._TOGETHER + 1)) / len(images)
  assert net == pytest.approx(promised.mean(), abs=4 * stats.sem(promised[0]))


def test_a_stack_holds_as_many_bits_as_the_integers_are_improbable(codec):
  stack, mean = codec.Stack(random_words(10)), np.array([[0.0, 3.0, -300.0]])
  values = np.rint((stats.logistic.rvs(size=(2000, 3), random_state=0) + mean) / codec.GRID).astype(np.int64)
  values[:2] = (mean + np.array([[9.0], [-12.0]])) / codec.GRID
  low, high, before = np.full_like(values, -(2**29)), np.full_like(values, 2**29), stack.bits
  stack.push_logistic(values, low, high, mean)
  expected = -np.sum(stats.logistic.logpdf(values * codec.GRID, mean) + np.log(codec.GRID)) / np.log(2)
  assert stack.bits - before == pytest.approx(expected, rel=1e-3)
  np.testing.assert_array_equal(stack.pop_logistic(low, high, mean), values)
  np.testing.assert_array_equal(stack.words, random_words(10))


def test_random_bits_become_logistic_numbers_of_an_interval(codec):
  stack, ends = codec.Stack(random_words(20_000)), np.array([-3.0, 0.5])
  low, high = (np.full(10_000, int(end / codec.GRID)) for end in ends)
  numbers = stack.pop_logistic(low, high, 0.0)
  below, above = stats.logistic.cdf(ends)
  shares = (stats.logistic.cdf(numbers * codec.GRID) - below) / (above - below)
  assert stats.kstest(shares, 'uniform').pvalue > 1e-3
  stack.push_logistic(numbers, low, high, 0.0)
  np.testing.assert_array_equal(stack.words, random_words(20_000))


def test_products_undo_themselves_and_add_the_log_determinant(codec):
  rng, stack = np.random.default_rng(0), codec.Stack(random_words(50_000))
  values, log_scale = rng.integers(-(2**24), 2**24, (100, 300)), rng.normal(0.5, 2, (100, 300))
  log_scale[0, :4] = 0.0, 10.0, -10.0, 1e-9
  before = stack.bits
  scaled = codec._scale(stack, values, log_scale)
  np.testing.assert_allclose(scaled, values * np.exp(log_scale), rtol=1e-3, atol=2)
  assert stack.bits - before == pytest.approx(-np.sum(log_scale) / np.log(2), rel=0.01)
  np.testing.assert_array_equal(codec._scale(stack, scaled, -log_scale), values)
  np.testing.assert_array_equal(stack.words, random_words(50_000))


def test_what_cannot_be_coded_is_rejected(codec):
  small = {'couplings': 2, 'hidden_units': 4, 'hidden_layers': 1}
  with pytest.raises(
    UsageError, match=r"^`flow` must be a NICE or Jet with additive or affine couplings.* Got: 'nice'"
  ):
    codec.Codec(fg.flows.nice(SHAPE, coupling='spline', **small), LEVELS)
  with pytest.raises(UsageError, match=r'^`flow` must be a NICE or Jet'):
    codec.Codec(fg.flows.real_nvp(SHAPE, channels=4, blocks=1), LEVELS)
  with pytest.raises(UsageError, match=r"^`prior` must be logistic, of mean 0 and scale 1. Got: '"):
    codec.Codec(fg.flows.nice(SHAPE, prior='normal', **small), LEVELS)
  with pytest.raises(UsageError, match=r'^`levels` must be 17, as the histograms'):
    codec.Codec(fg.flows.nice(SHAPE, histogram_bins=17, **small), 256)
  with pytest.raises(UsageError, match=r"^`flow` must be a NICE or Jet.* Got: 'dcgan"):
    codec.Codec(fg.flows.dcgan((8, 8, 1), channels=(4,)), LEVELS)
  compressor, images = codec.Codec(fg.flows.nice(SHAPE, **small), LEVELS), smooth_images(5)
  for wrong in (images[:0], images / 16, images + 9, images[:, :2], images[..., 0]):
    with pytest.raises(UsageError, match=r'^`images` must be integers from 0 to '):
      compressor.compress(wrong)
  with pytest.raises(UsageError, match=r'^`labels` must be None, as the flow has no classes. Got: .5 from 0 to 4'):
    compressor.compress(images, np.arange(5))
  of_labels = codec.Codec(fg.flows.nice(SHAPE, classes=3, **small), LEVELS)
  for labels in (None, np.arange(5), np.zeros(4, int)):
    with pytest.raises(UsageError, match=r'^`labels` must be 5 ints from 0 to 2. Got: '):
      of_labels.compress(images, labels)


def test_other_words_are_rejected_in_the_end(codec):
  """Also those that an unlimited decoder would turn into images for ever, such as many random ones."""
  compressor = codec.Codec(fg.flows.nice(SHAPE, couplings=2, hidden_units=4, hidden_layers=1), LEVELS)
  good, nothing = compressor.compress(smooth_images(5)), codec.Stack(compressor.start)
  nothing.push(0, codec._TOGETHER + 1)  # What remains is right, but there is no image.
  others = [nothing.words, good.astype(float), good[np.newaxis], good.tobytes(), good[:-1], good[1:]]
  others += [np.full(n, word, np.uint32) for n in (0, 1, 100) for word in (0, 1, 2**32 - 1)]
  others += [np.random.default_rng(seed).integers(1, 2**32, 20, np.uint32) for seed in range(10)]
  for place in range(0, len(good), 3):
    flipped = good.copy()
    flipped[place] ^= 1 << place % 32
    others.append(flipped)
  for words in others:
    with pytest.raises(UsageError, match=r'^`words` must be made by this flow on this machine'):
      compressor.decompress(words)


@pytest.mark.slow
def test_the_program_codes_in_one_process_and_decodes_in_another(tmp_path):
  fg.training.train(make_config({'dataset': 'digits', 'condition': 'label'}), tmp_path / 'run')
  test = fg.data.load('digits').test

  def program(*arguments):
    command = [sys.executable, FOLDER / 'lossless.py', '--images=30', *arguments]
    environment = {**os.environ, 'PYTHONPATH': str(FOLDER.parent.parent)}
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)

  assert program('encode', 'run', 'images.bin').returncode == 0
  assert program('decode', 'run', 'images.bin', 'decoded.npz').returncode == 0
  with np.load(tmp_path / 'decoded.npz') as decoded:
    np.testing.assert_array_equal(decoded['images'], test.images[:30])
    np.testing.assert_array_equal(decoded['labels'], test.labels[:30])
  header, _, *rows = program('table', 'run').stdout.splitlines()
  assert header.split()[-1] == 'wrong'
  assert [re.split(' {2,}', row)[-1] for row in rows] == ['0'] * 4
  (tmp_path / 'images.bin').write_bytes(b'12345')
  rejected = program('decode', 'run', 'images.bin', 'decoded.npz')
  assert rejected.returncode == 2
  assert rejected.stderr.endswith('images.bin: is not a file of `lossless.py encode`\n')

"""One flipped bit in a file of a run: rejected, announced, repaired, or the same is read. Never other results.

The readers are those of the programs. Which bit it is, a trial's number decides.
"""

import logging

import numpy as np
import pytest

from flowgan_tf import data
from flowgan_tf.base.cache import cached
from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.files import read_record, write_record
from flowgan_tf.evaluation.results import read_evaluation
from flowgan_tf.runs.checkpoints import Checkpoints, restore_generator
from flowgan_tf.runs.config import settings, used
from flowgan_tf.runs.folder import open_workdir, read_description
from flowgan_tf.runs.run import make_generator
from tests.tiny import IMAGE_SHAPE, make_config, make_state, write_images

EVALUATION = {'checkpoint': 'latest', 'split': 'test', 'step': 4, 'nll': -1.25, 'n': 40, 'fid': 3.5, 'scorer': 'c'}
ANALYSIS = {
  'what': 'jacobian',
  'checkpoint': 'latest',
  'step': 4,
  'settings': {'seed': 0},
  'seconds': 1.5,
  'condition': 2.5,
}
START = {
  'run': '/runs/first',
  'checkpoint': 'best_nll',
  'step': 4,
  'data': 'abc',
  'config': {'dataset': 'digits', 'nll': -0.5},
}
ARRAYS = {'mean': np.linspace(0, 1, 5), 'covariance': np.eye(5, dtype=np.float32), 'n': 40, 'hash': 'abc'}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """The files that a training, an evaluation and an analysis leave."""
  folder = tmp_path_factory.mktemp('flips')
  config = make_config(objective='mle', dataset=write_images(folder / 'images.npz'))
  workdir = open_workdir(folder / 'run', config, data.load(config.dataset), START)
  state = make_state(config)
  rng = np.random.default_rng(0)
  for variable in state.ema.variables:
    variable.assign(rng.normal(size=variable.shape))
  state.step.assign(4)
  Checkpoints(workdir, state.checkpoint()).save('best_nll')
  records = [EVALUATION | {'checkpoint': name, 'scorer_hash': 'abc'} for name in ('latest', 'best_nll')]
  write_record(workdir / 'evaluation.json', {'records': records})
  write_record(workdir / 'analysis' / 'jacobian.json', ANALYSIS, {'values': rng.normal(size=(3, 4))})
  cached(workdir / 'cache', 'reference', lambda: ARRAYS)
  return workdir, make_generator(config, IMAGE_SHAPE)


def description(workdir, _):
  config, *rest = read_description(workdir)
  return settings(used(config)), *rest


def generator(workdir, flow):
  for variable in flow.variables:
    variable.assign(np.zeros(variable.shape))
  step = restore_generator(workdir, 'best_nll', flow)
  return step, [variable.numpy() for variable in flow.variables]


def analysis(workdir, _):
  return read_record(workdir / 'analysis' / 'jacobian.json')


# The file and its reader.
CASES = {
  'config.json': ('config.json', description),
  'evaluation.json': ('evaluation.json', lambda workdir, _: read_evaluation(workdir)),
  "an analysis's numbers": ('analysis/jacobian.json', analysis),
  "an analysis's arrays": ('analysis/jacobian-*.npz', analysis),
  'a file of the cache': (
    'cache/reference.npz',
    lambda workdir, _: cached(workdir / 'cache', 'reference', lambda: ARRAYS | {'n': 0}),
  ),
  "a checkpoint's index": ('checkpoints/best_nll/ckpt-4.index', generator),
  "a checkpoint's data": ('checkpoints/best_nll/ckpt-4.data-*', generator),
}


@pytest.mark.parametrize('name', CASES)
def test_a_flipped_bit_gives_no_other_results(run, name, faults, caplog):
  workdir, flow = run
  caplog.set_level(logging.WARNING, 'flowgan_tf')
  pattern, read = CASES[name]
  [path] = workdir.glob(pattern)
  content, expected = path.read_bytes(), read(workdir, flow)
  bits = np.random.default_rng(len(name)).permutation(8 * len(content))
  seen = 0
  try:
    for trial in faults.trials(f'a flipped bit in {name}', long=1500, short=12):
      bit = int(bits[trial % len(bits)])
      changed = bytearray(content)
      changed[bit // 8] ^= 1 << bit % 8
      path.write_bytes(changed)
      caplog.clear()
      try:
        found = read(workdir, flow)
      except UsageError as error:
        assert '\n' not in str(error) and str(workdir) in str(error)
        seen += 1
        continue
      if caplog.messages:
        [message] = caplog.messages
        assert '\n' not in message and str(path) in message
        seen += 1
      else:
        np.testing.assert_equal(found, expected, f'bit {bit}')
  finally:
    path.write_bytes(content)
  # A bit may be flipped where nothing is read; but most are noticed.
  assert seen > trial / 2

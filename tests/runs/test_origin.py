import shutil

import numpy as np
import pytest

from flowgan_tf.errors import UsageError
from flowgan_tf.runs.checkpoints import Checkpoints, restore_generator
from flowgan_tf.runs.description import write_description
from flowgan_tf.runs.run import make_generator
from flowgan_tf.runs.workdir import open_workdir
from tests.tiny import IMAGE_SHAPE, make_config, make_state

FACTS = {'name': 'digits', 'image_shape': list(IMAGE_SHAPE), 'levels': 256, 'fingerprint': 'abc'}


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """Runs that differ in one thing, each with the checkpoints `latest` and `best_nll` of the step 12."""
  folder = tmp_path_factory.mktemp('runs')
  cases = {
    'first': ({}, 'abc'),
    'resumed': ({'steps': 99, 'log_every': 7, 'data_dir': 'elsewhere'}, 'abc'),
    'seed': ({'seed': 1}, 'abc'),
    'rate': ({'optimizer.learning_rate': 0.5}, 'abc'),
    'data': ({}, 'def'),
  }
  for name, (settings, fingerprint) in cases.items():
    config = make_config(settings, objective='mle')
    (folder / name).mkdir()
    write_description(folder / name, config, FACTS | {'fingerprint': fingerprint})
    state = make_state(config)
    state.step.assign(12)
    for checkpoint in ('latest', 'best_nll'):
      Checkpoints(folder / name, state.checkpoint()).save(checkpoint)
  return folder


@pytest.mark.parametrize(
  ('other', 'difference'),
  [
    ('seed', 'seed 1 and not 0'),
    ('rate', 'optimizer.learning_rate 0.5 and not 0.0002'),
    ('data', 'data def and not abc'),
  ],
)
def test_a_checkpoint_of_another_run_is_refused(runs, tmp_path, other, difference):
  workdir = shutil.copytree(runs / 'first', tmp_path / 'run')
  shutil.rmtree(workdir / 'checkpoints')
  shutil.copytree(runs / other / 'checkpoints', workdir / 'checkpoints')
  config = make_config(objective='mle')
  state, flow = make_state(config), make_generator(config, IMAGE_SHAPE)
  before = [v.numpy() for v in (*state.generator.variables, *flow.variables)]
  for name, restore in (
    ('latest', Checkpoints(workdir, state.checkpoint()).restore),
    ('best_nll', lambda: restore_generator(workdir, 'best_nll', flow)),
  ):
    with pytest.raises(UsageError) as caught:
      restore()
    path = workdir / 'checkpoints' / name / 'ckpt-12'
    assert str(caught.value) == f'{path}: is a checkpoint of another run ({difference}); put back that of this run'
  for variable, value in zip((*state.generator.variables, *flow.variables), before, strict=True):
    np.testing.assert_array_equal(variable.numpy(), value)


def test_that_of_the_same_run_or_of_an_older_version_is_restored(runs, tmp_path):
  config = make_config(objective='mle')
  state = make_state(config)
  for name in ('resumed', 'seed'):
    workdir = shutil.copytree(runs / 'first', tmp_path / name)
    shutil.rmtree(workdir / 'checkpoints')
    shutil.copytree(runs / name / 'checkpoints', workdir / 'checkpoints')
    if name == 'seed':
      (workdir / 'checkpoints' / 'latest' / 'ckpt-12.run.json').unlink()
    state.step.assign(0)
    assert Checkpoints(workdir, state.checkpoint()).restore()
    assert int(state.step) == 12


def test_damage_is_named(runs, tmp_path):
  workdir = shutil.copytree(runs / 'first', tmp_path / 'run')
  file = workdir / 'checkpoints' / 'best_nll' / 'ckpt-12.run.json'
  for content in (b'', b'[]', b'{}', file.read_bytes().replace(b'"seed": 0', b'"seed": 1')):
    file.write_bytes(content)
    with pytest.raises(UsageError, match=rf'^{file}: damaged \(.*remove ckpt-12\.\* to skip this checkpoint$'):
      restore_generator(workdir, 'best_nll', make_generator(make_config(), IMAGE_SHAPE))


def test_it_goes_with_its_checkpoint(run, config, dataset):
  workdir, state = run
  open_workdir(workdir, config, dataset)
  for step in (7, 8):
    state.step.assign(step)
    Checkpoints(workdir, state.checkpoint()).save('latest')
  state.step.assign(6)
  names = sorted(file.name for file in (workdir / 'checkpoints' / 'latest').iterdir())
  endings = ('data-00000-of-00001', 'index', 'run.json')
  assert names == [f'ckpt-{step}.{ending}' for step in (7, 8) for ending in endings]

import pathlib
import shutil

import numpy as np
import pytest

from flowgan_tf.errors import UsageError
from flowgan_tf.runs.checkpoints import CHECKPOINTS, Checkpoints, available, restore_generator
from flowgan_tf.runs.config import make_generator
from tests.tiny import IMAGE_SHAPE, make_config, make_state

CONFIG = make_config(objective='hybrid')


def fill(state, value):
  for variable in (*state.generator.variables, *state.ema.variables, *state.critic.variables):
    variable.assign(np.full(variable.shape, value, np.float32))
  state.step.assign(int(value))


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """A run with `latest` at the steps 3 and 5 and `best_nll` at step 3; weights are the number of the step."""
  folder = tmp_path_factory.mktemp('saved')
  state = make_state(CONFIG)
  checkpoints = Checkpoints(folder, state.checkpoint())
  for step, names in ((2, ['latest']), (3, ['latest', 'best_nll']), (5, ['latest'])):
    fill(state, step)
    for name in names:
      checkpoints.save(name)
  return folder


@pytest.fixture
def workdir(saved, tmp_path):
  return pathlib.Path(shutil.copytree(saved, tmp_path / 'run'))


@pytest.fixture(scope='module')
def state():
  return make_state(CONFIG)


@pytest.fixture(scope='module')
def flow():
  return make_generator(CONFIG, IMAGE_SHAPE)


def assert_all(variables, value):
  for variable in variables:
    np.testing.assert_array_equal(variable.numpy(), np.full(variable.shape, value))


def test_nothing_to_restore(tmp_path, state, flow):
  assert not Checkpoints(tmp_path, state.checkpoint()).restore()
  assert available(tmp_path) == []
  with pytest.raises(UsageError, match=r"no checkpoint 'latest' in this run; it has: none"):
    restore_generator(tmp_path, 'latest', flow)


def test_latest_is_the_newest_and_one_older_is_kept(workdir, state):
  assert sorted(f.name for f in (workdir / 'checkpoints' / 'latest').glob('*.index')) == [
    'ckpt-3.index',
    'ckpt-5.index',
  ]
  assert Checkpoints(workdir, state.checkpoint()).restore()
  assert int(state.step) == 5
  assert_all([*state.generator.variables, *state.ema.variables, *state.critic.variables], 5)


def test_the_averaged_generator_alone(workdir, flow):
  assert available(workdir) == ['latest', 'best_nll']
  for name, step in (('latest', 5), ('best_nll', 3)):
    assert restore_generator(workdir, name, flow) == step
    assert_all(flow.variables, step)
  with pytest.raises(UsageError, match=r"no checkpoint 'best_score' in this run; it has: latest, best_nll"):
    restore_generator(workdir, 'best_score', flow)


def test_the_average_is_restored_and_not_the_flow(tmp_path, flow):
  state = make_state(CONFIG)
  fill(state, 1)
  for variable in state.ema.variables:
    variable.assign(np.full(variable.shape, 7, np.float32))
  for name in CHECKPOINTS:
    Checkpoints(tmp_path, state.checkpoint()).save(name)
    restore_generator(tmp_path, name, flow)
    assert_all(flow.variables, 7)


@pytest.mark.parametrize('content', [b'', b'garbage \xff', b'model_checkpoint_path: "elsewhere"'])
def test_an_index_file_as_tensorflow_keeps_one_does_not_matter(workdir, state, flow, content):
  for name in ('latest', 'best_nll'):
    assert not (workdir / 'checkpoints' / name / 'checkpoint').exists()
    (workdir / 'checkpoints' / name / 'checkpoint').write_bytes(content)
  state.step.assign(0)
  checkpoints = Checkpoints(workdir, state.checkpoint())
  assert checkpoints.restore()
  assert int(state.step) == 5
  assert restore_generator(workdir, 'best_nll', flow) == 3
  fill(state, 6)
  checkpoints.save('latest')
  assert restore_generator(workdir, 'latest', flow) == 6


def test_steps_are_ordered_as_numbers(tmp_path, state, flow):
  checkpoints = Checkpoints(tmp_path, state.checkpoint())
  for step in (8, 9, 10, 11):
    fill(state, step)
    checkpoints.save('latest')
    checkpoints.save('best_nll')
    assert restore_generator(tmp_path, 'latest', flow) == step
  names = {n: sorted(f.name for f in (tmp_path / 'checkpoints' / n).glob('*.index')) for n in ('latest', 'best_nll')}
  assert names == {'latest': ['ckpt-10.index', 'ckpt-11.index'], 'best_nll': ['ckpt-11.index']}


def _cut(path):
  path.write_bytes(path.read_bytes()[:-100])


def _flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


DAMAGE = {
  'cut short': _cut,
  'empty': lambda path: path.write_bytes(b''),
  'flipped bit': _flip,
  'missing': pathlib.Path.unlink,
  'something else': lambda path: path.write_text('something else'),
}


@pytest.mark.parametrize('ending', ['index', 'data-00000-of-00001'])
@pytest.mark.parametrize('kind', DAMAGE)
def test_damage_is_one_line_that_names_the_checkpoint(workdir, state, flow, kind, ending):
  for name, file in (('latest', 'ckpt-5'), ('best_nll', 'ckpt-3')):
    DAMAGE[kind](workdir / 'checkpoints' / name / f'{file}.{ending}')
  for file, restore in (
    ('latest/ckpt-5', lambda: Checkpoints(workdir, state.checkpoint()).restore()),
    ('latest/ckpt-5', lambda: restore_generator(workdir, 'latest', flow)),
    ('best_nll/ckpt-3', lambda: restore_generator(workdir, 'best_nll', flow)),
  ):
    with pytest.raises(UsageError) as caught:
      restore()
    message = str(caught.value)
    assert message.startswith(f'{workdir}/checkpoints/{file}: the checkpoint is damaged (')
    assert '\n' not in message
    assert '{{' not in message


def test_without_the_damaged_one_the_older_is_used(workdir, state):
  for file in (workdir / 'checkpoints' / 'latest').glob('ckpt-5.*'):
    file.unlink()
  assert Checkpoints(workdir, state.checkpoint()).restore()
  assert int(state.step) == 3


def test_another_architecture_does_not_pass_for_this_one(workdir):
  with pytest.raises(UsageError, match='damaged'):
    restore_generator(workdir, 'latest', make_generator(make_config({'nice.hidden_units': 9}), IMAGE_SHAPE))
  with pytest.raises(UsageError, match='damaged'):
    Checkpoints(workdir, make_state(make_config({'nice.hidden_layers': 2}, objective='hybrid')).checkpoint()).restore()


@pytest.mark.parametrize('moved', [False, True])
def test_a_save_that_was_killed_is_passed_over(workdir, state, flow, moved):
  """TensorFlow writes into a temporary folder, moves the data out of it, then writes the index."""
  folder = workdir / 'checkpoints' / 'latest'
  (folder / 'ckpt-8_temp').mkdir()
  (folder / 'ckpt-8_temp' / 'part-00000-of-00001.index').write_bytes(b'part')
  if moved:
    shutil.copy(folder / 'ckpt-5.data-00000-of-00001', folder / 'ckpt-8.data-00000-of-00001')
    (folder / 'ckpt-8.index.tempstate123').touch()
  assert restore_generator(workdir, 'latest', flow) == 5
  checkpoints = Checkpoints(workdir, state.checkpoint())
  assert checkpoints.restore()
  assert int(state.step) == 5
  assert not list(folder.glob('ckpt-8*'))
  fill(state, 8)
  checkpoints.save('latest')
  assert restore_generator(workdir, 'latest', flow) == 8


def test_a_finished_save_whose_folder_was_left_counts(workdir, state):
  folder = workdir / 'checkpoints' / 'latest' / 'ckpt-5_temp'
  folder.mkdir()
  assert Checkpoints(workdir, state.checkpoint()).restore()
  assert int(state.step) == 5
  assert not folder.exists()

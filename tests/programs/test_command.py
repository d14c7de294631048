"""What all programs do before and after their own work."""

import errno
import io
import os
from unittest import mock

import pytest
import tensorflow as tf
from absl import flags
from ml_collections import config_dict
from ml_collections.config_flags import config_flags
from PIL import Image

from flowgan_tf.errors import UsageError
from flowgan_tf.programs import command
from tests.programs import conftest
from tests.programs.conftest import assert_one_line, call

CONFIG = """
from ml_collections import config_dict

def get_config():
  return config_dict.ConfigDict({'cache_dir': '', 'steps': 1, 'critic': {'channels': (1,), 'lambda': 0.5}})
"""


@pytest.fixture
def defined(monkeypatch) -> flags.FlagValues:
  """Flags of a program that takes steps and lambda, in place of all that other tests have defined."""
  values = flags.FlagValues()
  flags.DEFINE_integer('steps', 1, '', flag_values=values)
  flags.DEFINE_float('lambda', 1.0, '', flag_values=values)
  monkeypatch.setattr(flags, 'FLAGS', values)
  return values


@pytest.fixture
def configured(defined, tmp_path) -> flags.FlagValues:
  """The same program with --config."""
  (tmp_path / 'config.py').write_text(CONFIG)
  with mock.patch('sys.argv', ['program', f'--config={tmp_path / "config.py"}']):
    config_flags.DEFINE_config_file('config', flag_values=defined)
    defined(['program', f'--config={tmp_path / "config.py"}'])
  return defined


@pytest.mark.parametrize(
  ('text', 'printed'),
  [
    ('`steps` must be at least 1. Got: 0.', '--steps must be at least 1. Got: 0.'),
    ('`lambda_` must be finite; see `steps`', '--lambda must be finite; see --steps'),
    # Neither flags of this program nor settings: it takes no configuration.
    ('`cache_dir` and `critic.channels` must', '`cache_dir` and `critic.channels` must'),
    ('`stepson` must', '`stepson` must'),
    ('`steps.size` must', '`steps.size` must'),
    ('steps must, as in `steps runs/demo --steps=3`', 'steps must, as in `steps runs/demo --steps=3`'),
    ('a/`b`: `--steps`, ``, ` steps`', 'a/`b`: `--steps`, ``, ` steps`'),
    ('two\n  lines of `steps`\n', 'two lines of --steps'),
  ],
)
def test_arguments_become_flags(defined, text, printed):
  assert command.message(UsageError(text)) == command.message(text) == printed


@pytest.mark.parametrize(
  ('text', 'printed'),
  [
    ('`steps` must', '--steps must'),  # Its own flag, although it is a setting too.
    ('`cache_dir` must', '--config.cache_dir must'),
    ('`critic` must', '--config.critic must'),
    ('`critic.channels` and `critic.lambda_`', '--config.critic.channels and --config.critic.lambda'),
    ('`critic.nosuch` must', '`critic.nosuch` must'),
    ('`critic.channels.nosuch` must', '`critic.channels.nosuch` must'),
    ('`channels` must', '`channels` must'),
    ('`config` must', '--config must'),
  ],
)
def test_settings_become_overrides_of_the_configuration(configured, text, printed):
  assert isinstance(configured['config'].value, config_dict.ConfigDict)
  assert command.message(UsageError(text)) == printed


def test_a_configuration_that_is_not_there_has_no_settings(defined, tmp_path):
  with mock.patch('sys.argv', ['program']):
    config_flags.DEFINE_config_file('config', flag_values=defined)
  assert command.message('`cache_dir` of `steps`') == '`cache_dir` of --steps'
  with mock.patch('sys.argv', ['program', f'--config={tmp_path}/missing.py']):
    defined(['program', f'--config={tmp_path}/missing.py'])  # ml_collections raises when it is first looked at.
  assert command.message('`cache_dir` of `steps`') == '`cache_dir` of --steps'


def test_a_program_prints_the_library_s_errors_in_its_own_words(finished, tmp_path, monkeypatch):
  monkeypatch.setenv('KERAS_HOME', str(tmp_path))
  outcome = call('evaluate', finished[0], '--scorer=inception', f'--inception_weights={tmp_path}/missing.h5')
  assert_one_line(outcome, 'evaluate', f'{tmp_path}/missing.h5: no such file; --inception_weights must be ')
  data_dir = tmp_path / 'missing'
  outcome = call('train', '--dataset=mnist', f'--data_dir={data_dir}', f'--workdir={tmp_path / "run"}')
  assert_one_line(outcome, 'train', f'--data_dir must be a folder with prepared TFDS data sets. Got: {data_dir}')


def test_images_of_several_sizes_name_the_flag_that_mends_them(tmp_path):
  for i in range(3):
    Image.new('L', (8, 8 + i)).save(tmp_path / f'{i}.png')
  outcome = call('train', f'--dataset={tmp_path}', f'--workdir={tmp_path / "run"}')
  hint = 'set --config.image_size, for example to 64'
  assert_one_line(outcome, 'train', f'{tmp_path}/1.png: expected an image like 0.png, ', hint)


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), '/runs/demo/metrics.jsonl')
# As TensorFlow words it.
EXHAUSTED = tf.errors.ResourceExhaustedError(
  None, None, '{{function_node __wrapped__SaveV2_device}} /runs/demo/ckpt-6; No space left on device [Op:SaveV2]'
)
CUT_OFF = tf.errors.UnknownError(
  None,
  None,
  'Error in user-defined function passed to ParallelMapDatasetV2:5 transformation with iterator: '
  "Iterator::Root::Prefetch::ParallelMapV2: OSError: [Errno 5] Input/output error: 'photos/train.npy'\n"
  'Traceback (most recent call last):\n\n  File "script_ops.py", line 269, in __call__\n    ret = func(*args)\n\n'
  "OSError: [Errno 5] Input/output error: 'photos/train.npy'\n\n\n\t [[{{node PyFuncStateless}}]] [Op:IteratorGetNext]",
)


@pytest.mark.parametrize(
  ('error', 'status', 'printed'),
  [
    (FULL, 1, '/runs/demo/metrics.jsonl: No space left on device'),
    (OSError(errno.EIO, os.strerror(errno.EIO)), 1, 'Input/output error'),
    (EXHAUSTED, 1, '/runs/demo/ckpt-6; No space left on device'),
    (CUT_OFF, 1, "OSError: [Errno 5] Input/output error: 'photos/train.npy'"),
    (
      UsageError('a/b: cannot be written (No space left on device)'),
      1,
      'a/b: cannot be written (No space left on device)',
    ),
    (UsageError('a/b: cannot be written (Input/output error)'), 1, 'a/b: cannot be written (Input/output error)'),
    (UsageError('a/b: cannot be written (Read-only file system)'), 2, 'a/b: cannot be written (Read-only file system)'),
    (UsageError('a/b: cannot be written (Permission denied)'), 2, 'a/b: cannot be written (Permission denied)'),
  ],
)
def test_a_disk_that_fails_is_no_mistake_of_the_user(monkeypatch, capsys, error, status, printed):
  def main(arguments):
    raise error

  monkeypatch.setattr('sys.argv', ['bin/demo'])
  monkeypatch.setattr(command, 'end_on_signals', lambda: None)
  with conftest._untouched(), pytest.raises(SystemExit) as ended:
    command.run_program(main, __name__)
  assert ended.value.code == status
  assert capsys.readouterr().err == f'demo: {printed}\n'
  assert command.status_of(ValueError('a defect')) is None


class Full(io.StringIO):
  """Standard output in a file on a full disk."""

  def __init__(self, method: str):
    super().__init__()
    setattr(self, method, self.fail)

  def fail(self, *_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def closed_pipe():
  reader, writer = os.pipe()
  os.close(reader)
  return os.fdopen(writer, 'w', buffering=1)


@pytest.mark.parametrize('arguments', [['--help'], ['--helpfull'], []])
def test_output_that_cannot_be_written_is_no_mistake_of_the_user(monkeypatch, capsys, arguments):
  monkeypatch.setattr(command, 'end_on_signals', lambda: None)
  monkeypatch.setattr('sys.argv', ['bin/demo', *arguments])
  outputs = {closed_pipe: 'Broken pipe', lambda: Full('write'): os.strerror(errno.ENOSPC)}
  outputs[lambda: Full('flush')] = os.strerror(errno.ENOSPC)
  for make, reason in outputs.items():
    monkeypatch.setattr('sys.stdout', make())
    with conftest._untouched(), pytest.raises(SystemExit) as ended:
      command.run_program(print, __name__)
    assert ended.value.code == 1
    assert capsys.readouterr().err == f'demo: {reason}\n'


def test_more_or_less_than_one_run_is_a_mistake(monkeypatch):
  monkeypatch.setattr('sys.argv', ['/somewhere/bin/export'])
  assert command.run_argument(['runs/demo']) == 'runs/demo'
  for arguments in ([], ['a', 'b']):
    with pytest.raises(UsageError, match=rf'as in `export runs/demo`; got {len(arguments)} arguments$'):
      command.run_argument(arguments)


@pytest.mark.parametrize('program', ['analyze', 'evaluate', 'export', 'report', 'sample', 'sweep', 'train'])
def test_float32_products_are_float32(program, tmp_path):
  """And not TF32, TensorFlow's default on newer GPUs."""
  folder = f'{tmp_path}/missing'
  arguments = {'train': [f'--dataset={folder}'], 'sweep': [f'--dataset={folder}'], 'analyze': [folder, '--what=kde']}
  setting = tf.config.experimental
  kept = setting.tensor_float_32_execution_enabled()
  try:
    setting.enable_tensor_float_32_execution(True)
    assert_one_line(call(program, *arguments.get(program, [folder])), program, folder)
    assert not setting.tensor_float_32_execution_enabled()
  finally:
    setting.enable_tensor_float_32_execution(kept)

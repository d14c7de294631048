"""What all programs do before and after their own work: they start, report errors in a line, and end with a status."""

import errno
import logging
import os
import pathlib
import re
import signal
import sys
import types
from unittest import mock

import pytest
import tensorflow as tf
from absl import flags

import flowgan_tf as fg
from flowgan_tf.base.errors import UsageError
from flowgan_tf.programs import command, start
from flowgan_tf.runs.config import default_config
from flowgan_tf.runs.folder import Description, write_description
from tests import processes
from tests.programs.conftest import CHECKOUT, PROGRAMS, assert_one_line, call, call_outside, untouched
from tests.tiny import FACTS


@pytest.mark.parametrize(
  ('argument', 'text', 'printed'),
  [
    ('steps', '`steps` must be at least 1; see `steps`', '--steps must be at least 1; see --steps'),
    ('lambda_', 'two\n  lines of `lambda_`\n', 'two lines of --lambda'),
    ('critic.channels', '`critic.channels` and `steps` must', '--config.critic.channels and `steps` must'),
    (None, '`steps` must', '`steps` must'),
  ],
)
def test_an_argument_becomes_a_flag(monkeypatch, argument, text, printed):
  values = flags.FlagValues()
  for name in ('steps', 'lambda', 'config.steps', 'config.critic.channels'):
    flags.DEFINE_integer(name, 1, '', flag_values=values)
  monkeypatch.setattr(command, 'FLAGS', values)
  assert command.message(UsageError(text, argument)) == printed


# As TensorFlow words them.
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
    (OSError(errno.ENOSPC, 'No space left', 'metrics.jsonl'), 1, 'metrics.jsonl: No space left'),
    (EXHAUSTED, 1, '/runs/demo/ckpt-6; No space left on device'),
    (CUT_OFF, 1, "OSError: [Errno 5] Input/output error: 'photos/train.npy'"),
    (MemoryError('no room'), 1, 'no room'),
    (UsageError('a: cannot be written (No space left on device)'), 1, 'a: cannot be written (No space left on device)'),
    (UsageError('a: no such folder'), 2, 'a: no such folder'),
  ],
)
def test_an_error_is_one_line_and_a_status(monkeypatch, capsys, error, status, printed):
  monkeypatch.setattr('sys.argv', ['bin/demo'])
  with untouched(), pytest.raises(SystemExit) as ended:
    command.run_program(types.SimpleNamespace(main=mock.Mock(side_effect=error), __name__=__name__, __doc__=''))
  assert ended.value.code == status
  assert capsys.readouterr().err == f'demo: {printed}\n'
  assert command.status_of(ValueError('a defect')) is None


@pytest.mark.parametrize(('before', 'within'), [(signal.default_int_handler, signal.SIG_DFL), (signal.SIG_IGN,) * 2])
def test_ctrl_c_ends_a_program_at_once_unless_it_is_ignored(monkeypatch, before, within):
  found = []
  monkeypatch.setattr('sys.argv', ['bin/demo'])
  with untouched(), pytest.raises(SystemExit):
    signal.signal(signal.SIGINT, before)
    main = mock.Mock(side_effect=lambda _: found.append(signal.getsignal(signal.SIGINT)))
    command.run_program(types.SimpleNamespace(main=main, __name__=__name__, __doc__=''))
  assert found == [within]


def test_tensorflow_warns_but_not_of_what_it_traces_often():
  said, logger = [], logging.getLogger('tensorflow')
  handler = logging.Handler()
  handler.emit = lambda record: said.append(record.getMessage())
  with untouched():
    command.load_tensorflow()
    logger.addHandler(handler)
    function = tf.function(lambda number: number)
    for number in range(12):
      function(number)
    logger.warning('other')
  assert said == ['other']


def demo(body, *arguments, **options):
  """Runs a program whose `main` is one line."""
  program = f"""def main(arguments): {body}
import sys, types
from flowgan_tf.programs import command
sys.argv = ['bin/demo', *{arguments}]
command.run_program(types.SimpleNamespace(main=main, __name__='demo', __doc__='A demo.'))
"""
  return processes.run([sys.executable, '-c', program], cwd=CHECKOUT, **options)


@pytest.mark.parametrize('arguments', [['--help'], []])
def test_output_that_cannot_be_written_is_no_mistake_of_the_user(arguments):
  with open('/dev/full', 'w') as full:
    done = demo('print("x" * 100)', *arguments, stdout=full)
  # Python says nothing more at exit.
  assert (done.returncode, done.stderr) == (1, f'demo: {os.strerror(errno.ENOSPC)}\n')


def test_output_with_a_path_that_is_not_utf8():
  environment = os.environ | {'PYTHONIOENCODING': 'utf-8'}
  done = demo(r'print("run-\udcff")', env=environment, errors='surrogateescape')
  assert (done.returncode, done.stdout, done.stderr) == (0, 'run-\udcff\n', '')


@pytest.mark.parametrize('program', PROGRAMS)
def test_a_program_is_a_module_too(program):
  said = call(program, '--helpshort', as_module=True)
  first = (CHECKOUT / 'flowgan_tf' / 'programs' / f'{program}.py').read_text().splitlines()[0].strip('"')
  assert said.status == 0 and said.err == ''
  assert first in said.out and ('--workdir:' in said.out or '--out:' in said.out or '--checkpoint:' in said.out)


def test_the_short_help_of_train_lists_generators_and_divergences():
  said = ' '.join(call('train', '--helpshort').out.split())
  for names in (fg.flows.GENERATORS, fg.objectives.DIVERGENCES):
    assert f'One of {", ".join(names)}, or your own.' in said


ENTRY_POINTS = re.findall(r"'flowgan-(\w+)=flowgan_tf\.programs\.(\w+):(\w+)'", (CHECKOUT / 'setup.py').read_text())


def test_each_program_has_its_entry_point():
  names = {path.name for path in (CHECKOUT / 'bin').iterdir() if not path.name.startswith('_')}
  assert {(name, 'start', name) for name in names} == set(ENTRY_POINTS)
  assert names == set(PROGRAMS) == {n for n in start.__all__ if n != 'start' and getattr(start, n).args == (n,)}


# Calls programs, each in a fork. No call may import what takes seconds.
WITHOUT_TENSORFLOW = """
import importlib, os, sys
from flowgan_tf.programs import command

def load_tensorflow():
  print('has loaded TensorFlow', file=sys.stderr)
  sys.exit(9)

command.load_tensorflow = load_tensorflow
for program, *arguments in eval(sys.argv[1]):
  if os.fork():
    os.wait()
    continue
  sys.argv = [program, *arguments]
  try:
    command.run_program(importlib.import_module(f'flowgan_tf.programs.{program}'))
  except SystemExit as ended:
    slow = {'tensorflow', 'keras', 'tensorflow_probability', 'sklearn', 'scipy'} & set(sys.modules)
    print(program, 'ends with', ended.code, *slow, file=sys.stderr)
  break
"""


def test_help_and_messages_do_without_tensorflow(tmp_path):
  workdir = tmp_path / 'run'
  (workdir / 'checkpoints' / 'latest').mkdir(parents=True)
  (workdir / 'checkpoints' / 'latest' / 'checkpoint').write_text('model_checkpoint_path: "ckpt-3"')
  (workdir / 'checkpoints' / 'latest' / 'ckpt-3.index').touch()
  write_description(workdir, Description(default_config(), FACTS))
  cases = {
    ('analyze', 'RUN', '--what=nonsense'): '--what must be one of kde, ais, gmm, ',
    ('analyze', 'RUN', '--what=critic', '--updates=10,20'): '--updates must be an integer. Got: 10,20.',
    ('analyze', 'RUN', '--what=critic', '--other=missing'): '--other: missing: no such folder; expected the folder of',
    ('evaluate', 'RUN', '--split=nonsense'): '--split=nonsense: value should be one of ',
    ('export',): 'expected one run folder, as in `export runs/demo`; got 0 arguments',
    ('export', ''): 'arguments must be paths. Got: an empty one.',
    ('analyze', workdir, '--what=gmm', '--noise_vectors=3'): '--noise_vectors must be left out, as it has no',
    ('analyze', workdir, '--what=critic'): '--other must be given for critic, as in --other=RUN. Got: None.',
    ('analyze', workdir, '--what=critic', '--other=pretrained:mnits'): '--other: pretrained:mnits: no such flow; did',
    ('analyze', workdir, '--what=critic', f'--other={tmp_path}'): f'--other: {tmp_path}: holds no config.json',
    ('export', tmp_path): f'{tmp_path}: holds no config.json, so it is not the folder of a training',
    ('train', '--config.nice.hidden_units=-1'): '--config.nice.hidden_units must be an integer from 1 to 65536.',
    ('train', '--config.dense_critic.hidden_units=(0,)'): 'must be 1 to 256 integers from 1 to 65536. Got: (0,).',
    ('train', f'--init_from={tmp_path}'): f'--init_from: {tmp_path}: holds no config.json',
    ('evaluate', workdir, '--samples=0', '--scorer=resnet'): '--scorer must be left out, as it has no effect',
    ('evaluate', f'{workdir}n'): f'runn: no such folder; expected the folder of a training; did you mean {workdir}?',
    ('analyze', workdir, f'{workdir}n', '--what=gmm'): 'runn: no such folder; ',
    ('report', workdir, tmp_path): f'{tmp_path}: holds no config.json, so it is not the folder of a training\n',
    ('report', tmp_path / 'missing'): f'{tmp_path}/missing: no such folder; expected the folder of a training\n',
    ('sample', 'pretrained:mnits'): 'pretrained:mnits: no such flow; did you mean pretrained:mnist?',
    ('train', '--dataset=mnits'): "an .npz file. Got: 'mnits'; did you mean mnist?",
    ('train', f'--dataset={workdir}n/'): f"/runn/'; did you mean {workdir}?",
    ('train', '--config=configs/mnist.py', '--data_dir=missing'): '--data_dir must be a folder with prepared TFDS data',
    ('train', '--init_from=missing'): '--init_from: ',
    ('sample', 'RUN', '--temperature=1e39'): '--temperature must be a number from 0 to 1e+06.',
    ('sample', 'RUN', '--temperature=warm'): '--temperature must be a number. Got: warm.',
    (
      'train',
      '--condition=lable',
    ): "--condition must be 'label', 'vector', 'low_resolution:N' with an N of at least 2,",
    ('train', '--objective=nonsense'): "--objective must be one of mle, adversarial, hybrid. Got: 'nonsense'.",
    ('train', f'--workdir={workdir}', '--seed=3'): 'holds a run with another configuration (seed 0 -> 3); use another ',
    ('sweep', '--lambdas=-1'): '--lambdas must be different numbers of at least 0, or inf. Got: -1.',
  }
  calls = [(program, '--help') for program in PROGRAMS] + [tuple(map(str, case)) for case in cases]
  done = processes.run([sys.executable, '-c', WITHOUT_TENSORFLOW, repr(calls)], cwd=CHECKOUT)
  assert done.returncode == 0, done.stderr
  lines = iter(done.stderr.splitlines())
  for program in PROGRAMS:
    assert next(lines) == f'{program} ends with 0'
  for (program, *_), said in cases.items():
    line = next(lines)
    assert line.startswith(f'{program}: ') and said in f'{line}\n'
    assert next(lines) == f'{program} ends with 2'
  # What is sound loads TensorFlow where it is set up.
  calls = [('analyze', str(workdir), '--what=kde'), ('sweep',), ('train',)]
  done = processes.run([sys.executable, '-c', WITHOUT_TENSORFLOW, repr(calls)], cwd=CHECKOUT)
  assert done.stderr.count('has loaded TensorFlow\n') == 3, done.stderr


@pytest.mark.parametrize('flag', ['', 'avx512_bf16', 'amx_bf16', 'bf16'])
def test_a_processor_without_bfloat16_is_named(tmp_path, monkeypatch, capsys, flag):
  path, gpus = tmp_path / 'cpuinfo', []
  path.write_text(f'processor\t: 0\nflags\t\t: fpu avx2 avx512_vnni {flag}\n')
  monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: gpus)
  command.warn_of_bfloat16(str(path))
  found = capsys.readouterr().err
  assert 'times as long as float32 here, because' in found and found.count('\n') == 1 if not flag else not found
  command.warn_of_bfloat16(str(tmp_path / 'macOS'))
  gpus.append('a GPU')
  command.warn_of_bfloat16(str(path))
  assert capsys.readouterr().err == ''


def test_float32_products_are_float32(tmp_path):
  """And not TF32, TensorFlow's default on newer GPUs."""
  setting = tf.config.experimental
  kept = setting.tensor_float_32_execution_enabled()
  try:
    setting.enable_tensor_float_32_execution(True)
    assert_one_line(call('train', f'--dataset={tmp_path}'), 'train', f'{tmp_path}: expected ')
    assert not setting.tensor_float_32_execution_enabled()
  finally:
    setting.enable_tensor_float_32_execution(kept)


@pytest.mark.slow
def test_tensorflow_is_loaded_without_what_only_plots_and_clusters_need():
  program = """import sys
from flowgan_tf.programs import command
command.load_tensorflow()
print({'matplotlib', 'sklearn'} & set(sys.modules))
import matplotlib.figure, sklearn.cluster
"""
  done = processes.run([sys.executable, '-c', program], cwd=CHECKOUT)
  assert (done.returncode, done.stdout) == (0, 'set()\n'), done.stderr


@pytest.mark.slow
def test_a_process_of_its_own(tmp_path):
  """The script in bin/, with a config file that loads TensorFlow: nothing but our line on standard error."""
  (tmp_path / 'own.py').write_text("""
import tensorflow as tf
import flowgan_tf as fg

def get_config():
  config = fg.runs.default_config()
  config.steps = int(tf.constant(3) - 3)
  return config
""")
  outcome = call_outside('train', f'--config={tmp_path}/own.py', f'--workdir={tmp_path}/run')
  assert outcome.err.splitlines()[-1] == 'train: --steps must be an integer from 1 to 1000000000. Got: 0.'
  assert (outcome.status, outcome.out, [path.name for path in tmp_path.iterdir()]) == (2, '', ['own.py'])


def test_a_checkout_without_its_environment_says_how_to_make_it(tmp_path):
  bin_folder = tmp_path / 'bin'
  bin_folder.mkdir()
  for name in ('train', '_checkout.py'):
    (bin_folder / name).write_text((CHECKOUT / 'bin' / name).read_text())
  # Without the packages of this environment.
  done = processes.run([pathlib.Path(sys.executable).resolve(), '-S', bin_folder / 'train'], env={}, cwd=tmp_path)
  assert (done.returncode, done.stdout) == (2, '')
  assert done.stderr == 'train: flowgan_tf is not installed; `make demo` installs it, with all that it needs\n'

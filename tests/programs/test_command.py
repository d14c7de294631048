"""What all programs do before and after their own work: they start, report errors in a line, and end with a status."""

import errno
import io
import os
import pathlib
import re
import sys
import types

import pytest
import tensorflow as tf
from absl import flags

from flowgan_tf.errors import UsageError
from flowgan_tf.programs import command, start
from tests import processes
from tests.programs.conftest import CHECKOUT, PROGRAMS, assert_one_line, call, call_outside, untouched


@pytest.mark.parametrize(
  ('argument', 'text', 'printed'),
  [
    ('steps', '`steps` must be at least 1; see `steps`', '--steps must be at least 1; see --steps'),
    ('lambda_', 'two\n  lines of `lambda_`\n', 'two lines of --lambda'),
    ('critic.channels', '`critic.channels` and `steps` must', '--config.critic.channels and `steps` must'),
    ('channels', '`channels` must', '`channels` must'),
    (None, '`steps` must', '`steps` must'),
  ],
)
def test_an_argument_becomes_a_flag(monkeypatch, argument, text, printed):
  values = flags.FlagValues()
  for name in ('steps', 'lambda', 'config.steps', 'config.critic.channels'):
    flags.DEFINE_integer(name, 1, '', flag_values=values)
  monkeypatch.setattr(command, 'FLAGS', values)
  assert command.message(UsageError(text, argument)) == printed


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
    (EXHAUSTED, 1, '/runs/demo/ckpt-6; No space left on device'),
    (CUT_OFF, 1, "OSError: [Errno 5] Input/output error: 'photos/train.npy'"),
    (MemoryError('no room'), 1, 'no room'),
    (UsageError('a: cannot be written (No space left on device)'), 1, 'a: cannot be written (No space left on device)'),
    (UsageError('a: cannot be written (Permission denied)'), 2, 'a: cannot be written (Permission denied)'),
  ],
)
def test_an_error_is_one_line_and_a_status(monkeypatch, capsys, error, status, printed):
  def main(arguments):
    raise error

  monkeypatch.setattr('sys.argv', ['bin/demo'])
  with untouched(), pytest.raises(SystemExit) as ended:
    command.run_program(types.SimpleNamespace(main=main, __name__=__name__, __doc__=''))
  assert ended.value.code == status
  assert capsys.readouterr().err == f'demo: {printed}\n'
  assert command.status_of(ValueError('a defect')) is None


@pytest.mark.parametrize('arguments', [['--help'], []])
def test_output_that_cannot_be_written_is_no_mistake_of_the_user(arguments):
  """And Python says nothing more at exit."""
  main = 'def main(arguments): print("x" * 100)'
  program = f"""{main}
import sys, types
from flowgan_tf.programs import command
sys.argv = ['bin/demo', *{arguments}]
command.run_program(types.SimpleNamespace(main=main, __name__='demo', __doc__='A demo.'))
"""
  with open('/dev/full', 'w') as full:
    done = processes.run([sys.executable, '-c', program], stdout=full, cwd=CHECKOUT)
  assert (done.returncode, done.stderr) == (1, f'demo: {os.strerror(errno.ENOSPC)}\n')


def test_output_with_a_path_that_is_not_utf8(finished, tmp_path):
  run = tmp_path / os.fsdecode(b'run-\xff')
  run.symlink_to(finished[0])
  out = io.TextIOWrapper(io.BytesIO(), encoding='utf-8', write_through=True)
  out.getvalue = lambda: os.fsdecode(out.buffer.getvalue())
  assert call('report', run, out=out) == (0, f'{run}/report.html\n', '')


@pytest.mark.parametrize('program', PROGRAMS)
def test_a_program_is_a_module_too(program):
  """As in `python -m flowgan_tf.programs.train`."""
  said = call(program, '--helpshort', as_module=True)
  first = (CHECKOUT / 'flowgan_tf' / 'programs' / f'{program}.py').read_text().splitlines()[0].strip('"')
  assert said.status == 0 and said.err == ''
  assert first in said.out and ('--workdir:' in said.out or '--out:' in said.out or '--checkpoint:' in said.out)


ENTRY_POINTS = re.findall(r"'flowgan-(\w+)=flowgan_tf\.programs\.(\w+):(\w+)'", (CHECKOUT / 'setup.py').read_text())


def test_each_program_has_its_entry_point():
  names = {path.name for path in (CHECKOUT / 'bin').iterdir() if not path.name.startswith('_')}
  assert {(name, 'start', name) for name in names} == set(ENTRY_POINTS)
  assert names == set(PROGRAMS) == set(start.__all__) - {'start'}


def test_signals_are_handled_before_the_imports(monkeypatch):
  done = []
  monkeypatch.setattr(start, 'end_on_signals', lambda: done.append('signals'))
  program = types.SimpleNamespace(run_program=lambda module: done.append('run'))
  monkeypatch.setattr(start.importlib, 'import_module', lambda name: done.append(name) or program)
  for name in PROGRAMS:
    done.clear()
    getattr(start, name)()
    assert done[0] == 'signals' and done[-2:] == [f'flowgan_tf.programs.{name}', 'run']


# Calls programs one after another, and ends with the status of the last. No call may import what takes seconds.
WITHOUT_TENSORFLOW = """
import importlib, sys
from absl import app, flags
from flowgan_tf import programs
from flowgan_tf.programs import command

def load_tensorflow():
  print('has loaded TensorFlow', file=sys.stderr)
  sys.exit(9)

command.load_tensorflow = load_tensorflow
app.define_help_flags()
names = set(flags.FLAGS)
for program, *arguments in eval(sys.argv[1]):
  sys.argv = [program, *arguments]
  for name in set(flags.FLAGS) - names:
    delattr(flags.FLAGS, name)
  for name in ('train', program):
    sys.modules.pop(f'flowgan_tf.programs.{name}', None)
    vars(programs).pop(name, None)
  try:
    command.run_program(importlib.import_module(f'flowgan_tf.programs.{program}'))
  except SystemExit as ended:
    print(program, 'ends with', ended.code, file=sys.stderr)
  for name in ('tensorflow', 'keras', 'tensorflow_probability', 'sklearn', 'scipy'):
    assert name not in sys.modules, (program, arguments, name)
"""


def test_help_and_refusals_do_without_tensorflow():
  cases = {
    ('analyze', 'RUN', '--what=nonsense'): '--what must be one of kde, ais, gmm, ',
    ('evaluate', 'RUN', '--split=nonsense'): '--split=nonsense: value should be one of ',
    ('export',): 'expected one run folder, as in `export runs/demo`; got 0 arguments',
    ('export', 'a', 'b'): 'got 2 arguments',
    ('export', ''): 'arguments must be paths. Got: an empty one.',
    ('report',): 'expected one or more run folders',
    ('sample', 'RUN', '--temperature=1e39'): '--temperature must be a finite number of at least 0.',
    ('train', '--objective=nonsense'): "--objective must be one of mle, adversarial, hybrid. Got: 'nonsense'.",
    ('sweep', '--lambdas=-1'): '--lambdas must be different numbers of at least 0, or inf. Got: -1.',
  }
  calls = [(program, '--help') for program in PROGRAMS] + list(cases)
  done = processes.run([sys.executable, '-c', WITHOUT_TENSORFLOW, repr(calls)], cwd=CHECKOUT)
  assert done.returncode == 0, done.stderr
  lines = iter(done.stderr.splitlines())
  for program in PROGRAMS:
    assert next(lines) == f'{program} ends with 0'
  for (program, *_), said in cases.items():
    line = next(lines)
    assert line.startswith(f'{program}: ') and said in line
    assert next(lines) == f'{program} ends with 2'
  # What is sound loads TensorFlow where it is set up.
  calls = [('analyze', 'RUN', '--what=kde'), ('sweep',), ('train',)]
  done = processes.run([sys.executable, '-c', WITHOUT_TENSORFLOW, repr(calls)], cwd=CHECKOUT)
  assert done.stderr.count('has loaded TensorFlow\n') == 3, done.stderr


def test_float32_products_are_float32(tmp_path):
  """And not TF32, TensorFlow's default on newer GPUs."""
  setting = tf.config.experimental
  kept = setting.tensor_float_32_execution_enabled()
  try:
    setting.enable_tensor_float_32_execution(True)
    assert_one_line(call('train', f'--dataset={tmp_path}/missing'), 'train', f'{tmp_path}/missing')
    assert not setting.tensor_float_32_execution_enabled()
  finally:
    setting.enable_tensor_float_32_execution(kept)


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

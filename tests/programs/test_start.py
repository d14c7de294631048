"""How programs start: signals are handled first, and TensorFlow is loaded once flags and settings are checked."""

import re
import types

import pytest

from flowgan_tf.programs import start
from tests.programs.conftest import CHECKOUT, assert_one_line, call_outside

ENTRY_POINTS = re.findall(r"'flowgan-(\w+)=flowgan_tf\.programs\.(\w+):(\w+)'", (CHECKOUT / 'setup.py').read_text())


def test_each_program_has_its_entry_point():
  programs = {path.name for path in (CHECKOUT / 'bin').iterdir() if not path.name.startswith('_')}
  assert {(name, 'start', name) for name in programs} == set(ENTRY_POINTS)
  assert programs == set(start.__all__) - {'start'}


@pytest.mark.parametrize('program', [name for name, _, _ in ENTRY_POINTS])
def test_signals_are_handled_before_the_imports(monkeypatch, program):
  done = []
  monkeypatch.setattr(start, 'end_on_signals', lambda: done.append('signals'))

  def load(name):
    done.append(name)
    return types.SimpleNamespace(run=lambda: done.append('run'))

  monkeypatch.setattr(start.importlib, 'import_module', load)
  getattr(start, program)()
  assert done == ['signals', f'flowgan_tf.programs.{program}', 'run']


SLOW = {'tensorflow', 'keras', 'tensorflow_probability', 'sklearn', 'scipy'}


def call_and_list_imports(monkeypatch, program, *arguments):
  """What `bin/<program>` does in a process of its own, and the packages that it imports."""
  monkeypatch.setenv('PYTHONPROFILEIMPORTTIME', '1')
  outcome = call_outside(program, *arguments)
  lines = outcome.err.splitlines(keepends=True)
  profile = [line for line in lines if line.startswith('import time:')]
  imported = {line.rpartition('|')[2].strip().partition('.')[0] for line in profile}
  assert {'absl', 'numpy', 'flowgan_tf'} <= imported
  return outcome._replace(err=''.join(line for line in lines if line not in profile)), imported


@pytest.mark.parametrize(
  ('program', 'flag'),
  [
    ('analyze', 'what'),
    ('evaluate', 'split'),
    ('export', 'checkpoint'),
    ('report', 'out'),
    ('sample', 'temperature'),
    ('sweep', 'lambdas'),
    ('train', 'objective'),
  ],
)
def test_help_does_without_tensorflow(monkeypatch, program, flag):
  outcome, imported = call_and_list_imports(monkeypatch, program, '--help')
  assert (outcome.status, outcome.err) == (0, '')
  text = (CHECKOUT / 'flowgan_tf' / 'programs' / f'{program}.py').read_text()
  assert text.splitlines()[0].strip('"') in outcome.out and f'--{flag}:' in outcome.out
  assert not imported & SLOW


@pytest.mark.parametrize(
  ('program', 'arguments', 'said'),
  [
    ('analyze', ['RUN', '--what=nonsense'], '--what must be one or more of kde, ais, gmm, '),
    ('evaluate', ['RUN', '--split=nonsense'], '--split=nonsense: value should be one of '),
    ('export', [], 'expected one run folder'),
    ('report', [], 'expected one or more run folders'),
    ('sample', ['RUN', '--temperature=1e39'], '--temperature must be a finite number of at least 0.'),
    ('sweep', ['--what=nonsense'], '--what must be one or more of kde, ais, gmm, '),
    ('sweep', ['--lambdas=-1'], '--lambdas must be different numbers of at least 0, or inf. Got: -1.'),
    ('train', ['--config.no_such=1'], '--config has no such setting: '),
    ('train', ['--objective=nonsense'], "--objective must be one of mle, adversarial, hybrid. Got: 'nonsense'."),
    ('train', ['--config=configs/mnist.py:paper', '--steps=0'], '--steps must be an integer from 1 to '),
  ],
)
def test_refusals_do_without_tensorflow(monkeypatch, program, arguments, said):
  outcome, imported = call_and_list_imports(monkeypatch, program, *arguments)
  assert_one_line(outcome, program, said)
  assert not imported & SLOW


@pytest.mark.parametrize('program', [name for name, _, _ in ENTRY_POINTS])
def test_tensorflow_is_first_imported_where_it_is_set_up(tmp_path, program):
  prelude = """
import sys
from flowgan_tf.programs import command
command.load_tensorflow = lambda: sys.exit(3 if 'tensorflow' in sys.modules else 42)
"""
  arguments = {'analyze': [tmp_path, '--what=kde'], 'sweep': [], 'train': []}.get(program, [tmp_path])
  outcome = call_outside(program, *arguments, prelude=prelude)
  assert outcome.status == 42, outcome


def test_a_config_file_may_import_tensorflow(tmp_path):
  path = tmp_path / 'own.py'
  path.write_text("""
import tensorflow as tf
import flowgan_tf as fg

def get_config():
  config = fg.runs.default_config()
  config.steps = int(tf.constant(3) - 3)
  return config
""")
  outcome = call_outside('train', f'--config={path}')
  assert outcome.status == 2 and outcome.out == ''
  assert outcome.err.splitlines()[-1] == 'train: --steps must be an integer from 1 to 1000000000. Got: 0.'

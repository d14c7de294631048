import re
import types

import pytest

from flowgan_tf.programs import start
from tests.programs.conftest import CHECKOUT

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

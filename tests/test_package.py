"""What holds for the package as a whole: its rooms, what they export, and which way imports run."""

import ast
import importlib
import pathlib
import pkgutil
import re
import subprocess
import sys
import types

import pytest

import flowgan_tf as fg

PACKAGE = pathlib.Path(fg.__file__).parent

# Modules that `fg` does not offer: helpers of the others, and what belongs to the command line.
NOT_SHOWN = {'files', 'lazy', 'replicas', 'signals', 'version', 'configs', 'programs'}


def modules():
  """Every module of the package with its file, also those of folders that lack an `__init__.py`."""
  for path in sorted(PACKAGE.rglob('*.py')):
    parts = path.relative_to(PACKAGE.parent).with_suffix('').parts
    yield '.'.join(parts[:-1] if parts[-1] == '__init__' else parts), path


MODULES = dict(modules())
# One process cannot import all programs, since some define flags of the same name.
IMPORTABLE = [name for name in MODULES if not name.startswith('flowgan_tf.programs')]


def test_dir_shows_the_rooms():
  assert set(dir(fg)) == {module.name for module in pkgutil.iter_modules([str(PACKAGE)])} - NOT_SHOWN | {'__version__'}
  assert all(isinstance(getattr(fg, name), types.ModuleType) for name in dir(fg) if name != '__version__')
  # Importing a module by its full name makes it an attribute of the package, and no more.
  importlib.import_module('flowgan_tf.files')
  assert 'files' not in dir(fg)


def test_a_type_checker_sees_the_rooms():
  tree = ast.parse((PACKAGE / '__init__.py').read_text())
  [checked] = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING']
  assert {alias.name for statement in checked.body for alias in statement.names} == set(dir(fg)) - {'__version__'}
  assert (PACKAGE / 'py.typed').is_file()


def test_a_room_shows_its_names_and_has_no_others():
  assert {'Run', 'load_data', 'load_run', 'default_config'} <= set(dir(fg.runs))
  for room, name in ((fg, 'flowgan_tf'), (fg.runs, 'flowgan_tf.runs')):
    with pytest.raises(AttributeError, match=f"^module '{name}' has no attribute 'flws'$"):
      room.flws  # noqa: B018


def test_importing_the_package_and_its_settings_does_not_load_tensorflow():
  code = """
import sys
import flowgan_tf as fg
from flowgan_tf.configs import cifar10, digits, fashion_mnist, mnist
dir(fg), dir(fg.runs), fg.errors.UsageError, fg.runs.default_config(), fg.study.ANALYSES, fg.objectives.OBJECTIVES
digits.get_config(), mnist.get_config('paper'), fashion_mnist.get_config(), cifar10.get_config('paper')
assert not {'tensorflow', 'keras', 'tensorflow_probability'} & set(sys.modules)
fg.flows
assert 'tensorflow' in sys.modules
"""
  subprocess.run([sys.executable, '-c', code], check=True, cwd=PACKAGE.parent)


@pytest.mark.parametrize('module', IMPORTABLE)
def test_all_names_what_exists(module):
  exported = getattr(importlib.import_module(module), '__all__', [])
  assert [name for name in exported if not hasattr(sys.modules[module], name)] == []
  assert len(set(exported)) == len(exported)


def imported_rooms(path):
  """The rooms that a file imports from anywhere in it, now or `later`, and the line of each import."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      targets = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}, line {node.lineno}: a relative import'
      targets = [f'{node.module}.{alias.name}' for alias in node.names]
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == 'later':
      targets = [node.args[0].value]
    else:
      continue
    for target in targets:
      if target.startswith('flowgan_tf.'):
        yield target.split('.')[1], node.lineno


def test_modules_import_only_from_rows_above_their_own_in_the_table_of_contributing():
  table = (PACKAGE.parent / 'CONTRIBUTING.md').read_text().partition('| in `flowgan_tf/` |')[2].partition('\n\n')[0]
  rows = [re.findall(r'`(\w+)/?`', line.split('|')[1]) for line in table.splitlines()[2:]]
  level = {name: i for i, row in enumerate(rows) for name in row}
  assert level.keys() == {module.name for module in pkgutil.iter_modules([str(PACKAGE)])}
  upwards = []
  for module, path in MODULES.items():
    room = module.removeprefix('flowgan_tf').split('.')[1:2]
    for other, line in imported_rooms(path) if room else ():
      if other not in room and (level[other] >= level[room[0]] or (room[0], other) == ('study', 'training')):
        upwards.append(f'{module}, line {line}, imports {other}')
  assert upwards == []

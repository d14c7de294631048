"""What holds for the package as a whole: its rooms, what they export, and which way imports run."""

import ast
import functools
import importlib.metadata
import inspect
import pathlib
import pkgutil
import re
import subprocess
import sys

import pytest

import flowgan_tf as fg

PACKAGE = pathlib.Path(fg.__file__).parent
CHECKOUT = PACKAGE.parent

# Rooms that `fg` does not offer: helpers of the others, and what belongs to the command line.
NOT_SHOWN = {'base', 'configs', 'programs', 'version'}
OF_ROOMS = {'UsageError', 'check', 'load_pretrained'}  # names of rooms that `fg` offers, too


def test_the_package_and_a_type_checker_see_the_rooms():
  rooms = {module.name for module in pkgutil.iter_modules([str(PACKAGE)])} - NOT_SHOWN
  importlib.import_module('flowgan_tf.base.files')  # It makes a module an attribute of the package, and no more.
  assert set(dir(fg)) == rooms | OF_ROOMS | {'__version__'}
  tree = ast.parse((PACKAGE / '__init__.py').read_text())
  [checked] = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING']
  assert {alias.name for statement in checked.body for alias in statement.names} == rooms | OF_ROOMS
  assert (PACKAGE / 'py.typed').is_file()
  assert {'Run', 'load_data', 'load_run', 'default_config'} <= set(dir(fg.runs))
  programs = ''.join(path.read_text() for path in (PACKAGE / 'programs').glob('*.py'))
  assert {*re.findall(r'\bfg\.(\w+)', programs)} <= rooms | OF_ROOMS
  for package in (fg, fg.runs):
    assert not hasattr(package, 'flws')


# Keras, which has no types, calls these methods of its layers and models.
OF_KERAS = {'build', 'call', 'get_config', 'from_config', 'compute_output_shape', 'add_weight'}


def public(module):
  """Yields the functions, methods and properties that `__all__` of a module and of the modules in it offers."""
  for value in map(functools.partial(getattr, module), module.__all__):
    if inspect.ismodule(value):
      yield from public(value)
    elif inspect.isclass(value):
      members = (member for name, member in vars(value).items() if not name.startswith('_') and name not in OF_KERAS)
      for member in members:  # Of a class method, a property, or a cached one, it is the function.
        yield next((getattr(member, n) for n in ('__func__', 'fget', 'func') if hasattr(member, n)), member)
    elif callable(value):
      yield inspect.unwrap(value)


def test_public_functions_say_what_they_return():
  found = {function for function in public(fg) if inspect.isfunction(function)}
  ours = [function for function in found if function.__module__.startswith('flowgan_tf')]
  assert len(ours) > 200
  assert [f'{f.__module__}.{f.__qualname__}' for f in ours if 'return' not in f.__annotations__] == []


@pytest.mark.slow
def test_importing_the_package_and_its_settings_does_not_load_tensorflow():
  code = """
import sys
import flowgan_tf as fg
from flowgan_tf.configs import cifar10, digits, fashion_mnist, mnist
dir(fg), dir(fg.runs), fg.UsageError, fg.runs.default_config(), fg.study.ANALYSES, fg.objectives.OBJECTIVES
digits.get_config(), mnist.get_config('paper'), fashion_mnist.get_config(), cifar10.get_config('paper')
assert not {'tensorflow', 'keras', 'tensorflow_probability'} & set(sys.modules)
fg.flows.Flow
assert 'tensorflow' in sys.modules
"""
  subprocess.run([sys.executable, '-c', code], check=True, cwd=CHECKOUT)


# Rooms beside each other that must stay apart, whatever their rows are.
FORBIDDEN = {('study', 'training'), ('training', 'display')}


def imports(path):
  """Yields what a file imports anywhere in it, now or by `lazy_import`, and the line of each import."""
  for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
    if isinstance(node, ast.Import):
      targets = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}, line {node.lineno}: a relative import'
      targets = [f'{node.module}.{alias.name}' for alias in node.names]
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == 'lazy_import':
      targets = [node.args[0].value]
    else:
      continue
    for target in targets:
      yield target, node.lineno


def test_modules_import_only_from_rows_above_their_own_in_the_table_of_contributing():
  table = (CHECKOUT / 'CONTRIBUTING.md').read_text().partition('| in `flowgan_tf/` |')[2].partition('\n\n')[0]
  rows = [re.findall(r'`(\w+)/?`', line.split('|')[1]) for line in table.splitlines()[2:]]
  level = {name: i for i, row in enumerate(rows) for name in row}
  assert level.keys() == {module.name for module in pkgutil.iter_modules([str(PACKAGE)])}
  upwards = []
  for path in {*PACKAGE.rglob('*.py')} - {PACKAGE / '__init__.py'}:
    room = path.relative_to(PACKAGE).parts[0].removesuffix('.py')
    for target, line in imports(path):
      other = target.split('.')[1] if target.startswith('flowgan_tf.') else room
      if other != room and (level[other] >= level[room] or (room, other) in FORBIDDEN):
        upwards.append(f'{path}, line {line}, imports {other}')
  assert upwards == []


def test_bijectors_import_only_the_adapter_and_squares_from_networks():
  files = {*(PACKAGE / 'bijectors').rglob('*.py')}
  found = {target.rpartition('.')[0] for path in files for target, _ in imports(path) if '.networks' in target}
  assert found == {'flowgan_tf.networks.adapter', 'flowgan_tf.networks.pixels'}


def test_metrics_know_nothing_of_runs_and_their_settings():
  found = {target.split('.')[0] for path in (PACKAGE / 'metrics').rglob('*.py') for target, _ in imports(path)}
  assert 'numpy' in found and not found & {'ml_collections', 'absl'}


def normalized(distribution):
  return re.sub(r'[-_.]+', '-', distribution).lower()


@pytest.mark.parametrize(('folder', 'requirements'), [('flowgan_tf', ['base']), ('tests', ['base', 'test'])])
def test_what_is_imported_is_required(folder, requirements):
  # setup.py and requirements/cpu.txt each name one TensorFlow, and requirements/nightly.txt has another TFP.
  required = {'tensorflow', 'tensorflow-cpu', 'tfp-nightly'}
  for name in requirements:
    lines = (CHECKOUT / 'requirements' / f'{name}.txt').read_text().splitlines()
    required |= {normalized(re.match(r'[\w.-]+', line)[0]) for line in lines if re.match(r'\w', line)}
  names = {target.split('.')[0] for path in (CHECKOUT / folder).rglob('*.py') for target, _ in imports(path)}
  names -= {*sys.stdlib_module_names, *(path.name for path in CHECKOUT.iterdir())}
  distributions = importlib.metadata.packages_distributions()
  assert len(names) > 10
  assert [n for n in names if not {normalized(found) for found in distributions.get(n, [])} & required] == []


def test_the_citation_names_the_version_and_its_day():
  citation = (CHECKOUT / 'CITATION.cff').read_text()
  fields = {name: re.search(rf'^{name}: (.*)$', citation, re.MULTILINE)[1] for name in ('version', 'date-released')}
  assert fields['version'] == fg.__version__
  assert f'## [{fg.__version__}] - {fields["date-released"]}\n' in (CHECKOUT / 'CHANGELOG.md').read_text()

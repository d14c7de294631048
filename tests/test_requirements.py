"""What the package imports is declared."""

import ast
import importlib.metadata
import pathlib
import re
import sys

import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent

# setup.py and requirements/cpu.txt each name one of these.
TENSORFLOW = {'tensorflow', 'tensorflow-cpu'}


def normalized(distribution: str) -> str:
  return re.sub(r'[-_.]+', '-', distribution).lower()


def declared(name: str) -> set[str]:
  lines = (CHECKOUT / 'requirements' / f'{name}.txt').read_text().splitlines()
  return {normalized(re.match(r'[\w.-]+', line)[0]) for line in lines if line and not line.startswith(('#', '-'))}


def imported(folder: str) -> set[str]:
  """Top-level names of other packages that the modules of a folder import."""
  found = set()
  for path in (CHECKOUT / folder).rglob('*.py'):
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
      if isinstance(node, ast.Import):
        found |= {alias.name.partition('.')[0] for alias in node.names}
      elif isinstance(node, ast.ImportFrom):
        found.add(node.module.partition('.')[0])
  return found - set(sys.stdlib_module_names) - {path.name for path in CHECKOUT.iterdir()}


@pytest.mark.parametrize(('folder', 'requirements'), [('flowgan_tf', ['base']), ('tests', ['base', 'test'])])
def test_what_is_imported_is_required(folder, requirements):
  names, distributions = imported(folder), importlib.metadata.packages_distributions()
  required = TENSORFLOW.union(*map(declared, requirements))
  assert len(names) > 10
  assert [n for n in names if not {normalized(found) for found in distributions.get(n, [])} & required] == []

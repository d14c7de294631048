"""What the package imports is declared."""

import ast
import importlib.metadata
import pathlib
import re
import sys

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent

# setup.py and requirements/cpu.txt each name one of these.
TENSORFLOW = {'tensorflow', 'tensorflow-cpu'}


def normalized(distribution: str) -> str:
  return re.sub(r'[-_.]+', '-', distribution).lower()


def declared(name: str) -> set[str]:
  lines = (CHECKOUT / 'requirements' / f'{name}.txt').read_text().splitlines()
  names = [re.match(r'[\w.-]+', line) for line in lines if not line.startswith(('#', '-'))]
  return {normalized(match[0]) for match in names if match}


def imported(folder: str) -> dict[str, str]:
  """Top-level names of other packages that the modules of a folder import, and one module for each."""
  found = {}
  for path in sorted((CHECKOUT / folder).rglob('*.py')):
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
      if isinstance(node, ast.Import):
        modules = [alias.name for alias in node.names]
      elif isinstance(node, ast.ImportFrom) and not node.level:
        modules = [node.module]
      else:
        continue
      found |= {module.partition('.')[0]: str(path.relative_to(CHECKOUT)) for module in modules}
  own = {path.name for path in CHECKOUT.iterdir()}
  return {name: path for name, path in found.items() if name not in sys.stdlib_module_names | own}


def undeclared(folder: str, requirements: set[str]) -> dict[str, str]:
  distributions = importlib.metadata.packages_distributions()
  return {
    name: path
    for name, path in imported(folder).items()
    if not {normalized(distribution) for distribution in distributions.get(name, [])} & requirements
  }


def test_the_package_imports_what_it_requires():
  assert len(imported('flowgan_tf')) > 10
  assert not undeclared('flowgan_tf', declared('base') | TENSORFLOW)


def test_the_tests_import_what_they_require():
  assert not undeclared('tests', declared('base') | declared('test') | TENSORFLOW)


def test_no_requirement_is_declared_twice():
  assert not declared('base') & declared('test')

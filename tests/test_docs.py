"""What README.md, CONTRIBUTING.md and docs/ say is true: Python runs, commands parse, nothing is left out."""

import ast
import dataclasses
import importlib
import json
import pathlib
import re
import runpy
import shlex
import sys
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

import flowgan_tf as fg
from tests.programs.conftest import flag_names, parsed_config, untouched
from tests.tiny import make_config

ROOT = pathlib.Path(__file__).parent.parent
PAGES = {
  path.relative_to(ROOT).as_posix(): path.read_text(encoding='utf-8')
  for path in (ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').rglob('*.md')))
}
ALL = '\n'.join(PAGES.values())
PROGRAMS = sorted(path.name for path in (ROOT / 'bin').iterdir() if path.suffix == '' and path.is_file())

# What the Python of a page imports besides the package and what it needs.
IMPORTS = {'docs/serving.md': ('ai_edge_litert', 'onnxruntime', 'tf2onnx')}

FENCE = re.compile(r'^```(\w+)\n(.*?)^```$', re.DOTALL | re.MULTILINE)


def blocks(page: str, language: str) -> list[str]:
  return [code for name, code in FENCE.findall(PAGES[page]) if name == language]


def commands() -> list[tuple[str, str]]:
  """Each `bin/...` of the pages, in a block of shell or within a sentence, with its page."""
  found = []
  for page, text in PAGES.items():
    lines = [line for code in blocks(page, 'sh') for line in code.replace('\\\n', ' ').splitlines()]
    lines += re.findall(r'`(bin/[^`\n]+)`', FENCE.sub('', text))
    found += [(page, line) for line in lines if line.startswith('bin/')]
  return sorted({line: page for page, line in found if not line.endswith('/')}.items())


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> pathlib.Path:
  """A folder whose runs/demo is a small run of the digits and their labels, as `make demo` trains it."""
  folder = tmp_path_factory.mktemp('docs')
  workdir = folder / 'runs' / 'demo'
  settings = {'dataset': 'digits', 'condition': 'label', 'nice.components': 20}
  fg.training.train(make_config(settings), workdir)
  fg.export.write_saved_model(fg.runs.load_run(workdir).generator, workdir / 'export')
  return folder


def claim(comment: str):
  """What a comment says of the value beside it: `[16, 2], nats` are shapes, `True` and `12: because` are values."""
  if match := re.match(r'\[[\d, ]*\](, \[[\d, ]*\])*', comment):
    shapes = re.findall(r'\[([\d, ]*)\]', match[0])
    return lambda value: (
      [list(v.shape) for v in (value if isinstance(value, tuple) else (value,))]
      == [[int(n) for n in shape.split(',') if n.strip()] for shape in shapes]
    )
  try:
    expected = ast.literal_eval(comment.partition(':')[0])
  except (SyntaxError, ValueError):
    return None  # Prose.
  return lambda value: value == expected


def statements(page: str):
  """Yields each statement of a page's Python, and the check of what a comment beside it claims, or None."""
  for code in blocks(page, 'python'):
    lines = code.splitlines()
    for statement in ast.parse(code).body:
      comment = lines[statement.end_lineno - 1].partition('  # ')[2]
      yield statement, claim(comment) if comment and isinstance(statement, ast.Expr | ast.Assign) else None


def test_claims_are_found():
  pages = 'README.md', 'docs/building.md', 'docs/flows.md', 'docs/keras.md'
  assert sum(check is not None for page in pages for _, check in statements(page)) >= 10


@pytest.mark.slow
@pytest.mark.parametrize('page', [page for page in PAGES if blocks(page, 'python')])
def test_python_runs_and_its_comments_are_true(page, folder, monkeypatch):
  for module in IMPORTS.get(page, ()):
    pytest.importorskip(module)
  monkeypatch.chdir(folder)
  names = {'__name__': page}
  for statement, check in statements(page):
    if isinstance(statement, ast.Expr):
      value = eval(compile(ast.Expression(statement.value), page, 'eval'), names)  # our own pages
    else:
      exec(compile(ast.Module([statement], []), page, 'exec'), names)
      value = check and eval(ast.unparse(statement.targets[0]), names)
    assert check is None or check(value), (page, ast.unparse(statement), value)


@pytest.mark.slow
def test_requests_for_tensorflow_serving_suit_the_signatures(folder):
  signatures = tf.saved_model.load(folder / 'runs/demo/export').signatures

  def served(request):
    """Answers as TensorFlow Serving does: each input takes the dtype of the signature, and none may be missing."""
    signature = signatures[request['signature_name']]
    specs, inputs = signature.structured_input_signature[1], request['inputs']
    assert set(inputs) == set(specs)
    (output,) = signature(**{name: tf.constant(inputs[name], specs[name].dtype) for name in specs}).values()
    return {'outputs': output.numpy().tolist()}

  (curl,) = re.findall(r"-d '(\{.*\})'", ''.join(blocks('docs/serving.md', 'sh')))
  assert np.shape(served(json.loads(curl))['outputs']) == (16, 8, 8, 1)
  (client,), names = blocks('docs/serving.md', 'py'), {}
  with mock.patch('requests.post') as post:
    post.side_effect = lambda url, json: mock.Mock(json=lambda: served(json))
    exec(client, names)
  assert np.shape(names['images']) == (2, 8, 8, 1) and np.shape(names['nats']) == (2, 10)
  known = {'images': names['images'], 'noise': names['images'], 'label': [3, 4], 'n': 2, 'seed': 0, 'temperature': 1.0}
  table = re.findall(r'^\| `(\w+)` \| (`.*`) \| .*`(\[n.*\])` \|$', PAGES['docs/serving.md'], re.MULTILINE)
  assert {name for name, _, _ in table} == set(signatures)
  for name, inputs, shape in table:
    request = {'signature_name': name, 'inputs': {key: known[key] for key in re.findall(r'\w+', inputs)}}
    assert list(np.shape(served(request)['outputs'])) == ast.literal_eval(shape.replace('n', '2'))


@pytest.mark.parametrize(('command', 'page'), commands())
def test_commands_parse(command, page, monkeypatch):
  monkeypatch.delenv('TFDS_DATA_DIR', raising=False)
  program, *arguments = shlex.split(command, comments=True)
  program = program.removeprefix('bin/')
  assert program in PROGRAMS
  if program == 'train':
    fg.runs.config.validate(parsed_config(arguments))
    return
  with untouched(), mock.patch.object(sys, 'argv', [program, *arguments]):
    importlib.import_module(f'flowgan_tf.programs.{program}')
    flags.FLAGS(sys.argv)
    if 'what' in flags.FLAGS:
      assert set(flags.FLAGS['what'].value or ()) <= set(fg.study.ANALYSES)


def test_every_flag_is_explained_and_every_flag_and_setting_that_is_named_exists():
  defined = {name for program in PROGRAMS for name in flag_names(program)}
  assert [name for name in sorted(defined) if f'--{name}' not in ALL] == []
  settings = set(fg.runs.config.settings(fg.runs.default_config()))
  code = re.findall(r'`[^`\n]*`', FENCE.sub('', ALL)) + [c for name, c in FENCE.findall(ALL) if name == 'sh']
  named = {name for text in code for name in re.findall(r'--([a-z][\w.]*\w)(?![\w-])', text)}
  of_others = {'helpshort', 'helpfull', 'logdir', 'fix', 'config.NAME', 'config.NAME.KEYWORD'}
  of_others |= {'config.checkered.filters', 'config.projected_critic.features'}  # of parts of a user's own
  for path in (ROOT / 'benchmarks').glob('*.py'):
    of_others |= set(re.findall(r"DEFINE_\w+\('(\w+)'", path.read_text()))
  assert 'lambda' in named and 'config.ema_decay' in named
  unknown = named - of_others - defined
  assert [name for name in sorted(unknown) if name.removeprefix('config.') not in settings] == []


def test_every_target_of_make_and_every_linked_file_exists():
  targets = set(re.search(r'^\.PHONY: (.*)$', (ROOT / 'Makefile').read_text(), re.MULTILINE)[1].split())
  shell = '\n'.join(code for name, code in FENCE.findall(ALL) if name == 'sh')
  named = set(re.findall(r'`make ([\w-]+)', ALL)) | set(re.findall(r'^make ([\w-]+)', shell, re.MULTILINE))
  assert {'demo', 'test', 'docs'} <= named <= targets
  for page, text in PAGES.items():
    links = re.findall(r'\]\(([^)#\s]+)', FENCE.sub('', text)) + re.findall(r'(?:src|href)="([^"]+)"', text)
    folder = (ROOT / page).parent
    assert [link for link in links if '://' not in link and not (folder / link).exists()] == [], page


def test_nothing_is_left_out():
  for page, names in (
    ('docs/flows.md', fg.objectives.DIVERGENCES),
    ('docs/flows.md', fg.objectives.OBJECTIVES),
    ('docs/flows.md', {term.weight_setting for term in fg.objectives.TERMS.values()} - {''}),
    ('docs/flows.md', fg.flows.GENERATORS),
    ('docs/building.md', {*fg.bijectors.__all__} - {'masks', 'bijector_kwargs'}),
    ('docs/building.md', [f'masks.{name}' for name in fg.bijectors.masks.__all__ if name.islower()]),
    ('docs/data.md', fg.data.NAMES),
    ('README.md', [f'bin/{name}' for name in PROGRAMS]),
  ):
    assert names
    assert [name for name in names if not re.search(rf'[`=.]{re.escape(name)}[`( ]', PAGES[page])] == []


def test_the_results_of_the_start_page_are_rows_of_the_page_of_results():
  (table,) = re.findall(r'^\| model \| training .*?\n\n', PAGES['README.md'], re.DOTALL | re.MULTILINE)
  rows = table.strip().replace('](docs/', '](').splitlines()
  assert len(rows) == 11
  assert [row for row in rows if row not in PAGES['docs/results.md'].splitlines()] == []


def test_the_table_of_analyses_is_that_of_the_registry():
  for name, analysis in fg.study.ANALYSES.items():
    flags_of_its_own = [f'`--{field.name}`' for field in dataclasses.fields(analysis.Settings) if field.name != 'seed']
    row = [f'`{name}`', analysis.description, analysis.paper or 'not in the paper', ', '.join(flags_of_its_own)]
    assert f'\n| {" | ".join(row)} |\n' in PAGES['docs/study.md'], row


def test_the_pages_of_the_api_and_of_settings_are_up_to_date():
  """`python docs/reference.py` writes them."""
  pages = runpy.run_path(str(ROOT / 'docs' / 'reference.py'))['pages']()
  written = {page: text for page, text in PAGES.items() if page.startswith(('docs/api/', 'docs/settings.md'))}
  assert written == {f'docs/{name}': text for name, text in pages.items()}

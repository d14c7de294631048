"""Mutation tests: small faults that are put into the package on purpose, and that the tests should find.

`python -m benchmarks.mutants draw --json=FILE` draws the faults, with `--commits=150` from the modules that the last
150 commits changed most. `python -m benchmarks.mutants run FILE --json=RESULT` puts each into a copy of the checkout
and runs tests there. The modules must not have changed in between. A stopped run continues where it was.
"""

from __future__ import annotations

import argparse
import ast
import collections
import concurrent.futures
import contextlib
import copy
import dataclasses
import json
import os
import pathlib
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator

from flowgan_tf.base.files import write_atomically

PACKAGE = 'flowgan_tf'
ROOMS = {
  'bijectors': ['bijectors/*.py'],
  'flows': ['flows/*.py'],
  'objectives': ['objectives/*.py'],
  'training': ['training/step.py', 'training/state.py', 'training/optimizers.py'],
  'metrics': ['metrics/*.py'],
  'runs': ['runs/*.py'],
}
_NEWEST = 20  # modules that `--commits` draws from
# Tests of a room that belong to each of its modules, besides the file named like the module.
SHARED_TESTS = {
  'bijectors': ['test_bijectors_all.py'],
  'flows': ['test_all_flows.py', 'test_densities.py'],
  'training': ['test_step.py'],
}

_ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
_OPPOSITES = {ast.Eq: ast.NotEq, ast.Is: ast.IsNot, ast.In: ast.NotIn}
_OPPOSITES |= {other: one for one, other in _OPPOSITES.items()}
_COMPARISONS = {one: [other] for one, other in _OPPOSITES.items()} | {
  ast.Lt: [ast.LtE, ast.Gt],
  ast.Gt: [ast.GtE, ast.Lt],
  ast.LtE: [ast.Lt],
  ast.GtE: [ast.Gt],
}
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_BLOCKS = ('body', 'orelse', 'finalbody', 'handlers', 'cases', 'decorator_list')
_UNTOUCHED_FIELDS = ('annotation', 'returns', 'type_params', 'decorator_list')


@dataclasses.dataclass
class Place:
  """A place in the package and a fault for it. Texts come from `ast.unparse`; a compound statement has its header."""

  function: str
  operator: str
  statement: str
  statement_after: str
  put: tuple[ast.AST, str, int | None, ast.AST, ast.AST] = dataclasses.field(repr=False)


def _with(node: ast.AST, **fields) -> ast.AST:
  node = copy.copy(node)
  for name, value in fields.items():
    setattr(node, name, value)
  return node


def _text(node: ast.AST) -> str:
  return ast.unparse(_with(node, **{n: [] for n in _BLOCKS if isinstance(getattr(node, n, None), list)})).strip()


@contextlib.contextmanager
def _replaced(parent: ast.AST, field: str, index: int | None, old: ast.AST, new: ast.AST) -> Iterator[None]:
  def put(node: ast.AST) -> None:
    if index is None:
      setattr(parent, field, node)
    else:
      getattr(parent, field)[index] = node

  put(new)
  yield
  put(old)


Faults = Iterator[tuple[str, ast.AST]]


def _of_arithmetic(node: ast.BinOp | ast.AugAssign) -> Faults:
  if type(node.op) in _ARITHMETIC:
    yield 'arithmetic', _with(node, op=_ARITHMETIC[type(node.op)]())


def _of_comparison(node: ast.Compare) -> Faults:
  for i, op in enumerate(node.ops):
    for other in _COMPARISONS[type(op)]:
      yield 'comparison', _with(node, ops=[*node.ops[:i], other(), *node.ops[i + 1 :]])


def _of_sign(node: ast.UnaryOp) -> Faults:
  if name := {ast.Not: 'no not', ast.USub: 'no minus'}.get(type(node.op)):
    yield name, node.operand


def _of_condition(node: ast.If) -> Faults:
  match node.test:
    case ast.UnaryOp(op=ast.Not()):
      pass  # The fault without the `not` is the same, as is one of the other operators of the next case.
    case ast.Compare(ops=[op]) if type(op) in _OPPOSITES:
      pass
    case test:
      yield 'condition', _with(node, test=ast.UnaryOp(ast.Not(), test))


def _of_constant(node: ast.Constant) -> Faults:
  match node.value:
    case bool(value):
      yield 'true/false', ast.Constant(not value)
    case int(value):
      yield 'constant', ast.Constant(value + 1)
    case float(value):
      yield 'constant', ast.Constant(2.0 * value or 1.0)


def _of_expression(node: ast.Expr) -> Faults:
  if isinstance(node.value, ast.Call):
    yield 'no call', ast.Pass()


_FAULTS: dict[type[ast.AST], Callable[..., Iterable[tuple[str, ast.AST]]]] = {
  ast.BinOp: _of_arithmetic,
  ast.AugAssign: _of_arithmetic,
  ast.Compare: _of_comparison,
  ast.BoolOp: lambda node: [('and/or', _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And()))],
  ast.UnaryOp: _of_sign,
  ast.If: _of_condition,
  ast.IfExp: lambda node: [('branches', _with(node, body=node.orelse, orelse=node.body))],
  ast.Constant: _of_constant,
  ast.Expr: _of_expression,
}


def _faults(node: ast.AST) -> Iterable[tuple[str, ast.AST]]:
  return _FAULTS.get(type(node), lambda node: ())(node)


def _untouched(node: ast.AST) -> bool:
  match node:
    case ast.Raise() | ast.JoinedStr() | ast.Import() | ast.ImportFrom():
      return True
    case ast.keyword(arg='strict' | 'autograph'):  # Without them only the speed changes.
      return True
    case ast.Assign(targets=[ast.Name(id='__all__')]) | ast.If(test=ast.Name(id='TYPE_CHECKING')):
      return True
    case ast.BinOp(left=left, right=right):  # Text or a path that is put together.
      return any(isinstance(side, ast.Constant) and isinstance(side.value, str) for side in (left, right)) or (
        isinstance(left, ast.BinOp) and _untouched(left)
      )
    case ast.Expr(value=ast.Call(func=function)):
      return ast.unparse(function).split('.')[0] in ('logging', 'warnings', 'print')
  return False


def places(root: pathlib.Path, module: str) -> tuple[ast.Module, list[Place]]:
  """Returns a module's tree and all faults for it; `module` is its path from `root`."""
  found = []

  def walk(parent: ast.AST, names: tuple[str, ...], statement: ast.AST) -> None:
    for field, value in ast.iter_fields(parent):
      for i, node in enumerate(value if isinstance(value, list) else [value]):
        if field in _UNTOUCHED_FIELDS or not isinstance(node, ast.AST) or _untouched(node):
          continue
        inner_names = (*names, node.name) if isinstance(node, _DEFINITIONS) else names
        inner = node if isinstance(node, ast.stmt) else statement
        for operator, new in _faults(node):
          put = parent, field, i if isinstance(value, list) else None, node, new
          before = _text(inner)
          with _replaced(*put):
            after = _text(new if inner is node else inner)
          found.append(Place('.'.join(inner_names) or '<module>', operator, before, after, put))
        walk(node, inner_names, inner)

  tree = ast.parse((root / module).read_text(encoding='utf-8'))
  walk(tree, (), tree)
  return tree, found


def rooms(root: pathlib.Path, commits: int) -> dict[str, list[str]]:
  """Returns the modules of each room, or the newest modules if there are `commits`: those with the most changed lines.

  Configurations are left out, because most of their constants are a choice.
  """
  if not commits:
    paths = {room: {path for p in patterns for path in (root / PACKAGE).glob(p)} for room, patterns in ROOMS.items()}
    return {room: sorted(path.relative_to(root).as_posix() for path in found) for room, found in paths.items()}
  log = ['git', 'log', f'-{commits}', '--numstat', '--no-renames', '--format=', '--', f'{PACKAGE}/*.py']
  changed = collections.Counter()
  for line in subprocess.run(log, cwd=root, check=True, capture_output=True, text=True).stdout.splitlines():
    added, removed, module = line.split('\t')
    changed[module] += int(added) + int(removed)
  newest = [m for m, _ in changed.most_common() if (root / m).exists() and not m.startswith(f'{PACKAGE}/configs/')]
  return {'newest': sorted(newest[:_NEWEST])}


def draw(root: pathlib.Path, count: int, seed: int, commits: int) -> list[dict]:
  """Draws equally many faults from each room, from its modules in turn; all kinds are equally likely."""
  rng = random.Random(seed)
  drawn, drawn_from = [], rooms(root, commits)
  for number, (room, names) in enumerate(drawn_from.items()):
    modules = {}
    for module in names:
      found = [{n: v for n, v in vars(place).items() if n != 'put'} for place in places(root, module)[1]]
      modules[module] = [record | {'module': module, 'index': i} for i, record in enumerate(found)]
    wanted = count // len(drawn_from) + (number < count % len(drawn_from))
    taken = []
    while len(taken) < wanted and any(modules.values()):
      for module in rng.sample(sorted(modules), len(modules)):
        if modules[module] and len(taken) < wanted:
          operator = rng.choice(sorted({record['operator'] for record in modules[module]}))
          record = rng.choice([record for record in modules[module] if record['operator'] == operator])
          modules[module].remove(record)
          taken.append(record)
    drawn += [{'id': f'{room}-{i:02}', 'room': room} | record for i, record in enumerate(taken)]
  return drawn


def own_tests(root: pathlib.Path, module: str, room: str, whole_room: bool) -> list[str]:
  """Returns a module's test files, and then the rest of its room's if `whole_room` or if it has none."""
  parts = pathlib.Path(module).with_suffix('').parts[1:]
  folder = pathlib.Path('tests', parts[0] if len(parts) > 1 else room)
  own = pathlib.Path('tests', *parts[:-1], f'test_{parts[-1]}.py')
  named = dict.fromkeys([own, *(folder / name for name in SHARED_TESTS.get(folder.name, []))])
  rest = sorted(path.relative_to(root) for path in (root / folder).rglob('test_*.py'))
  files = [path for path in named if (root / path).exists()]
  if whole_room or own not in files:
    files += [path for path in rest if path not in files]
  return [path.as_posix() for path in files]


def run_tests(
  checkout: pathlib.Path, tests: list[str], marks: str, cpu: int, wall: int, memory: int
) -> tuple[int, str]:
  """Runs tests in a copy of the checkout; returns pytest's exit status, and the first failure in words."""
  environment = {name: value for name, value in os.environ.items() if name != 'FLOWGAN_TEST_MNIST_DIR'}
  environment |= {'TF_NUM_INTRAOP_THREADS': '1', 'TF_NUM_INTEROP_THREADS': '1', 'TF_CPP_MIN_LOG_LEVEL': '2'}
  # Programs that tests start import the copy too. Bytecode of another fault of the same length could look current.
  environment |= {'PYTHONPATH': str(checkout), 'PYTHONDONTWRITEBYTECODE': '1'}
  # A fault may ask for any amount of memory, and the machine would then kill other processes.
  limit = ['sh', '-c', f'ulimit -c 0; ulimit -S -t {cpu}; ulimit -v {memory * 2**20}; exec "$0" "$@"']
  scratch = checkout.parent / f'{checkout.name}-tmp'
  pytest = [sys.executable, '-m', 'pytest', '-x', '-q', '-p', 'no:cacheprovider', f'--basetemp={scratch}', '-m', marks]
  with tempfile.TemporaryFile('w+', encoding='utf-8', errors='replace') as log:
    process = subprocess.Popen(
      [*limit, *pytest, *tests], cwd=checkout, env=environment, stdout=log, stderr=log, start_new_session=True
    )
    try:
      status = process.wait(wall)
      cause = signal.Signals(-status).name if status < 0 else ''
    except subprocess.TimeoutExpired:
      status, cause = -1, f'{wall} s have passed'
    finally:
      with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
      process.wait()
    log.seek(0)
    lines = log.read().splitlines()
  failures = [line for line in lines if line.startswith(('FAILED ', 'ERROR '))] or lines[-1:]
  return status, cause or (failures[0] if failures else '')


def run(root: pathlib.Path, mutants: list[dict], results: pathlib.Path, args: argparse.Namespace) -> list[dict]:
  """Runs the tests of each fault, and keeps the outcomes in `results`."""
  known = {r['id']: r for r in json.loads(results.read_text())} if results.exists() else {}
  # The rest of the room's tests may yet kill what survived its module's tests.
  done = {i for i, r in known.items() if r['outcome'] != 'survived' or r['whole_room'] or not args.whole_room}
  modules = {mutant['module'] for mutant in mutants}
  package = {module: places(root, module) for module in modules if (root / module).exists()}
  tasks = []
  for mutant in mutants:
    if mutant['id'] not in done:
      tree, found = package.get(mutant['module'], (None, []))
      place = found[mutant['index']] if mutant['index'] < len(found) else None
      if place is None or place.statement_after != mutant['statement_after']:
        raise SystemExit(f'{mutant["module"]} has changed since its faults were drawn. Draw them again.')
      with _replaced(*place.put):
        tasks.append((mutant, ast.unparse(tree)))
  with tempfile.TemporaryDirectory(prefix='mutants-') as folder:
    copies = queue.SimpleQueue()
    tracked = subprocess.run(['git', 'ls-files', '-z'], cwd=root, check=True, capture_output=True, text=True).stdout
    for job in range(args.jobs):
      checkout = pathlib.Path(folder, f'job{job}')
      for name in filter(os.path.lexists, (str(root / name) for name in tracked.split('\0') if name)):
        target = checkout / os.path.relpath(name, root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(name, target, follow_symlinks=False)
      copies.put(checkout)

    def test(mutant: dict, source: str) -> dict:
      checkout = copies.get()
      path = checkout / mutant['module']
      original = path.read_bytes()
      start = time.monotonic()
      try:
        path.write_text(source, encoding='utf-8')
        tests = own_tests(root, mutant['module'], mutant['room'], args.whole_room)
        status, cause = run_tests(checkout, tests, args.marks, args.cpu, args.wall, args.memory)
      finally:
        path.write_bytes(original)
        copies.put(checkout)
      found = {'whole_room': args.whole_room, 'tests': tests}
      outcome = 'survived' if status in (0, 5) else 'killed'
      return mutant | found | {'outcome': outcome, 'status': status, 'by': cause, 'seconds': time.monotonic() - start}

    checkout = copies.get()
    for tests in {tuple(sorted(own_tests(root, m['module'], m['room'], args.whole_room))) for m, _ in tasks}:
      print(f'without a fault: {" ".join(tests)}', flush=True)
      status, cause = run_tests(checkout, [*tests], args.marks, args.cpu, args.wall, args.memory)
      if status not in (0, 5):  # Every fault would count as killed.
        raise SystemExit(f'{" ".join(tests)}: fails without a fault: {cause}')
    copies.put(checkout)

    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
      for future in concurrent.futures.as_completed([pool.submit(test, *task) for task in tasks]):
        result = future.result()
        known[result['id']] = result
        write_atomically(results, json.dumps(list(known.values()), indent=1))
        print(f'{result["id"]:<14}{result["outcome"]:<10}{result["seconds"]:6.0f} s  {result["by"][:120]}', flush=True)
  return [known[mutant['id']] for mutant in mutants]


def main() -> None:
  """Reads the command line."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  commands = parser.add_subparsers(dest='command', required=True)
  drawing = commands.add_parser('draw', help='draw faults')
  drawing.add_argument('--count', type=int, default=150)
  drawing.add_argument('--seed', type=int, default=0)
  drawing.add_argument('--commits', type=int, default=0, help='draw from the modules that these newest commits changed')
  running = commands.add_parser('run', help='run the tests of each fault')
  running.add_argument('mutants', type=pathlib.Path)
  running.add_argument('--jobs', type=int, default=2)
  running.add_argument('--marks', default='not slow', help='tests to run, as in `pytest -m`')
  running.add_argument('--whole_room', '--whole-room', action='store_true', help="run the tests of the module's room")
  running.add_argument('--cpu', type=int, default=400, help='seconds of processor time that kill a fault')
  running.add_argument('--wall', type=int, default=1200, help='seconds that kill a fault')
  running.add_argument('--memory', type=int, default=8, help='GiB of addresses that a test process may have')
  for command in (drawing, running):
    command.add_argument('--json', type=pathlib.Path, required=True)
    command.add_argument('--root', type=pathlib.Path, default=pathlib.Path(__file__).parents[1], help='the checkout')
  args = parser.parse_args()
  root = args.root.resolve()
  if args.command == 'draw':
    args.json.write_text(json.dumps(draw(root, args.count, args.seed, args.commits), indent=1))
    return
  counts = collections.defaultdict(collections.Counter)
  for result in run(root, json.loads(args.mutants.read_text()), args.json, args):
    for row in (result['room'], 'all'):
      counts[row].update(['drawn', result['outcome']])
  columns = 'drawn', 'killed', 'survived'
  print(''.join(f'{word:>10}' for word in ('room', *columns)))
  for room, count in sorted(counts.items(), key=lambda item: item[0] == 'all'):
    print(f'{room:>10}' + ''.join(f'{count[column]:>10}' for column in columns))


if __name__ == '__main__':
  main()

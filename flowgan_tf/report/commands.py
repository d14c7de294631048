"""The commands that reproduce a run's numbers, from what its files say, on any machine."""

import dataclasses
import functools
import importlib
import os
import pathlib
import shlex
from collections.abc import Sequence

from ml_collections import config_dict

from flowgan_tf.configs import cifar10, fashion_mnist, mnist
from flowgan_tf.runs.config import idle, settings, short_flags, used, without_plugins
from flowgan_tf.runs.record import PLACES
from flowgan_tf.study import ANALYSES
from flowgan_tf.study.analysis import Analysis
from flowgan_tf.study.summary import Summary

_CONFIGS = ('digits', 'mnist', 'fashion_mnist', 'images', 'table')
_DEFAULT = 'configs/digits.py'  # what bin/train uses without --config and --dataset


def train(run: Summary) -> str:
  """Returns the command that trains a run again, from the shipped configuration that is nearest to its own."""
  return training(run.config, run.path)


def training(config: config_dict.ConfigDict, workdir: str | os.PathLike) -> str:
  """Returns the command that trains a run with a configuration in a folder."""
  known = without_plugins(config)  # A report imports none.
  wanted = {n: value for n, value in settings(used(config)).items() if n not in PLACES and not idle(n, known)}
  if pathlib.Path(config.init_from).is_relative_to(pathlib.Path.cwd()):
    wanted['init_from'] = os.path.relpath(config.init_from)  # Relative to here, like the runs in the commands.
  bases = {path: settings(base) for path, base in _shipped().items()}
  # No flag can unset a number that a shipped configuration has and this one leaves open.
  left_open = [name for name, value in wanted.items() if value is None]
  bases = {path: base for path, base in bases.items() if all(base.get(name) is None for name in left_open)}
  differences = {path: [n for n, value in wanted.items() if value != base.get(n)] for path, base in bases.items()}
  nearest = min(differences, key=lambda path: len(differences[path]))
  short_names = short_flags(known)
  different = dict.fromkeys(['objective', *['lambda'] * (config.objective == 'hybrid'), *differences[nearest]])
  # Without --config, a condition other than a label changes the number of components.
  is_default = nearest == _DEFAULT and 'dataset' not in different and config.condition in ('', 'label')
  flags = [] if is_default else [f'--config={nearest}']
  for name in different:
    value = wanted.get(name)
    if name == 'jit':
      flags.append('--jit' if value else '--nojit')
    elif name == 'lambda':
      flags.append(f'--lambda={short(config["lambda"])}')
    elif name in short_names:
      flags.append(f'--{name}={",".join(value) if isinstance(value, list) else value}')
    else:
      flags.append(f'--config.{name}={tuple(value) if isinstance(value, list) else value}')
  return shell(['bin/train', *flags, f'--workdir={workdir}'])


@functools.cache
def _shipped() -> dict[str, config_dict.ConfigDict]:
  """The configurations that come with the package, by path; the default of `bin/train` comes first."""
  others = {f'configs/{name}.py': importlib.import_module(f'flowgan_tf.configs.{name}') for name in _CONFIGS}
  found = {path: module.get_config() for path, module in others.items()}
  for module in (mnist, fashion_mnist, cifar10):
    path = f'configs/{module.__name__.rpartition(".")[2]}.py'
    found |= {f'{path}:{variant}': module.get_config(variant) for variant in module.VARIANTS}
  return found


def evaluate(run: Summary, record: dict) -> str:
  """Returns the command that repeats the evaluation behind a record of `evaluation.json`."""
  words = ['bin/evaluate', run.path, f'--split={record["split"]}', f'--samples={record.get("score_samples", 0)}']
  if 'scorer' in record and (scorer := record['scorer'].removesuffix('_v3')) != run.config.scorer:
    words.append(f'--scorer={scorer}')
  return shell(words + ['--float64'] * ('nll_float64' in record))


def analyze(runs: Sequence[Summary], what: str) -> str | None:
  """Returns the command that applies an analysis to runs again; None if their settings or checkpoints differ."""
  flags = {
    (f'--checkpoint={record["checkpoint"]}', *(f'--{n}={v}' for n, v in _flags_of(what, record).items() if v != ''))
    for record in (run.studies[what].record for run in runs)
  }
  if len(flags) > 1:
    return None
  name = runs[0].studies[what].record.get('plugin', what)
  return shell(['bin/analyze', *(run.path for run in runs), f'--what={name}', *flags.pop()])


def _flags_of(what, record):
  """Returns the flags of an analysis of the package, and no other: a stranger's record could add --trust.

  What is a setting of an analysis from outside is not known.
  """
  analysis = dict(ANALYSES).get(what)
  known = {field.name for field in dataclasses.fields(analysis.Settings)} if analysis else ()
  found = {name: value for name, value in record['settings'].items() if name in known}
  found |= {'label': record['label']} if 'label' in record else {}
  return {name: ','.join(map(str, value)) if isinstance(value, list) else value for name, value in found.items()}


def missing(runs: Sequence[Summary], what: Sequence[Analysis]) -> list[str]:
  """Returns the commands for what no run has yet: the analyses `what` or, if that is empty, the evaluation."""
  if not what:
    return [shell(['bin/evaluate', run.path]) for run in runs]
  suited: dict[tuple[str, ...], list[Analysis]] = {}
  for analysis in what:
    suited.setdefault(tuple(run.path for run in runs if not analysis.refuses(run.given)), []).append(analysis)
  suited.pop((), None)
  return [
    shell(
      ['bin/analyze', *paths, f'--what={",".join(a.name for a in found)}', *(f for a in found for f in a.needs_flags)]
    )
    for paths, found in suited.items()
  ]


def short(number: float) -> str:
  """The shortest text that still reads as the same number."""
  return text if float(text := f'{number:g}') == number else repr(number)


def shell(words: Sequence[str]) -> str:
  """Joins words to a command for bash and zsh, which runs as it reads: it has no control characters or line ends."""
  return ' '.join(shlex.quote(word) if word.isprintable() else f"$'{_escaped(word)}'" for word in words)


def _escaped(word: str) -> str:
  def escape(character: str) -> str:
    if character.isprintable():
      return f'\\{character}' if character in "'\\" else character
    if '\udc80' <= character <= '\udcff':  # A byte of a path that is not UTF-8, as Python reads it.
      return f'\\x{ord(character) - 0xDC00:02x}'
    return f'\\U{ord(character):08x}'

  return ''.join(map(escape, word))

"""The commands that reproduce a run's numbers, from what its files say, on any machine."""

import dataclasses
import shlex
from collections.abc import Sequence

from flowgan_tf.study import ANALYSES
from flowgan_tf.study.analysis import Analysis
from flowgan_tf.study.summary import Summary


def train(commands: Sequence[Sequence[str]]) -> str:
  """Returns the commands that trained a run, of which each but the first resumes it; '' if none is known."""
  return ' && '.join(shell(['bin/train', *arguments]) for arguments in commands)


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
  analysis = ANALYSES.get(what)
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
    suited.setdefault(tuple(run.path for run in runs if not analysis.rejects(run.condition)), []).append(analysis)
  suited.pop((), None)
  return [
    shell(
      ['bin/analyze', *paths, f'--what={",".join(a.name for a in found)}', *(f for a in found for f in a.needs_flags)]
    )
    for paths, found in suited.items()
  ]


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

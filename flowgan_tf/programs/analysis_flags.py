"""Flags of the registered analyses, which `analyze` and `sweep` share."""

from __future__ import annotations

import dataclasses
import sys
import textwrap
from typing import Any

from absl import flags

from flowgan_tf.errors import UsageError
from flowgan_tf.study import ANALYSES

__all__ = ['define', 'settings_of']

FLAGS = flags.FLAGS


def define(module: str) -> None:
  """Defines a flag for each field of the analyses' settings, and describes the analyses in the program's help.

  Analyses that have a field of the same name share its flag. If the program already has a flag of that name, the flag
  keeps its meaning, and the analyses use their default.

  Args:
    module: Name of the program's module.
  """
  fields, users = {}, {}
  for analysis in ANALYSES.values():
    for field in dataclasses.fields(analysis.Settings):
      fields.setdefault(field.name, field)
      users.setdefault(field.name, []).append(analysis.name)
  for name, field in fields.items():
    if name in FLAGS:
      continue
    kind = flags.DEFINE_integer if isinstance(field.default, int) else flags.DEFINE_string
    whose = '' if len(users[name]) == len(ANALYSES) else f'{", ".join(users[name])}: '
    kind(name, field.default, whose + field.metadata['description'], module_name=module)
  about = [f'{a.name:11} {a.description}{f" ({a.paper})" if a.paper else ""}' for a in ANALYSES.values()]
  about = [textwrap.fill(text, 100, initial_indent='  ', subsequent_indent=' ' * 14) for text in about]
  sys.modules[module].__doc__ = '\n'.join([sys.modules[module].__doc__.rstrip(), '', 'Analyses:', *about, ''])


def settings_of(what: list[str], module: str) -> dict[str, dict[str, Any]]:
  """Reads the settings of analyses from the flags that `define` made.

  Args:
    what: Names of the analyses.
    module: Name of the program's module.

  Returns:
    For each analysis, its settings by name.

  Raises:
    UsageError: If there is no such analysis, or a value is out of range.
  """
  if unknown := [name for name in what if name not in ANALYSES]:
    raise UsageError(f'`what` must be one or more of {", ".join(ANALYSES)}. Got: {unknown[0]!r}.')
  ours = {flag.name for flag in FLAGS.flags_by_module_dict()[module]}
  settings = {}
  for name in what:
    values = {f.name: FLAGS[f.name].value for f in dataclasses.fields(ANALYSES[name].Settings) if f.name in ours}
    settings[name] = dataclasses.asdict(ANALYSES[name].Settings(**values))
  return settings

"""Writes docs/api/ and docs/settings.md from `__all__`, docstrings and declarations: `python docs/reference.py`.

A page of the API reference starts with a table, which a code host shows. The site shows the docstrings themselves below
it. The page of settings has what their owners declare.
"""

from __future__ import annotations

import inspect
import itertools
import pathlib
import types

import flowgan_tf as fg
from flowgan_tf.runs.config import declared

FOLDER = pathlib.Path(__file__).parent
OF_ROOMS = ('__version__', 'UsageError', 'check', 'load_pretrained')
ROOMS = [name for name in fg.__all__ if name not in OF_ROOMS]


def pages() -> dict[str, str]:
  """Returns the text of each page by its file's name."""
  rows = [f'| [`fg.{room}`]({room}.md) | {_summary(getattr(fg, room))} |' for room in ROOMS]
  index = f"""# API reference

`import flowgan_tf as fg` offers these modules, as in `fg.flows.nice`.

| module | what it holds |
|---|---|
{chr(10).join(rows)}

`fg.load_pretrained` is [`fg.runs.load_pretrained`](runs.md), and `fg.check` is [`fg.checks.check`](checks.md).
`fg.UsageError` is the `ValueError` of a wrong argument, and names it in its attribute `argument`.

Images are float32 `[batch, height, width, channels]` in [0, 1]. Densities are in nats with respect to that unit cube.
The forward direction of a flow maps noise to images.

```{{toctree}}
:hidden:

{chr(10).join(ROOMS)}
```
"""
  api = {'index.md': index} | {f'{room}.md': _page(room) for room in ROOMS}
  return {f'api/{name}': text for name, text in api.items()} | {'settings.md': _settings()}


def _page(room: str) -> str:
  module = getattr(fg, room)
  rows = [f'| `fg.{room}.{name}` | {_summary(getattr(module, name))} |' for name in module.__all__]
  return f"""# `fg.{room}`

{_summary(module)}

| name | what it is |
|---|---|
{chr(10).join(rows)}

```{{eval-rst}}
.. automodule:: flowgan_tf.{room}
   :members:
```
"""


def _settings() -> str:
  sections = [
    """# Settings

`--NAME=VALUE` or `--config.NAME=VALUE` changes a setting of `bin/train`, and a config file sets `config.NAME`. Where
the first column has the short form, both work. The config files change some of these defaults; [Data](data.md) says
which file a training takes. A flag that has no effect, such as `--divergence` with `--objective=mle`, is rejected.
"""
  ]
  shared: dict[tuple[str, str, str], list[str]] = {}  # the generators' settings, by name, values and meaning
  for (owner, block), found in itertools.groupby(
    declared().items(), lambda item: (item[1].owner, item[0].rpartition('.')[0])
  ):
    if block == 'critic_optimizer':
      flag = '--config.critic_optimizer.learning_rate'
      sections.append(f'## `{block}`\n\nThe same settings for the critic, such as `{flag}`.\n')
      continue
    rows = []
    for name, (_, setting) in found:
      flag = f'--{"" if setting.short else "config."}{name}'
      default = '' if setting.default in (None, '') else f'`{setting.default}`'
      if block in fg.flows.GENERATORS:
        key = name.removeprefix(block), setting.values, setting.description
        shared.setdefault(key, []).append(f'`{name}={setting.default}`')
      else:
        rows.append([f'`{flag}`', default, setting.values, setting.description])
    title = f'`{block}`: {_summary(owner)}' if block else _summary(owner)
    if block in fg.objectives.CRITICS:
      title = f'`{block}`: the arguments of [`fg.objectives.{block}`](api/objectives.md)'
    if rows:
      sections.append(_table(title.rstrip('.'), ['setting', 'default', 'values', 'meaning'], rows))
  rows = [[', '.join(names), values, meaning] for (_, values, meaning), names in shared.items()]
  title = 'The arguments of [generators](api/flows.md), such as `--config.jet.couplings=16`'
  sections.append(_table(title, ['default', 'values', 'meaning'], rows))
  kinds = [[kind.written.replace("'", '`'), _summary(kind)] for name, kind in fg.data.CONDITIONS.items() if name]
  sections.append(_table('Kinds of conditions', ['`--condition=`', 'what the flow is given'], kinds))
  return '\n'.join(sections)


def _table(title: str, columns: list[str], rows: list[list[str]]) -> str:
  rows = [[text.replace('|', '\\|') for text in row] for row in rows]
  head, *lines = [f'| {" | ".join(line)} |\n' for line in [columns, *rows]]
  return f'## {title}\n\n{head}|{"---|" * len(columns)}\n{"".join(lines)}'


def _summary(value: object) -> str:
  """Returns the first paragraph of a docstring on one line, or the type and entries of a constant."""
  if isinstance(value, types.ModuleType | type) or inspect.isroutine(value):
    return ' '.join(inspect.getdoc(value).split('\n\n')[0].split()).replace('|', '\\|')
  entries = value if isinstance(value, dict | tuple | list) else [value]
  return f'{type(value).__name__}: {", ".join(f"`{entry}`" for entry in entries)}'


if __name__ == '__main__':
  for file in FOLDER.glob('api/*.md'):
    file.unlink()
  for name, text in pages().items():
    (FOLDER / name).write_text(text, encoding='utf-8')

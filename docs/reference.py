"""Writes docs/api/, the pages of the API reference, from `__all__` and the docstrings: `python docs/reference.py`.

A page starts with a table, which a code host shows. The site shows the docstrings themselves below it.
"""

from __future__ import annotations

import inspect
import pathlib
import types

import flowgan_tf as fg

FOLDER = pathlib.Path(__file__).parent / 'api'
ROOMS = [name for name in fg.__all__ if name not in ('__version__', 'check', 'load_pretrained')]


def pages() -> dict[str, str]:
  """Returns the text of each page by its file's name."""
  rows = [f'| [`fg.{room}`]({room}.md) | {_summary(getattr(fg, room))} |' for room in ROOMS]
  index = f"""# API reference

`import flowgan_tf as fg` offers these modules, as in `fg.flows.nice`.

| module | what it holds |
|---|---|
{chr(10).join(rows)}

`fg.load_pretrained` is [`fg.runs.load_pretrained`](runs.md), and `fg.check` is
[`fg.soundness.check`](soundness.md).

Images are float32 `[batch, height, width, channels]` in [0, 1]. Densities are in nats with respect to that unit cube.
The forward direction of a flow maps noise to images.

```{{toctree}}
:hidden:

{chr(10).join(ROOMS)}
```
"""
  return {'index.md': index} | {f'{room}.md': _page(room) for room in ROOMS}


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


def _summary(value: object) -> str:
  """Returns the first paragraph of a docstring on one line, or the type and entries of a constant."""
  if isinstance(value, types.ModuleType | type) or inspect.isroutine(value):
    return ' '.join(inspect.getdoc(value).split('\n\n')[0].split()).replace('|', '\\|')
  entries = value if isinstance(value, dict | tuple | list) else [value]
  return f'{type(value).__name__}: {", ".join(f"`{entry}`" for entry in entries)}'


if __name__ == '__main__':
  FOLDER.mkdir(exist_ok=True)
  for file in FOLDER.glob('*.md'):
    file.unlink()
  for name, text in pages().items():
    (FOLDER / name).write_text(text, encoding='utf-8')

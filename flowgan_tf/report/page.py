"""One HTML file that needs nothing else: text, tables whose numbers name their commands, figures, code."""

from __future__ import annotations

import base64
import dataclasses
import importlib.resources
import json
import string
import struct
from collections.abc import Sequence
from html import escape

__all__ = ['Cell', 'Code', 'Figure', 'Page', 'Section', 'Table', 'render']


@dataclasses.dataclass(frozen=True)
class Cell:
  """A cell of a table.

  Attributes:
    text: What it shows.
    value: The number that its column is sorted by. A column with numbers is aligned to the right.
    command: What made the number: the text links to it in the page's last section, and shows it as a tooltip.
    href: Where the text links to instead: `https://...`, or `#...` within the page.
  """

  text: str
  value: float | None = None
  command: str | None = None
  href: str | None = None

  def __post_init__(self):
    if self.href is not None and not self.href.startswith(('https://', '#')):
      raise ValueError(f'`href` must begin with https:// or #. Got: {self.href!r}')


@dataclasses.dataclass(frozen=True)
class Table:
  """A table that a reader can sort by any of its columns.

  Attributes:
    caption: Above it.
    header: Name of each column.
    rows: As many cells each as the header has. The first cell names the row; `''` is left empty, and sorted last.
  """

  caption: str
  header: Sequence[str]
  rows: Sequence[Sequence[str | Cell]]

  def __post_init__(self):
    for row in self.rows:
      if len(row) != len(self.header):
        raise ValueError(f'`rows` must have {len(self.header)} cells each, as the header has. Got: {len(row)} in {row}')


@dataclasses.dataclass(frozen=True)
class Figure:
  """A picture with its caption.

  Attributes:
    image: An `<svg>` element, which becomes part of the page and must be trusted, or a PNG file.
    alt: What it shows, for those who do not see it.
    caption: Below it.
    command: What made it, as in `Cell`.
  """

  image: str | bytes
  alt: str
  caption: str
  command: str | None = None

  def __post_init__(self):
    start = '<svg ' if isinstance(self.image, str) else b'\x89PNG\r\n\x1a\n'
    if not self.image.startswith(start):
      raise ValueError(f'`image` must be an <svg> element or the bytes of a PNG file. Got: {self.image[:20]!r}')
    if not self.alt.strip():
      raise ValueError(f'`alt` must be a text. Got: {self.alt!r}')


@dataclasses.dataclass(frozen=True)
class Code:
  """Lines of code or of a terminal."""

  text: str


@dataclasses.dataclass(frozen=True)
class Section:
  """A chapter of the page.

  Attributes:
    title: In the table of contents too.
    items: Paragraphs, as HTML whose foreign parts are escaped already; tables, figures and code; a list of figures
      stands side by side where the screen is wide enough.
  """

  title: str
  items: Sequence[str | Table | Figure | Code | Sequence[Figure]]


@dataclasses.dataclass(frozen=True)
class Page:
  """A page.

  Attributes:
    title: Also the window's.
    sections: In their order.
    lead: A paragraph under the title, as HTML whose foreign parts are escaped already.
  """

  title: str
  sections: Sequence[Section]
  lead: str = ''


def render(page: Page) -> str:
  """Writes the page as one HTML file: nothing is loaded from elsewhere, and equal pages give equal text.

  Whatever is not said to be HTML is escaped. If anything has a command, a section that lists each command once ends
  the page.
  """
  commands = _Commands()
  sections = [(section.title, [_item(item, commands) for item in section.items]) for section in page.sections]
  if commands.numbers:
    sections.append(('Commands', [_command_list(commands)]))
  contents, body = [], []
  for n, (title, items) in enumerate(sections, 1):
    contents.append(f'<li><a href="#section-{n}">{escape(title)}</a></li>')
    heading = f'<h2 id="heading-{n}">{escape(title)}</h2>'
    body.append('\n'.join([f'<section id="section-{n}" aria-labelledby="heading-{n}">', heading, *items, '</section>']))
  template = importlib.resources.files('flowgan_tf.report').joinpath('page_template.html')
  return string.Template(template.read_text(encoding='utf-8')).substitute(
    title=escape(page.title),
    lead=f'<p class="lead">{page.lead}</p>' if page.lead else '',
    contents='\n'.join(contents),
    sections='\n\n'.join(body),
  )


class _Commands:
  """Numbers the commands in the order of their first use."""

  def __init__(self):
    self.numbers: dict[str, int] = {}

  def link(self, command: str, text: str) -> str:
    n = self.numbers.setdefault(command, len(self.numbers) + 1)
    return f'<a href="#command-{n}" title="{escape(command)}">{text}</a>'


def _command_list(commands: _Commands) -> str:
  lines = [f'<li id="command-{n}">{_code(command)}</li>' for command, n in commands.numbers.items()]
  return '\n'.join(['<ol class="commands">', *lines, '</ol>'])


def _item(item: str | Table | Figure | Code | Sequence[Figure], commands: _Commands) -> str:
  match item:
    case str():
      return f'<p>{item}</p>'
    case Table():
      return _table(item, commands)
    case Figure():
      return _figure(item, commands)
    case Code():
      return _code(item.text)
  return '\n'.join(['<div class="beside">', *(_figure(figure, commands) for figure in item), '</div>'])


def _code(text: str) -> str:
  # What scrolls must take the focus of a keyboard.
  return f'<pre tabindex="0"><code>{escape(text)}</code></pre>'


def _table(table: Table, commands: _Commands) -> str:
  rows = [[Cell(cell) if isinstance(cell, str) else cell for cell in row] for row in table.rows]
  numeric = [any(row[i].value is not None for row in rows) for i in range(len(table.header))]
  classes = [' class="number"' if number else '' for number in numeric]
  header = ''.join(f'<th scope="col"{c}>{escape(name)}</th>' for name, c in zip(table.header, classes, strict=True))
  lines = []
  for row in rows:
    cells = []
    for i, cell in enumerate(row):
      tag, scope = ('th', ' scope="row"') if i == 0 else ('td', '')
      # As JavaScript writes infinity.
      value = '' if cell.value is None else f' data-value="{json.dumps(float(cell.value))}"'
      cells.append(f'<{tag}{scope}{classes[i]}{value}>{_cell(cell, commands)}</{tag}>')
    lines.append(f'<tr>{"".join(cells)}</tr>')
  caption = escape(table.caption)
  return '\n'.join(
    [
      f'<div class="scroll" role="region" aria-label="{caption}" tabindex="0"><table>',
      f'<caption><span>{caption}</span></caption>',
      f'<thead><tr>{header}</tr></thead>',
      '<tbody>',
      *lines,
      '</tbody></table></div>',
    ]
  )


def _cell(cell: Cell, commands: _Commands) -> str:
  text = escape(cell.text)
  if cell.href is not None:
    title = '' if cell.command is None else f' title="{escape(cell.command)}"'
    return f'<a href="{escape(cell.href)}"{title}>{text}</a>'
  return text if cell.command is None else commands.link(cell.command, text)


def _figure(figure: Figure, commands: _Commands) -> str:
  alt = escape(figure.alt)
  if isinstance(figure.image, str):
    image = figure.image.replace('<svg ', f'<svg role="img" aria-label="{alt}" ', 1)
  else:
    # The browser keeps the room of an image whose size it knows.
    width, height = struct.unpack('>II', figure.image[16:24])
    data = base64.b64encode(figure.image).decode()
    image = f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="{alt}">'
  command = '' if figure.command is None else f' {commands.link(figure.command, "command")}'
  return f'<figure>\n{image}\n<figcaption>{escape(figure.caption)}{command}</figcaption>\n</figure>'

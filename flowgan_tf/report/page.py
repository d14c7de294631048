"""One HTML file that needs nothing else: text, tables whose numbers name their commands, figures, code."""

import dataclasses
import re
from collections.abc import Sequence

import jinja2

from flowgan_tf.base.errors import printable
from flowgan_tf.display.figure import Figure
from flowgan_tf.display.tables import Column, Table


@dataclasses.dataclass(frozen=True)
class Code:
  """Lines of code or of a terminal."""

  text: str


class Missing(Code):
  """The commands that would fill a section."""


@dataclasses.dataclass(frozen=True)
class Section:
  """A chapter of the page: a title, which the table of contents shows too, and items in order.

  Figures in a list stand side by side where the screen is wide enough. A paragraph is escaped, unless it is a
  `markupsafe.Markup`, which is HTML.
  """

  title: str
  items: Sequence[str | Table | Figure | Code | Sequence[Figure]]


@dataclasses.dataclass(frozen=True)
class Page:
  """A page: a title, sections in order, and a paragraph at the end, escaped like a section's.

  Sections that hold nothing but the commands that would fill them are folded into one line at the end.
  """

  title: str
  sections: Sequence[Section]
  about: str = ''

  @property
  def filled(self) -> list[Section]:
    """The sections that say something."""
    return [section for section in self.sections if section not in self.missing]

  @property
  def missing(self) -> list[Section]:
    """The sections that no run has numbers for."""
    return [section for section in self.sections if all(isinstance(item, Missing) for item in section.items)]


def render(page: Page) -> str:
  """Writes the page as one HTML file that loads nothing from elsewhere. Equal pages give equal text.

  A number links to the address where it was published, or to the command that made it: a last section lists each
  command once. Whatever is not `markupsafe.Markup` is escaped.
  """
  html = _environment.get_template('page_template.html').render(page=page, commands=_Commands())
  # Texts of a stranger's files may have characters that act, and surrogates, which no file of text can hold.
  return re.sub('[^\n -~]+', lambda match: printable(match[0]), html)


class _Commands(dict):
  """The number of each command, in the order of first use."""

  def number(self, command: str) -> int:
    return self.setdefault(command, len(self) + 1)


def _has_numbers(column: Column, table: Table) -> bool:
  return any(isinstance(column.value(row), (int, float)) for row in table.rows)


_environment = jinja2.Environment(
  loader=jinja2.PackageLoader('flowgan_tf.report', '.'),
  autoescape=True,
  undefined=jinja2.StrictUndefined,
  trim_blocks=True,
  lstrip_blocks=True,
  keep_trailing_newline=True,
)
_environment.tests |= {
  'code': lambda item: isinstance(item, Code),
  'figure': lambda item: isinstance(item, Figure),
  'table': lambda item: isinstance(item, Table),
  'numeric_in': _has_numbers,
}

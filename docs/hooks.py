"""What MkDocs does beyond its settings: the start page is README.md, and docstrings are read as they are meant."""

from __future__ import annotations

import pathlib
import re

import griffe

_ROOT = pathlib.Path(__file__).parent.parent
# Pages that are files of the checkout's top folder, where GitHub looks for them.
_SHARED = {'index.md': 'README.md', 'contributing.md': 'CONTRIBUTING.md'}


def on_page_markdown(markdown: str, page, **_) -> str:
  """Fills in a shared page. Its links to files that are not on the site become plain text."""
  if page.file.src_uri not in _SHARED:
    return markdown
  text = (_ROOT / _SHARED[page.file.src_uri]).read_text(encoding='utf-8')
  text = text.replace('](docs/', '](').replace('src="docs/', 'src="').replace('](CONTRIBUTING.md', '](contributing.md')

  def linked(match: re.Match) -> str:
    target = match[2].partition('#')[0]
    return match[0] if ':' in target or not target or (_ROOT / 'docs' / target).exists() else match[1]

  return re.sub(r'(?<!!)\[([^\]]*)\]\(([^)]+)\)', linked, text)


class Docstrings(griffe.Extension):
  """Tells Griffe what it cannot see in our docstrings."""

  def on_instance(self, *, obj: griffe.Object, **_) -> None:
    """Rewrites one docstring before it is parsed."""
    if not obj.docstring:
      return
    # The lines `[1]: Author. Title.` under "References" are a numbered list.
    text = re.sub(r'^\[(\d+)\]: ', r'\1. ', obj.docstring.value, flags=re.MULTILINE)
    # What stands before a colon under "Returns" would be taken for a type.
    if obj.is_function and obj.returns:
      text = re.sub(r'^Returns:\n\s+', lambda match: f'{match[0]}{obj.returns}: ', text, flags=re.MULTILINE)
    obj.docstring.value = text

"""The site, by Sphinx: `make docs` writes it to site/. It asks no other server for anything."""

from __future__ import annotations

import pathlib
import re
import shutil
import sys
import textwrap

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

project = 'flowgan_tf'
project_copyright = 'Apache License 2.0'
extensions = [
  'myst_parser',
  'sphinx.ext.autodoc',
  'sphinx.ext.autosectionlabel',
  'sphinx.ext.napoleon',
  'sphinx.ext.viewcode',
  'sphinx_copybutton',
]
html_theme = 'furo'
html_title = 'flowgan_tf'
html_static_path = ['style']
html_css_files = ['tables.css']
html_copy_source = html_show_sourcelink = False
exclude_patterns = ['results/*.html']

# Headings get anchors as a code host gives them.
myst_heading_anchors = 4
myst_enable_extensions = ['html_image']  # Otherwise pictures with a width would be missing.
autosectionlabel_prefix_document = True
suppress_warnings = ['autosectionlabel.*']

autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_typehints_format = 'short'
autodoc_preserve_defaults = True
add_module_names = False
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
maximum_signature_line_length = 84


def as_restructured_text(app, what, name, obj, options, lines: list[str]) -> None:
  """Turns a docstring, which is Markdown with Google's sections, into what Sphinx reads."""

  def literal(match: re.Match) -> str:
    indent, language, body = match['indent'], match['language'] or 'none', match['body'] or match['table']
    block = f'\n.. code-block:: {"text" if language == "none" else language}\n\n' + textwrap.indent(
      textwrap.dedent(body), '   '
    )
    return textwrap.indent(block, indent) + '\n'

  def reference(match: re.Match) -> str:
    return f'{match[1]}. ' + ' '.join(match[2].split())

  text = '\n'.join(lines) + '\n'
  fenced = r'^(?P<indent> *)(?:```(?P<language>\w+)\n(?P<body>.*?)^ *```\n|(?P<table>\|.*\n(?: *\|.*\n)+))'
  parts = re.split(f'({re.sub(r"[?]P<[a-z]+>", "?:", fenced)})', text, flags=re.DOTALL | re.MULTILINE)
  for i, part in enumerate(parts):
    if i % 2:
      parts[i] = re.sub(fenced, literal, part, flags=re.DOTALL | re.MULTILINE)
    else:
      part = re.sub(r'^#### (.*)$', r'.. rubric:: \1', part, flags=re.MULTILINE)
      part = re.sub(r'^\[(\d+)\]: (.*(?:\n {2,}\S.*)*)', reference, part, flags=re.MULTILINE)
      # The s of a plural would otherwise not end the literal.
      parts[i] = re.sub(r'(?<!`)`([^`]+)`(?!`)(s?)', r'``\1``\\ \2', part)
  lines[:] = ''.join(parts).splitlines()


def with_links_of_the_site(app, path, document: str, content: list[str]) -> None:
  """Leads the links of README.md to pages of the site; those to other files become plain text."""
  text = content[0].replace('](CONTRIBUTING.md', '](docs/contributing.md')
  content[0] = re.sub(r'(?<!!)\[([^\]]*)\]\((?!docs/|https?:)[^)#]+\)', r'\1', text)


def with_pages_of_files(app, document: str, content: list[str]) -> None:
  """Leads links to files that GitHub shows and the site includes to the pages of the site that include them."""
  text = content[0].replace('](../SECURITY.md', '](security.md')
  content[0] = re.sub(r'\]\(\.\./flowgan_tf/pretrained/([\w-]+)\.md\)', r'](#model-card-pretrained\1)', text)


def with_reports(app, error) -> None:
  """Copies the pages of `bin/report` with their pictures. A link of Markdown would become a download without them."""
  target = pathlib.Path(app.outdir, 'results')
  shutil.copytree(ROOT / 'docs/results', target, ignore=shutil.ignore_patterns('*.md'), dirs_exist_ok=True)


def setup(app) -> None:
  """Registers these, so that docstrings are converted before Napoleon reads them, and shows each class once."""
  app.connect(
    'autodoc-skip-member', lambda app, what, name, obj, *_: (what == 'class' and isinstance(obj, type)) or None
  )
  app.connect('autodoc-process-docstring', as_restructured_text, priority=100)
  app.connect('include-read', with_links_of_the_site)
  app.connect('source-read', with_pages_of_files)
  app.connect('build-finished', with_reports)

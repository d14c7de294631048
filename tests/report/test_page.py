import base64
import html.parser
import os
import xml.etree.ElementTree as ET

import markupsafe
import numpy as np
from matplotlib.figure import Figure as Plot

from flowgan_tf.display.figure import Figure
from flowgan_tf.display.tables import Column, Row, Table
from flowgan_tf.report.page import Code, Page, Section, render

EVIL = '<script>alert("1")</script> & \'2\' {{ 3 }} {% raw %} -->'
PAPER = 'https://arxiv.org/abs/1705.08868'
COMMANDS = ['bin/evaluate --workdir=runs/mle', 'bin/evaluate --workdir=runs/adv']
VOID = {'br', 'img', 'link', 'meta'}


def pixels(width=3, height=2, alt='samples', caption='Samples.', command=None):
  return Figure.of_pixels(np.zeros((height, width, 3), np.uint8), alt, caption, command)


def plot(alt='a line', caption='Figure 2.', command=None):
  plot = Plot(figsize=(4, 3))
  plot.subplots().plot([0, 1], [0, 1])
  return Figure.of_plot(plot, alt, caption, command)


def row(name, score, nll, origin):
  return Row({'': {'name': name}, 'test': {'mode_score': score, 'nll': nll, 'standard_error': 1.5}}, {'test': origin})


def table_1():
  """The paper's table."""
  columns = [
    Column('Objective', 'name'),
    Column('MODE score', 'mode_score', '.2f', source='test'),
    Column('NLL (nats)', 'nll', ',.2f', error='standard_error', source='test', infinite='∞'),
  ]
  rows = [
    row('MLE', 7.42, -3334.56, COMMANDS[0]),
    row('non-saturating', 9.24, None, COMMANDS[1]),
    row('Hybrid', 9.37, -3342.95, PAPER),
  ]
  return Table('Table 1', columns, rows)


def whole_page():
  samples = [pixels(alt=f'samples {i}', caption=f'Samples {i}.') for i in range(2)]
  paragraph = markupsafe.Markup(f'See <a href="{PAPER}">the paper</a>.')
  return Page(
    'Flow-GAN',
    [
      Section('Tables', [paragraph, table_1()]),
      Section('Figures', [plot(command=COMMANDS[1]), samples, Code('bin/report runs/*\n  --out=x')]),
    ],
    about='Six runs.',
  )


class Tree(html.parser.HTMLParser):
  """Elements as (tag, attributes, text inside), with tags checked to nest."""

  def __init__(self, source):
    super().__init__()
    self.elements, self.open = [], []
    self.feed(source)
    self.close()
    assert not self.open, f'not closed: {self.open}'

  def handle_starttag(self, tag, attrs):
    attributes = dict(attrs)
    assert len(attributes) == len(attrs), f'an attribute twice: {attrs}'
    self.elements.append((tag, attributes, []))
    if tag not in VOID:
      self.open.append(self.elements[-1])

  def handle_startendtag(self, tag, attrs):
    self.elements.append((tag, dict(attrs), []))

  def handle_endtag(self, tag):
    assert self.open and self.open[-1][0] == tag, f'</{tag}> in {[tag for tag, *_ in self.open]}'
    self.open.pop()

  def handle_data(self, data):
    for _, _, text in self.open:
      text.append(data)

  def find(self, *tags):
    return [(attributes, ''.join(text)) for tag, attributes, text in self.elements if tag in tags]


def test_the_page_is_well_formed_and_loads_nothing_from_elsewhere():
  source = render(whole_page())
  assert source.startswith('<!DOCTYPE html>\n<html lang="en">') and '@import' not in source and 'url(' not in source
  tree = Tree(source)
  ids = [attributes['id'] for _, attributes, _ in tree.elements if 'id' in attributes]
  assert len(ids) == len(set(ids))
  for tag, attributes, _ in tree.elements:
    assert attributes.get('aria-labelledby', ids[0]) in ids
    for name, value in attributes.items():
      if name == 'href' and tag == 'a':
        assert value == PAPER or value.removeprefix('#') in ids
      elif name in ('src', 'srcset', 'data', 'action', 'poster', 'href'):
        assert value.startswith('data:'), f'{tag} {name}={value}'
  titles = ['Tables', 'Figures', 'Commands']
  assert [text for _, text in tree.find('h1', 'h2')] == ['Flow-GAN', *titles]
  links = {a['href']: text for a, text in tree.find('a')}
  assert [links[f'#{a["id"]}'] for a, _ in tree.find('section')] == titles
  assert [text for _, text in tree.find('title')] == ['Flow-GAN']
  assert 'Six runs.' in [text for _, text in tree.find('p')]


def test_pictures_are_data_with_alternatives_and_sizes():
  tree = Tree(render(whole_page()))
  images = [attributes for attributes, _ in tree.find('img')]
  expected = [('a line', '384', '288'), ('samples 0', '3', '2'), ('samples 1', '3', '2')]
  assert [(a['alt'], a['width'], a['height']) for a in images] == expected
  kinds, data = zip(*(a['src'].split(';base64,') for a in images), strict=True)
  assert kinds == ('data:image/svg+xml', 'data:image/png', 'data:image/png')
  svg, png, _ = (base64.b64decode(text, validate=True) for text in data)
  assert ET.fromstring(svg).tag == '{http://www.w3.org/2000/svg}svg' and png == pixels().data
  assert [text.strip() for _, text in tree.find('figcaption')] == ['Figure 2. command', 'Samples 0.', 'Samples 1.']


def test_table():
  tree = Tree(render(Page('p', [Section('s', [table_1()])])))
  assert [text for _, text in tree.find('caption')] == ['Table 1']
  cells = [(a.get('scope'), text, a.get('data-value'), a.get('class')) for a, text in tree.find('th', 'td')]
  assert cells == [
    ('col', 'Objective', None, None),
    ('col', 'MODE score\u00a0↑', None, 'number'),
    ('col', 'NLL (nats)\u00a0↓', None, 'number'),
    ('row', 'MLE', None, None),
    (None, '7.42', '7.42', 'number'),
    (None, '−3,334.56 ± 1.50', '-3334.56', 'number'),
    # The hyphen of a name is no minus.
    ('row', 'non-saturating', None, None),
    (None, '9.24', '9.24', 'number'),
    (None, '∞', 'Infinity', 'number'),  # After all numbers.
    ('row', 'Hybrid', None, None),
    (None, '9.37', '9.37', 'number'),
    (None, '−3,342.95 ± 1.50', '-3342.95', 'number'),
  ]


def test_every_command_is_listed_once_and_linked():
  tree = Tree(render(whole_page()))
  listed = {a['id']: text for a, text in tree.find('li') if 'id' in a}
  assert list(listed.values()) == COMMANDS
  linked = [(text, a) for a, text in tree.find('a') if a['href'].startswith('#command-')]
  assert [text for text, _ in linked] == ['7.42', '−3,334.56 ± 1.50', '9.24', '∞', 'command']
  commands = [COMMANDS[i] for i in (0, 0, 1, 1, 1)]
  assert [listed[a['href'][1:]] for _, a in linked] == [a['title'] for _, a in linked] == commands


def test_what_comes_from_outside_is_escaped():
  columns = [Column(EVIL, 'a'), Column(EVIL, 'b', infinite=EVIL)]
  rows = [Row({'': {'a': EVIL, 'b': None}}, {'': origin}) for origin in (EVIL, f'https://{EVIL}')]
  figures = [make(alt=EVIL, caption=EVIL, command=EVIL) for make in (plot, pixels)]
  items = [EVIL, Table(EVIL, columns, rows), *figures, figures, Code(EVIL)]
  tree = Tree(render(Page(EVIL, [Section(EVIL, items)], about=EVIL)))
  assert len(tree.find('script')) == 1  # The page's own.
  texts = [text for _, text in tree.find('title', 'h1', 'p', 'caption', 'th', 'td', 'code')]
  # Title, heading, paragraph, caption, two columns, two rows of two cells, code, about, command.
  assert texts == [EVIL] * 13
  assert [text for _, text in tree.find('figcaption')] == [f'{EVIL} command'] * 4
  assert {a['alt'] for a, _ in tree.find('img')} == {a['title'] for a, _ in tree.find('a') if 'title' in a} == {EVIL}
  assert {a['href'] for a, _ in tree.find('a') if not a['href'].startswith('#')} == {f'https://{EVIL}'}


def test_bytes_of_a_path_that_are_not_utf8_are_shown():
  path = os.fsdecode(b'runs/a\xff')
  table = Table('t', [Column('run', 'a')], [Row({'': {'a': path}}, {'': path})])
  tree = Tree(render(Page(path, [Section('s', [table])])))
  assert {text for _, text in tree.find('h1', 'th', 'code')} == {r'runs/a\xff', 'run'}

import base64
import html.parser
import io

import numpy as np
import pytest
from PIL import Image

from flowgan_tf.report.page import Cell, Code, Figure, Page, Section, Table, render

EVIL = '<script>alert("1")</script> & \'2\' -->'
SVG = '<svg viewBox="0 0 10 10" xmlns="http://www.w3.org/2000/svg"><path d="M0 0L9 9" stroke="currentColor"/></svg>'
COMMANDS = ['bin/evaluate --workdir=runs/mle', 'bin/evaluate --workdir=runs/adv']
VOID = {'br', 'img', 'link', 'meta'}


def png(width=3, height=2):
  file = io.BytesIO()
  Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(file, 'PNG')
  return file.getvalue()


def table_1():
  """The paper's table, a column of which is empty."""
  rows = [
    ['MLE', Cell('7.42', 7.42, COMMANDS[0]), Cell('−3,334.56', -3334.56, COMMANDS[0]), ''],
    ['ADV', Cell('9.24', 9.24, COMMANDS[1]), Cell('−1,604.09', -1604.09, COMMANDS[1]), ''],
    ['Hybrid', Cell('9.37', 9.37, href='https://arxiv.org/abs/1705.08868'), Cell('−3,342.95', -3342.95), ''],
  ]
  return Table('Table 1', ['Objective', 'MODE score', 'NLL (nats)', 'AIS'], rows)


def whole_page():
  figure = Figure(SVG, 'a line', 'Figure 2.', COMMANDS[1])
  samples = [Figure(png(), f'samples {i}', f'Samples {i}.') for i in range(2)]
  return Page(
    'Flow-GAN',
    [
      Section('Tables', ['See <a href="https://arxiv.org/abs/1705.08868">the paper</a>.', table_1()]),
      Section('Figures', [figure, samples, Code('bin/report runs/*')]),
    ],
    lead='Six runs.',
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


def test_well_formed():
  tree = Tree(render(whole_page()))
  ids = [attributes['id'] for _, attributes, _ in tree.elements if 'id' in attributes]
  assert len(ids) == len(set(ids))
  for attributes, _ in tree.find('a'):
    href = attributes['href']
    assert href.startswith('https://arxiv.org/') or href.removeprefix('#') in ids
  for _, attributes, _ in tree.elements:
    assert attributes.get('aria-labelledby', ids[0]) in ids


def test_nothing_is_loaded_from_elsewhere():
  source = render(whole_page())
  for tag, attributes, _ in Tree(source).elements:
    for name, value in attributes.items():
      if name in ('src', 'srcset', 'data', 'action', 'poster') or (name == 'href' and tag != 'a'):
        assert value.startswith('data:'), f'{tag} {name}={value}'
  assert '@import' not in source and 'url(' not in source


def test_images_have_alternatives_and_sizes():
  tree = Tree(render(whole_page()))
  assert [(a['role'], a['aria-label']) for a, _ in tree.find('svg')] == [('img', 'a line')]
  images = tree.find('img')
  assert [(a['alt'], a['width'], a['height']) for a, _ in images] == [('samples 0', '3', '2'), ('samples 1', '3', '2')]
  assert base64.b64decode(images[0][0]['src'].removeprefix('data:image/png;base64,')) == png()
  assert [text.strip() for _, text in tree.find('figcaption')] == ['Figure 2. command', 'Samples 0.', 'Samples 1.']


def test_contents_and_headings():
  tree = Tree(render(whole_page()))
  titles = ['Tables', 'Figures', 'Commands']
  assert [text for _, text in tree.find('h1', 'h2')] == ['Flow-GAN', 'Contents', *titles]
  links = {a['href']: text for a, text in tree.find('a')}
  assert [links[f'#{a["id"]}'] for a, _ in tree.find('section')] == titles
  assert [text for _, text in tree.find('title')] == ['Flow-GAN']
  assert 'Six runs.' in [text for _, text in tree.find('p')]


def test_table():
  tree = Tree(render(Page('p', [Section('s', [table_1()])])))
  assert [text for _, text in tree.find('caption')] == ['Table 1']
  cells = [(a.get('scope'), text, a.get('data-value'), a.get('class')) for a, text in tree.find('th', 'td')]
  assert cells[:8] == [
    ('col', 'Objective', None, None),
    ('col', 'MODE score', None, 'number'),
    ('col', 'NLL (nats)', None, 'number'),
    ('col', 'AIS', None, None),
    ('row', 'MLE', None, None),
    (None, '7.42', '7.42', 'number'),
    (None, '−3,334.56', '-3334.56', 'number'),
    (None, '', None, None),
  ]
  assert len(cells) == 16


def test_every_command_is_listed_once_and_linked():
  tree = Tree(render(whole_page()))
  listed = {a['id']: text for a, text in tree.find('li') if 'id' in a}
  assert list(listed.values()) == COMMANDS
  linked = [(text, listed[a['href'][1:]]) for a, text in tree.find('a') if a['href'].startswith('#command-')]
  assert linked == [
    ('7.42', COMMANDS[0]),
    ('−3,334.56', COMMANDS[0]),
    ('9.24', COMMANDS[1]),
    ('−1,604.09', COMMANDS[1]),
    ('command', COMMANDS[1]),
  ]
  assert [a['title'] for a, _ in tree.find('a') if 'title' in a] == [command for _, command in linked]


def test_a_link_of_its_own_goes_before_the_command():
  cell = Cell('9.37', 9.37, COMMANDS[0], href='https://arxiv.org/abs/1705.08868')
  ((attributes, text),) = [
    (a, text)
    for a, text in Tree(render(Page('p', [Section('s', [Table('t', ['h'], [[cell]])])]))).find('a')
    if text == '9.37'
  ]
  assert attributes == {'href': 'https://arxiv.org/abs/1705.08868', 'title': COMMANDS[0]} and text == '9.37'


def test_without_commands_there_is_no_list_of_them():
  assert 'Commands' not in render(Page('p', [Section('s', [Code('x')])]))


def test_what_comes_from_outside_is_escaped():
  table = Table(EVIL, [EVIL], [[EVIL], [Cell(EVIL, 1.0, EVIL)], [Cell(EVIL, href=f'#{EVIL}')]])
  figures = [Figure(image, EVIL, EVIL, EVIL) for image in (SVG, png())]
  tree = Tree(render(Page(EVIL, [Section(EVIL, [table, *figures, figures, Code(EVIL)])])))
  assert len(tree.find('script')) == 1  # The page's own.
  texts = [text for _, text in tree.find('title', 'h1', 'caption', 'th', 'code')]
  # Title, heading, caption, column, three rows, code, command.
  assert texts == [EVIL] * 9
  assert all(a.get('aria-label', a.get('alt')) == EVIL for a, _ in tree.find('svg', 'img'))
  assert {a['title'] for a, _ in tree.find('a') if 'title' in a} == {EVIL}


@pytest.mark.parametrize('text', ['$title', '$$', '${sections}', r'\1'])
def test_text_that_looks_like_a_placeholder(text):
  tree = Tree(render(Page(text, [Section('s', [text])])))
  assert tree.find('h1')[0][1] == text and tree.find('p')[0][1] == text


def test_equal_pages_give_equal_text():
  assert render(whole_page()) == render(whole_page())


@pytest.mark.parametrize(
  ('make', 'match'),
  [
    (lambda: Table('t', ['a', 'b'], [['1', '2'], ['3']]), r'`rows` must have 2 cells each.*Got: 1'),
    (lambda: Cell('x', href='javascript:alert(1)'), r'`href` must begin with https:// or #. Got: .javascript'),
    (lambda: Figure(b'GIF89a', '', ''), r'`image` must be an <svg> element or the bytes of a PNG file. Got: b.GIF'),
    (lambda: Figure(png(), ' ', 'Figure 1.'), r'`alt` must be a text. Got: . .'),
    (lambda: Figure('<?xml version="1.0"?><svg/>', '', ''), r'`image` must be .* Got: .<\?xml'),
  ],
)
def test_mistakes(make, match):
  with pytest.raises(ValueError, match=match):
    make()

"""The page in a browser, which is asked what it sees by a script that the test adds to the page."""

import html
import json
import math
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from flowgan_tf.display import plots
from flowgan_tf.display.axes import COLORS, INK
from flowgan_tf.display.figure import Figure
from flowgan_tf.display.tables import Column, Row, Table
from flowgan_tf.report.page import Page, Section, render
from tests.report.test_page import pixels, whole_page

CHROMIUM = shutil.which('chromium')

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason='chromium is not installed')]

# Before anything else on the page.
COLLECT = """<script>
const errors = [];
addEventListener('error', event => errors.push(event.message || 'not loaded: ' + event.target.outerHTML), true);
addEventListener('unhandledrejection', event => errors.push(String(event.reason)));
</script>"""

# The answer is the text of an element that --dump-dom prints with the page. The width is a phone's: a window would not
# become as narrow, an iframe does.
ASK = """<script>
addEventListener('load', () => {
  const answer = (function() { %s })();
  const pre = document.createElement('pre');
  pre.id = 'answer';
  pre.textContent = JSON.stringify({answer, errors});
  document.body.append(pre);
});
</script>"""


def ask(page, script, tmp_path, *options):
  """What a script's function body returns in the page, after the page has loaded without an error."""
  source = render(page).replace('<head>', f'<head>{COLLECT}', 1).replace('</body>', f'{ASK % script}</body>', 1)
  return dump(source, tmp_path, *options)


def dump(source, tmp_path, *options):
  path = tmp_path / 'page.html'
  path.write_text(source, encoding='utf-8')
  command = [CHROMIUM, '--headless', '--disable-gpu', '--enable-logging=stderr', f'--user-data-dir={tmp_path}/profile']
  if os.geteuid() == 0:
    command.append('--no-sandbox')
  done = subprocess.run(
    [*command, *options, '--dump-dom', path.as_uri()], capture_output=True, text=True, timeout=120, check=True
  )
  assert 'CONSOLE' not in done.stderr, done.stderr
  found = re.search(r'<pre id="answer">(.*?)</pre>', done.stdout, re.DOTALL)
  assert found, done.stdout[-2000:]
  answer = json.loads(html.unescape(found[1]))
  assert answer['errors'] == []
  return answer['answer']


def real_page():
  """Figures as they come from Matplotlib, and a table wider than a phone."""
  curve = Figure.of_plot(plots.score_curves({'MLE': (np.arange(3), [1, 5, 7])}, 'MODE score'), 'scores', 'Figure 5.')
  columns = [Column('Run', 'name'), *(Column('NLL here (nats)', f'nll_{i}', ',.2f', f'error_{i}') for i in range(8))]
  numbers = {f'nll_{i}': -1000.0 * i for i in range(8)} | {f'error_{i}': 1.0 for i in range(8)}
  origin = {'': 'bin/evaluate --workdir=runs/' + 'long' * 40}
  rows = [Row({'': {'name': name} | numbers}, origin) for name in ('mnist-mle', 'mnist-adv')]
  figures = [[curve, pixels()], curve, [pixels(900, 600, caption='x' * 200)] * 3]
  return Page('A page', [Section('s', [Table('A wide table ' * 10, columns, rows), *figures]), *whole_page().sections])


def test_opens_without_errors_and_shows_its_pictures(tmp_path):
  script = """
    return {
      images: [...document.images].map(i => i.complete && i.naturalWidth > 0 && i.clientWidth > 0),
      plots: [...document.querySelectorAll('img.svg')].map(i => i.clientWidth > 340 && i.clientHeight > 220),
      requests: performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:')),
    };"""
  answer = ask(real_page(), script, tmp_path)
  assert answer == {'images': [True] * 9, 'plots': [True] * 3, 'requests': []}


def test_sorting(tmp_path):
  """By value, both ways; an empty cell stays last. NaN has no text, as if it had not been measured."""
  rows = [
    ['b', 9.24, -1604.09],
    ['a', 10.5, math.nan],
    ['c', 7.42, -3334.56],
    ['run 10', math.nan, None],
    ['run 9', '', 0],
  ]
  columns = [Column('name', 'name'), Column('MODE', 'mode'), Column('NLL', 'nll', infinite='∞')]
  keys = [column.key for column in columns]
  records = [{k: v for k, v in zip(keys, row, strict=True) if v is None or v == v} for row in rows]
  several = Table('t', columns, [Row({'': record}) for record in records])
  single = Table('one row', [Column('h', 'h')], [Row({'': {'h': 'x'}})])
  page = Page('p', [Section('s', [several, single])])
  script = """
    const [table, single] = document.querySelectorAll('table');
    const headers = [...table.tHead.rows[0].cells];
    const state = () => [
      [...table.tBodies[0].rows].map(r => r.cells[0].textContent).join(' '),
      headers.map(h => h.getAttribute('aria-sort')),
    ];
    const states = [state()];
    for (const i of [1, 1, 2, 2, 0, 0]) {
      headers[i].querySelector('button').click();
      states.push(state());
    }
    return {states, single: single.querySelectorAll('button').length};"""
  answer = ask(page, script, tmp_path)
  up, down = 'ascending', 'descending'
  assert answer['states'] == [
    ['b a c run 10 run 9', [None, None, None]],
    ['c b a run 10 run 9', [None, up, None]],
    ['a b c run 10 run 9', [None, down, None]],
    ['c b run 9 run 10 a', [None, None, up]],
    ['run 10 run 9 b c a', [None, None, down]],
    ['a b c run 9 run 10', [up, None, None]],
    ['run 10 run 9 c b a', [down, None, None]],
  ]
  assert answer['single'] == 0


@pytest.mark.parametrize(('scheme', 'dark'), [(0, True), (1, False)])
def test_phone_width_and_colour_scheme(tmp_path, scheme, dark):
  """Nothing but the boxes of tables and code is wider than the screen, and text stands out from its background."""
  script = """
    const frame = document.querySelector('iframe');
    const inside = frame.contentDocument, root = inside.documentElement;
    const luminance = colour => {
      const [r, g, b] = colour.match(/[\\d.]+/g).map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const style = e => frame.contentWindow.getComputedStyle(e);
    const paper = luminance(style(inside.body).backgroundColor);
    const contrast = colour => {
      const ink = luminance(colour);
      return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    };
    const plot = inside.querySelector('.svg');
    const brightness = parseFloat(style(plot).filter.slice('brightness('.length));
    // The contrast of a plot's colour as the page shows it.
    const shown = colour => contrast(colour.replace(/\\d+/g, v => Math.min(255, v * brightness)));
    return {
      curve: shown('CURVE'),
      ink: shown('INK'),
      scale: plot.clientWidth / plot.naturalWidth,
      width: frame.contentWindow.innerWidth,
      overflow: root.scrollWidth - root.clientWidth,
      box: inside.querySelector('.scroll').scrollWidth > inside.querySelector('.scroll').clientWidth,
      dark: paper < 0.2,
      text: Math.min(...['p', 'td', 'th', 'figcaption', 'nav a', 'summary'].map(s =>
        contrast(style(inside.querySelector(s)).color))),
    };"""
  for name, colour in [('CURVE', COLORS[0]), ('INK', INK)]:
    script = script.replace(name, f'rgb{tuple(round(255 * channel) for channel in to_rgb(colour))}')
  inner = html.escape(render(real_page()))
  frame = f'<iframe style="width: 390px; height: 800px; border: 0" srcdoc="{inner}"></iframe>'
  source = f'<!DOCTYPE html><html><head>{COLLECT}</head><body>{frame}{ASK % script}</body></html>'
  answer = dump(source, tmp_path, f'--blink-settings=preferredColorScheme={scheme}')
  assert answer['width'] == 390 and answer['overflow'] == 0 and answer['box']
  assert answer['dark'] == dark
  assert answer['text'] >= 4.5 and answer['ink'] >= 5.5 and answer['curve'] >= 4.5
  # Text of 10.5 points, of which 72 are 96 pixels of CSS.
  assert answer['scale'] * 10.5 * 96 / 72 >= 10

"""Tables and the words in them."""

import dataclasses
import math
import os

import numpy as np
import pytest

from flowgan_tf.base.errors import printable
from flowgan_tf.display.tables import Column, Row, Table, listed

RUN = Column('run', 'label')
NLL = Column('NLL', 'nll', ',.2f', error='standard_error', source='test')


def row(label, **test):
  return Row({'': {'label': label}, 'test': test})


def test_terminal():
  columns = [RUN, NLL, Column('images', 'n', ',', source='test'), Column('split', 'split', source='test')]
  rows = [row('MLE', nll=-3334.561, standard_error=1.25, n=10_000, split='test'), row('ADV, seed 1', n=100)]
  assert str(Table('Unseen', columns, rows)).splitlines() == [
    'run                         NLL   images   split',
    '------------------------------------------------',
    'MLE           -3,334.56 +- 1.25   10,000    test',
    'ADV, seed 1                   -      100       -',
  ]


def test_a_wide_table_goes_on_below():
  """Columns of 30 characters, beside the first one of 3 with gaps of 3: three make 102, and four would make 135."""
  table = str(Table('', [RUN, *(Column(f'{i}' * 30, 'x') for i in range(5))], [Row({'': {'label': 'MLE', 'x': 'y'}})]))
  first, second = (part.splitlines() for part in table.split('\n\n'))
  assert [line.split() for line in (first[0], second[0])] == [
    ['run', *('012'[i] * 30 for i in range(3))],
    ['run', '3' * 30, '4' * 30],
  ]
  assert first[2].split() == ['MLE', 'y', 'y', 'y'] and {len(line) for line in first} == {102}
  # A column that is wider than the screen stands alone.
  assert len(str(Table('', [RUN, Column('x' * 200, 'x')], [Row({'': {'label': 'MLE', 'x': 'y'}})])).split('\n\n')) == 1


@pytest.mark.parametrize(
  ('record', 'value', 'text'),
  [
    ({'nll': -3334.561, 'standard_error': 1.25}, -3334.561, '-3,334.56 ± 1.25'),
    ({'nll': np.float32(0.5), 'standard_error': np.int64(2)}, 0.5, '0.50 ± 2.00'),
    ({'nll': 2.0, 'standard_error': None}, 2.0, '2.00'),
    ({'nll': 2.0, 'standard_error': math.inf}, 2.0, '2.00'),
    ({'nll': math.nan, 'standard_error': 1.0}, None, ''),
    ({'nll': np.float64('nan'), 'standard_error': 1.0}, None, ''),
    ({'nll': None}, None, ''),
  ],
)
def test_numbers_that_are_not_finite_are_left_out(record, value, text):
  assert (NLL.value(row('MLE', **record)), NLL.text(row('MLE', **record))) == (value, text)


def test_what_stands_for_infinity():
  column = dataclasses.replace(NLL, infinite='∞')
  assert column.text(row('ADV', nll=None)) == '∞' and column.value(row('ADV', nll=None)) is None
  # A record without the key holds no number at all.
  assert column.text(row('ADV')) == '' and column.text(Row({})) == ''


def test_empty_columns_are_left_out_but_the_first():
  table = Table('t', [RUN, NLL, Column('other', 'n', source='test')], [row('', n=3), row('', nll=math.nan)])
  assert [column.header for column in table.columns] == ['run', 'other']


def test_odd_values_leave_the_table_whole():
  """Names of folders may hold line ends, and files that were edited numbers that no float can hold."""
  columns = (Column('run', 'run'), Column('x', 'x', ',.2f', 'error'))
  rows = [
    Row({'': {'run': 'a\nb\r\tc\udcff\x1b[2J', 'x': 1.0, 'error': 10**400}}),
    Row({'': {'run': 'd', 'x': 10**400}}),
  ]
  header, rule, first, second = str(Table('', columns, rows)).splitlines()
  assert first.split('   ') == [r'a\nb\r\tc\xff\x1b[2J', '1.00']
  assert len(header) == len(rule) == len(first) == len(second) and second.split() == ['d', '-']


def test_names_are_listed_as_in_a_sentence():
  assert [listed(names) for names in ([], ['a'], ['a', 'b'], 'abc')] == ['', 'a', 'a and b', 'a, b and c']


def test_what_breaks_a_line_is_escaped():
  odd = os.fsdecode(b'a\n\x1b[2J\xff\x80') + '\u2028\ud800'
  assert printable(odd) == r'a\n\x1b[2J\xff\x80\u2028\ud800'
  whole = 'λ <b> "x" 犬\u3000\u200d\N{FAMILY}\\'
  assert printable(whole) == whole


@pytest.mark.parametrize(
  ('arrow', 'keys'),
  [
    ('↑', 'mode_score inception_score precision recall density coverage class_accuracy label_share auroc'),
    ('↑', 'psnr ssim consistency'),
    ('↓', 'fid kid class_fid nll test_nll nll_float64 bits_per_dim bits_per_dim_float64 calibration_error'),
    ('↓', 'round_trip_error conditional_nll'),
    ('', 'step seed n near_copies spread score_samples mean_log_det'),
  ],
)
def test_arrows_say_which_numbers_are_better(arrow, keys):
  assert {key: Column('x', key).better for key in keys.split()} == dict.fromkeys(keys.split(), arrow)


def test_what_acts_on_a_terminal_is_escaped():
  text = 'a\x1b[31mb\x9bc\nd\u202ee\u2066f\udcffgäش画'
  assert printable(text) == r'a\x1b[31mb\x9bc\nd\u202ee\u2066f\xffgäش画'

import os

from flowgan_tf.display.words import SCORE_NAMES, listed, printable


def test_names_are_listed_as_in_a_sentence():
  assert [listed(names) for names in ([], ['a'], ['a', 'b'], 'abc')] == ['', 'a', 'a and b', 'a, b and c']


def test_every_score_has_a_name():
  assert SCORE_NAMES.keys() == {'mode_score', 'inception_score', 'fid', 'kid'}


def test_what_breaks_a_line_is_escaped():
  odd = os.fsdecode(b'a\n\x1b[2J\xff\x80') + '\u2028\ud800'
  assert printable(odd) == r'a\n\x1b[2J\xff\x80\u2028\ud800'
  whole = 'λ <b> "x" 犬\u3000\u200d\N{FAMILY}\\'
  assert printable(whole) == whole

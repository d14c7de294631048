from flowgan_tf.display.words import SCORE_NAMES, listed


def test_names_are_listed_as_in_a_sentence():
  assert [listed(names) for names in ([], ['a'], ['a', 'b'], 'abc')] == ['', 'a', 'a and b', 'a, b and c']


def test_every_score_has_a_name():
  assert SCORE_NAMES.keys() == {'mode_score', 'inception_score', 'fid', 'kid'}

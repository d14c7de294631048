import pytest

from flowgan_tf.study.ais import Ais
from flowgan_tf.study.analyses import ANALYSES
from flowgan_tf.study.kde import Kde


@pytest.mark.parametrize('analysis', ANALYSES.values(), ids=list(ANALYSES))
def test_every_analysis_says_what_it_is(analysis):
  module = type(analysis).__module__.rpartition('.')[2]
  # One name for the file, the class and --what.
  assert analysis.name == module and type(analysis).__name__.lower() == module.replace('_', '')
  assert analysis.title and analysis.description and analysis.caption and type(analysis).__doc__
  assert all(column.source in (analysis.name, 'paper') for column in analysis.own_columns())
  assert set(analysis.ranked) <= {column.key for column in analysis.columns if column.source != 'paper'}
  paper = {column.key for column in analysis.columns if column.source == 'paper'}
  assert all(numbers.keys() <= paper for rows in analysis.published.values() for numbers in rows.values())


def test_analyses_of_one_title_share_the_caption():
  assert (Kde.title, Kde.caption) == (Ais.title, Ais.caption)

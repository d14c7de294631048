"""What every analysis has: a description, settings and tables."""

import pytest

from flowgan_tf.errors import UsageError
from flowgan_tf.study import ANALYSES
from tests.summaries import kde, outliers


@pytest.mark.parametrize('analysis', ANALYSES.values(), ids=list(ANALYSES))
def test_columns_and_published_numbers_fit_each_other(analysis):
  paper = {column.key for column in analysis.columns if column.source == 'paper'}
  assert all(column.source in (analysis.name, 'paper') for column in analysis.own_columns())
  assert set(analysis.ranked) <= {column.key for column in analysis.columns} - paper
  assert all(numbers.keys() <= paper for rows in analysis.published.values() for numbers in rows.values())


@pytest.mark.parametrize(
  ('what', 'values', 'said'),
  [
    ('kde', {'samples': 9}, r'`samples` must be an integer from 10 to 1000000\. Got: 9\.'),
    ('kde', {'samples': 10.0}, '`samples` must be an integer'),
    ('outliers', {'other_dataset': 3}, '`other_dataset` must be a text'),
  ],
)
def test_settings_out_of_range(what, values, said):
  with pytest.raises(UsageError, match=said):
    ANALYSES[what].Settings(**values)


def test_the_terminal_shows_columns_and_details_but_not_the_paper():
  caption, header, _, row = ANALYSES['kde'].lines(kde(-100.0, -3300.0).record)
  assert 'nats per image' in caption
  headers, shown = ([cell.strip() for cell in line.split('   ') if cell.strip()] for line in (header, row))
  assert headers == ['exact', 'KDE', 'KDE: test images', 'KDE: samples', 'KDE: bandwidth']
  assert shown == ['-3,300.00 +- 2.00', '-100.00 +- 1.00', '10,000', '5,000', '0.2000']
  _, _, _, *rows = ANALYSES['outliers'].lines(outliers().record)
  assert [row.split('  ')[0] for row in rows] == ['train', 'test', 'uniform noise']

import pytest

from flowgan_tf.errors import UsageError
from flowgan_tf.study.kde import Kde
from flowgan_tf.study.outliers import Outliers
from tests.summaries import kde, outliers


@pytest.mark.parametrize(
  ('values', 'said'),
  [
    ({'samples': 9}, r'`samples` must be an integer from 10 to 1000000\. Got: 9\.'),
    ({'seed': -1}, r'`seed` must be an integer from 0 to 2147483647\. Got: -1\.'),
    ({'samples': 10.0}, r'`samples` must be of type int\. Got: 10\.0\.'),
    ({'samples': True}, '`samples` must be of type int'),
  ],
)
def test_settings_out_of_range(values, said):
  with pytest.raises(UsageError, match=said):
    Kde.Settings(**values)
  with pytest.raises(UsageError, match='`other_dataset` must be of type str'):
    Outliers.Settings(other_dataset=3)


def test_the_terminal_shows_columns_and_details_but_not_the_paper():
  caption, header, _, row = Kde().lines(kde(-100.0, -3300.0).record)
  assert 'nats per image' in caption
  shown = dict(zip(*([c.strip() for c in line.split('   ') if c.strip()] for line in (header, row)), strict=True))
  assert shown == {
    'exact': '-3,300.00 +- 2.00',
    'KDE': '-100.00 +- 1.00',
    'KDE: test images': '10,000',
    'KDE: samples': '5,000',
    'KDE: bandwidth': '0.2000',
  }


def test_several_rows_are_named():
  _, _, _, *rows = Outliers().lines(outliers().record)
  assert [row.split('  ')[0] for row in rows] == ['train', 'test', 'uniform noise']

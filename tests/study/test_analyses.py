"""What every analysis has: a description, settings and tables."""

import pytest

from flowgan_tf.base.errors import UsageError
from flowgan_tf.display.tables import Row
from flowgan_tf.study import ANALYSES, Subject
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
    ('outliers', {'other_dataset': 3}, '`other_dataset` must be a string'),
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


@pytest.mark.parametrize('what', ['kde', 'gmm', 'temperature', 'classifiers'])
def test_the_seed_decides_which_samples_are_analysed(subject, monkeypatch, what):
  seen, draw = [], Subject.draw
  monkeypatch.setattr(Subject, 'draw', lambda self, n, seed, *more: seen.append(seed) or draw(self, n, seed, *more))
  other, few = Subject(subject.run), {'epochs': 1} if what == 'classifiers' else {}
  other.scorer = None
  ANALYSES[what].measure(other, ANALYSES[what].Settings(seed=7, samples=20, **few))
  assert set(seen) == {7}


def with_errors(**numbers):
  """Numbers with errors of a tenth, by both names that errors have."""
  errors = {f'{name}_{end}': value / 10 for name, value in numbers.items() for end in ('standard_error', 'std')}
  return numbers | errors | {name.replace('nll_', ''): value for name, value in errors.items() if 'nll' in name}


@pytest.mark.parametrize(
  ('what', 'numbers', 'shown'),
  [
    ('gmm', {'best_nll': 1, 'test_nll': 2}, {'validation NLL (nats)': '1.00 ± 0.10', 'test NLL (nats)': '2.00 ± 0.20'}),
    (
      'temperature',
      {'validation_nll': 1, 'nll': 2, 'mode_score': 3, 'inception_score': 4, 'fid': 5},
      {
        'validation NLL (nats)': '1.00 ± 0.10',
        'test NLL (nats)': '2.00 ± 0.20',
        'MODE score': '3.00 ± 0.30',
        'Inception score': '4.00 ± 0.40',
        'FID': '5.0',
      },
    ),
    (
      'classifiers',
      {'mode_score': 3, 'inception_score': 4, 'real_mode_score': 5, 'accuracy': 0.6},
      {
        'MODE score': '3.00 ± 0.30',
        'Inception score': '4.00 ± 0.40',
        'MODE score of real images': '5.00 ± 0.50',
        'test accuracy': '60.0%',
      },
    ),
    (
      'independent_critic',
      {'train': 1, 'validation': 2, 'gap': 3},
      {
        'training − samples': '1.0000 ± 0.1000',
        'validation − samples': '2.0000 ± 0.2000',
        'gap': '3.0000 ± 0.3000',
      },
    ),
    (
      'critic',
      {'estimate': 1, 'exact': 2, 'share': 0.5, 'accuracy': 0.6, 'exact_accuracy': 0.7, 'rank': 0.8, 'direction': 0.9},
      {
        'estimate': '1.0000',
        'exact': '2.0000 ± 0.2000',
        'share seen': '50%',
        'accuracy': '60.0%',
        'Bayes accuracy': '70.0% ± 7.0%',
        'rank': '0.80',
        'direction': '0.90',
      },
    ),
  ],
)
def test_each_column_shows_its_own_number(what, numbers, shown):
  row = Row({what: with_errors(**numbers)})
  found = {column.header: column.text(row) for column in ANALYSES[what].own_columns()}
  assert found | shown == found


def test_the_papers_numbers():
  """Table 3, section 5.1 and appendix D of Grover, Dhar and Ermon."""
  found = {name: ANALYSES[name].published for name in ('kde', 'ais', 'jacobian')}
  table_3 = {'MLE': (-3287.69, -167.10, -2584.40), 'ADV': (26350.30, -3.03, -2916.10)}
  table_3['Hybrid λ = 0.1'] = -3121.53, -205.69, -2703.03
  for objective, (exact, kde_, ais) in table_3.items():
    assert found['kde']['mnist'][objective] == {'exact': exact, 'kde': kde_}
    assert found['ais']['mnist'][objective] == {'ais': ais}
  log_dets = {
    'mnist': {'MLE': -4170.34, 'ADV': -15588.34, 'Hybrid λ = 0.1': -5184.40},
    'cifar10': {'MLE': -12818.84, 'ADV': -21848.09, 'Hybrid λ = 1': -14729.51},
  }
  assert found['jacobian'] == {d: {o: {'log_det': v} for o, v in rows.items()} for d, rows in log_dets.items()}

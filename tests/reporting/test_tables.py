from flowgan_tf.reporting.tables import evaluation_table, text_table

LIKELIHOOD = {
  'checkpoint': 'best_nll',
  'step': 10000,
  'split': 'test',
  'nll': -3334.5612,
  'standard_error': 1.25,
  'bits_per_dim': 1.86367,
  'round_trip_error': 3.2e-6,
  'n': 10000,
}
SCORES = {
  'mode_score': 9.371,
  'mode_score_std': 0.052,
  'inception_score': 9.4,
  'inception_score_std': 0.1,
  'score_samples': 50000,
  'score_splits': 10,
  'classifier': '0123456789abcdef',
  'classifier_accuracy': 0.9923,
}


def test_alignment():
  assert text_table(['name', 'n'], [['a', '1'], ['longer', '1,234']]).splitlines() == [
    'name         n',
    '--------------',
    'a            1',
    'longer   1,234',
  ]


def test_a_header_alone():
  assert text_table(['name', 'n'], []) == 'name   n\n--------'


def test_evaluation_with_scores():
  other = LIKELIHOOD | {'checkpoint': 'latest', 'step': 20, 'nll': 5.0}
  header, rule, first, second, note = evaluation_table([LIKELIHOOD | SCORES, other | SCORES]).splitlines()
  assert len(header) == len(rule) == len(first) == len(second)
  assert header.split('   ')[0].strip() == 'checkpoint'
  assert [c.strip() for c in header.split('  ') if c.strip()] == [
    'checkpoint',
    'step',
    'test NLL (nats)',
    'bits/dim',
    'round trip',
    'images',
    'MODE',
    'Inception',
    'samples',
  ]
  assert [c.strip() for c in first.split('  ') if c.strip()] == [
    'best_nll',
    '10,000',
    '-3,334.56 +- 1.25',
    '1.864',
    '3.2e-06',
    '10,000',
    '9.37 +- 0.05',
    '9.40 +- 0.10',
    '50,000',
  ]
  assert note == 'scores: 10 splits, classifier 0123456789abcdef with 99.2% test accuracy'


def test_evaluation_without_scores():
  lines = evaluation_table([LIKELIHOOD | {'split': 'validation'}]).splitlines()
  assert len(lines) == 3
  assert 'validation NLL (nats)' in lines[0]
  assert 'MODE' not in lines[0]

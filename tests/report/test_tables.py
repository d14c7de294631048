from flowgan_tf.report.tables import evaluation_table, text_table

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
  'fid': 12.345,
  'kid': 0.01234,
  'kid_std': 0.0006,
  'scorer': 'classifier',
  'scorer_hash': '0123456789abcdef',
  'reference_images': 50000,
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
    'FID',
    'KID',
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
    '12.35',
    '0.0123 +- 0.0006',
    '50,000',
  ]
  assert note == (
    'scores: 10 splits, classifier 0123456789abcdef with 99.2% test accuracy; '
    'FID and KID against 50,000 training images'
  )


def test_evaluation_without_scores():
  lines = evaluation_table([LIKELIHOOD | {'split': 'validation'}]).splitlines()
  assert len(lines) == 3
  assert 'validation NLL (nats)' in lines[0]
  assert 'MODE' not in lines[0]


def test_evaluation_in_double_precision():
  wide = {'nll_float64': -3334.5613, 'bits_per_dim_float64': 1.86366, 'round_trip_error_float64': 4e-14}
  header, _, row = evaluation_table([LIKELIHOOD | wide]).splitlines()
  assert header.index('round trip') < header.index('NLL float64') < header.index('round trip float64')
  assert '3.2e-06' in row and '4.0e-14' in row


def test_evaluation_without_a_likelihood():
  scores = {k: v for k, v in SCORES.items() if not k.startswith(('mode', 'classifier'))}
  record = {'checkpoint': 'latest', 'step': 7, 'split': 'test'} | scores | {'scorer': 'inception_v3'}
  header, _, row, why, note = evaluation_table([record]).splitlines()
  assert 'NLL' not in header and 'MODE' not in header and 'images' not in header
  assert '9.40 +- 0.10' in row
  assert why == 'no likelihood: the generator is not invertible'
  assert 'inception_v3 0123456789abcdef; FID' in note


def test_samples_that_could_not_be_scored_have_dashes():
  _, _, good, bad, _ = evaluation_table([LIKELIHOOD | SCORES, LIKELIHOOD | {'step': 20}]).splitlines()
  assert good.count(' - ') == 0 and bad.split()[-5:] == ['-'] * 5

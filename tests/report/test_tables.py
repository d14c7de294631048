import dataclasses

import numpy as np
import pytest

from flowgan_tf.evaluation.tables import evaluation_table
from flowgan_tf.report.tables import (
  checkpoint_tables,
  classes_table,
  conditional_table,
  paper_table,
  runs_table,
  sweep_table,
  variety_table,
)
from tests.summaries import cells, conditional, evaluated, jacobian, summary

SCORED = evaluated('best_nll', 10_000, -3334.5612, 9.371) | {
  'inception_score': 9.4,
  'inception_score_std': 0.1,
  'score_splits': 10,
  'fid': 12.345,
  'kid': 0.01234,
  'kid_std': 0.0006,
  'reference_images': 50_000,
  'classifier_accuracy': 0.9923,
}


@pytest.fixture
def runs():
  evaluation = [evaluated('best_nll', 4, -3300.0, 6.0), evaluated('best_score', 5, -3200.0, 7.0)]
  return [summary('mle', evaluation=evaluation), summary('adversarial'), summary('hybrid')]


def split(line):
  return [cell.strip() for cell in line.split('  ') if cell.strip()]


def test_settings_and_the_start_of_a_training_if_one_has_a_start(runs):
  metrics = [{'kind': 'validation', 'step': 5, 'seconds': 90.0, 'nll': -90.0}]
  start = {'run': '/somewhere/mnist-mle', 'checkpoint': 'best_nll', 'step': 5000}
  runs[0] = dataclasses.replace(runs[0], metrics=metrics)
  shown = ('wall time (min)', 'iterations', 'seed', 'critic steps')
  rows = cells(runs_table(runs))
  assert [[row[name] for name in shown] for row in rows[:2]] == [['1.5', '5', '0', ''], ['', '', '0', '5']]
  assert 'starts from' not in rows[0]
  rows = cells(runs_table([runs[0], dataclasses.replace(runs[2], start=start)]))
  assert [row['starts from'] for row in rows] == ['', 'mnist-mle, iteration 5,000']


VARIETY = {
  **{'precision': 0.94321, 'recall': 0.7091, 'density': 1.0094, 'coverage': 0.899, 'prdc_images': 5000},
  **{'near_copies': 0.0018, 'near_copies_error': 0.0015, 'copied_from': 50_000, 'held_out_images': 4321},
}


def test_evaluation_with_scores():
  """Checkpoints of one step share a row; likelihood, scores and variety have a table each."""
  same, other = {'checkpoint': 'latest'}, {'checkpoint': 'best_score', 'step': 20, 'nll': 5.0}
  records = [SCORED | VARIETY, SCORED | VARIETY | same, SCORED | other]
  likelihood, scores, variety = evaluation_table(records).split('\n\n')
  assert [len(part.splitlines()) for part in (likelihood, scores, variety)] == [4, 4, 3 + 3]
  found = {}
  for part in (likelihood, scores, variety):
    header, rule, first, *_ = part.splitlines()
    assert len(header) == len(rule) == len(first) <= 120
    found |= zip(split(header), split(first), strict=True)
  assert found == {
    'checkpoint': 'best_nll, latest',
    'iteration': '10,000',
    'test NLL (nats)': '-3,334.56 +- 1.50',
    'bits/dim': '1.900',
    'round trip': '1.0e-06',
    'test images': '10,000',
    'MODE': '9.37 +- 0.10',
    'Inception': '9.40 +- 0.10',
    'FID': '12.35',
    'KID': '0.0123 +- 0.0006',
    'samples': '5,000',
    'precision': '0.943',
    'recall': '0.709',
    'density': '1.009',
    'coverage': '0.899',
    'near copies': '0.2% +- 0.1%',
  }
  *_, note, of_copies, network = variety.splitlines()
  assert note.startswith('precision, density: ') and note.endswith(' (5,000 images)')
  assert 'one of 50,000 training images than 99% of 4,321 test images;' in of_copies
  assert network == (
    'scores: 10 splits, classifier abc with 99.2% test accuracy; FID against 50,000 training images, KID against at '
    'most 10,000 of them'
  )
  assert not any(word in evaluation_table([SCORED]) for word in ('precision', 'copies'))


def test_variety_has_a_table_of_its_own_on_the_page(runs):
  """Rows without these numbers are left out."""
  assert variety_table(runs) is None
  measured = summary('mle', evaluation=[SCORED | VARIETY | {'real_recall': 0.9393, 'real_score_samples': 5000}])
  row, real = cells(variety_table([measured, runs[1]]))
  assert (row['run'], row['recall'], row['near copies']) == ('MLE', '0.709', '0.2% ± 0.1%')
  assert (real['checkpoint'], real['recall'], real['near copies']) == ('real test images', '0.939', '')
  assert all('recall' not in cells(table)[0] for table in checkpoint_tables([measured]))


def test_real_images_have_a_row_of_their_own():
  """They have it once on the page, for runs that were scored alike."""
  real = {'real_mode_score': 9.67, 'real_mode_score_std': 0.04, 'real_fid': 1.1, 'real_score_samples': 5000}
  *_, last = evaluation_table([SCORED | real]).split('\n\n')[1].splitlines()[:-1]
  row = [cell for cell in split(last) if cell != '-']
  assert row == ['real test images', '9.67 +- 0.04', '1.10', '5,000']
  runs = [summary(kind, evaluation=[SCORED | real]) for kind in ('mle', 'hybrid')]
  other = summary('adversarial', evaluation=[SCORED | real | {'scorer_hash': 'another', 'real_mode_score': 9.5}])
  _, scores = checkpoint_tables([*runs, other])
  rows = cells(scores)
  assert [row['checkpoint'] for row in rows] == ['best_nll'] * 3 + ['real test images'] * 2
  assert [row['MODE'] for row in rows[3:]] == ['9.67 ± 0.04', '9.50 ± 0.04']


def test_evaluation_without_a_likelihood():
  kept = ('checkpoint', 'step', 'split', 'inception_score', 'score_samples', 'score_splits', 'reference_images')
  record = {name: SCORED[name] for name in kept} | {'scorer': 'inception_v3', 'scorer_hash': 'def'}
  step, scores = evaluation_table([record]).split('\n\n')
  header, _, row, why, note = scores.splitlines()
  assert split(header) == ['checkpoint', 'Inception', 'samples'] and '9.40' in row
  assert split(step.splitlines()[0]) == ['checkpoint', 'iteration']
  assert why == 'no likelihood: the generator is not invertible' and 'inception_v3 def; FID' in note


def test_the_papers_table_is_filled_with_what_the_runs_hold(runs):
  table = paper_table(runs)
  mle, *others = cells(table)
  assert mle['MODE score'] == '7.00 ± 0.10' and mle['test NLL (nats)'] == '-3,300.00 ± 1.50'
  assert mle['iteration of each'] == '5, 4' and mle['test images'] == '10,000'
  assert table.rows[0].links['best_score'] == 'bin/evaluate runs/mle --split=test --samples=5000'
  for empty in others:
    assert {empty[name] for name in ('MODE score', 'test NLL (nats)', 'iteration of each', 'samples')} == {''}
  assert [row['the paper: NLL'] for row in (mle, *others)] == ['-3,334.56', '-1,604.09', '-3,342.95']
  assert table.caption.endswith('(the paper: Table 1)')


def test_the_papers_numbers_stay_with_runs_of_its_generator(runs):
  """Rows of the paper without a run stand alone."""
  seeds = [dataclasses.replace(runs[0], label=f'MLE ({name})') for name in 'ab']
  rows = cells(paper_table(seeds))
  assert [row['run'] for row in rows] == ['MLE (a)', 'MLE (b)', 'ADV (the paper)', 'Hybrid λ = 0.1 (the paper)']
  assert [row['the paper: NLL'] for row in rows[:2]] == ['-3,334.56'] * 2
  runs[0].config.generator = 'real_nvp'
  own, *others = cells(paper_table(runs[:1]))
  assert own['the paper: NLL'] == '' and others[0]['the paper: NLL'] == '-3,334.56'


def test_bits_per_dim_and_data_that_the_paper_has_not():
  evaluation = [evaluated('best_nll', 4, -3072 * np.log(2) * 4, 6.0) | {'bits_per_dim': 4.0}]
  run = summary('mle', dataset='cifar10', shape=(32, 32, 3), evaluation=evaluation)
  row, *_ = cells(paper_table([run]))
  # The standard error of 1.5 nats, over 3072 ln 2.
  assert row['test NLL (bits/dim)'] == '4.000 ± 0.001' and row['the paper: NLL'] == '3.54'
  table = paper_table([summary('mle', dataset='digits', evaluation=[evaluated('best_nll', 4, -90.0, 6.0)])])
  [row] = cells(table)
  assert row['test NLL (nats)'] == '-90.00 ± 1.50' and not any(name.startswith('the paper') for name in row)
  assert 'the paper' not in table.caption


def test_a_sweep_is_shown_at_its_best_scores():
  """A training that was interrupted, or evaluated by hand, has no best score."""
  study = {'jacobian': jacobian([[3, 2, 1], [9, 3, 1]])}
  hybrid = summary('hybrid', evaluation=[evaluated('best_score', 5, -3000.1, 6.9)], studies=study)
  alone = summary('mle', evaluation=[evaluated('best_nll', 5, -3000.0, 7.0)])
  header, _, *rows = map(split, str(sweep_table([hybrid, alone])).splitlines())
  assert header == ['run', 'seed', 'iteration', 'test NLL (nats)', 'MODE', 'condition number']
  assert rows[0] == ['Hybrid λ = 0.1', '0', '5', '-3,000.10 +- 1.50', '6.90 +- 0.10', '10']
  assert rows[1] == ['MLE', '0', '-', '-', '-', '-']


# Conditional runs.


def test_evaluation_with_labels():
  """What the samples show of their labels has a table of its own, with lines that say what is in it."""
  likelihood, scores, given, last = evaluation_table(conditional('label').evaluation).split('\n\n')
  header, _, first = likelihood.splitlines()
  assert '-3,300.00 +- 1.50' in first and 'given' not in header
  title, columns, _, row, of_real = given.splitlines()
  more, _, rest, _, *notes, _ = last.splitlines()
  assert title == 'given label:' and max(map(len, [*given.splitlines(), rest])) <= 120
  assert dict(zip(split(columns) + split(more), split(row) + split(rest), strict=True)) == {
    'checkpoint': 'best_nll',
    'iteration': '4',
    'class accuracy': '97.5% +- 0.2%',
    'calibration error': '0.020',
    'NLL given the label': '-3,302.30',
    'label as asked': '90.0% +- 1.0%',
    'worst class (label)': '85.0%, class 1',
    'FID within classes': '11.50',
    'worst class (FID)': '13.25, class 1',
  }
  named = [record | {'class_names': ['cat', 'dog']} for record in conditional('label').evaluation]
  assert '85.0%, class dog' in evaluation_table(named) and '13.25, class dog' in evaluation_table(named)
  assert [cell for cell in split(of_real) if cell != '-'] == ['real test images', '99.0%']
  assert split(scores.splitlines()[-1]) == ['real test images', '-', '5,000']
  assert notes == [
    'class accuracy: share of images whose label has the largest p(y | x)',
    'label as asked: share of samples that a classifier assigns to the class they were drawn for; it assigns 99.1% of '
    'the test images to their own class',
    'FID within classes (intra-FID): each class has at least 400 samples and 500 training images; fewer samples give a '
    'higher FID',
    'FID within classes (intra-FID): the mean leaves out 1 class, which has too few images',
  ]


def test_evaluation_with_images_as_conditions():
  """The NLL of p(x | c) is marked."""
  text = evaluation_table(conditional('low_resolution:4').evaluation)
  header, _, first, *_ = text.splitlines()
  assert split(header)[2:4] == ['test NLL (nats), given c', 'bits/dim, given c'] and '-3,300.00 +- 1.50' in first
  for said in (
    'spread: standard deviation of 8 samples for each of 100 conditions, averaged over pixels',
    'NLL, given c: mean of -log p(x | c), which cannot be compared with -log p(x)',
  ):
    assert said in text.splitlines()
  assert 'class' not in text.replace('classifier', '')


def test_likelihoods_of_different_things_have_columns_of_their_own(runs):
  """With labels it is p(x). The paper has no numbers for p(x | c)."""
  of_labels, of_images = conditional('label'), conditional('mask:half')
  several = [runs[0], of_labels, of_images]
  plain, marginal, given = cells(paper_table(several))[:3]
  assert (plain['test NLL (nats)'], marginal['test NLL (nats)'], given['test NLL (nats)']) == (
    *('-3,300.00 ± 1.50', '-3,300.00 ± 1.50'),
    '',
  )
  assert given['test NLL (nats), given c'] == '-3,300.00 ± 1.50' and plain['test NLL (nats), given c'] == ''
  assert marginal['the paper: NLL'] == '-3,334.56' and given['the paper: NLL'] == ''
  table, _ = checkpoint_tables(several)
  rows = [row for row in cells(table) if row['run']]
  assert [row['test NLL (nats)'] == '' for row in rows] == [False, False, False, True]
  assert rows[-1]['bits/dim, given c'].startswith('1.900') and rows[-1]['bits/dim'] == ''
  assert cells(sweep_table(several))[2]['test NLL (nats)'] == ''
  [link] = {table.rows[3].links[c.source] for c in table.columns if c.header.endswith('given c')}
  assert link.startswith('bin/evaluate runs/mask:half')
  assert [row['condition'] for row in cells(runs_table(several))] == ['', 'label', 'mask:half']
  assert 'condition' not in cells(runs_table(runs))[0]


def test_conditions_and_classes_of_real_images_stand_below(runs):
  run, real = cells(conditional_table([conditional('mask:half')], 'Images'))
  assert (run['PSNR (dB)'], run['SSIM'], run['spread']) == ('20.50', '0.750', '0.0500')
  assert (run['consistency (dB)'], real['consistency (dB)'], real['PSNR (dB)']) == ('40.25', '65.00', '')
  run, real = cells(classes_table([conditional('label')]))
  assert (run['class 0'], run['class 1']) == ('95.0%', '85.0%') and (real['class 0'], real['class 1']) == (
    '100.0%',
    '98.0%',
  )
  named = dataclasses.replace(conditional('label'), class_names=['cat', 'dog'])
  assert {'class cat', 'class dog'} <= cells(classes_table([named]))[0].keys()
  assert classes_table([conditional('mask:half')]) is None
  many = conditional('label')
  many.evaluation[0]['label_shares'] = [0.5] * 21
  assert classes_table([many]) is None


def test_the_papers_tables():
  """Tables 1 and 2 of Grover, Dhar and Ermon."""
  found = {}
  for dataset, shape in (('mnist', (28, 28, 1)), ('cifar10', (32, 32, 3))):
    for row in cells(paper_table([summary('adversarial', dataset=dataset, shape=shape)])):
      score, nll = (value for name, value in row.items() if name.startswith('the paper: '))
      found[dataset, row['run'].removesuffix(' (the paper)')] = score, nll
  assert found == {
    ('mnist', 'MLE'): ('7.42', '-3,334.56'),
    ('mnist', 'ADV'): ('9.24', '-1,604.09'),
    ('mnist', 'Hybrid λ = 0.1'): ('9.37', '-3,342.95'),
    ('cifar10', 'MLE'): ('2.92', '3.54'),
    ('cifar10', 'ADV'): ('5.76', '8.53'),
    ('cifar10', 'Hybrid λ = 1'): ('3.90', '4.21'),
  }

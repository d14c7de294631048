"""The page of a set of runs: what it says, and what it leaves empty."""

import collections
import dataclasses
import itertools

import numpy as np
import pytest

from flowgan_tf.display.figure import Figure
from flowgan_tf.display.tables import Table
from flowgan_tf.report import figures, report
from flowgan_tf.report.page import Code, render
from flowgan_tf.runs.config import default_config
from flowgan_tf.study.study import Study
from flowgan_tf.study.summary import Summary

SETTINGS = {'seed': 0}


def summary(label, objective, weight=0.1, dataset='mnist', shape=(28, 28, 1)):
  config = default_config()
  config.dataset, config.objective = dataset, objective
  config['lambda'], config.generator = weight, 'real_nvp' if shape[-1] == 3 else 'nice'
  return Summary(label, f'runs/{objective}', config, dataset, shape, 256, [], [], {}, f'hash of {dataset}', label)


def evaluated(checkpoint, step, nll, mode):
  return {
    'step': step,
    'checkpoint': checkpoint,
    'split': 'test',
    'nll': nll,
    'standard_error': 1.5,
    'bits_per_dim': 1.9,
    'round_trip_error': 1e-6,
    'n': 10_000,
    'mode_score': mode,
    'mode_score_std': 0.1,
    'score_samples': 5000,
    'scorer': 'classifier',
    'scorer_hash': 'abc',
  }


def kde(nll, exact):
  numbers = {'nll': nll, 'standard_error': 1.0, 'exact_nll': exact, 'exact_standard_error': 2.0, 'n_test': 10_000}
  rest = {'n_samples': 5000, 'bandwidth': 0.2}
  return Study({'what': 'kde', 'checkpoint': 'best_score', 'step': 9, 'settings': SETTINGS} | numbers | rest, {})


def ais(nll, error, gap, step=9, n=16):
  settings = SETTINGS | {'ais_images': n, 'ais_chains': 2, 'ais_steps': 50}
  numbers = {'nll': nll, 'standard_error': error, 'exact_nll': nll - 10, 'exact_standard_error': 2.0, 'n': n}
  rest = {'chains': 2, 'steps': 50, 'sigma': 0.1, 'bracket_gap': gap, 'bracket_gap_standard_error': 1.0}
  return Study({'what': 'ais', 'checkpoint': 'best_score', 'step': step, 'settings': settings} | numbers | rest, {})


def jacobian(values):
  record = {
    'what': 'jacobian',
    'checkpoint': 'latest',
    'step': 9,
    'settings': SETTINGS,
    'n': 2,
    'd': 3,
    'below_precision': 0.0,
  }
  numbers = {'mean_log_det': -4.5, 'standard_error': 0.5, 'median_condition_number': 10.0}
  return Study(record | numbers | {'largest_condition_number': None}, {'singular_values': np.array(values)})


@pytest.fixture
def runs():
  mle, adv, hybrid = summary('MLE', 'mle'), summary('ADV', 'adversarial'), summary('Hybrid λ = 0.1', 'hybrid')
  metrics = [
    {'kind': 'validation', 'step': 0, 'seconds': 1.0, 'nll': 0.0},
    {'kind': 'train', 'step': 5, 'seconds': 30.0, 'nll': -100.0},
    {'kind': 'validation', 'step': 5, 'seconds': 90.0, 'nll': -90.0},
  ]
  evaluation = [evaluated('best_nll', 4, -3300.0, 6.0), evaluated('best_score', 5, -3200.0, 7.0)]
  return [
    dataclasses.replace(mle, metrics=metrics, evaluation=evaluation, studies={'kde': kde(-100.0, -3300.0)}),
    dataclasses.replace(adv, studies={'kde': kde(-200.0, 400.0), 'jacobian': jacobian([[3, 2, 1], [9, 3, 1]])}),
    hybrid,
  ]


Cell = collections.namedtuple('Cell', ['text', 'origin'])


def table(page, caption):
  items = itertools.chain(*(section.items for section in page.sections))
  [found] = [item for item in items if isinstance(item, Table) and item.caption.startswith(caption)]
  return cells(found)


def cells(table):
  """A cell for each header in each row; empty for the header of a column that is left out."""
  return [
    collections.defaultdict(
      lambda: Cell('', None), {c.header: Cell(c.text(row), row.links.get(c.source)) for c in table.columns}
    )
    for row in table.rows
  ]


def text(cell):
  return cell.text.replace('-', '−')


def test_the_papers_table_is_filled_with_what_the_runs_hold(runs):
  mle, adv, hybrid = table(report.make_report(runs), 'Sample score')
  assert text(mle['MODE score']) == '7.00 ± 0.10' and text(mle['test NLL (nats)']) == '−3,300.00 ± 1.50'
  assert mle['iteration of each'].text == '5, 4' and text(mle['test images']) == '10,000'
  assert mle['MODE score'].origin == 'bin/evaluate runs/mle --split=test --samples=5000'
  for empty in (adv, hybrid):
    assert {empty[name].text for name in ('MODE score', 'test NLL (nats)', 'iteration of each', 'samples')} == {''}
  assert [text(row['the paper: NLL']) for row in (mle, adv, hybrid)] == ['−3,334.56', '−1,604.09', '−3,342.95']


def test_rows_of_the_paper_without_a_run_stand_alone(runs):
  rows = table(report.make_report(runs[:1]), 'Sample score')
  assert [text(row['run']) for row in rows] == ['MLE', 'ADV (the paper)', 'Hybrid λ = 0.1 (the paper)']


def test_wall_time_seed_and_steps(runs):
  mle, _, hybrid = table(report.make_report(runs), 'How the runs')
  assert (text(mle['wall time (min)']), text(mle['iterations']), text(mle['seed'])) == ('1.5', '5', '0')
  assert hybrid['wall time (min)'].text == hybrid['iterations'].text == ''


def test_estimates_and_their_orders(runs):
  page = report.make_report(runs)
  mle, adv = table(page, 'NLL in nats per image')
  assert text(adv['exact']) == '400.00 ± 2.00' and adv['AIS'].text == '' and text(adv['the paper: AIS']) == '−2,916.10'
  assert mle['KDE'].origin == 'bin/analyze runs/mle --what=kde --checkpoint=best_score --seed=0'
  html = render(page)
  assert 'exact: MLE &lt; ADV; KDE: ADV &lt; MLE' in html


def with_ais(runs, *studies):
  return [dataclasses.replace(run, studies={'ais': study}) for run, study in zip(runs, studies, strict=True)]


def test_an_order_is_claimed_only_where_the_estimates_resolve_it(runs):
  page = report.make_report(with_ais(runs, ais(-50.0, 3.0, 1.0), ais(20.0, 3.0, 1.0), ais(-45.0, 3.0, 1.0)))
  assert 'AIS: MLE ≈ Hybrid λ = 0.1 &lt; ADV' in render(page)
  page = report.make_report(with_ais(runs, ais(-50.0, 3.0, 1.0), ais(20.0, 3.0, 1.0), ais(-45.0, 3.0, 70.0)))
  assert 'AIS: MLE ≈ Hybrid λ = 0.1 ≈ ADV' in render(page)
  page = report.make_report(with_ais(runs, ais(-50.0, 3.0, 1.0), ais(20.0, 3.0, 1.0), ais(-45.0, 3.0, 1.0, n=2)))
  assert 'AIS: MLE' not in render(page)


def test_an_estimate_stands_beside_the_exact_value_of_its_images_and_checkpoint(runs):
  only_ais = [dataclasses.replace(runs[0], studies={'ais': ais(-50.0, 3.0, 1.0)})]
  [row] = table(report.make_report(only_ais), 'NLL in nats')
  assert (text(row['AIS']), text(row['exact, images of AIS'])) == ('−50.00 ± 3.00', '−60.00 ± 2.00')
  assert row['exact'].text == row['KDE'].text == ''
  both = [dataclasses.replace(runs[0], studies={'kde': kde(-100.0, -3300.0), 'ais': ais(-50.0, 3.0, 1.0, step=20)})]
  first, second = table(report.make_report(both), 'NLL in nats')
  assert text(first['KDE']) == '−100.00 ± 1.00' and first['AIS'].text == ''
  assert text(second['AIS']) == '−50.00 ± 3.00' and second['KDE'].text == ''


def test_numbers_that_are_not_finite_leave_their_cell_empty(runs):
  broken = evaluated('best_nll', 4, float('nan'), float('inf'))
  row, *_ = table(report.make_report([dataclasses.replace(runs[0], evaluation=[broken])]), 'Every checkpoint')
  assert row['NLL (nats)'].text == row['bits/dim'].text == row['MODE'].text == '' and text(row['iteration']) == '4'


def test_the_papers_numbers_stay_with_runs_that_share_a_label(runs):
  seeds = [dataclasses.replace(runs[0], label=f'MLE ({name})') for name in 'ab']
  for caption in ('Sample score', 'NLL in nats'):
    rows = table(report.make_report(seeds), caption)
    assert [text(row['the paper: ' + ('NLL' if caption == 'Sample score' else 'exact')]) for row in rows[:2]] == [
      '−3,334.56' if caption == 'Sample score' else '−3,287.69'
    ] * 2
  other = summary('MLE', 'mle')
  other.config.generator = 'real_nvp'
  [row] = table(report.make_report([dataclasses.replace(other, studies={'kde': kde(1.0, 2.0)})]), 'NLL in nats')
  assert row['the paper: exact'].text == ''


def test_infinite_condition_numbers(runs):
  [row] = table(report.make_report(runs), 'Singular values')
  assert (text(row['condition number, median']), row['largest'].text) == ('1.00e+01', '∞')
  assert text(row['the paper: mean log-determinant']) == '−15,588.34'


def test_a_section_without_numbers_names_its_command(runs):
  page = report.make_report(runs)
  codes = {s.title: s.items[0].text for s in page.sections if isinstance(s.items[0], Code)}
  assert 'bin/analyze runs/mle --what=gmm' in codes['Mixture of Gaussians']
  assert 'bin/analyze runs/mle runs/adversarial runs/hybrid --what=critic' in codes['Overfitting']
  assert 'Samples' not in {section.title for section in page.sections}


def test_data_sets_are_kept_apart(runs):
  cifar10 = summary('MLE', 'mle', dataset='cifar10', shape=(32, 32, 3))
  evaluation = [evaluated('best_nll', 4, -3072 * np.log(2) * 4, 6.0)]
  page = report.make_report([dataclasses.replace(cifar10, evaluation=evaluation), *runs])
  assert page.title == 'Flow-GAN on CIFAR-10 and MNIST'
  titles = [section.title for section in page.sections]
  assert 'CIFAR-10: Runs' in titles and 'MNIST: Runs' in titles
  [of_cifar10] = [s for s in page.sections if s.title == 'CIFAR-10: Likelihood and sample quality']
  row, *_ = cells(of_cifar10.items[0])
  assert text(row['test NLL (bits/dim)']).startswith('4.000 ±') and text(row['the paper: NLL']) == '3.54'


def test_learning_curves_pair_training_with_validation(runs):
  picture = figures.learning_curves(runs, 'nats')
  assert isinstance(picture, Figure) and 'MLE' in picture.alt and 'ADV' not in picture.alt
  assert figures.learning_curves(runs[1:], 'nats') is None


def test_front_and_condition_numbers_need_several_lambdas(runs):
  assert figures.front(runs, 'nats') is None and figures.condition_numbers(runs) is None
  weighted = [
    dataclasses.replace(
      summary(f'Hybrid λ = {w}', 'hybrid', w),
      evaluation=[evaluated('best_score', 5, -3000.0 - w, 7.0 - w)],
      studies={'jacobian': jacobian([[3, 2, 1], [9, 3, 1]])},
    )
    for w in (0.1, 1.0)
  ]
  assert figures.front(weighted, 'nats').alt == 'MODE score against test NLL, a point for each of 2 runs.'
  assert figures.condition_numbers(weighted).alt == 'Condition number of the Jacobian at 2 values of λ.'

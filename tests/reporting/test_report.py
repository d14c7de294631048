"""The page of a set of runs: what it says, and what it leaves empty."""

import dataclasses
import itertools

import numpy as np
import pytest

from flowgan_tf.analysis.study import Study
from flowgan_tf.reporting import figures, report
from flowgan_tf.reporting.page import Cell, Code, Figure, Table, render
from flowgan_tf.reporting.summary import Summary
from flowgan_tf.training.config import default_config

SETTINGS = {'seed': 0}


def summary(label, objective, weight=0.1, dataset='mnist', shape=(28, 28, 1)):
  config = default_config()
  config.dataset, config.objective = dataset, objective
  config['lambda'] = weight
  return Summary(label, f'runs/{objective}', config, dataset, shape, 256, [], [], {})


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


def jacobian(values):
  record = {'what': 'jacobian', 'checkpoint': 'latest', 'step': 9, 'settings': SETTINGS, 'n': 2, 'd': 3}
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


def table(page, caption):
  items = itertools.chain(*(section.items for section in page.sections))
  [found] = [item for item in items if isinstance(item, Table) and item.caption.startswith(caption)]
  return [dict(zip(found.header, row, strict=True)) for row in found.rows]


def text(cell):
  return cell.text if isinstance(cell, Cell) else cell


def test_the_papers_table_is_filled_with_what_the_runs_hold(runs):
  mle, adv, hybrid = table(report.make_report(runs), 'Sample score')
  assert text(mle['MODE score']) == '7.00 ± 0.10' and text(mle['test NLL (nats)']) == '−3,300.00 ± 1.50'
  assert mle['iteration of each'] == '5, 4' and text(mle['test images']) == '10,000'
  assert mle['MODE score'].command == 'bin/evaluate runs/mle --split=test --samples=5000'
  for empty in (adv, hybrid):
    assert {empty[name] for name in ('MODE score', 'test NLL (nats)', 'iteration of each', 'samples')} == {''}
  assert [text(row['the paper: NLL']) for row in (mle, adv, hybrid)] == ['−3,334.56', '−1,604.09', '−3,342.95']


def test_rows_of_the_paper_without_a_run_stand_alone(runs):
  rows = table(report.make_report(runs[:1]), 'Sample score')
  assert [text(row['run']) for row in rows] == ['MLE', 'ADV (the paper)', 'Hybrid λ = 0.1 (the paper)']


def test_wall_time_seed_and_steps(runs):
  mle, _, hybrid = table(report.make_report(runs), 'How the runs')
  assert (text(mle['wall time (min)']), text(mle['iterations']), text(mle['seed'])) == ('1.5', '5', '0')
  assert hybrid['wall time (min)'] == hybrid['iterations'] == ''


def test_estimates_and_their_orders(runs):
  page = report.make_report(runs)
  mle, adv = table(page, 'NLL in nats per image')
  assert text(adv['exact']) == '400.00 ± 2.00' and adv['AIS'] == '' and text(adv['the paper: AIS']) == '−2,916.10'
  assert mle['KDE'].command == 'bin/analyze runs/mle --what=kde --checkpoint=best_score --seed=0'
  html = render(page)
  assert 'exact: MLE &lt; ADV; KDE: ADV &lt; MLE' in html


def test_infinite_condition_numbers(runs):
  [row] = table(report.make_report(runs), 'The Jacobian')
  assert (text(row['condition number, median']), row['largest']) == ('1.00e+01', '∞')
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
  row = dict(zip(of_cifar10.items[0].header, of_cifar10.items[0].rows[0], strict=True))
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
  assert 'λ = 0.1' in figures.front(weighted, 'nats').image
  assert figures.condition_numbers(weighted).alt == 'Condition number of the Jacobian at 2 values of λ.'

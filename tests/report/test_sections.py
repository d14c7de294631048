"""The page of a set of runs: its sections, and what each analysis says in its own."""

import dataclasses

import numpy as np
import pytest

from flowgan_tf.display.figure import Figure
from flowgan_tf.display.tables import Table
from flowgan_tf.report.page import render
from flowgan_tf.report.sections import _analysis_sections, make_report
from tests.summaries import ais, cells, conditional, evaluated, gmm, jacobian, kde, outliers, summary


@pytest.fixture
def runs():
  evaluation = [evaluated('best_nll', 4, -3300.0, 6.0), evaluated('best_score', 5, -3200.0, 7.0)]
  mle = summary('mle', evaluation=evaluation, studies={'kde': kde(-100.0, -3300.0)})
  return [mle, summary('adversarial', studies={'kde': kde(-200.0, 400.0)}), summary('hybrid')]


def test_findings_come_first_and_what_is_not_measured_last(runs):
  """A section that no run has numbers for names the commands, and is not among the contents."""
  page = make_report(runs)
  titles = [section.title for section in page.filled]
  assert titles == ['What was found', 'Likelihood and sample quality', 'Runs', 'Estimates of the likelihood']
  assert page.filled[0].items == [
    'MLE has a test NLL of −3,300.0 ± 1.5 nats. MLE has a MODE score of 7.00 ± 0.10. ADV and Hybrid λ = 0.1 have not '
    'been evaluated on the test images.'
  ]
  missing = {section.title: section.items[0].text for section in page.missing}
  assert missing['Mixture of Gaussians'] == 'bin/analyze runs/mle runs/adversarial runs/hybrid --what=gmm'
  assert '3 runs.' in page.about and page.title == 'Flow-GAN on MNIST'
  assert 'exact: MLE &lt; ADV; KDE: ADV &lt; MLE' in render(page)
  missing = {section.title: section.items[0].text for section in make_report(runs[1:]).missing}
  measurable = missing['Likelihood and sample quality'].splitlines()
  assert measurable == ['bin/evaluate runs/adversarial', 'bin/evaluate runs/hybrid']


def test_samples_of_the_best_runs_stand_beside_real_images(runs):
  """They are the three with the smallest FIDs and the one with the best likelihood. The samples of others follow."""
  png = Figure.of_pixels(np.zeros((3, 4, 1), np.uint8), 'a', 'b').data
  runs = [
    summary('hybrid', weight, evaluation=[evaluated('best_score', 5, nll, 6.0) | {'fid': fid}], sample_grid=(5, png))
    for weight, fid, nll in ((1.0, 9.0, -3000.0), (2.0, 40.0, -3000.0), (3.0, 8.0, -3000.0), (4.0, 50.0, -3500.0))
  ]
  runs[0] = dataclasses.replace(runs[0], real_grid=png)
  (said, _), *_ = (section.items for section in make_report(runs).filled)
  assert 'The FID is 9.0 for Hybrid λ = 1.0, 40.0 for Hybrid λ = 2.0, 8.0 for Hybrid λ = 3.0 and 50.0 for' in said
  runs.append(
    summary('hybrid', 5.0, evaluation=[evaluated('best_score', 5, -3000.0, 6.0) | {'fid': 7.0}], sample_grid=(5, png))
  )
  first, *others = make_report(runs).filled
  _, [plot, *grids] = first.items
  shown = [f'Hybrid λ = {weight}, iteration 5.' for weight in (1.0, 3.0, 4.0, 5.0)]
  assert plot.suffix == 'svg' and [grid.caption for grid in grids] == [*shown, 'Real images.']
  [rest] = [section.items for section in others if section.title == 'Samples of the other runs']
  assert [figure.caption for figure in rest[0]] == ['Hybrid λ = 2.0, iteration 5.']


def test_an_infinite_nll_and_likelihoods_of_something_else_are_not_the_best(runs):
  """JSON has null for infinity. The NLL of p(x | c) may be far lower."""
  png = Figure.of_pixels(np.zeros((3, 4, 1), np.uint8), 'a', 'b').data
  record = evaluated('best_score', 5, -3000.0, 6.0)
  drawn = [
    *(
      summary('hybrid', weight, evaluation=[record | {'fid': 1.0}], sample_grid=(5, png)) for weight in (1.0, 2.0, 3.0)
    ),
    summary('mle', evaluation=[record | {'nll': None, 'standard_error': None}], sample_grid=(5, png)),
    conditional('mask:half', evaluation=[record | {'nll': -9000.0, 'condition': 'mask:half'}], sample_grid=(5, png)),
  ]
  [(_, figures)] = [section.items for section in make_report(drawn).filled if section.title == 'What was found']
  captions = [figure.caption for figure in figures]
  assert all(any(f'λ = {weight}' in caption for caption in captions) for weight in (1.0, 2.0, 3.0))
  assert not any('mask:half' in caption for caption in captions)


def test_scores_of_few_samples_bear_a_warning():
  few = summary('mle', evaluation=[evaluated('best_nll', 4, -3300.0, 6.0) | {'score_samples': 999}])
  assert 'The scores of MLE come from fewer than 1,000 samples.' in render(make_report([few]))
  enough = summary('mle', evaluation=[evaluated('best_nll', 4, -3300.0, 6.0) | {'score_samples': 1000}])
  assert 'fewer than 1,000' not in render(make_report([enough]))


def test_data_sets_are_kept_apart(runs):
  cifar10 = summary('mle', dataset='cifar10', shape=(32, 32, 3), evaluation=[evaluated('best_nll', 4, -9000.0, 6.0)])
  page = make_report([cifar10, *runs])
  assert page.title == 'Flow-GAN on CIFAR-10 and MNIST' and 'MNIST: Runs' in [s.title for s in page.filled]
  [of_cifar10] = [s for s in page.sections if s.title == 'CIFAR-10: Likelihood and sample quality']
  assert cells(of_cifar10.items[0])[0]['the paper: NLL'] == '3.54'
  # Two files may have one name, in two folders or at two times.
  page = make_report([summary('mle', dataset='a\nb', fingerprint=letter * 64) for letter in 'cd'])
  assert page.title == r'Flow-GAN on a\nb cccccccc and a\nb dddddddd'


def test_conditional_runs_have_a_section(runs):
  """Their samples and curves stand in it. What they are given changes the NLL, so that they have no order."""
  assert 'Conditional' not in [section.title for section in make_report(runs).sections]
  png = Figure.of_pixels(np.zeros((3, 4, 1), np.uint8), 'a', 'b').data
  numbers = {'seconds': 1.0, 'nll': -9.0, 'class_accuracy': 0.9, 'label_share': 0.8}
  metrics = [{'kind': 'validation', 'step': step, **numbers} for step in (5, 10)]
  of_labels = conditional('label', metrics=metrics, sample_grid=(5, png), studies={'kde': kde(-50.0, 0.0)})
  page = make_report([*runs, of_labels, conditional('mask:half'), conditional('low_resolution:2', evaluation=())])
  sections = {section.title: section.items for section in page.sections}
  labels, by_class, note, images, of_images, accuracy, share = sections['Conditional']
  [grid] = sections['What was found'][-1][1:]
  assert [row['run'] for row in cells(labels)] == ['MLE (given label)', ''] and 'class 1' in cells(by_class)[0]
  assert note.startswith('Class accuracy: share of') and of_images.startswith('PSNR and SSIM: samples')
  assert [row['run'] for row in cells(images)] == ['MLE (given mask:half)', '']
  assert (
    grid.caption == 'MLE (given label), iteration 5: a row for each class.'
    and 'Samples of the other runs' not in sections
  )
  assert 'largest p(y | x)' in accuracy.caption and 'class they were drawn for' in share.caption
  said = 'The NLL of MLE (given mask:half) is the mean of -log p(x | c), which cannot be compared with -log p(x).'
  assert said in sections['Likelihood and sample quality']
  assert 'KDE: ADV &lt; MLE.' in render(page)
  [code] = {s.title: s.items for s in make_report([conditional('mask:half', evaluation=())]).sections}['Conditional']
  assert code.text == 'bin/evaluate runs/mask:half'


def test_damage_is_said_behind_the_findings(runs):
  page = make_report(runs, ['runs/a/evaluation.json: damaged', 'runs/<b>\n: damaged'])
  assert [section.title for section in page.sections[:2]] == ['What was found', 'Damaged files']
  assert 'runs/a/evaluation.json: damaged\nruns/&lt;b&gt;\\n: damaged' in render(page)


@pytest.fixture
def shown(runs):
  kde_and_jacobian = {**runs[1].studies, 'jacobian': jacobian([[3, 2, 1], [9, 3, 1]])}
  return [runs[0], dataclasses.replace(runs[1], studies=kde_and_jacobian), runs[2]]


def items(runs, title):
  [section] = [section for section in _analysis_sections(runs, []) if section.title == title]
  return section.items


def tables(runs, title):
  return [item for item in items(runs, title) if isinstance(item, Table)]


def test_estimates_stand_beside_the_papers(shown):
  [table] = tables(shown, 'Estimates of the likelihood')
  mle, adv = cells(table)
  assert adv['exact'] == '400.00 ± 2.00' and adv['KDE'] == '-200.00 ± 1.00'
  assert (mle['the paper: exact'], adv['the paper: KDE']) == ('-3,287.69', '-3.03') and 'Table 3' in table.caption
  assert table.rows[0].links['kde'] == 'bin/analyze runs/mle --what=kde --checkpoint=best_score --seed=0'


@pytest.mark.parametrize(
  ('adv', 'hybrid', 'said'),
  [
    (ais(20.0, 3.0, None), ais(-45.0, 3.0, 1.0), 'AIS: MLE ≈ Hybrid λ = 0.1 < ADV.'),
    (ais(20.0, 3.0, None), ais(-45.0, 3.0, 70.0), 'AIS: MLE ≈ Hybrid λ = 0.1 ≈ ADV.'),
    (ais(20.0, 3.0, 70.0), ais(-45.0, 3.0, 1.0), 'AIS: MLE ≈ Hybrid λ = 0.1 ≈ ADV.'),
    (ais(20.0, 3.0, 1.0), ais(-45.0, 3.0, 1.0, n=2), None),
  ],
)
def test_an_order_is_claimed_only_where_the_estimates_resolve_it(shown, adv, hybrid, said):
  """Bounds of AIS that are not finite have no gap."""
  studies = (ais(-50.0, 3.0, 1.0), adv, hybrid)
  runs = [dataclasses.replace(run, studies={'ais': study}) for run, study in zip(shown, studies, strict=True)]
  order = ' '.join(item for item in items(runs, 'Estimates of the likelihood') if isinstance(item, str))
  assert said in order if said else 'In order' not in order


def test_an_estimate_stands_beside_the_exact_value_of_its_images_and_checkpoint(shown):
  only_ais = [dataclasses.replace(shown[0], studies={'ais': ais(-50.0, 3.0, 1.0)})]
  [row] = cells(tables(only_ais, 'Estimates of the likelihood')[0])
  assert (row['AIS'], row['exact, images of AIS']) == ('-50.00 ± 3.00', '-60.00 ± 2.00')
  assert 'KDE' not in row and row['the paper: AIS'] == '-2,584.40'
  both = [dataclasses.replace(shown[0], studies={'kde': kde(-100.0, -3300.0), 'ais': ais(-50.0, 3.0, 1.0, step=20)})]
  table, details = tables(both, 'Estimates of the likelihood')
  first, second = cells(table)
  assert (first['iteration'], first['KDE'], first['AIS']) == ('9', '-100.00 ± 1.00', '')
  assert (second['iteration'], second['AIS'], second['KDE']) == ('20', '-50.00 ± 3.00', '')
  assert [row['AIS: chains'] for row in cells(details)] == ['', '2']


def test_condition_numbers_may_be_infinite(shown):
  table, figure = items(shown, 'Jacobian of the generator')
  [row] = cells(table)
  assert (row['condition number, median'], row['largest']) == ('1.00e+01', '∞')
  assert row['the paper: mean log-determinant'] == '-15,588.34' and row['singular values below precision'] == '0.0%'
  assert isinstance(figure, Figure) and figure.command == table.rows[0].links['jacobian']


def test_a_mixture_is_drawn_once_and_set_beside_each_run(shown):
  studied = [
    dataclasses.replace(run, studies={'gmm': gmm(*numbers)})
    for run, numbers in zip(shown, [(-50, 2), (-200, 9), (0, 0)], strict=True)
  ]
  table, curve, samples = items(studied, 'Mixture of Gaussians')
  beaten = [row['bandwidths better than the run'] for row in cells(table)]
  # Both are linear in log2 of the bandwidth: the NLL is below -50 from 0.1 * 2^0.5 to 0.1 * 2^1.5, the score above 2
  # from 0.1 * 2^0.25 on.
  assert beaten == ['0.14 to 0.28', 'none', '0.1 to 0.4']
  assert (curve.suffix, samples.suffix) == ('svg', 'png')
  assert 'At no bandwidth does the mixture beat ADV' in curve.caption
  runs = 'runs/mle runs/adversarial runs/hybrid'
  assert curve.command == f'bin/analyze {runs} --what=gmm --checkpoint=latest --seed=0 --samples=500'


def test_each_run_has_its_own_histograms(shown):
  studied = [dataclasses.replace(run, studies={'outliers': outliers(shift)}) for shift, run in enumerate(shown[:2])]
  table, *figures = items(studied, 'Outliers')
  first, second, *_ = [(row['run'], row['test more likely (AUROC)']) for row in cells(table)]
  assert (first, second) == (('MLE, train', '0.500'), ('MLE, test', ''))
  assert [figure.command.split()[1] for figure in figures] == ['runs/mle', 'runs/adversarial']

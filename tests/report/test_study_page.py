"""The page of a set of runs as a whole."""

import numpy as np
import pytest

from flowgan_tf.programs import command_lines
from flowgan_tf.report.page import Code, render
from flowgan_tf.report.study_page import make_report
from tests.summaries import evaluated, kde, summary
from tests.tables import cells


@pytest.fixture
def runs():
  evaluation = [evaluated('best_nll', 4, -3300.0, 6.0), evaluated('best_score', 5, -3200.0, 7.0)]
  mle = summary('mle', evaluation=evaluation, studies={'kde': kde(-100.0, -3300.0)})
  return [mle, summary('adversarial', studies={'kde': kde(-200.0, 400.0)}), summary('hybrid')]


def test_sections_in_the_order_of_the_paper(runs):
  page = make_report(runs, command_lines)
  assert [section.title for section in page.sections] == [
    'Runs',
    'Likelihood and sample quality',
    'Estimates of the likelihood',
    'Mixture of Gaussians',
    'Jacobian of the generator',
    'Outliers',
    'Critic gap',
  ]
  assert '3 runs.' in page.lead and page.title == 'Flow-GAN on MNIST'


def test_texts_are_escaped_and_links_are_not(runs):
  html = render(make_report(runs, command_lines))
  assert 'exact: MLE &lt; ADV; KDE: ADV &lt; MLE' in html
  assert '<a href="https://arxiv.org/abs/1705.08868">Flow-GAN</a>' in html


def test_a_page_of_runs_without_numbers_names_the_commands(runs):
  page = make_report(runs[1:], command_lines)
  codes = {s.title: s.items[0].text for s in page.sections if isinstance(s.items[0], Code)}
  assert codes['Likelihood and sample quality'].splitlines()[1:] == [
    'bin/evaluate runs/adversarial',
    'bin/evaluate runs/hybrid',
  ]
  assert 'bin/analyze runs/adversarial runs/hybrid --what=gmm' in codes['Mixture of Gaussians']


def test_data_sets_are_kept_apart(runs):
  evaluation = [evaluated('best_nll', 4, -3072 * np.log(2) * 4, 6.0)]
  cifar10 = summary('mle', dataset='cifar10', shape=(32, 32, 3), evaluation=evaluation)
  page = make_report([cifar10, *runs], command_lines)
  assert page.title == 'Flow-GAN on CIFAR-10 and MNIST'
  titles = [section.title for section in page.sections]
  assert 'CIFAR-10: Runs' in titles and 'MNIST: Runs' in titles
  [of_cifar10] = [s for s in page.sections if s.title == 'CIFAR-10: Likelihood and sample quality']
  assert cells(of_cifar10.items[0])[0]['the paper: NLL'] == '3.54'

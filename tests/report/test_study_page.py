"""The page of a set of runs as a whole."""

import dataclasses

import numpy as np
import pytest

from flowgan_tf.programs import command_lines
from flowgan_tf.report.page import Code, render
from flowgan_tf.report.study_page import make_report
from tests.summaries import evaluated, gmm, jacobian, kde, summary
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
    'Temperature',
    'Scores by other classifiers',
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


def test_data_sets_of_one_name_are_told_apart():
  """Such as two files called images.npz, in two folders or at two times."""
  runs = [summary('mle', dataset='a\nb', fingerprint=letter * 64) for letter in 'cd']
  page = make_report(runs, command_lines)
  assert page.title == r'Flow-GAN on a\nb cccccccc and a\nb dddddddd'
  assert [section.title for section in page.sections if section.title.endswith('Runs')] == [
    r'a\nb cccccccc: Runs',
    r'a\nb dddddddd: Runs',
  ]


def test_damage_is_said_first(runs):
  page = make_report(runs, command_lines, ['runs/a/evaluation.json: damaged', 'runs/<b>\n: damaged'])
  assert page.sections[0].title == 'Damaged files' and page.sections[1].title == 'Runs'
  html = render(page)
  assert 'runs/a/evaluation.json: damaged\nruns/&lt;b&gt;\\n: damaged' in html
  assert 'Damaged files' not in render(make_report(runs, command_lines))


def test_analyses_that_cannot_be_shown_are_left_out(runs, caplog):
  """They are whole, but another version may have kept other numbers."""
  studies = {'kde': kde(-100.0, -3300.0), 'jacobian': jacobian([[3, 2, 1]]), 'gmm': gmm(1.0, 2.0)}
  del studies['gmm'].record['bandwidths']
  studies['jacobian'].arrays.clear()
  odd = dataclasses.replace(runs[0], studies=studies)
  page = make_report(
    [odd, dataclasses.replace(runs[1], studies={'jacobian': jacobian([[3, 2, 1]])})], command_lines, ['x']
  )
  assert page.sections[0].items[1].text.splitlines() == [
    'x',
    "runs/mle/analysis/jacobian.json: cannot be shown (KeyError: 'singular_values'); measure it again",
    "runs/mle/analysis/gmm.json: cannot be shown (KeyError: 'bandwidths'); measure it again",
  ]
  assert [record.getMessage() for record in caplog.records] == page.sections[0].items[1].text.splitlines()[1:]
  tables = {section.title: section.items[0] for section in page.sections}
  assert [row['run'] for row in cells(tables['Jacobian of the generator'])] == ['ADV']
  assert [row['run'] for row in cells(tables['Estimates of the likelihood'])] == ['MLE']
  assert isinstance(tables['Mixture of Gaussians'], Code)


def test_an_error_of_the_page_is_no_damage(runs):
  with pytest.raises(AttributeError):
    make_report([dataclasses.replace(runs[0], metrics=None), *runs[1:]], None)

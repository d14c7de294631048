import numpy as np
import pytest

from flowgan_tf.study.ais import Ais

SETTINGS = Ais.Settings(ais_images=3, ais_chains=2, ais_steps=4)


@pytest.fixture(scope='module')
def measured(subject):
  return Ais().measure(subject, SETTINGS)


def test_numbers_are_those_of_the_images_that_were_looked_at(subject, measured):
  numbers, arrays = measured
  assert (numbers['n'], numbers['chains'], numbers['steps'], numbers['exact_n']) == (3, 2, 4, 3)
  np.testing.assert_allclose(numbers['nll'], -arrays['log_likelihood'].mean())
  log_prob = subject.run.generator.log_prob(subject.images('test', 3)).numpy()
  np.testing.assert_allclose(numbers['exact_nll'], -log_prob.mean(), rtol=1e-5, atol=1e-5)


def test_sigma_is_the_best_of_those_tried(measured):
  numbers, _ = measured
  assert numbers['sigma'] == min(numbers['sigmas_tried'], key=lambda pair: pair[1])[0]


def test_an_order_is_not_claimed_within_the_gap_of_the_bounds():
  assert Ais().resolution({'bracket_gap': 70.0}) == 70.0
  assert Ais().resolution({'bracket_gap': None}) == 0.0

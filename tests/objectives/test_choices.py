import re

import pytest

from flowgan_tf.objectives import DIVERGENCES, PENALTIES
from flowgan_tf.objectives.choices import DIVERGENCE_NAMES, PENALTY_NAMES, check_arguments

ARGUMENTS = {
  'name': 'hybrid',
  'lambda_': 0.5,
  'final_lambda': None,
  'divergence': 'kl',
  'gradient_penalty_weight': None,
  'penalty': None,
  'penalty_interval': 1,
}


def test_the_names_are_those_of_the_functions():
  assert tuple(DIVERGENCES) == DIVERGENCE_NAMES
  assert tuple(PENALTIES) == PENALTY_NAMES


def test_what_may_be_left_open_may_be_set():
  check_arguments(**ARGUMENTS)
  check_arguments(**ARGUMENTS | {'final_lambda': 0.1, 'gradient_penalty_weight': 0, 'penalty': 'zero_centered'})


@pytest.mark.parametrize(
  ('argument', 'value', 'expected'),
  [
    ('name', 'gan', 'one of mle, adversarial, hybrid'),
    ('divergence', None, 'one of wasserstein, '),
    ('penalty', 'r1', 'one of one_centered, zero_centered'),
    ('penalty_interval', 0, 'an integer of at least 1'),
    ('lambda_', None, 'a finite number of at least 0'),
    ('lambda_', 1e39, 'a finite number of at least 0'),
    ('final_lambda', -1.0, 'a finite number of at least 0'),
    ('final_lambda', 0, '0 if and only if `lambda_` is, here 0.5'),
    ('gradient_penalty_weight', float('nan'), 'a finite number of at least 0'),
  ],
)
def test_a_wrong_argument_is_named(argument, value, expected):
  with pytest.raises(ValueError, match=rf'^`{argument}` must be {expected}.* Got: {re.escape(repr(value))}\.$'):
    check_arguments(**ARGUMENTS | {argument: value})

"""What an objective is made of, by name, and the checks of its arguments. Nothing here needs TensorFlow."""

from __future__ import annotations

import numpy as np

from flowgan_tf.errors import UsageError, check_choice, check_integer, check_number

__all__ = ['DIVERGENCE_NAMES', 'OBJECTIVES', 'PENALTY_NAMES', 'check_arguments']

OBJECTIVES = ('mle', 'adversarial', 'hybrid')
# The keys of `DIVERGENCES` and of `PENALTIES`.
DIVERGENCE_NAMES = (
  'wasserstein',
  'jensen_shannon',
  'kl',
  'reverse_kl',
  'hellinger',
  'total_variation',
  'least_squares',
  'relativistic',
)
PENALTY_NAMES = ('one_centered', 'zero_centered')

# The weights must be finite as a float32, too.
_LARGEST = float(np.finfo(np.float32).max)


def check_arguments(
  name: str,
  *,
  lambda_: float,
  final_lambda: float | None,
  divergence: str,
  gradient_penalty_weight: float | None,
  penalty: str | None,
  penalty_interval: int,
) -> None:
  """Checks the arguments of `make`, which says what they are.

  Raises:
    UsageError: If one is wrong.
  """
  check_choice('name', name, OBJECTIVES)
  check_choice('divergence', divergence, DIVERGENCE_NAMES)
  if penalty is not None:
    check_choice('penalty', penalty, PENALTY_NAMES)
  check_integer('penalty_interval', penalty_interval, 1)
  weights = {'lambda_': lambda_, 'final_lambda': final_lambda, 'gradient_penalty_weight': gradient_penalty_weight}
  for argument, weight in weights.items():
    if weight is not None or argument == 'lambda_':
      check_number(argument, weight, 'a finite number of at least 0', lambda v: 0 <= v <= _LARGEST)
  if final_lambda is not None and (lambda_ == 0) != (final_lambda == 0):
    said = f'`final_lambda` must be 0 if and only if `lambda_` is, here {lambda_}. Got: {final_lambda}.'
    raise UsageError(said, 'final_lambda')

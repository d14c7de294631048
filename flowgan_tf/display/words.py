"""Words for alternative texts and captions."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ['SCORE_NAMES', 'listed']

SCORE_NAMES = {'mode_score': 'MODE score', 'inception_score': 'Inception score', 'fid': 'FID', 'kid': 'KID'}


def listed(names: Iterable[str]) -> str:
  """'a', 'a and b', 'a, b and c'."""
  *others, last = [*names] or ['']
  return f'{", ".join(others)} and {last}' if others else last

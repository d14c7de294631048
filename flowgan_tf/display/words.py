"""Words for alternative texts and captions."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

__all__ = ['SCORE_NAMES', 'listed', 'printable']

SCORE_NAMES = {'mode_score': 'MODE score', 'inception_score': 'Inception score', 'fid': 'FID', 'kid': 'KID'}


def listed(names: Iterable[str]) -> str:
  """'a', 'a and b', 'a, b and c'."""
  *others, last = [*names] or ['']
  return f'{", ".join(others)} and {last}' if others else last


def printable(text: str) -> str:
  """Writes what would break a line, or cannot be written at all, as an escape.

  Args:
    text: A text, or a path, whose bytes that are not UTF-8 are surrogates in Python.

  Returns:
    The text with escapes such as `\\n`, and `\\xff` for such a byte.
  """
  return ''.join(_escape(c) if unicodedata.category(c) in ('Cc', 'Cs', 'Zl', 'Zp') else c for c in text)


def _escape(character: str) -> str:
  if '\udc80' <= character <= '\udcff':
    return f'\\x{ord(character) - 0xDC00:x}'
  return character.encode('unicode_escape').decode()

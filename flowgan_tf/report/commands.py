"""What the page asks of whoever knows the programs: the commands behind its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from flowgan_tf.study.summary import Summary

__all__ = ['Commands']


class Commands(Protocol):
  """Makes command lines; `programs.command_lines` does."""

  def train(self, run: Summary) -> str:
    """Trains the run again."""

  def evaluate(self, run: Summary, record: dict) -> str:
    """Measures again what a record of `evaluation.json` holds."""

  def analyze(self, runs: Sequence[Summary], what: str) -> str | None:
    """Applies an analysis to runs again; None if one command cannot do it for all of them."""

  def missing(self, runs: Sequence[Summary], what: Sequence[str]) -> list[str]:
    """Measures what no run holds yet: analyses or, if there are none, the evaluation."""

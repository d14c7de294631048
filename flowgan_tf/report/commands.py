"""The interface through which the page gets the commands behind its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from flowgan_tf.study.summary import Summary

__all__ = ['Commands']


class Commands(Protocol):
  """Makes command lines. The module `programs.command_lines` implements it."""

  def train(self, run: Summary) -> str:
    """Returns the command that trains a run again."""

  def evaluate(self, run: Summary, record: dict) -> str:
    """Returns the command that repeats the evaluation behind a record of `evaluation.json`."""

  def analyze(self, runs: Sequence[Summary], what: str) -> str | None:
    """Returns the command that applies an analysis to runs again; None if no single command can."""

  def missing(self, runs: Sequence[Summary], what: Sequence[str]) -> list[str]:
    """Returns the commands for what no run has yet: the analyses `what` or, if that is empty, the evaluation."""

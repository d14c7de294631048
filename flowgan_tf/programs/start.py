"""Entry points of the programs."""

import functools
import importlib

__all__ = ['analyze', 'evaluate', 'export', 'report', 'sample', 'start', 'sweep', 'train']


def start(program: str) -> None:
  """Runs `flowgan_tf/programs/<program>.py`, and exits."""
  command = importlib.import_module('flowgan_tf.programs.command')
  command.run_program(importlib.import_module(f'flowgan_tf.programs.{program}'))


analyze, evaluate, export, report, sample, sweep, train = (
  functools.partial(start, program)
  for program in ('analyze', 'evaluate', 'export', 'report', 'sample', 'sweep', 'train')
)

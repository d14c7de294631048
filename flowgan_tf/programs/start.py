"""Entry points of the programs. They handle signals before the imports, which take seconds."""

import functools
import importlib

from flowgan_tf.base.signals import end_on_signals

__all__ = ['analyze', 'evaluate', 'export', 'report', 'sample', 'start', 'sweep', 'train']


def start(program: str) -> None:
  """Runs `flowgan_tf/programs/<program>.py`, and exits."""
  end_on_signals()
  command = importlib.import_module('flowgan_tf.programs.command')
  command.run_program(importlib.import_module(f'flowgan_tf.programs.{program}'))


analyze, evaluate, export, report, sample, sweep, train = (
  functools.partial(start, program)
  for program in ('analyze', 'evaluate', 'export', 'report', 'sample', 'sweep', 'train')
)

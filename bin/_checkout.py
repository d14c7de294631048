"""Runs a program of the checkout with the checkout's own .venv, unless another virtual environment is active."""

import importlib
import os
import sys

_PYTHON = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), '.venv', 'bin', 'python')


def run(program: str) -> None:
  """Starts `flowgan_tf/programs/<program>.py`, in .venv if there is one and no virtual environment is active."""
  if sys.prefix == sys.base_prefix and os.path.exists(_PYTHON):
    os.execv(_PYTHON, [_PYTHON, *sys.argv])
  try:
    start = importlib.import_module('flowgan_tf.programs.start')
  except ModuleNotFoundError:
    print(f'{program}: flowgan_tf is not installed; `make demo` installs it, with all that it needs', file=sys.stderr)
    sys.exit(2)
  start.start(program)

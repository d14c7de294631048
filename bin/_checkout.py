"""Runs a program of the checkout with the checkout's own .venv, unless another environment is active."""

import importlib
import os
import pathlib
import sys

_PYTHON = pathlib.Path(__file__).resolve().parent.parent / '.venv' / 'bin' / 'python'


def run(program: str) -> None:
  """Runs `flowgan_tf/programs/<program>.py`, after a restart in .venv if there is one and no environment is active."""
  if sys.prefix == sys.base_prefix and _PYTHON.exists():
    os.execv(_PYTHON, [str(_PYTHON), *sys.argv])
  importlib.import_module(f'flowgan_tf.programs.{program}').run()

"""Runs a program of the checkout with the checkout's own .venv, unless another environment is active."""

import os
import pathlib
import sys

_PYTHON = pathlib.Path(__file__).resolve().parent.parent / '.venv' / 'bin' / 'python'

if sys.prefix == sys.base_prefix and _PYTHON.exists():
  os.execv(_PYTHON, [str(_PYTHON), *sys.argv])

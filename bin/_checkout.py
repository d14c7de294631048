"""Runs a program of the checkout with the checkout's own .venv, unless another environment is active."""

import signal

# These wait, over a restart too, until flowgan_tf.signals handles them: Ctrl-C, SIGTERM, and a terminal that closes.
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))

import importlib  # noqa: E402
import os  # noqa: E402
import pathlib  # noqa: E402
import sys  # noqa: E402

_PYTHON = pathlib.Path(__file__).resolve().parent.parent / '.venv' / 'bin' / 'python'


def run(program: str) -> None:
  """Starts `flowgan_tf/programs/<program>.py`, in .venv if there is one and no environment is active."""
  if sys.prefix == sys.base_prefix and _PYTHON.exists():
    os.execv(_PYTHON, [str(_PYTHON), *sys.argv])
  importlib.import_module('flowgan_tf.programs.start').start(program)

"""What all programs share: flags that fail in one line, and exit statuses."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Callable

from absl import app, flags
from absl import logging as absl_logging

from flowgan_tf.errors import UsageError

__all__ = ['INTERRUPTED', 'load_tensorflow', 'run_argument', 'run_program']

USAGE_ERROR = 2
INTERRUPTED = 130

# What a config file and its overrides raise while flags are parsed; UsageError is a ValueError.
_CONFIG_ERRORS = (AttributeError, ImportError, KeyError, NameError, OSError, SyntaxError, TypeError, ValueError)


def run_program(main: Callable[[list[str]], int | None], module: str) -> None:
  """Runs a program and exits; a user's mistake ends in one line and exit status 2.

  Args:
    main: Takes the positional arguments, without the program's name; returns an exit status or None.
    module: Name of the program's module, whose docstring and flags `--helpshort` shows.
  """
  program = os.path.basename(sys.argv[0])
  load_tensorflow()

  def fail(message: object) -> None:
    print(f'{program}: {" ".join(str(message).split())}', file=sys.stderr)
    sys.exit(USAGE_ERROR)

  def parse(argv: list[str]) -> list[str]:
    try:
      return flags.FLAGS(argv)
    except flags.Error as error:
      fail(error)
    except _CONFIG_ERRORS as error:
      fail(f'--config: cannot be read or has no such setting ({type(error).__name__}: {error})')

  def checked_main(argv: list[str]) -> int | None:
    # The handler, not the logger: TensorFlow sets the level of absl's logger again later on.
    absl_logging.get_absl_handler().setLevel(logging.WARNING)
    logging.getLogger('tensorflow').setLevel(logging.WARNING)
    try:
      return main(argv[1:])
    except UsageError as error:
      fail(error)
    except KeyboardInterrupt:
      print(f'{program}: interrupted', file=sys.stderr)
      return INTERRUPTED

  # absl shows the docstring and the flags of the main module; ours is the module, not the script that calls it.
  sys.modules['__main__'].__doc__ = sys.modules[module].__doc__
  for flag in flags.FLAGS.get_key_flags_for_module(module):
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
  # Our own notes go to the terminal as they are; the libraries' only from warnings on.
  notes = logging.getLogger('flowgan_tf')
  notes.addHandler(logging.StreamHandler())
  notes.setLevel(logging.INFO)
  notes.propagate = False
  app.run(checked_main, flags_parser=parse)


def load_tensorflow() -> None:
  """Imports TensorFlow without its start-up notes, and has it compute float32 products in float32."""
  # The notes are no answer to a user's command, and those of the import ignore every setting. A failed import is still
  # seen: its exception is raised when standard error is back.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  sys.stderr.flush()
  standard_error = os.dup(2)
  try:
    with open(os.devnull, 'w') as nowhere:
      os.dup2(nowhere.fileno(), 2)
    tf = importlib.import_module('tensorflow')
  finally:
    os.dup2(standard_error, 2)
    os.close(standard_error)
  # On GPUs since Ampere the default is TF32, which rounds the factors of a product to mantissas of 10 bits, not 23: the
  # inverse of a coupling, and the likelihood with it, would be as coarse.
  tf.config.experimental.enable_tensor_float_32_execution(False)


def run_argument(arguments: list[str]) -> str:
  """The one positional argument RUN of a program.

  Raises:
    UsageError: If there is none, or more than one.
  """
  if len(arguments) != 1:
    raise UsageError(
      f'expected one run folder, as in `{os.path.basename(sys.argv[0])} runs/demo`; got {len(arguments)} arguments'
    )
  return arguments[0]

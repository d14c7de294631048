"""What all programs share: how they start, how they report errors, and their exit statuses."""

from __future__ import annotations

import ast
import contextlib
import errno
import importlib
import io
import logging
import os
import re
import sys
from collections.abc import Callable

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_dict

from flowgan_tf.errors import UsageError, is_path
from flowgan_tf.signals import end_on_signals

__all__ = [
  'FAILURE',
  'USAGE_ERROR',
  'load_tensorflow',
  'message',
  'program',
  'require_path',
  'run_argument',
  'run_program',
  'status_of',
]

FAILURE = 1
USAGE_ERROR = 2

# An argument or a setting in backticks, such as `steps` or `critic.channels`; not `analyze runs/demo`.
_NAME = re.compile(r'`([A-Za-z_]\w*(?:\.\w+)*)`')

# What TensorFlow puts before and after the message of an error of one of its operations, or of Python in `tf.data`.
_OPERATION = re.compile(
  r'{{.*?}} *| *\[Op:\w+\]|Error in user-defined function passed to .*? Iterator::\S+: '
  r'|\s*Traceback \(most recent call last\):.*',
  re.DOTALL,
)

# A `UsageError` that says one of these was no mistake of the user.
_FAULTS = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EIO))


def run_program(main: Callable[[list[str]], int | None], module: str) -> None:
  """Runs a program and exits. Errors that a user can do something about are reported in one line.

  `main` calls `load_tensorflow` before anything that imports TensorFlow, and checks what it can before that, so that
  --help and refusals take no time.

  The exit status is 2 for a user's mistake, a `UsageError`: a setting, data, or a path that the user named and that
  cannot be written, as without permission or on a read-only file system. It is 1 if reading or writing fails in another
  way, as on a disk that is full or broken, or if memory is full; and 130, 143 or 129 for SIGINT, SIGTERM or SIGHUP.

  Args:
    main: Takes the positional arguments without the program's name, and returns an exit status or None.
    module: Name of the program's module. `--helpshort` shows its docstring and flags.
  """
  end_on_signals()
  _quieten_tensorflow()  # Here, because a config file may import it.

  def fail(error: object, status: int = USAGE_ERROR) -> None:
    _give_up_output()
    print(f'{program()}: {message(error)}', file=sys.stderr)
    sys.exit(status)

  def parse(argv: list[str]) -> list[str]:
    try:
      try:
        return flags.FLAGS(argv)
      finally:
        sys.stdout.flush()  # Flags such as --help print, and exit.
    except SystemExit:  # With 1, although nothing is wrong.
      sys.exit(0)
    except flags.Error as error:
      fail(error)
    except OSError as error:
      fail(error, FAILURE)
    except AttributeError as error:
      text = str(error)
      with contextlib.suppress(ValueError, SyntaxError):  # ml_collections quotes the message of another error.
        text = str(ast.literal_eval(text))
      fail(f'--config has no such setting: {text}')
    except Exception as error:  # Overrides that name no setting, or files of flags that are no text.
      fail(f'--config or --flagfile: cannot be read or has no such setting ({type(error).__name__}: {error})')

  def checked_main(argv: list[str]) -> int | None:
    try:
      for argument in argv[1:]:
        if not argument or not is_path(argument):
          raise UsageError(f'arguments must be paths. Got: {argument!r}.')
      status = main(argv[1:])
      sys.stdout.flush()  # At exit, Python would only say that it ignores an error.
      return status
    # TensorFlow's errors of a disk are of its own classes, and some are wrapped as a user's mistake.
    except Exception as error:
      if (status := status_of(error)) is None:
        raise
      fail(error, status)

  # --help shows the docstring and the flags of the main module, which is the script that calls our module.
  sys.modules['__main__'].__doc__ = sys.modules[module].__doc__
  for flag in flags.FLAGS.get_key_flags_for_module(module):
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
  # Our own log lines go to the terminal as they are; those of other libraries only if they are warnings or worse.
  notes = logging.getLogger('flowgan_tf')
  notes.addHandler(logging.StreamHandler())
  notes.setLevel(logging.INFO)
  notes.propagate = False
  if isinstance(sys.stdout, io.TextIOWrapper):  # Paths that are not UTF-8 are printed as they are.
    sys.stdout.reconfigure(errors='surrogateescape')
  app.run(checked_main, flags_parser=parse)


def _give_up_output() -> None:
  """If standard output cannot be written, what is left of it goes nowhere, so that Python does not try it at exit."""
  try:
    sys.stdout.flush()
  except OSError:
    with contextlib.suppress(io.UnsupportedOperation), open(os.devnull, 'w') as nowhere:
      os.dup2(nowhere.fileno(), sys.stdout.fileno())


def status_of(error: Exception) -> int | None:
  """Returns the exit status for an error that is reported in one line; None for others, which are defects."""
  # By name, as TensorFlow may not be loaded: this is what it raises without memory.
  without_memory = isinstance(error, MemoryError) or type(error).__name__ == 'ResourceExhaustedError'
  if isinstance(error, OSError) or without_memory or any(text in str(error) for text in _FAULTS):
    return FAILURE
  return USAGE_ERROR if isinstance(error, UsageError) else None


def program() -> str:
  """The name of the running program; of `python -m flowgan_tf.programs.train` it is train, too."""
  return os.path.basename(sys.argv[0]).removesuffix('.py')


def require_path(flag: str) -> None:
  """Refuses values of a flag that can be no path: an empty one, or one that is too long."""
  flags.register_validator(flag, lambda value: value is None or (value and is_path(value)), 'must be a path')


def message(error: object) -> str:
  """The text of an error as a program prints it: on one line, with flags in place of the library's arguments.

  The library writes its arguments and settings in backticks. `steps` becomes --steps if the program has that flag.
  `lambda_`, whose underscore only avoids a keyword of Python, becomes --lambda. In a program that takes --config, a
  setting such as `critic.channels` becomes --config.critic.channels if the configuration has it, unless it has a flag
  of its own. All other words in backticks stay as they are.

  Args:
    error: The error, or its text.

  Returns:
    The text on one line.
  """
  text = str(error)
  if isinstance(error, OSError) and error.strerror:
    text = f'{error.filename}: {error.strerror}' if error.filename else error.strerror
  return _NAME.sub(_as_flag, ' '.join(_OPERATION.sub('', text).split()))


def _as_flag(match: re.Match) -> str:
  name = match[1].rstrip('_')
  if name in flags.FLAGS:
    return f'--{name}'
  if 'config' in flags.FLAGS and _has_setting(flags.FLAGS['config'].value, name):
    return f'--config.{name}'
  return match[0]


def _has_setting(config: object, name: str) -> bool:
  for key in name.split('.'):
    # A file that cannot be read leaves no configuration at all.
    if not isinstance(config, config_dict.ConfigDict) or key not in config:
      return False
    config = config[key]
  return True


def load_tensorflow() -> None:
  """Imports TensorFlow without its start-up messages, and makes it multiply float32 matrices in float32."""
  _quieten_tensorflow()
  # The messages of the import cannot be turned off by any setting. A failed import is still reported, because its
  # exception is raised after standard error has been restored.
  sys.stderr.flush()
  standard_error = os.dup(2)
  try:
    with open(os.devnull, 'w') as nowhere:
      os.dup2(nowhere.fileno(), 2)
    tf = importlib.import_module('tensorflow')
  finally:
    os.dup2(standard_error, 2)
    os.close(standard_error)
  # On GPUs since Ampere the default is TF32, which rounds the factors of a product to mantissas of 10 bits instead of
  # 23. The inverse of a coupling would be that coarse, and so would the likelihood.
  tf.config.experimental.enable_tensor_float_32_execution(False)
  # The level is set on the handler because TensorFlow resets the level of absl's logger later.
  absl_logging.get_absl_handler().setLevel(logging.WARNING)
  logger = logging.getLogger('tensorflow')
  logger.setLevel(logging.WARNING)
  # It warns of functions that are traced often, and knows them by their code. Each run of a sweep has its own.
  logger.addFilter(lambda record: 'triggered tf.function retracing' not in record.getMessage())


def _quieten_tensorflow() -> None:
  """Turns off messages that the user did not ask for, which must happen before TensorFlow is imported."""
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')


def run_argument(arguments: list[str]) -> str:
  """Returns RUN, the only positional argument of a program.

  Args:
    arguments: All positional arguments.

  Raises:
    UsageError: If there is no argument, or more than one.
  """
  if len(arguments) != 1:
    raise UsageError(f'expected one run folder, as in `{program()} runs/demo`; got {len(arguments)} arguments')
  return arguments[0]

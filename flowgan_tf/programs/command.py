"""What all programs share: how they start, how they report errors, and their exit statuses."""

import contextlib
import errno
import gc
import importlib
import io
import logging
import os
import pathlib
import re
import signal
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from absl import app, flags
from absl import logging as absl_logging

from flowgan_tf.base import progress
from flowgan_tf.base.errors import UsageError, did_you_mean, is_path, printable
from flowgan_tf.base.lazy import tf
from flowgan_tf.runs.folder import find_run
from flowgan_tf.runs.pretrained import PREFIX
from flowgan_tf.runs.record import trust

FLAGS = flags.FLAGS

# This must come before anything imports TensorFlow, as a config file may do.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ['KERAS_BACKEND'] = 'tensorflow'  # Users of JAX may have set another one for their own programs.

_FAILURE = 1
_USAGE_ERROR = 2

# What TensorFlow puts around the message of an error in one of its operations, or in Python code of `tf.data`.
_OPERATION = re.compile(
  r'{{.*?}} *| *\[Op:\w+\]|Error in user-defined function passed to .*? Iterator::\S+: '
  r'|\s*Traceback \(most recent call last\):.*',
  re.DOTALL,
)

# What absl says of a value that is not a number.
_NOT_A_NUMBER = re.compile(r'flag --([\w.]+)=(.*): (invalid literal for int|could not convert string to float).*')

_PATHS: list[str] = []  # flags that are paths
# An error that says one of these is not the user's mistake.
_FAULTS = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EIO))


def run_program(module: types.ModuleType) -> None:
  """Runs a program and exits. Reports in one line the errors that a user can do something about.

  The exit status is 2 for a user's mistake: a wrong flag, or a `UsageError` about a setting, data, or a path whose
  permissions forbid writing. It is 1 if reading or writing fails in another way, as on a full disk, or if memory runs
  out. SIGINT, SIGTERM and SIGHUP end the process at once, except in a step of a training; see `base.signals`.

  The module's `main` takes the positional arguments, and returns an exit status or None. It checks what it can before
  it calls `load_tensorflow`, so that --help and error messages take no time.
  """
  # Python would raise a KeyboardInterrupt, which waits until XLA has compiled. Background jobs ignore SIGINT.
  if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
  # --help shows the docstring and the flags of the main module, which is the script that calls our module.
  sys.modules['__main__'].__doc__ = module.__doc__
  for flag in FLAGS.get_key_flags_for_module(module.__name__):
    FLAGS.register_key_flag_for_module(sys.argv[0], flag)
  # Our own log lines go to the terminal unchanged, and lines of other libraries only if they are warnings or worse.
  notes = logging.getLogger('flowgan_tf')
  notes.addHandler(_Lines())
  notes.setLevel(logging.INFO)
  notes.propagate = False
  if isinstance(sys.stdout, io.TextIOWrapper):  # Paths that are not UTF-8 are printed as they are.
    sys.stdout.reconfigure(errors='surrogateescape')
  sys.stdout = _Printable(sys.stdout)
  _load_matplotlib_elsewhere()

  def main(argv: list[str]) -> int | None:
    with errors_reported(), progress.Task(''):  # So that no wait is silent, whatever it is for.
      if '' in argv:
        raise UsageError('arguments must be paths. Got: an empty one.')
      return module.main(argv[1:])

  app.run(main, flags_parser=_parse)


def _load_matplotlib_elsewhere() -> None:
  """Imports Matplotlib where there is no matplotlibrc, if there is one in the working directory.

  Matplotlib would obey that file, which may have come with a stranger's run: it can start LaTeX, and older versions
  evaluate a part of it as Python.
  """
  if os.path.lexists('matplotlibrc'):
    with contextlib.chdir(os.path.dirname(__file__)):
      importlib.import_module('matplotlib')


class _Printable:
  """Standard output on which names from a stranger's files do nothing to a terminal; see `printable`."""

  def __init__(self, stream: TextIO):
    self._stream = stream

  def write(self, text: str) -> int:
    said = re.sub('[\ud800-\udc7f\udd00-\udfff]', lambda match: printable(match[0]), text)
    # Bytes of a path may make a character together.
    said = said.encode(errors='surrogateescape').decode(errors='surrogateescape')
    self._stream.write(re.sub('[^\n\ud800-\udfff]+', lambda match: printable(match[0]), said))
    return len(text)

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)


class _Lines(logging.Handler):
  """Prints log lines above the bars that show progress."""

  def emit(self, record: logging.LogRecord) -> None:
    progress.write(self.format(record))


def _parse(argv: list[str]) -> list[str]:
  with errors_reported():
    try:
      arguments = parse(FLAGS, argv)
      for flag in {*_PATHS} & {*FLAGS}:  # Shells leave the ~ of --out=~/page.html.
        if isinstance(FLAGS[flag].value, str):  # `images` is a number in another program.
          FLAGS[flag].value = os.path.expanduser(FLAGS[flag].value)
      return arguments
    except SystemExit:  # --help raises this, with status 1.
      pass
  sys.exit(0)


def parse(values: flags.FlagValues, argv: list[str], *, known_only: bool = False) -> list[str]:
  """Parses a command line, with files of flags, and returns what is no flag; with `known_only`, unknown flags too."""
  try:
    return values(argv, known_only)
  except flags.UnrecognizedFlagError as error:
    raise UsageError(f'there is no flag --{error.flagname}{_hint(error.flagname)}') from error
  except ValueError as error:  # A file that is not text raises this.
    raise UsageError(f'--flagfile cannot be read ({error})') from error


def _hint(name: str) -> str:
  """Returns what a user may have meant by a flag that does not exist; '' if nothing is near."""
  hint = did_you_mean(name, FLAGS, '--')
  block = re.fullmatch(r'config\.(\w+)\.\w+', name)
  if block and not any(known.startswith(f'config.{block[1]}.') for known in FLAGS):
    hint += f'; a generator {block[1]} from outside of flowgan_tf needs --generator=MODULE:{block[1]}'
  elif not hint and 'terms' in FLAGS and name.endswith('_weight'):
    hint = '; a setting of a term of your own needs --terms=MODULE:CLASS'
  return hint


@contextlib.contextmanager
def errors_reported() -> Iterator[None]:
  """Within this block, an error that a user can do something about ends the program with one line."""
  try:
    yield
    sys.stdout.flush()  # If this failed at exit, Python would only say that it ignores an error.
  except Exception as error:
    if (status := status_of(error)) is None:
      raise
    try:
      sys.stdout.flush()
    except OSError:  # Python must not try it again at exit.
      sys.stdout = None
    print(f'{program()}: {message(error)}', file=sys.stderr)
    sys.exit(status)


def status_of(error: Exception) -> int | None:
  """Returns the exit status for an error that is reported in one line; None for others, which are bugs."""
  # We compare names because TensorFlow, which raises this when memory runs out, may not be loaded.
  without_memory = isinstance(error, MemoryError) or type(error).__name__ == 'ResourceExhaustedError'
  if isinstance(error, OSError) or without_memory or any(text in str(error) for text in _FAULTS):
    return _FAILURE
  return _USAGE_ERROR if isinstance(error, UsageError | flags.Error) else None


def program() -> str:
  """Returns the name of the running program, such as train, also for `python -m flowgan_tf.programs.train`."""
  return os.path.basename(sys.argv[0]).removesuffix('.py')


def require_path(flag: str) -> None:
  """Makes a flag a path, in which ~ is the home, and lets it reject an empty text, a long one, and pretrained flows."""

  def suits(value):
    return value is None or (value and is_path(value) and not value.startswith(PREFIX))

  flags.register_validator(flag, suits, 'must be a path')
  _PATHS.append(flag)


def message(error: Exception | str) -> str:
  """Returns the text of an error as a program prints it: on one line, with a flag in place of the library's argument.

  An error's argument `steps` becomes --steps if the program has that flag. An argument such as `critic.channels`
  becomes --config.critic.channels, the way to set what has no flag of its own. It drops the underscore of `lambda_`,
  which only avoids a Python keyword.
  """
  text = str(error)
  if isinstance(error, OSError) and error.strerror:
    text = f'{error.filename}: {error.strerror}' if error.filename else error.strerror
  text = ' '.join(_OPERATION.sub('', text).split())
  if found := _NOT_A_NUMBER.fullmatch(text):
    text = f'--{found[1]} must be {"an integer" if "int" in found[3] else "a number"}. Got: {found[2]}.'
  if argument := getattr(error, 'argument', None):
    name = argument.rstrip('_')
    flag = next((flag for flag in (name, f'config.{name}') if flag in FLAGS), None)
    text = text.replace(f'`{argument}`', f'--{flag}' if flag else f'`{argument}`')
  return printable(text)


def short(number: float) -> str:
  """Returns the shortest text that still reads as the same number, for names of files."""
  return text if float(text := f'{number:g}') == number else repr(number)


def load_tensorflow() -> None:
  """Imports TensorFlow without its start-up messages, and makes it multiply float32 matrices in float32."""
  # No setting turns off the messages of the import. A failed import is still reported, because its exception is raised
  # after standard error has been restored.
  with progress.Task('loading TensorFlow'):
    sys.stderr.flush()
    standard_error = os.dup(2)
    gc.disable()  # While modules load, collections take a sixth of the time and find little.
    # Keras imports these for functions that no program calls, and those stay without them, as if not installed.
    hidden: dict[str, Any] = {name: None for name in ('matplotlib', 'sklearn') if name not in sys.modules}
    sys.modules.update(hidden)
    try:
      with open(os.devnull, 'w') as nowhere:
        os.dup2(nowhere.fileno(), 2)
      importlib.import_module('tensorflow')
    finally:
      os.dup2(standard_error, 2)
      os.close(standard_error)
      for name in hidden:
        sys.modules.pop(name, None)
      gc.enable()
  # On GPUs since Ampere the default is TF32, which rounds the factors of a product to mantissas of 10 bits instead of
  # 23. The inverse of a coupling would be that coarse, and so would the likelihood.
  tf.config.experimental.enable_tensor_float_32_execution(False)
  # The level is set on the handler because TensorFlow resets the level of absl's logger later.
  absl_logging.get_absl_handler().setLevel(logging.WARNING)
  logger = logging.getLogger('tensorflow')
  logger.setLevel(logging.WARNING)
  # TensorFlow warns of functions that it traces often, and knows them by their code. Each run of a sweep has its own.
  logger.addFilter(lambda record: 'triggered tf.function retracing' not in record.getMessage())


def warn_of_bfloat16(cpuinfo: str = '/proc/cpuinfo') -> None:
  """Warns if the processor, as Linux describes it, lacks instructions for bfloat16 and there is no GPU."""
  path = pathlib.Path(cpuinfo)
  # avx512_bf16 and amx_bf16 of x86, and bf16 of ARM.
  if path.exists() and 'bf16' not in path.read_text() and not tf.config.list_physical_devices('GPU'):
    said = 'mixed_bfloat16 may take several times as long as float32 here, because the processor has no instructions'
    progress.write(f'{said} for bfloat16: {path} lists no bf16.')


def reject_idle(names: Iterable[str], why: str) -> None:
  """Rejects flags that have no effect, such as 'with --check'."""
  for name in names:
    if FLAGS[name].present:
      raise UsageError(f'`{name}` must be left out, as it has no effect {why}. Got: {FLAGS[name].value}.', name)


def define_trust(module: str) -> None:
  """Defines the flag --trust of a program that reads runs."""
  meaning = 'Treat the run as your own from now on: it may import the plug-ins and read the places that it names.'
  flags.DEFINE_bool('trust', False, meaning, module_name=module)


def trust_if_asked(workdir: str | os.PathLike) -> None:
  """Makes a run the user's own with --trust, if there is one in the folder."""
  if FLAGS.trust and os.path.lexists(os.path.join(workdir, 'config.json')):
    trust(workdir)


def check_no_link(path: pathlib.Path) -> pathlib.Path:
  """Returns the path of a file that a program writes by default, and rejects a link: it may have come with the runs."""
  if path.is_symlink():
    raise UsageError(f'{path}: is a link, through which another file would be replaced; remove the link')
  return path


def find_trusted(workdir: str | os.PathLike) -> pathlib.Path:
  """Returns the path of a run as `find_run` does, after making it the user's own with --trust."""
  trust_if_asked(workdir)
  return find_run(workdir)


def run_argument(arguments: list[str]) -> pathlib.Path:
  """Returns the folder of RUN, the only positional argument of a program."""
  if len(arguments) != 1:
    raise UsageError(f'expected one run folder, as in `{program()} runs/demo`; got {len(arguments)} arguments')
  return find_trusted(arguments[0])

"""The flag --config: a file with settings, which --config.NAME=VALUE overrides."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import pathlib
import sys

from absl import flags
from ml_collections import config_dict, config_flags

from flowgan_tf.errors import UsageError
from flowgan_tf.runs.config import check_settings

__all__ = ['define', 'rewrite_arguments']

_CONFIGS = pathlib.Path(__file__).parent.parent / 'configs'
_MODULE = 'config_config'
# What ml_collections looks through for overrides. It would read `sys.argv`, and the files of --flagfile, when the flag
# is defined, where nothing could report an error.
_ARGUMENTS: list[str] = []

flags.disclaim_key_flags()  # The flag belongs to the program.


def define() -> None:
  """Defines the flag --config."""
  _ARGUMENTS.clear()
  config_flags.DEFINE_config_file('config', None, 'Config file. Default: configs/digits.py.', sys_argv=_ARGUMENTS)
  flags.FLAGS['config'].parser = _Parser()


def rewrite_arguments() -> None:
  """Makes `sys.argv` name an existing config file, by default that of the digits, and each override once."""
  try:
    arguments = flags.FLAGS.read_flags_from_files(sys.argv[1:], force_gnu=False)
  except Exception:  # The flags are parsed next, which fails in the same way where it is reported.
    return
  # Of a tuple that is overridden twice, ml_collections would append the second to the first.
  names = [argument.partition('=')[0] for argument in arguments]
  arguments = [
    _rewritten(argument)
    for i, argument in enumerate(arguments)
    if not (names[i].lstrip('-').startswith('config.') and '=' in argument and names[i] in names[i + 1 :])
  ]
  # A default value of the flag would be read, with all overrides, as soon as it is defined.
  if not any(name.lstrip('-') == 'config' for name in names):
    arguments.insert(0, f'--config={_CONFIGS / "digits.py"}')
  sys.argv[1:] = arguments
  _ARGUMENTS[:] = sys.argv


class _Parser(flags.ArgumentParser):
  """Reads a config file. Whatever goes wrong is an error that names the file."""

  def parse(self, path: str) -> config_dict.ConfigDict:
    file, colon, variant = path.partition(':')
    try:
      get_config = _load(file).get_config
      config = get_config(variant) if colon else get_config()
    except OSError as error:
      raise flags.Error(f'{file or repr(file)}: `config` cannot be read ({error.strerror or error})') from error
    except UsageError as error:
      raise flags.Error(str(error) if os.path.basename(file) in str(error) else f'{file}: {error}') from error
    except (Exception, SystemExit) as error:  # A file may do anything.
      raise flags.Error(f'{file}: `config` cannot be used ({type(error).__name__}: {error})') from error
    try:
      check_settings(config)
    except UsageError as error:
      said = f'{file}: get_config() must return a changed flowgan_tf.runs.default_config(); {error}'
      raise flags.Error(said) from error
    return config.lock()


def _load(file):
  loader = importlib.machinery.SourceFileLoader(_MODULE, file)
  module = importlib.util.module_from_spec(importlib.util.spec_from_loader(_MODULE, loader))
  sys.modules[_MODULE] = module
  loader.exec_module(module)
  return module


def _rewritten(argument: str) -> str:
  """Finds `--config=configs/mnist.py` in the installed package if there is no such file, as outside a checkout."""
  flag, equals, value = argument.partition('=')
  if flag == '--config.lambda':  # Overrides cannot name a keyword of Python.
    return f'--lambda{equals}{value}'
  path, colon, variant = value.partition(':')
  shipped = _CONFIGS / pathlib.Path(path).name
  if flag in ('--config', '-config') and not os.path.exists(path) and os.path.isfile(shipped):
    return f'{flag}={shipped}{colon}{variant}'
  return argument

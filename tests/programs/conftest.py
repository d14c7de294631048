"""Programs called as from a shell, but inside of this process; and one small run that several tests look at."""

import contextlib
import importlib
import io
import logging
import math
import os
import pathlib
import runpy
import shlex
import signal
import sys
from collections.abc import Iterator
from typing import NamedTuple
from unittest import mock

import pytest
from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_dict

from flowgan_tf import programs
from flowgan_tf.base import progress
from flowgan_tf.programs import command, options
from tests import processes
from tests.tiny import write_images

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent.parent
PROGRAMS = ('train', 'sweep', 'evaluate', 'sample', 'export', 'analyze', 'report')

# Tiny networks.
NICE = shlex.split("""--nojit --config.nice.couplings=2 --config.nice.hidden_units=16 --config.nice.hidden_layers=1
  --config.nice.normalization=none""")
# A training by maximum likelihood that takes a second; `--dataset` and `--workdir` are still to be named.
UNSCORED = (*NICE, '--objective=mle', '--steps=2', '--batch_size=8', '--config.eval_every=1')
FAST = (*UNSCORED, '--samples=10')
# A hybrid training on the digits. One step takes 5 of the 29 batches of an epoch.
TINY = shlex.split(f"""{' '.join(NICE)} --objective=hybrid --batch_size=50 --critic_steps=4 --samples=50
  --config.dcgan_critic.channels=(4,) --config.dcgan_critic.dense_units=0
  --config.log_every=1 --config.eval_every=10 --config.score_samples=64""")


class Outcome(NamedTuple):
  status: int
  out: str
  err: str


@contextlib.contextmanager
def untouched() -> Iterator[None]:
  """Lets programs define their flags, and removes these afterwards, with what else is global.

  Programs define flags of the same names. Their modules are therefore imported anew.
  """
  app.define_help_flags()  # Once in a process.
  names, loggers = set(flags.FLAGS), [logging.getLogger(name) for name in ('flowgan_tf', 'tensorflow')]
  kept = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
  handler = absl_logging.get_absl_handler()
  level, documentation = handler.level, sys.modules['__main__'].__doc__
  on_ctrl_c = signal.getsignal(signal.SIGINT)
  for name in PROGRAMS:
    sys.modules.pop(f'flowgan_tf.programs.{name}', None)
    vars(programs).pop(name, None)  # Where `from flowgan_tf.programs import train` looks first.
  try:
    yield
  finally:
    for name in set(flags.FLAGS) - names:
      delattr(flags.FLAGS, name)
    for logger, handlers, logger_level, propagate in kept:
      logger.handlers[:], logger.propagate = handlers, propagate
      logger.setLevel(logger_level)
    handler.setLevel(level)
    sys.modules['__main__'].__doc__ = documentation
    signal.signal(signal.SIGINT, on_ctrl_c)


def flag_names(program: str) -> list[str]:
  """Returns the names of the flags that a program defines."""
  with untouched():
    module = importlib.import_module(f'flowgan_tf.programs.{program}')
    return [flag.name for flag in flags.FLAGS.get_key_flags_for_module(module)]


def call(program: str, *arguments: object, as_module: bool = False) -> Outcome:
  """Does in this process, which has loaded TensorFlow, what `bin/<program>` does, or `python -m` with `as_module`."""
  out, err = io.StringIO(), io.StringIO()
  name = f'flowgan_tf.programs.{program}'
  with (
    untouched(),
    mock.patch.object(sys, 'argv', [f'bin/{program}', *map(str, arguments)]),
    mock.patch.multiple(progress, _FIRST=math.inf, _EVERY=math.inf),  # Which lines come depends on the machine.
    contextlib.redirect_stdout(out),
    contextlib.redirect_stderr(err),
    pytest.raises(SystemExit) as ended,
  ):
    if as_module:
      runpy.run_module(name, run_name='__main__', alter_sys=True)
    else:
      command.run_program(importlib.import_module(name))
  return Outcome(ended.value.code or 0, out.getvalue(), err.getvalue())


def parsed_config(arguments: list[str], workdir: pathlib.Path | None = None) -> config_dict.ConfigDict:
  """Returns the configuration that `train` makes of flags, for a run in `workdir` if there is one."""
  with untouched(), mock.patch.object(sys, 'argv', ['bin/train', *arguments]):
    importlib.import_module('flowgan_tf.programs.train')
    flags.FLAGS(sys.argv)
    [config] = options.configurations(workdir=workdir)
    return config


def call_outside(program: str, *arguments: object, prelude: str = '') -> Outcome:
  """Runs a program in a process of its own, after some Python code."""
  command = [sys.executable, CHECKOUT / 'bin' / program]
  if prelude:
    start = f'import sys\nfrom flowgan_tf.programs import start\nsys.argv[0] = {program!r}\nstart.start({program!r})'
    command = [sys.executable, '-c', f'{prelude}\n{start}']
  done = processes.run([*command, *map(str, arguments)], env=os.environ | {'PYTHONPATH': str(CHECKOUT)})
  return Outcome(done.returncode, done.stdout, done.stderr)


def assert_one_line(outcome: Outcome, program: str, *parts: str) -> None:
  """Checks for a user's mistake: exit status 2, and one line on standard error that names what is wrong."""
  assert outcome.status == 2, outcome
  assert outcome.out == ''
  assert outcome.err.count('\n') == 1 and outcome.err.startswith(f'{program}: '), outcome.err
  for part in parts:
    assert part in outcome.err


@pytest.fixture(scope='session')
def cache(tmp_path_factory) -> pathlib.Path:
  """A cache with a classifier of the digits that has hardly been trained."""
  from flowgan_tf import data
  from flowgan_tf.metrics import classifier

  folder = tmp_path_factory.mktemp('cache')
  with mock.patch.object(classifier, '_IMAGES_SEEN', {'classifier': (2000, 2000)}):
    classifier.load_classifier(data.load('digits'), folder)
  return folder


@pytest.fixture(scope='session')
def finished(tmp_path_factory, cache) -> tuple[pathlib.Path, Outcome]:
  """A run of 20 steps in one go, and what its program said."""
  workdir = tmp_path_factory.mktemp('finished') / 'run'
  outcome = call('train', *TINY, f'--config.cache_dir={cache}', '--steps=20', f'--workdir={workdir}')
  assert outcome.status == 0, outcome
  return workdir, outcome


@pytest.fixture(scope='session')
def images(tmp_path_factory) -> str:
  return write_images(tmp_path_factory.mktemp('images') / 'images.npz', shape=(8, 8, 1))

"""Fixtures of the suite: real data where it lies, and a note where it does not."""

import functools
import gc
import os
import random
import sys
import typing

import pytest

# By default Python collects after 700 new objects, which took 7 % of the time of tests that build flows.
gc.set_threshold(100_000)
# TensorFlow asks of each tensor whether it is a `Protocol`. Python 3.12 keeps what this collects anew each time.
if sys.version_info < (3, 12):
  typing._get_protocol_attrs = functools.cache(typing._get_protocol_attrs)


def _prepared(variable: str) -> str:
  folder = os.environ.get(variable, '')
  if not os.path.isdir(folder):
    pytest.skip(f'{variable} names no folder with prepared data')
  return folder


@pytest.fixture
def mnist_dir() -> str:
  """Folder with MNIST as TFDS prepares it."""
  return _prepared('FLOWGAN_TEST_MNIST_DIR')


@pytest.fixture
def cifar10_sample_dir() -> str:
  """Folder with a sample of CIFAR-10 under TFDS's interface."""
  return _prepared('FLOWGAN_TEST_CIFAR10_DIR')


@pytest.fixture(scope='session', autouse=True)
def configuration(tmp_path_factory):
  """Keeps the key that marks a user's runs out of the home of whoever runs the tests."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('XDG_CONFIG_HOME', str(tmp_path_factory.mktemp('configuration')))
    yield


@pytest.fixture(autouse=True)
def seed_initializers():
  """Makes a test repeat itself: Keras draws the seeds of initial weights from this generator."""
  random.seed(0)


@pytest.fixture
def eagerly(request):
  """Runs functions of TensorFlow as they are, because tracing would take most of the time, except in tests of `jit`."""
  import tensorflow as tf

  tf.config.run_functions_eagerly('jit' not in request.fixturenames)
  yield
  tf.config.run_functions_eagerly(False)


@pytest.fixture(autouse=True)
def end_processes():
  """Ends the processes that a test has left running, such as one that failed."""
  yield
  if 'tests.processes' in sys.modules:  # Which imports TensorFlow.
    sys.modules['tests.processes'].end_all()


def pytest_terminal_summary(terminalreporter):
  """Prints how many trials of each fault were survived; see tests/faults/conftest.py."""
  reports = [report for category in terminalreporter.stats.values() for report in category]
  properties = [p for r in reports if getattr(r, 'when', None) == 'teardown' for p in r.user_properties]
  rows = sorted(value for name, value in properties if name == 'fault')
  if rows:
    terminalreporter.section('faults')
    terminalreporter.line('  tried  survived  case')
    for case, tried, survived in rows:
      terminalreporter.line(f'{tried:7,}  {survived:8,}  {case}')

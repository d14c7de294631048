"""Fixtures of the suite: real data where it lies, and a note where it does not."""

import os

import pytest


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

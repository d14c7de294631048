"""The same initial weights in each test."""

import keras
import pytest


@pytest.fixture(autouse=True)
def seeded_initial_weights():
  keras.utils.set_random_seed(0)

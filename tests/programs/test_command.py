"""What all programs do before their own work."""

import tensorflow as tf

from tests.programs.conftest import call


def test_float32_products_are_float32():
  """And not TF32, TensorFlow's default on newer GPUs."""
  setting = tf.config.experimental
  kept = setting.tensor_float_32_execution_enabled()
  try:
    setting.enable_tensor_float_32_execution(True)
    assert call('export').status == 2  # For want of a run: even then.
    assert not setting.tensor_float_32_execution_enabled()
  finally:
    setting.enable_tensor_float_32_execution(kept)

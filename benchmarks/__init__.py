"""Measurements of speed and size, with TensorFlow set up as in the programs where it is installed."""

import importlib.util

if importlib.util.find_spec('tensorflow'):
  from flowgan_tf.programs.command import load_tensorflow

  load_tensorflow()

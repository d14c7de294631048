"""Measurements of speed and size, of TensorFlow as the programs use it."""

from flowgan_tf.programs.command import load_tensorflow

load_tensorflow()

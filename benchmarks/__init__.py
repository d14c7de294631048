"""Measurements of speed and size, with TensorFlow set up as in the programs."""

from flowgan_tf.programs.command import load_tensorflow

load_tensorflow()

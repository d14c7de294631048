"""Command-line programs: each defines flags and makes one call into the library."""

import sys

from flowgan_tf.base.signals import end_on_signals

# `python -m flowgan_tf.programs.train` imports this first, and can call nothing until a second of imports later.
if sys.argv[0] == '-m':
  end_on_signals()

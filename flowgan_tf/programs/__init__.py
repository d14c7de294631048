"""Command-line programs: each defines flags and makes one call into the library."""

import sys

from flowgan_tf.signals import end_on_signals

# Of `python -m flowgan_tf.programs.train`, which imports this first, and for a second more before it can call anything.
if sys.argv[0] == '-m':
  end_on_signals()

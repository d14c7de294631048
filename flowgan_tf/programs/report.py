"""Makes one HTML page of runs: tables beside the paper's, figures, and the command behind every number.

report RUN...
report runs/mnist-* --out=report.html

If a file of a run is damaged, a line here and on the page names it, and the page does without it.
"""

import pathlib
import sys

from absl import flags

import flowgan_tf as fg  # imports its parts when they are first used
from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.files import write_atomically
from flowgan_tf.programs import command
from flowgan_tf.runs.pretrained import find_folder

FLAGS = flags.FLAGS
flags.DEFINE_string('out', None, 'Path of the page. Default: report.html in the run, or beside several runs.')
command.require_path('out')


def main(arguments: list[str]) -> None:
  """Writes the page."""
  if not arguments:
    raise UsageError('expected one or more run folders, as in `report runs/mnist-*`; got none')
  workdirs = [*map(find_folder, arguments)]
  first = workdirs[0]
  default = (first if len(workdirs) == 1 else first.parent) / 'report.html'
  out = pathlib.Path(FLAGS.out) if FLAGS.out else command.check_no_link(default)
  runs, damage = fg.study.summarize(workdirs)
  for line in damage:
    print(f'report: {command.message(line)}', file=sys.stderr)
  write_atomically(out, fg.report.render(fg.report.make_report(runs, damage)))
  print(out)


if __name__ == '__main__':
  command.run_program(sys.modules[__name__])

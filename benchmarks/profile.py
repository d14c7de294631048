"""Where this project spends the time of a task, by TensorFlow's profiler.

  python -m benchmarks.profile --task=nice_train --dtype=bfloat16

It adds up the times of operations, or of what XLA made of them, over all threads. Operations that run at once share the
bandwidth of memory, so that the sum is more than the time of the call.
"""

from __future__ import annotations

import collections
import pathlib
import re
import statistics
import tempfile
import time
from collections.abc import Callable

import tensorflow as tf
from absl import app, flags
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks.compare import DTYPES
from benchmarks.peers import flowgan_peer, work
from flowgan_tf.display.tables import Column, Row, Table

TASK = flags.DEFINE_enum('task', 'nice_train', list(work.TASKS), 'Task to profile.')
DTYPE = flags.DEFINE_enum('dtype', 'float32', DTYPES, 'Dtype of the networks.')
CALLS = flags.DEFINE_integer('calls', 20, 'Calls to time, and to profile.', lower_bound=1)
TINY_FLOW = flags.DEFINE_bool('tiny_flow', False, 'Whether the flow is tiny, to try the profile itself.')

_ROWS = 12
# These run other operations, whose time would be counted again.
_CALLS_OTHERS = re.compile(
  r'__inference_.*|\w*PartitionedCall|\w*Xla(Launch|Run|Compile)|call|while|While|If|conditional'
)


def operations(call: Callable[[], None], calls: int) -> list[dict]:
  """Profiles calls. Returns for each `kind` of operation the `ms` and the `number` in one call, the longest first."""
  with tempfile.TemporaryDirectory() as folder:
    with tf.profiler.experimental.Profile(folder):
      for _ in range(calls):
        call()
    (path,) = pathlib.Path(folder).rglob('*.xplane.pb')
    space = xplane_pb2.XSpace.FromString(path.read_bytes())
  ms, counts = collections.Counter(), collections.Counter()
  for plane in space.planes:
    compiled = {i for i, stat in plane.stat_metadata.items() if stat.name == 'hlo_op'}
    for line in plane.lines:
      for event in line.events:
        name = plane.event_metadata[event.metadata_id].name
        if any(stat.metadata_id in compiled for stat in event.stats):
          kind = re.sub(r'[._\d]+$', '', name)
        else:  # Operations of TensorFlow are called NODE:KIND, and nothing else is.
          kind = name.rpartition(':')[2] if re.fullmatch(r'[\w/.\-]+:\w+', name) else ''
        if kind and not _CALLS_OTHERS.fullmatch(kind):
          ms[kind] += event.duration_ps / 1e9 / calls
          counts[kind] += 1 / calls
  return [{'kind': kind, 'ms': total, 'number': counts[kind]} for kind, total in ms.most_common()]


def main(argv: list[str]) -> None:
  del argv
  task = (work.TINY if TINY_FLOW.value else work.TASKS)[TASK.value]
  call = flowgan_peer.prepare(task, flowgan_peer.make_inputs(task), DTYPE.value, 'default').call
  seconds = []
  for _ in range(CALLS.value + 2):
    start = time.perf_counter()
    call()
    seconds.append(time.perf_counter() - start)
  found = operations(call, CALLS.value)
  total = sum(record['ms'] for record in found)
  columns = [Column('operation', 'kind'), Column('ms', 'ms', '.2f'), Column('number', 'number', '.4g')]
  columns.append(Column('share', 'share', '.1%'))
  rows = [Row({'': record | {'share': record['ms'] / total}}) for record in found[:_ROWS]]
  print(Table('', columns, rows))
  print(f'{total:.1f} ms of operations in a call of {1e3 * statistics.median(seconds[2:]):.1f} ms')


if __name__ == '__main__':
  app.run(main)

"""Replicas that share each batch: several devices or machines, by the strategies of `tf.distribute`.

A function that `Replicas.run` calls runs on every replica. It works on its `share` of a batch, and exchanges numbers
through `mean` and `gather`. Without a strategy there is one replica, and these functions return what they are given.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import re
import signal
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from flowgan_tf.base.errors import UsageError, check
from flowgan_tf.devices.cores import in_parts

__all__ = ['Replicas', 'draw', 'gather', 'make_replicas', 'mean', 'share']

# What TensorFlow raises in an exchange with a process that is gone ...
_LOST = (tf.errors.AbortedError, tf.errors.DeadlineExceededError, tf.errors.UnavailableError)
# ... and what it also raises for other reasons, such as errors of NCCL or XLA.
_FAILED = (tf.errors.CancelledError, tf.errors.FailedPreconditionError, tf.errors.InternalError)

_LEAST_PARTS = 8  # into which any CPU may be split, to try out what several devices would do

_LOG = logging.getLogger(__name__)


class Replicas:
  """The `count` replicas of a strategy, in the processes of `workers` workers; this is worker number `worker`.

  Worker 0 is the chief; only the chief reads and writes the run's folder. Without a strategy there is one replica.
  """

  def __init__(self, strategy: tf.distribute.Strategy | None = None):
    self._strategy = strategy
    self.count = strategy.num_replicas_in_sync if strategy else 1
    self.workers, self.worker = _place(strategy) if strategy else (1, 0)
    self.is_chief = self.worker == 0

  def scope(self) -> contextlib.AbstractContextManager:
    """Returns a context in which each variable is made with a copy on every replica."""
    return self._strategy.scope() if self._strategy else contextlib.nullcontext()

  def run(self, function: Callable, *arguments: tf.Tensor) -> Any:
    """Calls a function on every replica of this process, in a graph; returns what it returned on the first of them."""
    if self._strategy is None:
      return function(*arguments)
    # Without the lambda, a compiled function would become one function for all replicas, and XLA uses one device only.
    results = self._strategy.run(lambda *args: function(*args), arguments)
    return tf.nest.map_structure(lambda result: self._strategy.experimental_local_results(result)[0], results)

  def map(self, function: Callable[..., Any]) -> Callable[..., Any]:
    """Divides among the replicas a function that maps tensors `[n, ...]` to such tensors, each entry by itself.

    If `n` is not a multiple of `count`, copies of the first entry fill the tensors up. A single replica may compute
    parts of the tensors on several cores; see `cores`.
    """
    if self._strategy is None:
      return in_parts(function)

    def on_replica(*batch):
      return tf.nest.map_structure(gather, function(*map(share, batch)))

    def distributed(*batch):
      n = batch[0].shape[0]
      filled = [tf.concat([b, tf.repeat(b[:1], -n % self.count, axis=0)], axis=0) for b in batch]
      return tf.nest.map_structure(lambda result: result[:n], self.run(on_replica, *filled))

    return tf.function(distributed, autograph=False)

  def any(self, flag: bool) -> bool:
    """Returns whether any worker has set a flag. All workers must call this and the next four, which wait for all."""
    return flag if self.workers == 1 else bool(self._sum([int(flag)], of=range(self.count))[0])

  def from_chief(self, value: int) -> int:
    """Returns the chief's value."""
    return value if self.workers == 1 else int(self._sum([int(value)], of=[0])[0])

  def broadcast(self, variables: Sequence[tf.Variable]) -> None:
    """Gives variables the values that they have in the chief's process."""
    if self.workers > 1:
      for variable, value in zip(variables, self._sum(variables, of=[0]), strict=True):
        variable.assign(value)

  def check_same(self, facts: dict[str, Any]) -> None:
    """Checks that all workers have the same facts as the chief: JSON values, by the same names.

    Raises:
      UsageError: If a fact of this worker differs from the chief's.
      ConnectionError: If a fact of another worker differs.
    """
    if self.workers == 1:
      return
    hashes = [zlib.crc32(json.dumps(value).encode()) >> 1 for value in facts.values()]  # 31 bits
    [expected] = self._sum([tf.constant(hashes, tf.int64)], of=[0])
    differing = [name for name, a, b in zip(facts, hashes, expected.numpy(), strict=True) if a != b]
    if not self.any(bool(differing)):
      return
    self.wait_for_all()  # No worker ends before all know.
    if differing:
      name = differing[0]
      raise UsageError(
        f'`{name}` must be the same on all workers. Got: {facts[name]} on worker {self.worker}, unlike the chief.',
        name,
      )
    raise ConnectionError("another worker was rejected, because its settings or data differ from the chief's")

  def wait_for_all(self) -> None:
    """Waits until all workers get here, so that none ends while another still needs it.

    After the first exchange, a worker may end before another has finished the second. The second then fails there, but
    has served its purpose.
    """
    self.any(False)
    with contextlib.suppress(*_LOST, *_FAILED):
      self.any(False)

  def _sum(self, values, of):
    """Returns the sum of each number or tensor over the replicas `of`."""
    return self._summed([tf.convert_to_tensor(v) for v in values], tf.constant([i in of for i in range(self.count)]))

  @functools.cached_property
  def _summed(self):
    def on_replica(values, counted):
      context = tf.distribute.get_replica_context()
      counts = counted[context.replica_id_in_sync_group]
      return [context.all_reduce('SUM', tf.where(counts, value, tf.zeros_like(value))) for value in values]

    return tf.function(functools.partial(self.run, on_replica), autograph=False)

  @contextlib.contextmanager
  def reporting_lost_workers(self) -> Iterator[None]:
    """Turns TensorFlow's errors of an exchange with other workers into a `ConnectionError` of one line."""
    try:
      yield
    except (*_LOST, *_FAILED) as error:
      if self.workers == 1:
        raise
      lost = isinstance(error, _LOST)
      what = 'another worker has ended or cannot be reached' if lost else 'an exchange between workers failed'
      raise ConnectionError(
        f'{what}: {_reason(error)} ({type(error).__name__}); repeat the command on all workers to go on'
      ) from error


def _reason(error):
  """Returns the first line of an error's own message, without what TensorFlow puts before it, such as Python lines."""
  lines = [re.sub('^{{.*?}} *', '', line) for line in error.message.splitlines()]
  before = ('Graph execution error', 'Detected at node', 'Node: ', '<stack traces', ' ', '\t')
  return next((line.rstrip(' :') for line in lines if line and not line.startswith(before)), 'no message')


SINGLE = Replicas()


@functools.cache
def make_replicas(strategy: str) -> Replicas:
  """Makes the strategy with a name. Call it once in a process, before the first operation of TensorFlow.

  '' is one device; 'mirrored' is all devices of this machine, GPUs if it has any; 'mirrored:N' is the first N GPUs, or,
  without a GPU, N parts of the CPU; 'multi_worker' is the cluster that the environment variable `TF_CONFIG` describes.

  Raises:
    UsageError: If there are too few devices, `TF_CONFIG` describes no cluster of workers, or its port for this worker
      is taken.
  """
  if not strategy:
    return SINGLE
  kind, _, number = strategy.partition(':')
  if kind == 'multi_worker':
    own_address, addresses = _read_cluster(os.environ.get('TF_CONFIG'))
    _LOG.info('Worker %s waits for all of %s.', own_address, ', '.join(addresses))
    _meet(own_address, addresses)
    made = tf.distribute.MultiWorkerMirroredStrategy()
    if threading.current_thread() is threading.main_thread():  # Python's handler again, instead of TensorFlow's.
      signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)
  else:
    made = tf.distribute.MirroredStrategy(_devices(int(number or 0)))
  if made.num_replicas_in_sync == 1:
    _LOG.info('There is only one device.')
    return SINGLE
  replicas = Replicas(made)
  if not replicas.is_chief:
    logging.getLogger('flowgan_tf').setLevel(logging.WARNING)  # The chief logs for all.
  return replicas


def _meet(own_address, addresses):
  """Waits until all workers listen at their addresses.

  TensorFlow would wait for them, too, but hears no signal meanwhile: it takes SIGTERM for a notice of preemption, and
  lets no other Python thread run.
  """
  try:
    port = '', _host_and_port(own_address)[1]
    both = socket.has_dualstack_ipv6()
    listening = socket.create_server(port, family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both)
  except OSError as error:
    raise UsageError(
      f'`strategy`: cannot listen at {own_address} from TF_CONFIG ({error.strerror})', 'strategy'
    ) from error
  with listening:
    for address in addresses:
      while address != own_address:
        with contextlib.suppress(OSError), socket.create_connection(_host_and_port(address), timeout=1):
          break
        time.sleep(0.1)


def _devices(number):
  gpus = tf.config.list_physical_devices('GPU')
  if number and not gpus:
    most = max(os.cpu_count(), _LEAST_PARTS)
    check('strategy', f'mirrored:{number}', f'for at most {most} parts of the CPU', number <= most)
    parts = [tf.config.LogicalDeviceConfiguration()] * number
    with contextlib.suppress(RuntimeError):  # TensorFlow has made its devices.
      tf.config.set_logical_device_configuration(tf.config.list_physical_devices('CPU')[0], parts)
  devices = tf.config.list_logical_devices('GPU' if gpus else 'CPU')
  check('strategy', f'mirrored:{number}', f'for at most {len(devices)} devices', number <= len(devices))
  return [device.name for device in devices[: number or None]]


def _read_cluster(text):
  """Returns the address of this worker and the addresses of all, from the text of TF_CONFIG."""
  with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
    found = json.loads(text or '')
    jobs, task = found['cluster'], found['task']
    addresses = [address for job in jobs.values() for address in job]
    ports = [port for host, port in map(_host_and_port, addresses) if host]
    index, job = int(str(task['index'])), jobs[task['type']]  # Reject 1.5, which `int` would take for 1.
    lists = all(isinstance(listed, list) and listed for listed in jobs.values())
    known = jobs.keys() <= {'chief', 'worker'} and len(jobs.get('chief', 'a')) == 1
    distinct = len(set(addresses)) == len(addresses) == len(ports) and all(0 < port < 2**16 for port in ports)
    if lists and known and distinct and 0 <= index < len(job):
      return job[index], addresses
  raise UsageError(
    "`strategy` 'multi_worker' needs the environment variable TF_CONFIG, which must be JSON such as "
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}. '
    f'Got: {text or "nothing"}.',
    'strategy',
  )


def _host_and_port(address):
  host, _, port = address.rpartition(':')
  return host.strip('[]'), int(port)


def _place(strategy: tf.distribute.Strategy) -> tuple[int, int]:
  """Returns how many workers there are, and which one this is."""
  resolver = strategy.cluster_resolver
  if not (resolver and resolver.task_type):
    return 1, 0
  jobs = resolver.cluster_spec().as_dict()  # TensorFlow numbers the replicas of a chief first.
  before = len(jobs.get('chief', ())) if resolver.task_type == 'worker' else 0
  return sum(map(len, jobs.values())), before + resolver.task_id


def _here():
  """Returns how many workers and replicas per worker there are, and which worker and which of its replicas this is."""
  context = tf.distribute.get_replica_context()
  workers, worker = _place(context.strategy)
  local = context.num_replicas_in_sync // workers
  return workers, local, worker, context.replica_id_in_sync_group - worker * local


def _count():
  """Returns how many replicas share the work of the function that is running; 1 outside of `Replicas.run`."""
  context = tf.distribute.get_replica_context()
  return context.num_replicas_in_sync if context else 1


def share(tensor: tf.Tensor, batches: int = 1, *, of_worker: bool = False) -> tf.Tensor:
  """Returns this replica's share `[batches * n / count, ...]` of batches `[batches * n, ...]` that lie end to end.

  Entries go to the workers in turn, as in `data.training_batches`, and a worker's entries to its replicas in turn.
  `of_worker` says that these are already the entries of this worker alone.
  """
  if _count() == 1:
    return tensor
  workers, local, worker, index = _here()
  if of_worker:
    workers, worker = 1, 0
  parts = tf.reshape(tensor, (batches, -1, local, workers, *tensor.shape[1:]))
  return tf.reshape(parts[:, :, index, worker], (-1, *tensor.shape[1:]))


def draw(sampler: Callable[[tf.Tensor], tf.Tensor], n: tf.Tensor) -> tf.Tensor:
  """Returns this replica's share `[n, ...]` of the entries that `sampler(n * count)` draws for all replicas."""
  return share(sampler(n * _count()))


def gather(tensor: tf.Tensor) -> tf.Tensor:
  """Returns the entries of all replicas, in the order of `share`; gradients pass through."""
  if _count() == 1:
    return tensor
  workers, local, _, _ = _here()
  gathered = tf.distribute.get_replica_context().all_gather(tensor, axis=0)
  parts = tf.reshape(gathered, (workers, local, -1, *tensor.shape[1:]))
  rest = range(3, 2 + tensor.shape.rank)
  return tf.reshape(tf.transpose(parts, (2, 1, 0, *rest)), (-1, *tensor.shape[1:]))


def mean(tensors: Any) -> Any:
  """Returns the mean over replicas of each tensor in a structure of float tensors, in one all-reduce; None stays."""
  if _count() == 1:
    return tensors
  flat = tf.nest.flatten(tensors)
  present = [tensor for tensor in flat if tensor is not None]
  reduced = iter(tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, present))
  return tf.nest.pack_sequence_as(tensors, [None if tensor is None else next(reduced) for tensor in flat])

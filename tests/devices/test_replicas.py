"""Strategies by name, workers that wait for others, and what two parts of a CPU exchange."""

import contextlib
import json
import logging
import os
import re
import signal
import socket
import threading
import time
import types
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.signals import SIGNALS
from flowgan_tf.devices.replicas import SINGLE, Replicas, _devices, draw, gather, make_replicas, mean, share
from flowgan_tf.runs.settings import check_strategy
from tests import processes
from tests.processes import status_of, wait_for


def cluster():
  """TF_CONFIG of each of two workers on this machine."""
  with socket.socket() as first, socket.socket() as second:
    addresses = []
    for free in (first, second):
      free.bind(('localhost', 0))
      addresses.append(f'localhost:{free.getsockname()[1]}')
  return [json.dumps({'cluster': {'worker': addresses}, 'task': {'type': 'worker', 'index': i}}) for i in range(2)]


def call_in(environment, function, arguments):
  os.environ.update(environment)
  function(*arguments)


def start_workers(function, arguments):
  """Starts a function of `processes` as two workers; `arguments` of an index returns those of one."""
  tasks = enumerate(cluster())
  return [processes._started(call_in, ({'TF_CONFIG': task}, function, arguments(i))) for i, task in tasks]


@pytest.mark.parametrize(
  'text',
  [
    '',
    '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
    '{"cluster": {"worker": ["a:1"], "ps": ["a:2"]}, "task": {"type": "ps", "index": 0}}',
    '{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}',
    '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1.5}}',
    '{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}',
    '{"cluster": {"worker": ["a:1", "b"]}, "task": {"type": "worker", "index": 0}}',
    '{"cluster": {"worker": ["a:1", "b:99999"]}, "task": {"type": "worker", "index": 0}}',
    '{"cluster": {"worker": ["a:1"], "chief": ["b:1", "c:1"]}, "task": {"type": "worker", "index": 0}}',
    '[' * 200_000,
  ],
)
def test_what_describes_no_cluster_is_rejected(monkeypatch, text):
  monkeypatch.setenv('TF_CONFIG', text)
  with pytest.raises(UsageError, match='needs the environment variable TF_CONFIG'):
    make_replicas('multi_worker')


@pytest.mark.parametrize('name', ['mirrored:', 'mirrored:0', 'Mirrored', 'multi_worker:2', ' '])
def test_unknown_strategies_are_rejected(name):
  with pytest.raises(UsageError, match='`strategy` must be'):
    check_strategy(name)


def test_a_cpu_is_not_split_into_a_thousand_parts(monkeypatch):
  monkeypatch.setattr(tf.config, 'set_logical_device_configuration', None)
  with pytest.raises(UsageError, match=r"`strategy` must be for at most \d+ .* Got: 'mirrored:1000'\."):
    make_replicas('mirrored:1000')


def test_without_a_strategy_nothing_is_shared():
  assert make_replicas('') is SINGLE and SINGLE.count == 1 and SINGLE.is_chief
  images = tf.reshape(tf.range(12.0), (6, 2))
  for function in (share, gather, mean, SINGLE.map(share)):
    assert function(images) is images
  assert SINGLE.any(False) is False and SINGLE.from_chief(7) == 7


@pytest.mark.parametrize('workers', [1, 2])
def test_shares_of_replicas_together_are_the_whole_in_its_order(monkeypatch, workers):
  """What two replicas of each worker would do, one after the other."""
  gathered = []
  for task in range(workers):
    resolver = types.SimpleNamespace(task_type='worker', task_id=task)
    resolver.cluster_spec = lambda: tf.train.ClusterSpec({'worker': ['a:1', 'b:1'][:workers]})
    context = types.SimpleNamespace(strategy=types.SimpleNamespace(cluster_resolver=resolver))
    context.num_replicas_in_sync = 2 * workers
    monkeypatch.setattr(tf.distribute, 'get_replica_context', lambda context=context: context)
    for replica in range(2):
      context.replica_id_in_sync_group = 2 * task + replica
      gathered.append(draw(lambda n: tf.reshape(tf.range(6 * n), (n, 3, 2)), 4))
  context.all_gather = lambda tensor, axis: tf.concat(gathered, axis)
  whole = np.arange(6 * 8 * workers).reshape(-1, 3, 2)
  np.testing.assert_array_equal(gather(gathered[-1]), whole)
  np.testing.assert_array_equal(gathered[0], whole[:: 2 * workers])


def test_the_cpu_is_split_into_as_many_parts_as_are_asked_for(monkeypatch):
  split, parts = [], [types.SimpleNamespace(name=f'part {i}') for i in range(3)]
  monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: ['the CPU'] if kind == 'CPU' else [])
  monkeypatch.setattr(tf.config, 'set_logical_device_configuration', lambda cpu, parts: split.append((cpu, len(parts))))
  monkeypatch.setattr(tf.config, 'list_logical_devices', lambda kind: parts)
  assert _devices(2) == ['part 0', 'part 1'] and split == [('the CPU', 2)]


def test_each_worker_has_the_value_of_the_chief(monkeypatch):
  replicas = Replicas()
  replicas.workers, replicas.count = 2, 2
  values = {0: 9, 1: 7}  # by replica
  monkeypatch.setattr(replicas, '_sum', lambda own, of: [sum(values[replica] for replica in of)])
  assert replicas.from_chief(7) == 9 and replicas.any(False) is True


@pytest.mark.parametrize(('task', 'place'), [(('chief', 0), 0), (('worker', 0), 1), (('worker', 1), 2)])
def test_the_chief_is_the_first_worker(task, place):
  resolver = types.SimpleNamespace(task_type=task[0], task_id=task[1])
  resolver.cluster_spec = lambda: tf.train.ClusterSpec({'worker': ['b:1', 'c:1'], 'chief': ['a:1']})
  replicas = Replicas(types.SimpleNamespace(num_replicas_in_sync=3, cluster_resolver=resolver))
  assert (replicas.workers, replicas.worker, replicas.is_chief) == (3, place, place == 0)


@pytest.mark.parametrize(
  ('error', 'text', 'said'),
  [
    (
      tf.errors.UnavailableError,
      '{{node AllReduce}} Connection reset by peer\nMore [Op:AllReduce]',
      'another worker has ended or cannot be reached: Connection reset by peer (UnavailableError); repeat ',
    ),
    (
      tf.errors.InternalError,
      'Graph execution error:\n\nDetected at node \'a\' defined at (most recent call last):\n  File "f.py", line 1\n'
      "Node: 'a'\nNCCL: unhandled system error\n\t [[{{node a}}]]",
      'an exchange between workers failed: NCCL: unhandled system error (InternalError); repeat ',
    ),
  ],
)
def test_an_error_of_an_exchange_is_told_with_its_reason(error, text, said):
  replicas = Replicas()
  for workers, raised, pattern in ((1, error, None), (2, ConnectionError, f'^{re.escape(said)}')):
    replicas.workers = workers
    with pytest.raises(raised, match=pattern), replicas.reporting_lost_workers():
      raise error(None, None, text)


def test_a_worker_may_end_once_all_have_heard_from_all(monkeypatch):
  closed = tf.errors.UnavailableError(None, None, 'Collective ops is aborted by: Socket closed')
  replicas = Replicas()
  for outcomes, expected in (([False, closed], None), ([closed], type(closed)), ([False, ValueError()], ValueError)):
    monkeypatch.setattr(replicas, 'any', mock.Mock(side_effect=outcomes))
    with pytest.raises(expected) if expected else contextlib.nullcontext():
      replicas.wait_for_all()
    assert replicas.any.call_count == len(outcomes)


@pytest.fixture
def made(monkeypatch):
  """When a strategy for several workers was made; what stands for TensorFlow's has one replica."""
  times, strategy = [], types.SimpleNamespace(num_replicas_in_sync=1)
  monkeypatch.setattr(tf.distribute, 'MultiWorkerMirroredStrategy', lambda: times.append(time.monotonic()) or strategy)
  return times


def test_a_worker_waits_until_all_listen(monkeypatch, made, caplog):
  caplog.set_level('INFO', 'flowgan_tf')
  monkeypatch.setenv('TF_CONFIG', cluster()[0])
  own, other = json.loads(os.environ['TF_CONFIG'])['cluster']['worker']
  listened, met = [], threading.Event()

  def listen():
    connected = False
    while not connected:  # This worker has a port that others find.
      time.sleep(0.3)
      with contextlib.suppress(OSError), socket.create_connection(own.split(':')):
        connected = True
    with socket.create_server(('localhost', int(other.split(':')[1]))):
      listened.append(time.monotonic())
      met.wait(60)

  thread = threading.Thread(target=listen)
  thread.start()
  assert make_replicas.__wrapped__('multi_worker') is SINGLE
  met.set()
  thread.join()
  assert listened[0] < made[0]
  assert caplog.messages[0] == f'Worker {own} waits for all of {own}, {other}.'


def test_a_port_that_is_taken_is_rejected(monkeypatch, made):
  monkeypatch.setenv('TF_CONFIG', cluster()[0])
  own = json.loads(os.environ['TF_CONFIG'])['cluster']['worker'][0]
  rejected = pytest.raises(UsageError, match=f'cannot listen at {own} from TF_CONFIG')
  with socket.create_server(('', int(own.split(':')[1]))), rejected:
    make_replicas('multi_worker')
  assert not made


def wait_as_worker(ignored, output):
  """In a process: waits for workers that never come, as a program does."""
  processes._forked()
  processes._redirect(output)
  for number in SIGNALS:
    signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
  logging.basicConfig(level='INFO', format='%(message)s')
  make_replicas('multi_worker')


@pytest.mark.slow
@pytest.mark.parametrize(('ignored', 'number'), [([signal.SIGINT, signal.SIGHUP], signal.SIGTERM), ([], signal.SIGINT)])
def test_a_worker_that_waits_for_others_ends_at_a_signal(tmp_path, ignored, number):
  output = tmp_path / 'output'
  process = processes._started(call_in, ({'TF_CONFIG': cluster()[0]}, wait_as_worker, (ignored, output)))
  wait_for(lambda: output.exists() and 'waits for all of' in output.read_text(), process)
  time.sleep(1)  # TensorFlow takes as long to set its own handler.
  os.kill(process.pid, number)
  assert status_of(process) == -number
  assert 'Traceback' not in output.read_text()


def exchange():
  """In a process: two parts of the CPU share what one function works on, and exchange what they have."""
  replicas = make_replicas('mirrored:2')
  # A batch that the replicas cannot share evenly is filled up.
  batch = tf.reshape(tf.range(10.0), (5, 2))
  np.testing.assert_array_equal(replicas.map(lambda x: {'double': 2 * x})(batch)['double'], 2 * batch)
  drawn = replicas.run(lambda: gather(draw(lambda n: tf.range(tf.cast(n, tf.float32)), 3)))
  np.testing.assert_array_equal(drawn, range(6))


@pytest.mark.slow
def test_two_devices_share_and_gather():
  assert status_of(processes._started(exchange, ())) == 0

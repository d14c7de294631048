"""Strategies by name, and what is said of those that cannot be used; `test_replicas` trains with them."""

import re

import pytest
import tensorflow as tf

from flowgan_tf.errors import UsageError
from flowgan_tf.replicas import SINGLE, Replicas, gather, make_replicas, mean, share
from flowgan_tf.runs.config import check_strategy


@pytest.mark.parametrize(
  'text',
  [
    '',
    '{',
    '[]',
    '{"cluster": {"worker": ["a:1"]}}',
    '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
    '{"cluster": {"worker": ["a:1"], "ps": ["a:2"]}, "task": {"type": "ps", "index": 0}}',
    '{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}',
    '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1.5}}',
    '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": -1}}',
    '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": Infinity}}',
    '{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}',
    '{"cluster": {"worker": ["a:1", "b"]}, "task": {"type": "worker", "index": 0}}',
    '{"cluster": {"worker": ["a:1", "b:99999"]}, "task": {"type": "worker", "index": 0}}',
    '{"cluster": {"worker": ["a:1", 7]}, "task": {"type": "worker", "index": 0}}',
    '{"cluster": {"worker": ["a:1"], "chief": ["b:1", "c:1"]}, "task": {"type": "worker", "index": 0}}',
    '{"cluster": {"worker": ["a:1"], "chief": []}, "task": {"type": "worker", "index": 0}}',
  ],
)
def test_a_cluster_that_is_none_is_refused(monkeypatch, text):
  monkeypatch.setenv('TF_CONFIG', text)
  with pytest.raises(UsageError, match='needs the environment variable TF_CONFIG'):
    make_replicas('multi_worker')


@pytest.mark.parametrize(
  'name', ['mirrored:', 'mirrored:0', 'mirrored:-1', 'mirrored: 2', 'Mirrored', 'multi_worker:2', ' ']
)
def test_names_of_no_strategy_are_refused(name):
  with pytest.raises(UsageError, match='`strategy` must be'):
    check_strategy(name)


def test_without_a_strategy_nothing_is_shared():
  assert make_replicas('') is SINGLE and SINGLE.count == 1 and SINGLE.is_chief
  images = tf.reshape(tf.range(12.0), (6, 2))
  for function in (share, gather, mean, SINGLE.map(share)):
    assert function(images) is images
  assert SINGLE.any(False) is False and SINGLE.from_chief(7) == 7


@pytest.mark.parametrize(
  'error, line',
  [
    (
      tf.errors.UnavailableError(None, None, '{{node AllReduce}} Connection reset by peer\nMore [Op:AllReduce]'),
      'another worker has ended or cannot be reached: Connection reset by peer (UnavailableError); repeat ',
    ),
    (
      tf.errors.InternalError(
        None,
        None,
        'Graph execution error:\n\nDetected at node \'a\' defined at (most recent call last):\n  File "f.py", line 1\n'
        "Node: 'a'\nNCCL: unhandled system error\n\t [[{{node a}}]]",
      ),
      'an exchange between workers failed: NCCL: unhandled system error (InternalError); repeat ',
    ),
  ],
)
def test_an_error_of_an_exchange_is_told_with_its_reason(error, line):
  replicas = Replicas()
  with pytest.raises(type(error)), replicas.reporting_lost_workers():
    raise error
  replicas.workers = 2
  with pytest.raises(ConnectionError, match=f'^{re.escape(line)}'), replicas.reporting_lost_workers():
    raise error

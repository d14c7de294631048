"""Parts of a batch on the cores of a CPU."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.data import Batch
from flowgan_tf.data.conditions import Condition, Label
from flowgan_tf.devices import cores
from flowgan_tf.flows import nice
from flowgan_tf.objectives.objective import make_objective
from flowgan_tf.training.step import TrainStep
from tests.tiny import IMAGE_SHAPE, images_for, make_config, make_state
from tests.training.trainings import weights


@pytest.fixture
def two_cores(monkeypatch):
  threads = tf.config.threading
  monkeypatch.setattr(threads, 'get_intra_op_parallelism_threads', lambda: 1)
  monkeypatch.setattr(threads, 'get_inter_op_parallelism_threads', lambda: 2)


@pytest.mark.slow
def test_threads_are_set_before_tensorflow_begins_and_left_alone_afterwards():
  code = (
    'import os, tensorflow as tf; from flowgan_tf.devices import cores; os.sched_getaffinity = lambda _: {0, 1, 2}; '
    'print(cores.count_parts()); cores.compute_parts(); print(cores.count_parts()); tf.ones(1); cores.compute_parts()'
  )
  env = os.environ | {'CUDA_VISIBLE_DEVICES': ''}
  run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, env=env)
  assert run.stdout.split() == ['1', '3']


@pytest.mark.parametrize(('operations', 'parts'), [(0, 1), (3, 3)])
def test_there_is_always_a_part(operations, parts, two_cores, monkeypatch):
  monkeypatch.setattr(tf.config.threading, 'get_inter_op_parallelism_threads', lambda: operations)
  assert cores.count_parts() == parts


def test_each_entry_is_computed_once_in_its_place(two_cores):
  seen = []

  def function(x, y):
    seen.append(x.shape[0])
    return x + y, {'sum': tf.reduce_sum(x * y, axis=1)}

  x, y = tf.random.stateless_normal((5, 3), (0, 1)), tf.random.stateless_normal((5, 3), (0, 2))
  divided = cores.in_parts(function)
  total, rest = divided(x, y)
  assert seen == [3, 2]
  np.testing.assert_array_equal(total, x + y)
  np.testing.assert_allclose(rest['sum'], tf.reduce_sum(x * y, axis=1), rtol=1e-6)


def test_densities_and_samples_of_nice_in_parts_are_those_of_the_whole_batch(two_cores):
  flow = nice(IMAGE_SHAPE, couplings=2, hidden_units=8, hidden_layers=1, initial_weights='paper')
  images = tf.random.stateless_uniform((5, *IMAGE_SHAPE), (0, 1))
  np.testing.assert_allclose(cores.in_parts(flow.log_prob)(images), flow.log_prob(images), rtol=1e-5, atol=1e-5)
  noise = tf.identity(flow.encode(images))
  np.testing.assert_allclose(cores.in_parts(flow.decode)(noise), images, atol=1e-5)


def test_no_part_is_empty(two_cores):
  """TensorFlow's convolution on a CPU gives an empty batch the channels of its input."""
  x, kernel = tf.ones((1, 4, 4, 2)), tf.ones((3, 3, 2, 5))
  divided = cores.in_parts(lambda x: tf.nn.conv2d(x, kernel, 1, 'VALID'))
  np.testing.assert_array_equal(divided(x), np.full((1, 2, 2, 5), 18))


JET = {'jet.couplings': 2, 'jet.patch_size': 2, 'jet.width': 8, 'jet.hidden_units': 8}
LABELS = {'objective': 'mle', 'condition': 'label', 'labelled': 4, 'class_weight': 2.0, 'class_temperature': 3.0}
HYBRID = {'objective': 'hybrid', 'divergence': 'relativistic', 'critic_steps': 1, 'reuse_batch': True}


@pytest.mark.usefixtures('eagerly', 'two_cores')
@pytest.mark.parametrize(
  ('settings', 'lengths'),
  [
    ({'generator': 'jet', **JET}, [4, 4]),
    ({'generator': 'real_nvp', 'real_nvp.scales': 1, 'real_nvp.channels': 4, 'real_nvp.blocks': 0}, [8]),
    ({'generator': 'nice'}, [8]),
  ],
)
def test_batches_of_batch_norms_and_of_nice_stay_whole(settings, lengths):
  config = make_config(settings, objective='mle', jit=False)
  state, seen = make_state(config), []
  log_prob = state.generator.log_prob
  state.generator.log_prob = lambda x, **keywords: seen.append(len(x)) or log_prob(x, **keywords)
  TrainStep(state, make_objective(config), config)(images_for(config))
  assert seen == lengths


@pytest.mark.usefixtures('eagerly')
@pytest.mark.parametrize('settings', [LABELS, pytest.param(HYBRID, marks=pytest.mark.slow)])
def test_parts_change_rounding_only(settings, monkeypatch):
  config = make_config({'generator': 'jet', **JET, **settings}, jit=False)
  condition = Label('label', 16, IMAGE_SHAPE, classes=2) if config.condition else Condition()
  labels = [tf.constant([0, 1, -1, -1, 1, 1, 0, -1])] if config.condition else []
  found = []
  for parts in (1, 2):
    monkeypatch.setattr(cores, 'count_parts', lambda parts=parts: parts)
    state = make_state(config, condition=condition)
    step = TrainStep(state, make_objective(config), config)
    metrics = step(Batch(images_for(config), *labels))
    found.append((weights(state.generator), {k: float(v) for k, v in metrics.items()}))
  for a, b in zip(*(trained for trained, _ in found), strict=True):
    np.testing.assert_allclose(a, b, atol=2e-5)
  assert found[0][1] == pytest.approx(found[1][1], rel=1e-3, abs=1e-4)

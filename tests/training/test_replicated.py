"""Whole trainings and evaluations on several replicas, beside the same on one device.

Two parts of a CPU stand for two devices, and two processes for two machines. Each training is in a process of its own,
as the devices of a process cannot change.
"""

import os
import signal
import threading
import time
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from flowgan_tf.bijectors import AffineCoupling, masks
from flowgan_tf.data import Batch, conditions
from flowgan_tf.devices.replicas import SINGLE, draw, gather, make_replicas, mean, share
from flowgan_tf.evaluation import evaluate
from flowgan_tf.evaluation.results import read_evaluation
from flowgan_tf.flows import Flow
from flowgan_tf.objectives.objective import make_objective
from flowgan_tf.training import state as states
from flowgan_tf.training.state import TrainState
from flowgan_tf.training.step import TrainStep
from tests import processes
from tests.devices.test_replicas import start_workers
from tests.processes import TINY, start_program, start_training, status_of, wait_for_records
from tests.tiny import IMAGE_SHAPE, images_for, make_config, write_images
from tests.training.trainings import checkpoint_of, records_of

pytestmark = pytest.mark.timeout(300)
slow = pytest.mark.slow

HYBRID = {'objective': 'hybrid', 'critic_steps': 2}
RELATIVISTIC = {'objective': 'hybrid', 'divergence': 'relativistic', 'critic_steps': 1, 'reuse_batch': True}
SHORT = {'steps': 2, 'eval_every': 1}
OBJECTIVES = {
  'mle': {'objective': 'mle', 'optimizer.clip_norm': 1.0},
  'hybrid': HYBRID,
  'relativistic': RELATIVISTIC | {'nice.components': 3, 'pseudo_labels': True},
  'labels': HYBRID | {'condition': 'label', 'nice.components': 4},
  'mle with XLA': {'objective': 'mle', 'jit': True} | SHORT,
  'hybrid with XLA': HYBRID | {'jit': True} | SHORT,
  'float16': {'objective': 'mle', 'precision': 'mixed_float16', 'optimizer.learning_rate': 0.01} | SHORT,
}
LOST = 'train: another worker has ended or cannot be reached'


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  return write_images(tmp_path_factory.mktemp('data') / 'images.npz', count=200, labels=True)


def start_by(strategy, config, workdir):
  """Starts a training; workers other than the chief are told to use another folder beside the chief's."""
  config = config.copy_and_resolve_references()
  config.strategy = strategy
  if strategy != 'multi_worker':
    return [start_training(config, workdir)]
  folders = [workdir, workdir.with_name(workdir.name + '-1')]
  return start_workers(processes._train, lambda i: (config, folders[i], workdir.with_suffix('.log')))


def train_by(strategy, config, workdir):
  """Trains in `workdir`."""
  started = start_by(strategy, config, workdir)
  assert [status_of(process) for process in started] == [0] * len(started), workdir.with_suffix('.log').read_text()


def assert_close(first, second, tolerance=1e-4):
  """The last checkpoints hold the same numbers, and the logs the same losses."""
  a, b = checkpoint_of(first), checkpoint_of(second)
  assert a.keys() == b.keys() and len(a) > 10
  for key, value in a.items():
    np.testing.assert_allclose(value, b[key], atol=tolerance, rtol=tolerance, err_msg=key)
  records = records_of(first), records_of(second)
  assert len(records[0]) == len(records[1]) >= 4
  for one, other in zip(*records, strict=True):
    assert other == {
      name: value if isinstance(value, str) else pytest.approx(value, rel=tolerance, abs=tolerance)
      for name, value in one.items()
    }


def one_and_two(**settings):
  """A configuration, and on one device and on two the state and the step of a training, with the weights before it."""
  config = make_config(settings, steps=2)
  objective = make_objective(config)
  for replicas in (SINGLE, make_replicas('mirrored:2')):
    state = TrainState(config, IMAGE_SHAPE, objective, replicas.scope())
    step = TrainStep(state, objective, config, replicas)
    yield state, lambda i, step=step: step(images_for(config, i)), [v.numpy() for v in state.generator.variables]


class Together:
  """Replicas of one device: each has a thread, and runs from one exchange to the next while the others wait."""

  def __init__(self, monkeypatch, count, workers=1):
    self.count, self._workers, self._own = count, workers, threading.local()
    self._turn, self._all, self._given = threading.Lock(), threading.Barrier(count, timeout=60), [None] * count
    monkeypatch.setattr(tf.distribute, 'get_replica_context', lambda: getattr(self._own, 'context', None))

  def run(self, function, *arguments):
    return function(*arguments)

  def each(self, function):
    """Calls a function with the number of each replica; returns what they return."""
    found, errors = [None] * self.count, []

    def as_replica(i):
      worker = types.SimpleNamespace(task_type='worker', task_id=i // (self.count // self._workers))
      worker.cluster_spec = lambda: tf.train.ClusterSpec({'worker': ['a:1'] * self._workers})
      strategy = types.SimpleNamespace(cluster_resolver=worker)
      context = types.SimpleNamespace(num_replicas_in_sync=self.count, replica_id_in_sync_group=i, strategy=strategy)
      self._own.context, context.all_gather, context.all_reduce = context, self._all_gather, self._all_reduce
      try:
        with self._turn:
          found[i] = function(i)
      except Exception as error:
        errors.append(error)
        self._all.abort()

    threads = [threading.Thread(target=as_replica, args=(i,)) for i in range(self.count)]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    if errors:
      raise errors[0]
    return found

  def _exchange(self, value):
    """Gives all replicas the values of all."""
    self._given[self._own.context.replica_id_in_sync_group] = value
    self._turn.release()
    try:
      self._all.wait()
      given = [*self._given]
      self._all.wait()
    finally:
      self._turn.acquire()
    return given

  def _all_reduce(self, operation, values):
    tf.concat([tf.reshape(value, [-1]) for value in values], axis=0)  # As TensorFlow does, which rejects two dtypes.
    reduce = {tf.distribute.ReduceOp.MEAN: tf.reduce_mean, tf.distribute.ReduceOp.SUM: tf.reduce_sum}[operation]
    return [reduce(tf.stack(of_each), axis=0) for of_each in zip(*self._exchange(values), strict=True)]

  def _all_gather(self, tensor, axis):
    own = self._own.context.replica_id_in_sync_group

    @tf.custom_gradient
    def gathered(value):
      parts = self._exchange(value)
      return tf.concat(parts, axis), lambda upstream: tf.split(tf.add_n(self._exchange(upstream)), self.count)[own]

    return gathered(tensor)


@pytest.mark.parametrize(
  ('workers', 'of_replicas'), [(1, [[0, 4], [1, 5], [2, 6], [3, 7]]), (2, [[0, 4], [2, 6], [1, 5], [3, 7]])]
)
def test_entries_go_to_workers_in_turn_and_then_to_their_replicas(monkeypatch, workers, of_replicas):
  """As the images of a worker come from every other one of the data. What is gathered is in order again."""
  entries, together = tf.range(8.0), Together(monkeypatch, 4, workers)
  assert [shared.numpy().tolist() for shared in together.each(lambda i: share(entries))] == of_replicas
  for gathered in together.each(lambda i: gather(share(entries))):
    np.testing.assert_array_equal(gathered, entries)
  drawn = together.each(lambda i: draw(lambda n: tf.cast(tf.range(n), tf.float32), tf.constant(2)))
  assert [part.numpy().tolist() for part in drawn] == of_replicas
  np.testing.assert_array_equal(together.each(lambda i: mean([tf.constant(2.0 * i)])[0]), [3.0] * 4)


@pytest.mark.usefixtures('eagerly')
@pytest.mark.parametrize(
  'settings',
  [
    RELATIVISTIC
    | {'penalty': 'one_centered', 'condition': 'label', 'nice.components': 4, 'nice.condition_networks': False},
    {'objective': 'mle', 'condition': 'label', 'labelled': 4, 'class_weight': 2.0, 'optimizer.clip_norm': 0.01},
  ],
)
def test_replicas_make_the_step_of_one_device(monkeypatch, settings):
  """With what only some of the images have: a label."""
  config = make_config(settings)
  objective, images = make_objective(config), images_for(config)
  labels = tf.constant([0, 1, 1, 1, 0, 1, 0, 0] if config.objective == 'hybrid' else [0, 1, 0, -1, 1, -1, 1, -1])
  condition = conditions.Label('label', 256, IMAGE_SHAPE, classes=2)

  def step_of(replicas):
    state = TrainState(config, IMAGE_SHAPE, objective, condition=condition)
    for i, variable in enumerate(state.generator.trainable_variables):
      variable.assign_add(0.1 * tf.random.stateless_normal(variable.shape, (0, i)))
    step = TrainStep(state, objective, config, replicas)
    metrics = step(Batch(images, labels))
    return {name: float(value) for name, value in metrics.items()}, [v.numpy() for v in state.variables]

  alone, weights = step_of(SINGLE)
  together = Together(monkeypatch, 2)
  for metrics, variables in together.each(lambda i: step_of(together)):
    assert metrics == pytest.approx(alone, rel=1e-4, abs=1e-5)
    for variable, expected in zip(variables, weights, strict=True):
      np.testing.assert_allclose(variable, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures('eagerly')
def test_replicas_average_running_statistics_and_move_seeds_alike(monkeypatch):
  def make_dropout(*_):
    parts = [keras.layers.Dense(4), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5), keras.layers.Dense(2)]
    mask, prior = masks.checkerboard(IMAGE_SHAPE), tfd.Sample(tfd.Normal(0.0, 1.0), IMAGE_SHAPE)
    return Flow(prior, tfb.Chain([tfb.Sigmoid(), AffineCoupling(keras.Sequential(parts), mask)]))

  monkeypatch.setattr(states, 'make_generator', make_dropout)
  config = make_config(objective='mle', ema_decay=0.0)
  objective, together = make_objective(config), Together(monkeypatch, 2)

  def step_of(replica):
    state = TrainState(config, IMAGE_SHAPE, objective)
    before = [v.numpy() for v in state.generator.non_trainable_variables]
    TrainStep(state, objective, config, together)(images_for(config))
    return before, [v.numpy() for v in state.generator.non_trainable_variables]

  (before, first), (_, second) = together.each(step_of)
  assert sorted(value.dtype.name for value in first) == ['float32', 'float32', 'int64']
  for old, value, other in zip(before, first, second, strict=True):
    assert np.any(value != old)
    np.testing.assert_array_equal(value, other)


def check_steps():
  """In a process: two parts of the CPU make the same steps as one device."""
  found = []
  for state, step, _ in one_and_two(**OBJECTIVES['relativistic']):
    metrics = [{k: float(v) for k, v in step(i).items()} for i in range(2)]
    found.append((metrics, [v.numpy() for v in state.variables]))  # The moments of Adam, too.
  for one, other in zip(*(metrics for metrics, _ in found), strict=True):
    assert other == pytest.approx(one, rel=1e-4, abs=1e-5)
  for one, other in zip(*(values for _, values in found), strict=True):
    np.testing.assert_allclose(other, one, atol=1e-4, rtol=1e-4)


def check_overflow():
  """In a process: a step whose gradients overflow is left out, and the loss scale halved, on both devices."""
  _, (state, step, before) = one_and_two(precision='mixed_float16', objective='mle')
  scale = state.optimizer.dynamic_scale.value
  scale.assign(2.0**100)
  step(0)
  assert [copy.numpy() for copy in scale.values] == [2.0**99] * 2
  for variable, old in zip(state.generator.variables, before, strict=True):
    for copy in variable.values:
      np.testing.assert_array_equal(copy.numpy(), old)


def check_running_statistics():
  """In a process: after a step of the critic alone, both devices have the mean of their running statistics."""
  settings = {'nice.normalization': 'batch', 'objective': 'adversarial', 'critic_warmup': 1}
  statistics = []
  for state, step, _ in one_and_two(**settings):
    variables = state.generator.non_trainable_variables
    before = [v.numpy() for v in variables]
    step(0)
    for variable, old in zip(variables, before, strict=True):
      assert np.abs(variable.numpy() - old).max() > 0
      for copy in getattr(variable, 'values', []):
        np.testing.assert_array_equal(copy.numpy(), variable.numpy())
    statistics.append([v.numpy() for v in variables])
  # A new flow is the identity, so that the first norms see the same numbers; the halves' variances are less than all's.
  one, two = statistics
  for i in range(0, len(one), 4):  # Each network has two norms.
    np.testing.assert_allclose(two[i], one[i], atol=1e-6)
    assert np.mean(two[i + 1]) < np.mean(one[i + 1])


@slow
@pytest.mark.parametrize('check', [check_running_statistics, check_steps, check_overflow])
def test_steps_on_two_devices(check):
  assert status_of(processes._started(check, ())) == 0


@pytest.fixture(scope='module')
def on_one(images, tmp_path_factory):
  """By name of an objective, its configuration and a run of it on one device."""
  found, started = {}, []
  for name, settings in OBJECTIVES.items():
    config, workdir = make_config(settings, dataset=images), tmp_path_factory.mktemp('on_one') / 'run'
    config.cache_dir = str(workdir.with_name('cache'))
    found[name] = config, workdir
    started += start_by('', config, workdir)
  assert [status_of(process) for process in started] == [0] * len(started)
  return found


@slow
@pytest.mark.parametrize('objective', OBJECTIVES)
def test_two_devices_train_as_one(on_one, tmp_path, objective):
  config, alone = on_one[objective]
  train_by('mirrored:2', config, tmp_path / 'run')
  assert_close(alone, tmp_path / 'run', 5e-3 if objective == 'float16' else 1e-4)  # Half precision rounds to 1e-3.


@slow
@pytest.mark.parametrize('objective', ['mle', 'hybrid'])
def test_two_workers_train_as_one_device_and_the_chief_alone_writes(on_one, tmp_path, objective):
  config, alone = on_one[objective]
  train_by('multi_worker', config, tmp_path / 'run')
  assert_close(alone, tmp_path / 'run')
  assert {path.name for path in (tmp_path / 'run').iterdir()} == {path.name for path in alone.iterdir()}
  assert not (tmp_path / 'run-1').exists()


@slow
def test_a_run_goes_on_with_another_number_of_replicas(on_one, tmp_path):
  config, alone = on_one['mle']
  for strategy, steps in (('mirrored:2', 1), ('', 3), ('mirrored:4', 4)):
    config = config.copy_and_resolve_references()
    config.steps = steps
    train_by(strategy, config, tmp_path / 'run')
  a, b = checkpoint_of(alone), checkpoint_of(tmp_path / 'run')
  for key, value in a.items():
    if 'best' not in key:  # Every training ends with an evaluation.
      np.testing.assert_allclose(value, b[key], atol=1e-4, rtol=1e-4, err_msg=key)


def start_programs(program, arguments, outputs):
  """Starts a program as two workers, with the arguments and the output of each."""
  of_both = [[*map(str, each), '--strategy=multi_worker'] for each in arguments]
  return start_workers(processes._run, lambda i: (program, of_both[i], outputs[i]))


def printed_by(program, output):
  """The lines in which a program says why it ends; TensorFlow's own messages are not turned off in these processes."""
  return [line for line in output.read_text().splitlines() if line.startswith(f'{program}: ')]


@slow
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_together_and_the_command_goes_on(images, tmp_path, number):
  run, outputs = tmp_path / 'run', [tmp_path / f'output{i}' for i in range(2)]
  flags = [*TINY, f'--dataset={images}', f'--workdir={run}', '--config.eval_every=1000000']
  workers = start_programs('train', [[*flags, '--steps=1000000']] * 2, outputs)
  wait_for_records(run, 3, workers[0])
  for worker in workers[1:] if number == signal.SIGKILL else workers:
    os.kill(worker.pid, number)
  began = time.monotonic()
  statuses = [status_of(worker) for worker in workers]
  assert time.monotonic() - began < 60
  lines = [printed_by('train', output) for output in outputs]
  if number == signal.SIGKILL:
    assert statuses == [1, -signal.SIGKILL]
    assert len(lines[0]) == 1 and lines[0][0].startswith(LOST)
    assert not any(words in lines[0][0] for words in ('Graph execution', 'Detected at', 'no message', 'stack trace'))
  else:
    assert statuses == [-signal.SIGTERM] * 2 and lines == [[], []]
    assert 'is saved; repeat the command to go on' in outputs[0].read_text()
    saved = int(checkpoint_of(run)['step/.ATTRIBUTES/VARIABLE_VALUE'])
    assert saved == records_of(run)[-1]['step'] >= 2
  assert not any('Traceback' in output.read_text() for output in outputs)
  if number != signal.SIGKILL:
    return
  reached = records_of(run)[-1]['step']
  workers = start_programs('train', [[*flags, f'--steps={reached + 2}']] * 2, outputs)
  assert [status_of(worker) for worker in workers] == [0, 0], outputs[0].read_text()
  assert records_of(run)[-1]['step'] == reached + 2


def evaluate_what_the_chief_has(worker, arguments, output):
  """As a worker, which finds another checkpoint than the chief does."""
  restore = evaluate.restore_generator

  def find_another(workdir, checkpoint, generator, *identity):
    restore(workdir, checkpoint, generator, *identity)
    for variable in generator.variables:
      variable.assign(tf.zeros_like(variable))
    return 99

  if worker:
    evaluate.restore_generator = find_another
  processes._run('evaluate', arguments, output)


@slow
def test_an_evaluation_is_the_same_on_several_replicas(on_one, tmp_path):
  """The chief alone scores samples and writes, and all use the weights that it has read."""
  run = on_one['mle'][1]

  def evaluated(strategy):
    arguments = [str(run), '--checkpoint=latest', '--samples=20', '--float64', f'--strategy={strategy}']
    outputs = [tmp_path / f'{strategy}{i}' for i in range(2)]
    if strategy == 'multi_worker':
      started = start_workers(evaluate_what_the_chief_has, lambda i: (i, arguments, outputs[i]))
    else:
      started = [start_program('evaluate', arguments, outputs[0])]
    assert [status_of(process) for process in started] == [0] * len(started), outputs[0].read_text()
    counts = [output.read_text().count('evaluation.json') for output in outputs if output.exists()]
    assert counts == [1, 0][: len(started)]
    [record] = read_evaluation(run)
    (run / 'evaluation.json').unlink()
    return record

  alone = evaluated('')
  assert alone['step'] == 4 and alone['score_samples'] == 20
  for strategy in ('mirrored:3', 'multi_worker'):
    found = evaluated(strategy)
    assert found.keys() == alone.keys()
    assert found['nll_float64'] == pytest.approx(alone['nll_float64'], abs=1e-9)
    for name in ('nll', 'n', 'step', 'mode_score'):
      assert found[name] == pytest.approx(alone[name], abs=1e-4), name


@slow
def test_a_worker_with_other_settings_is_rejected(images, tmp_path):
  run, outputs = tmp_path / 'run', [tmp_path / f'output{i}' for i in range(2)]
  flags = [*TINY, f'--dataset={images}', f'--workdir={run}', '--steps=2']
  rates = [[*flags, f'--config.optimizer.learning_rate={rate}'] for rate in (0.001, 0.002)]
  assert [status_of(worker) for worker in start_programs('train', rates, outputs)] == [1, 2]
  [of_chief], [of_worker] = (printed_by('train', output) for output in outputs)
  assert of_chief == "train: another worker was rejected, because its settings or data differ from the chief's"
  expected = 'train: --config.optimizer.learning_rate must be the same on all workers. Got: 0.002 on worker 1'
  assert of_worker.startswith(expected)
  assert not run.exists()


@slow
@pytest.mark.parametrize('strategy', ['', 'mirrored:2'])
def test_a_sweep_shares_batches_too_and_is_silent_about_its_traces(images, tmp_path, strategy):
  """TensorFlow would warn of a function that it traces for the fifth time."""
  flags = [flag for flag in TINY if 'objective' not in flag]
  flags += ['--lambdas=inf', f'--seeds={"0" if strategy else "0,1,2,3,4"}', '--steps=1', '--what=']
  flags += [f'--dataset={images}', f'--workdir={tmp_path / "runs"}', f'--strategy={strategy}']
  output = tmp_path / 'output'
  assert status_of(start_program('sweep', tuple(flags), output)) == 0, output.read_text()
  assert 'retracing' not in output.read_text()
  assert output.read_text().count('2 replicas share each batch') == bool(strategy)

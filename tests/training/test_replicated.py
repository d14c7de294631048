"""Whole trainings and evaluations on several replicas, beside the same on one device.

Two parts of a CPU stand for two devices, and two processes for two machines. Each training is in a process of its own,
as the devices of a process cannot change.
"""

import json
import os
import signal
import time

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.evaluation import evaluate
from flowgan_tf.evaluation.evaluate import read_evaluation
from flowgan_tf.replicas import make_replicas
from flowgan_tf.runs.run import make_objective
from flowgan_tf.training.state import TrainState
from flowgan_tf.training.step import TrainStep, batches_per_step
from tests import processes
from tests.processes import start_program, start_training, status_of, wait_for_records
from tests.test_replicas import OBJECTIVES, start_workers
from tests.tiny import IMAGE_SHAPE, make_config, write_images
from tests.training.trainings import checkpoint_of, records_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LOST = 'train: another worker has ended or cannot be reached'
FLAGS = ('--objective=mle', '--batch_size=8', '--nojit', '--config.nice.couplings=2', '--config.nice.hidden_units=8')
FLAGS += ('--config.nice.hidden_layers=1', '--config.log_every=1', '--config.score_samples=0')


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  return write_images(tmp_path_factory.mktemp('data') / 'images.npz')


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
    assert one.keys() == other.keys()
    numbers = [name for name, value in one.items() if not isinstance(value, str)]
    np.testing.assert_allclose(
      [one[name] for name in numbers],
      [other[name] for name in numbers],
      atol=tolerance,
      rtol=tolerance,
      err_msg=str(one),
    )


@pytest.fixture(scope='module')
def on_one(images, tmp_path_factory):
  """By name of an objective, its configuration and a run of it on one device."""
  found, started = {}, []
  for name, settings in OBJECTIVES.items():
    config, workdir = make_config(settings, dataset=images), tmp_path_factory.mktemp(name) / 'run'
    found[name] = config, workdir
    started += start_by('', config, workdir)
  assert [status_of(process) for process in started] == [0] * len(started)
  return found


@pytest.mark.parametrize('objective', OBJECTIVES)
def test_two_devices_train_as_one(on_one, tmp_path, objective):
  config, alone = on_one[objective]
  train_by('mirrored:2', config, tmp_path / 'run')
  assert_close(alone, tmp_path / 'run')


@pytest.mark.parametrize(
  'settings, tolerance',
  [
    ({'jit': True, 'objective': 'mle'}, 1e-4),
    ({'jit': True, 'objective': 'hybrid'}, 1e-4),
    # Half precision rounds to 1e-3.
    ({'precision': 'mixed_float16', 'objective': 'mle', 'optimizer.learning_rate': 0.01}, 5e-3),
  ],
)
def test_two_devices_train_as_one_with_xla_and_in_half_precision(images, tmp_path, settings, tolerance):
  config = make_config(settings, dataset=images, steps=2, eval_every=1)
  started = [*start_by('', config, tmp_path / 'alone'), *start_by('mirrored:2', config, tmp_path / 'run')]
  assert [status_of(process) for process in started] == [0, 0], (tmp_path / 'run.log').read_text()
  assert_close(tmp_path / 'alone', tmp_path / 'run', tolerance)


@pytest.mark.parametrize('objective', ['mle', 'hybrid'])
def test_two_workers_train_as_one_device_and_the_chief_alone_writes(on_one, tmp_path, objective):
  config, alone = on_one[objective]
  train_by('multi_worker', config, tmp_path / 'run')
  assert_close(alone, tmp_path / 'run')
  assert {path.name for path in (tmp_path / 'run').iterdir()} == {path.name for path in alone.iterdir()}
  assert not (tmp_path / 'run-1').exists()


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


def start_programs(program, arguments, output):
  """Starts a program as two workers, whose outputs are `output` with the endings 0 and 1."""
  arguments = [*map(str, arguments), '--strategy=multi_worker']
  return start_workers(processes._run, lambda i: (program, arguments, output(i)))


def printed_by(program, output):
  """The lines in which a program says why it ends; TensorFlow's own messages are not turned off in these processes."""
  return [line for line in output.read_text().splitlines() if line.startswith(f'{program}: ')]


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_together_and_the_command_goes_on(images, tmp_path, number):
  run = tmp_path / 'run'
  flags = (*FLAGS, f'--dataset={images}', f'--workdir={run}', '--config.eval_every=1000000')

  def output(i):
    return tmp_path / f'output{i}'

  workers = start_programs('train', (*flags, '--steps=1000000'), output)
  wait_for_records(run, 3, workers[0])
  for worker in workers[1:] if number == signal.SIGKILL else workers:
    os.kill(worker.pid, number)
  began = time.monotonic()
  statuses = [status_of(worker) for worker in workers]
  assert time.monotonic() - began < 60
  lines = [printed_by('train', output(i)) for i in range(2)]
  if number == signal.SIGKILL:
    assert statuses == [1, -signal.SIGKILL]
    assert len(lines[0]) == 1 and lines[0][0].startswith(LOST)
    assert not any(words in lines[0][0] for words in ('Graph execution', 'Detected at', 'no message', 'stack trace'))
  else:
    assert statuses == [143, 143]
    assert lines[0] == lines[1] == ['train: stopped by SIGTERM; repeat the command to go on']
    saved = int(checkpoint_of(run)['step/.ATTRIBUTES/VARIABLE_VALUE'])
    assert saved == records_of(run)[-1]['step'] >= 2
  assert 'Traceback' not in output(0).read_text() + output(1).read_text()
  if number != signal.SIGKILL:
    return
  reached = records_of(run)[-1]['step']
  workers = start_programs('train', (*flags, f'--steps={reached + 2}'), output)
  assert [status_of(worker) for worker in workers] == [0, 0], output(0).read_text()
  assert records_of(run)[-1]['step'] == reached + 2


def test_an_evaluation_is_the_same_on_several_replicas(on_one, tmp_path):
  run = on_one['hybrid'][1]

  def evaluated(strategy):
    arguments = (run, '--checkpoint=latest', '--samples=0', '--float64')
    if strategy == 'multi_worker':
      started = start_programs('evaluate', arguments, lambda i: tmp_path / f'{strategy}{i}')
    else:
      started = [start_program('evaluate', (*arguments, f'--strategy={strategy}'), tmp_path / f'{strategy}0')]
    assert [status_of(process) for process in started] == [0] * len(started), (tmp_path / f'{strategy}0').read_text()
    [record] = read_evaluation(run)
    (run / 'evaluation.json').unlink()
    return record

  alone = evaluated('')
  for strategy in ('mirrored:3', 'multi_worker'):
    found = evaluated(strategy)
    assert found.keys() == alone.keys()
    assert found['nll'] == pytest.approx(alone['nll'], abs=1e-4)
    assert found['nll_float64'] == pytest.approx(alone['nll_float64'], abs=1e-9)
    assert found['n'] == alone['n']


def test_running_statistics_are_the_mean_over_replicas(images, tmp_path):
  settings = {'nice.normalization': 'batch', 'objective': 'mle', 'steps': 1, 'ema_decay': 0.0}
  config = make_config(settings, dataset=images)
  started = [*start_by('', config, tmp_path / 'run'), *start_by('mirrored:2', config, tmp_path / 'runmirrored:2')]
  assert [status_of(process) for process in started] == [0, 0]
  a, b = (checkpoint_of(tmp_path / f'run{strategy}') for strategy in ('', 'mirrored:2'))
  # A new flow is the identity, so that the first norm of each network sees the same numbers as on one device. The mean
  # of the halves' means is that of all, and the mean of their variances is less.
  firsts = {}
  for key in sorted((key for key in a if 'moving_mean' in key), reverse=True):
    firsts[key.partition('moving_mean')[0].rpartition('/')[0]] = key
  assert len(firsts) == config.nice.couplings
  for network, key in firsts.items():
    assert np.abs(a[key]).max() > 0
    np.testing.assert_allclose(a[key], b[key], atol=1e-6)
    variance = min(key for key in a if key.startswith(network) and 'moving_variance' in key)
    assert np.mean(b[variance]) < np.mean(a[variance])


def test_the_chief_scores_samples_while_other_workers_wait(tmp_path):
  images = write_images(tmp_path / 'images.npz', count=200, labels=True)
  config = make_config({'objective': 'mle', 'cache_dir': str(tmp_path / 'cache')}, dataset=images)
  run = tmp_path / 'run'
  train_by('', config, run)

  def output(i):
    return tmp_path / f'output{i}'

  workers = start_programs('evaluate', (run, '--samples=20', '--float64'), output)
  assert [status_of(worker) for worker in workers] == [0, 0], output(0).read_text() + output(1).read_text()
  records = read_evaluation(run)
  assert [record['checkpoint'] for record in records] == ['latest', 'best_nll']
  assert all(record['score_samples'] == 20 and record['mode_score'] >= 1 for record in records)
  assert output(0).read_text().count('evaluation.json') == 1 and 'evaluation.json' not in output(1).read_text()


def check_overflow(config):
  """In a process of two devices: a step whose gradients overflow is left out, and the loss scale halved, on both."""
  replicas, objective = make_replicas('mirrored:2'), make_objective(config)
  state = TrainState(config, IMAGE_SHAPE, objective, replicas.scope())
  before = [variable.numpy() for variable in state.generator.variables]
  scale = state.optimizer.dynamic_scale.value
  scale.assign(2.0**100)
  images = np.random.default_rng(0).random((config.batch_size, *IMAGE_SHAPE))
  TrainStep(state, objective, config, replicas)(tf.constant(images, tf.float32))
  assert [copy.numpy() for copy in scale.values] == [2.0**99] * 2
  for variable, old in zip(state.generator.variables, before, strict=True):
    for copy in variable.values:
      np.testing.assert_array_equal(copy.numpy(), old)


def test_a_step_that_overflows_in_half_precision_is_left_out_on_both_devices():
  config = make_config(precision='mixed_float16', objective='mle')
  assert status_of(processes._started(check_overflow, (config,))) == 0


def evaluate_what_changes(run, worker, output):
  """Evaluates a run as a worker; worker 1 finds another checkpoint than the chief does."""
  restore = evaluate.restore_generator

  def find_another(workdir, checkpoint, generator, *identity):
    restore(workdir, checkpoint, generator, *identity)
    for variable in generator.variables:
      variable.assign(tf.zeros_like(variable))
    return 99

  if worker == 1:
    evaluate.restore_generator = find_another
  checkpoints = [['latest', 'best_nll'], ['latest']][worker]
  output.write_text(json.dumps(evaluate.evaluate_run(run, checkpoints, 'test', 0, strategy='multi_worker')))


def test_workers_evaluate_the_checkpoints_that_the_chief_has(images, tmp_path):
  run = tmp_path / 'run'
  train_by('', make_config(objective='mle', dataset=images), run)
  started = start_workers(evaluate_what_changes, lambda i: (run, i, tmp_path / f'output{i}'))
  assert [status_of(process) for process in started] == [0, 0]
  records = [json.loads((tmp_path / f'output{i}').read_text()) for i in range(2)]
  assert len(records[0]) == 2 and records[1] == []
  [alone] = evaluate.evaluate_run(run, ['latest'], 'test', 0)
  assert records[0][0]['step'] == alone['step'] == 4
  assert records[0][0]['nll'] == pytest.approx(alone['nll'], abs=1e-4)


def test_a_worker_with_other_settings_is_refused(images, tmp_path):
  rates, run = ['--config.optimizer.learning_rate=0.001', '--config.optimizer.learning_rate=0.002'], tmp_path / 'run'
  arguments = [*FLAGS, f'--dataset={images}', f'--workdir={run}', '--steps=2', '--strategy=multi_worker']
  outputs = [tmp_path / f'output{i}' for i in range(2)]
  workers = start_workers(processes._run, lambda i: ('train', [*arguments, rates[i]], outputs[i]))
  assert [status_of(worker) for worker in workers] == [1, 2]
  lines = [printed_by('train', output) for output in outputs]
  expected = 'train: another worker was refused, as its settings or data are unlike those of the chief'
  assert lines[0] == [expected]
  assert lines[1] == [
    'train: --config.optimizer.learning_rate must be the same on all workers. Got: 0.002 on worker 1, unlike on the '
    'chief.'
  ]
  assert not run.exists()


def check_warm_up(config):
  """In a process of two devices: after a step of the critic alone, both have the same running statistics."""
  replicas, objective = make_replicas('mirrored:2'), make_objective(config)
  state = TrainState(config, IMAGE_SHAPE, objective, replicas.scope())
  before = [variable.numpy() for variable in state.generator.non_trainable_variables]
  rng = np.random.default_rng(0)
  images = rng.random((batches_per_step(objective, config.critic_steps, False) * config.batch_size, *IMAGE_SHAPE))
  TrainStep(state, objective, config, replicas)(tf.constant(images, tf.float32))
  for variable, old in zip(state.generator.non_trainable_variables, before, strict=True):
    first, second = (copy.numpy() for copy in variable.values)
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - old).max() > 0


def test_running_statistics_are_averaged_while_the_critic_is_warmed_up():
  settings = {'nice.normalization': 'batch', 'objective': 'adversarial', 'critic_warmup': 1}
  assert status_of(processes._started(check_warm_up, (make_config(settings),))) == 0


@pytest.mark.parametrize(
  'flags, line',
  [
    (
      ['--strategy=mirrored:3'],
      'train: --batch_size must be a multiple of 3, the number of replicas of mirrored:3. ',
    ),
    (
      ['--strategy=multi_worker'],
      "train: --strategy 'multi_worker' needs the environment variable TF_CONFIG, which must",
    ),
    (
      ['--strategy=tpu'],
      "train: --strategy must be 'mirrored', 'mirrored:N' with a number of devices, or 'multi_worker'. ",
    ),
  ],
)
def test_a_wrong_strategy_is_refused_in_one_line(images, tmp_path, flags, line):
  output = tmp_path / 'output'
  process = start_program('train', (*FLAGS, f'--dataset={images}', f'--workdir={tmp_path / "run"}', *flags), output)
  assert status_of(process) == 2
  [found] = printed_by('train', output)
  assert found.startswith(line)
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('strategy', ['', 'mirrored:2'])
def test_a_sweep_shares_batches_too_and_is_silent_about_its_traces(images, tmp_path, strategy):
  """TensorFlow would warn of a function that it traces for the fifth time."""
  flags = [flag for flag in FLAGS if 'objective' not in flag]
  flags += ['--lambdas=inf', f'--seeds={"0" if strategy else "0,1,2,3,4"}', '--steps=1', '--what=']
  flags += [f'--dataset={images}', f'--workdir={tmp_path / "runs"}', f'--strategy={strategy}']
  output = tmp_path / 'output'
  assert status_of(start_program('sweep', tuple(flags), output)) == 0, output.read_text()
  assert 'retracing' not in output.read_text()
  assert output.read_text().count('2 replicas share each batch') == bool(strategy)

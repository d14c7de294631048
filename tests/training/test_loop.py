"""The loop around steps and evaluations, mostly with stubs of both."""

import itertools
import math
import os
import re
import shutil
import signal
import time
import types
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.base.errors import UsageError
from flowgan_tf.configs import digits
from flowgan_tf.devices.replicas import SINGLE
from flowgan_tf.metrics.likelihood import Likelihood
from flowgan_tf.objectives.objective import make_objective
from flowgan_tf.runs.folder import available, read_description
from flowgan_tf.runs.log import RunLog, read_metrics
from flowgan_tf.runs.run import load_run
from flowgan_tf.training import loop
from flowgan_tf.training.loop import TrainingDiverged, train
from tests.tiny import make_config, make_state, write_images
from tests.training.trainings import (
  StubEvaluator,
  StubStep,
  assert_same_run,
  checkpoint_of,
  poison_after,
  records_of,
  weights,
)


def validations(workdir):
  return [r for r in read_metrics(workdir) if r['kind'] == 'validation']


def test_a_generator_that_waits_for_its_critic_or_is_another_run_s_is_not_a_best_one(stubbed, config, tmp_path):
  config.steps = 1
  assert train(config, tmp_path / 'start')
  config.update({'objective': 'hybrid', 'critic_warmup': 2, 'steps': 4, 'init_from': str(tmp_path / 'start')})
  with mock.patch.object(StubEvaluator, 'likelihood', return_value=Likelihood(1.0, 0.1, 2.0, 0.0, 10)):
    assert train(config, tmp_path / 'run')
  assert [r['step'] for r in validations(tmp_path / 'run')] == [0, 1, 2, 3, 4]
  assert load_run(tmp_path / 'run', 'best_nll').step == 3


@pytest.mark.parametrize('selection', ['mode_score', 'inception_score'])
def test_best_checkpoints_are_kept_apart(stubbed, config, tmp_path, monkeypatch, selection):
  """By script, the score is best at steps 2 and 4, within the noise, and the likelihood at step 3."""
  config.score_samples = 64
  nlls = iter([5.0, 6.0, 4.0, 7.0])
  scores = [{'mode_score': 1.0, 'inception_score': 1.0, selection: score} for score in (1.1, 3.0, 2.0, 3.1)]
  for score in scores:
    score[f'{selection}_std'] = 0.2
  monkeypatch.setattr(loop, 'make_scorer', lambda *_, **__: mock.Mock(selection=selection, side_effect=scores))
  monkeypatch.setattr(StubEvaluator, 'likelihood', lambda *_, **__: Likelihood(next(nlls), 0.1, 2.0, 0.0, 10))
  averages, evaluate = [], loop._Loop._evaluate

  def note(self, step):
    averages.append(weights(self._state.ema))
    evaluate(self, step)

  monkeypatch.setattr(loop._Loop, '_evaluate', note)
  assert train(config, tmp_path)
  assert [(r['step'], r['nll']) for r in validations(tmp_path)] == [(1, 5.0), (2, 6.0), (3, 4.0), (4, 7.0)]
  steps = {name: load_run(tmp_path, name).step for name in available(tmp_path)}
  assert steps == {'latest': 4, 'best_nll': 3, 'best_score': 2}
  # It holds the average of that step, and not the weights of the flow itself.
  for a, b in zip(weights(load_run(tmp_path, 'best_score').generator), averages[1], strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
  ('records', 'chosen'),
  [
    ([(5.0, 3.0), (4.0, 2.8), (3.0, 2.6)], [1, 2]),  # All are nearly as good as the one before, but not as the first.
    ([(5.0, 3.0), (4.0, 3.1), (4.5, 3.2)], [1, 2]),
    ([(4.0, 3.0), (4.5, 3.2), (5.0, 3.5)], [1, 3]),
    ([(math.nan, 3.0), (4.0, 2.9), (None, 3.1), (math.nan, 3.4)], [1, 2, 4]),
    ([(5.0, 2.0), (4.0, 1.9), (3.0, None)], [1, 2]),
    ([(None, 4.0), (None, 4.2), (None, 4.1), (math.inf, 4.24)], [1, 2, 4]),  # As without a likelihood.
  ],
)
def test_likelihood_chooses_among_scores_within_an_error_of_the_highest(config, records, chosen):
  """The error is 0.25 for all."""
  training = mock.Mock(_state=make_state(config), _scorer=mock.Mock(selection='mode_score'))
  training._objective.uses_critic, training._log.records = False, []
  found = []
  for step, (nll, score) in enumerate(records, 1):
    record = {'kind': 'validation', 'step': step, 'nll': nll, 'mode_score': score, 'mode_score_std': 0.25}
    if step % 2:  # As read from a file, or as the evaluator left it out.
      record = {k: v for k, v in record.items() if v is not None}
    if 'best_score' in loop._Loop._improves(training, record):
      found.append(step)
    training._log.records.append(record)
  assert found == chosen
  # Without its log, a checkpoint is replaced only if its score is too low.
  training._log.records = []
  highest = max(score for _, score in records if score)
  for score, replaced in ((highest + 0.2, False), (highest + 0.3, True)):
    training._state.best_score.assign(highest)
    record = {'step': 9, 'nll': -9.0, 'mode_score': score, 'mode_score_std': 0.25}
    assert ('best_score' in loop._Loop._improves(training, record)) == replaced


def test_each_worker_gets_images_of_its_own_and_all_together_those_of_one(config):
  config.seed = 5
  dataset, objective = loop.data.load(config.dataset), make_objective(config)

  def batch_of(worker, workers):
    replicas = types.SimpleNamespace(worker=worker, workers=workers)
    training = mock.Mock(
      _config=config, _dataset=dataset, _train=dataset.train, _objective=objective, _replicas=replicas
    )
    return next(loop._Loop._batches(training, 2)).images.numpy()

  whole, *parts = (batch_of(*place) for place in ((0, 1), (0, 2), (1, 2)))
  np.testing.assert_array_equal(np.stack(parts, axis=1).reshape(whole.shape), whole)


def test_unlabelled_images_train_without_scores(stubbed, config, tmp_path, monkeypatch):
  """Validation images judge the training, by as many samples as it says."""
  config.score_samples = 2000
  found, splits, counts, sample = Likelihood(1.0, 0.1, 2.0, 0.0, 10), set(), [], StubEvaluator.sample
  monkeypatch.setattr(StubEvaluator, 'likelihood', lambda self, split, quick=False: splits.add(split) or found)
  monkeypatch.setattr(
    StubEvaluator, 'sample', lambda self, n, *rest, **k: counts.append(n) or sample(self, n, *rest, **k)
  )
  with pytest.raises(UsageError, match=r'^`scorer` must be .* has no labels'):
    train(config, tmp_path / 'required', scorer_required=True)
  assert train(config, tmp_path / 'run')
  assert available(tmp_path / 'run') == ['latest', 'best_nll']
  assert splits == {'validation'} and counts == [2000, 64] * config.steps  # 64 for each grid.
  assert not [k for record in read_metrics(tmp_path / 'run') for k in record if 'score' in k or 'classifier' in k]


def test_images_come_in_the_order_of_the_seed_mirrored_and_moved(stubbed, config, tmp_path):
  config.update({'seed': 5, 'flip': True, 'shift': 2, 'steps': 1})
  with mock.patch.object(loop.data, 'training_batches', wraps=loop.data.training_batches) as batches:
    assert train(config, tmp_path / 'run')
  found = batches.call_args.kwargs
  assert (found['seed'], found['flip'], found['shift'], found['start']) == (5, True, 2, 0)


def test_a_training_sees_the_labels_that_are_given(stubbed, tmp_path, monkeypatch):
  """Four of 32 labels are given, two of each class."""
  settings = {'condition': 'label', 'labelled': 4, 'nice.components': 2, 'nice.condition_networks': False}
  config = make_config(settings, objective='mle', dataset=write_images(tmp_path / 'images.npz', labels=True))
  dataset, of_start = loop.data_of(config), []
  monkeypatch.setattr(loop, 'initialize_from_data', lambda state, start: of_start.append(start.labels))
  state = make_state(config, condition=dataset.condition)
  made = loop._Loop(config, make_objective(config), dataset, state, SINGLE, tmp_path / 'run', False)
  labels, given = dataset.train.labels, made._train.labels
  np.testing.assert_array_equal(np.bincount(labels[given >= 0]), [2, 2])
  np.testing.assert_array_equal(given[given >= 0], labels[given >= 0])
  np.testing.assert_array_equal(of_start, [given])  # What the probabilities of the classes are shares of.


def test_what_is_logged_when(stubbed, config, tmp_path, monkeypatch):
  config.update({'steps': 5, 'log_every': 2, 'eval_every': 3})
  done, sync, save = [], RunLog.sync, loop.Checkpoints.save
  monkeypatch.setattr(RunLog, 'sync', lambda self: (done.append(len(read_metrics(tmp_path / 'run'))), sync(self)))
  monkeypatch.setattr(loop.Checkpoints, 'save', lambda self, name: (done.append(name), save(self, name)))
  train(config, tmp_path / 'run')
  # A power cut leaves no checkpoint whose records are lost. The mean weight, which stands for the NLL, rises.
  assert done == ['latest', 1, 'latest', 'best_nll', 2, 4, 'latest', 5]
  kinds = [(r['kind'], r['step'], 'gradient_norm' in r) for r in read_metrics(tmp_path / 'run')]
  trained = [('train', 2, True), ('validation', 3, False), ('train', 4, True), ('train', 5, True)]
  assert kinds == [*trained, ('validation', 5, False)]
  grids = sorted(f.name for f in (tmp_path / 'run' / 'samples').iterdir())
  assert grids == ['real.png', *(f'step_{step:07d}.png' for step in (3, 5))]


@pytest.fixture(scope='module')
def whole(images, tmp_path_factory):
  """A run of 6 steps that nothing interrupts, and its configuration; it is evaluated at steps 3 and 6."""
  mixture = {'nice.components': 3, 'pseudo_labels': True}
  config = make_config(mixture, objective='mle', dataset=images, steps=6, eval_every=3)
  workdir = tmp_path_factory.mktemp('whole')
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(loop, 'TrainStep', StubStep)
    patch.setattr(loop, 'Evaluator', StubEvaluator)
    assert train(config, workdir)
  return workdir, config


def interrupt(monkeypatch, method, at, number=signal.SIGINT):
  """Sends this process a signal in the call number `at` of a method of the log or of the evaluator."""
  owner = RunLog if hasattr(RunLog, method) else StubEvaluator
  original, calls = getattr(owner, method), []

  def interrupted(*args, **kwargs):
    calls.append(args)
    if len(calls) == at:
      os.kill(os.getpid(), number)
    return original(*args, **kwargs)

  monkeypatch.setattr(owner, method, interrupted)


@pytest.mark.parametrize(
  ('method', 'at', 'saved', 'evaluated'),
  [
    ('advance', 1, 0, []),  # In the first step, which may take minutes, it acts at once.
    pytest.param('advance', 2, 2, [], marks=pytest.mark.slow),
    ('likelihood', 1, 3, []),
    pytest.param('sample', 1, 3, [], marks=pytest.mark.slow),  # The best checkpoint is not saved yet.
    ('advance', 4, 3, [3]),  # The checkpoint was saved before the evaluation, so that the record has the best values.
    pytest.param('advance', 6, 6, [3], marks=pytest.mark.slow),
    pytest.param('likelihood', 2, 6, [3], marks=pytest.mark.slow),
  ],
)
def test_ctrl_c_ends_the_training_and_it_resumes_as_if_nothing_had_been(
  stubbed, interruptible, tmp_path, monkeypatch, whole, method, at, saved, evaluated
):
  workdir, config = whole
  handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
  with monkeypatch.context() as patch:
    interrupt(patch, method, at)
    with pytest.raises(KeyboardInterrupt):
      train(config, tmp_path / 'parts')
  assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == handlers
  assert checkpoint_of(tmp_path / 'parts')['step/.ATTRIBUTES/VARIABLE_VALUE'] == saved
  assert [r['step'] for r in validations(tmp_path / 'parts')] == evaluated
  assert train(config, tmp_path / 'parts')
  assert_same_run(workdir, tmp_path / 'parts')


def test_a_signal_whose_handler_returns_ends_the_training(stubbed, config, tmp_path, monkeypatch):
  config.eval_every = 4
  received = []
  before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
  try:
    interrupt(monkeypatch, 'advance', 2, signal.SIGTERM)
    assert not train(config, tmp_path)
  finally:
    signal.signal(signal.SIGTERM, before)
  assert received == [signal.SIGTERM]
  assert load_run(tmp_path, 'latest').step == 2


def test_a_finished_run_is_not_trained_further(stubbed, whole, tmp_path):
  workdir, config = shutil.copytree(whole[0], tmp_path / 'run'), whole[1].copy_and_resolve_references()
  before = {f: f.read_bytes() for f in workdir.rglob('*') if f.is_file() and 'tensorboard' not in f.parts}
  config.log_every = 3
  assert train(config, workdir)
  for file, content in before.items():
    if file.name != 'config.json':
      assert file.read_bytes() == content, file


@pytest.mark.slow
def test_a_longer_training_keeps_the_best_value_of_its_old_end(stubbed, config, tmp_path, monkeypatch):
  nll = iter([3.0, 1.0, 2.0])
  monkeypatch.setattr(StubEvaluator, 'likelihood', lambda *_, **__: Likelihood(next(nll), 0.1, 2.0, 0.0, 10))
  config.update({'steps': 3, 'eval_every': 2})
  assert train(config, tmp_path)
  config.steps = 4
  assert train(config, tmp_path)
  assert [record['step'] for record in validations(tmp_path)] == [2, 3, 4]
  assert load_run(tmp_path, 'best_nll').step == 3


@pytest.mark.parametrize(('part', 'log_every'), [('generator', 100), ('critic', 1)])
def test_nan_weights_stop_the_training_and_are_not_saved(stubbed, config, tmp_path, monkeypatch, part, log_every):
  config.update({'objective': 'hybrid', 'log_every': log_every, 'eval_every': 2, 'steps': 8})
  monkeypatch.setattr(loop, 'TrainStep', poison_after(4, part))
  with pytest.raises(TrainingDiverged) as caught:
    train(config, tmp_path)
  assert str(caught.value).startswith('not finite at step 4: weights; the last good checkpoint, of step 2, is kept in ')
  assert load_run(tmp_path, 'latest').step == 2
  assert all(np.isfinite(v).all() for k, v in checkpoint_of(tmp_path).items() if not k.startswith('best_'))


@pytest.mark.slow
def test_nan_images_name_the_terms(config, tmp_path, monkeypatch):
  config.steps = 9
  original = loop.data.training_batches

  def poisoned(*args, start, **kwargs):
    batches = original(*args, start=start, **kwargs)
    return batches.enumerate(start).map(lambda i, batch: batch._replace(images=tf.where(i < 2, batch.images, np.nan)))

  monkeypatch.setattr(loop.data, 'training_batches', poisoned)
  reason = r'nll, loss \(first in alpha_logit\); the gradient of diagonal_scaling/log_scale'
  with pytest.raises(TrainingDiverged, match=rf'^not finite at step 3: {reason}; the last good checkpoint, of step 2'):
    train(config, tmp_path)
  assert load_run(tmp_path, 'latest').step == 2
  assert read_metrics(tmp_path)[-1]['nll'] is None


@pytest.mark.parametrize(('steps', 'kept'), [(0, []), (1, ['latest'])])
def test_a_training_whose_first_step_fails_is_forgotten(stubbed, config, tmp_path, monkeypatch, steps, kept):
  config.eval_every = 4
  original = StubStep.__call__

  def failing(self, *args, step, **kwargs):
    if step == steps:
      raise RuntimeError
    return original(self, *args, step=step, **kwargs)

  monkeypatch.setattr(StubStep, '__call__', failing)
  with pytest.raises(RuntimeError):
    train(config, tmp_path)
  assert available(tmp_path) == kept and (tmp_path / 'metrics.jsonl').exists() == bool(kept)


def test_a_training_that_fails_before_it_resumes_is_not_forgotten(stubbed, config, tmp_path, monkeypatch):
  config.steps = 1
  monkeypatch.setattr(StubEvaluator, 'likelihood', lambda *_, **__: None)  # So that there is no best checkpoint.
  assert train(config, tmp_path)
  monkeypatch.setattr(loop, '_Loop', mock.Mock(side_effect=RuntimeError))
  with pytest.raises(RuntimeError):
    train(config, tmp_path)
  assert available(tmp_path) == ['latest'] and [r['step'] for r in read_metrics(tmp_path)] == [1, 1]


@pytest.fixture
def diverging(stubbed, config, monkeypatch):
  """The configuration of a training that goes back to step 4 twice."""
  config.update({'on_nan': 'rollback', 'steps': 8, 'eval_every': 2})
  monkeypatch.setattr(loop, 'TrainStep', poison_after(5, 'generator', above=0.25))
  return config


@pytest.mark.slow
def test_rollbacks_halve_the_learning_rate_and_survive_an_interrupt(diverging, interruptible, tmp_path, monkeypatch):
  assert train(diverging, tmp_path / 'whole')
  records = records_of(tmp_path / 'whole')
  assert [r['step'] for r in records if r['kind'] == 'validation'] == [2, 4, 6, 8]
  rollbacks = [r for r in records if r['kind'] == 'rollback']
  assert rollbacks == [{'kind': 'rollback', 'step': 4, 'diverged_at': 5, 'reason': 'weights'}] * 2
  rates = {r['step']: r['learning_rate'] for r in records if r['kind'] == 'train'}
  assert list(rates) == [*range(1, 9)]
  np.testing.assert_allclose([*rates.values()], [0.01] * 4 + [0.0025] * 4, rtol=1e-6)
  with monkeypatch.context() as patch:
    interrupt(patch, 'likelihood', 3)
    with pytest.raises(KeyboardInterrupt):
      train(diverging, tmp_path / 'parts')
  assert read_description(tmp_path / 'parts').rollbacks == 2
  assert train(diverging, tmp_path / 'parts')
  assert_same_run(tmp_path / 'whole', tmp_path / 'parts')


def test_a_step_that_fails_is_made_again_with_half_the_learning_rate(diverging, tmp_path, monkeypatch):
  """With half of it the step fails again, with a quarter it does not."""
  monkeypatch.setattr(loop, 'TrainStep', poison_after(2, 'generator', above=0.25))
  diverging.update({'steps': 2, 'eval_every': 1})
  assert train(diverging, tmp_path)
  rates = {r['step']: r['learning_rate'] for r in records_of(tmp_path) if r['kind'] == 'train'}
  assert rates == pytest.approx({1: 0.01, 2: 0.0025})
  assert read_description(tmp_path).rollbacks == 2


@pytest.mark.slow
def test_the_time_before_a_rollback_counts_once(diverging, tmp_path, monkeypatch):
  """By a clock that moves by one second whenever someone looks at it."""
  looks = itertools.count()
  monkeypatch.setattr(
    loop, 'time', types.SimpleNamespace(monotonic=lambda: next(looks), perf_counter=time.perf_counter)
  )
  diverging.steps = 6
  assert train(diverging, tmp_path)
  seconds = [record['seconds'] for record in read_metrics(tmp_path)]
  assert seconds == sorted(set(seconds))
  # The first look is the start.
  assert seconds[-1] == next(looks) - 1
  diverging.steps = 8
  assert train(diverging, tmp_path)
  more = [record['seconds'] for record in read_metrics(tmp_path)][len(seconds) - 1 :]
  assert np.all(np.diff(more) == 1) and len(more) > 1


@pytest.mark.slow
def test_there_are_three_rollbacks_at_most_and_the_run_can_resume_then(stubbed, config, tmp_path, monkeypatch):
  config.update({'steps': 4, 'eval_every': 2, 'on_nan': 'rollback'})
  with monkeypatch.context() as patch:
    patch.setattr(loop, 'TrainStep', poison_after(3, 'generator'))
    with pytest.raises(TrainingDiverged, match=r'^not finite at step 3 after 3 rollbacks: weights; '):
      train(config, tmp_path)
  assert train(config, tmp_path)
  assert records_of(tmp_path)[-2]['learning_rate'] == pytest.approx(0.01 / 8)


@pytest.mark.slow
def test_a_flow_without_an_inverse_is_announced(stubbed, config, tmp_path, monkeypatch, caplog):
  """Rounding in half precision is not a blow-up: NICE on MNIST has that error at a test NLL of -3,310 nats."""
  caplog.set_level('INFO')
  for precision, error, announced in (
    ('float32', 0.03, True),
    ('mixed_bfloat16', 0.03, False),
    ('mixed_float16', np.nan, True),
  ):
    config.update({'steps': 1, 'precision': precision})
    found = Likelihood(1.0, 0.1, 2.0, error, 10)
    monkeypatch.setattr(StubEvaluator, 'likelihood', lambda *_, found=found, **__: found)
    caplog.clear()
    train(config, tmp_path / precision)
    assert ('Step 1: the round trip of an image is wrong' in caplog.text) == announced
    [evaluations] = re.findall(r'of which evaluations took ([\d.]+) % and waits for images [\d.]+ %', caplog.text)
    assert 0 < float(evaluations) < 100


def test_a_lost_latest_checkpoint_does_not_start_again(stubbed, tmp_path, whole):
  workdir, config = shutil.copytree(whole[0], tmp_path / 'run'), whole[1]
  before = read_metrics(workdir)
  shutil.rmtree(workdir / 'checkpoints' / 'latest')
  with pytest.raises(UsageError, match='has checkpoint best_nll but none to resume from'):
    train(config, workdir)
  assert read_metrics(workdir) == before


def test_an_interrupted_start_from_another_run_logs_step_zero_once(stubbed, whole, config, tmp_path, monkeypatch):
  config.update({'eval_every': 100, 'steps': 3, 'init_from': str(whole[0])})
  config.nice.components = 3
  with monkeypatch.context() as patch:
    patch.setattr(RunLog, 'advance', mock.Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
      train(config, tmp_path / 'run')
  train(config, tmp_path / 'run')
  assert [r['step'] for r in read_metrics(tmp_path / 'run')] == [0, 1, 2, 3, 3]


@pytest.mark.parametrize(
  ('settings', 'said'),
  [
    ({'objective': 'hybrid', 'generator': 'dcgan', 'dcgan.channels': (2,)}, "^`objective` must be 'adversarial' with"),
    ({'batch_size': 50_000}, r'^`batch_size` times `critic_steps` images must fit into'),
    ({'strategy': 'mirrored:3'}, r'^`batch_size` must be a multiple of 3, the number of replicas of mirrored:3\.'),
  ],
)
def test_what_cannot_be_trained_is_rejected_before_there_is_a_folder(config, tmp_path, monkeypatch, settings, said):
  monkeypatch.setattr(
    'flowgan_tf.base.errors.os.sysconf', {'SC_PAGE_SIZE': 1, 'SC_PHYS_PAGES': 4 * 50_000 * 16 - 1}.get
  )
  monkeypatch.setattr(loop, 'make_replicas', lambda name: types.SimpleNamespace(count=3) if name else SINGLE)
  config.update_from_flattened_dict(settings)
  with pytest.raises(UsageError, match=said):
    train(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def resident_mebibytes():
  with open('/proc/self/statm') as file:
    return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 2**20


@pytest.mark.slow
def test_memory_is_flat(tmp_path, monkeypatch):
  """Over 2,000 steps with 20 evaluations and checkpoints, after the first 200, which trace and allocate."""
  config = digits.get_config()
  config.update({'objective': 'hybrid', 'steps': 2200, 'eval_every': 100, 'log_every': 10, 'score_samples': 200})
  config.nice.hidden_units, config.nice.hidden_layers, config.critic_steps = 64, 1, 1
  seen, original = {}, loop._Loop._evaluate

  def evaluate(self, step):
    original(self, step)
    seen[step] = resident_mebibytes()

  monkeypatch.setattr(loop._Loop, '_evaluate', evaluate)
  assert train(config, tmp_path)
  assert len(seen) == 22
  # 2,000 steps that each kept a tensor of 10 KiB would add more than that.
  assert max(seen[step] for step in seen if step > 200) < 1.02 * seen[200]

import os
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf import objectives
from flowgan_tf.errors import UsageError
from flowgan_tf.metrics.likelihood import Likelihood
from flowgan_tf.runs.checkpoints import available
from flowgan_tf.runs.history import read_metrics
from flowgan_tf.runs.run import load_run
from flowgan_tf.training import loop
from flowgan_tf.training.logs import RunLog
from flowgan_tf.training.loop import TrainingDiverged, train
from tests.tiny import make_config, write_images


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  return write_images(tmp_path_factory.mktemp('data') / 'images.npz')


@pytest.fixture
def config(images):
  return make_config({'optimizer.learning_rate': 0.01}, objective='mle', dataset=images, eval_every=1)


def flow_weights(workdir, checkpoint):
  return [v.numpy() for v in load_run(workdir, checkpoint).generator.variables]


def checkpoint_of(workdir, name='latest'):
  """Every number of the newest checkpoint, by its key."""
  newest = max((workdir / 'checkpoints' / name).glob('*.index'), key=lambda f: int(f.stem.rpartition('-')[2]))
  reader = tf.train.load_checkpoint(str(newest.with_suffix('')))
  return {
    key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map() if key != '_CHECKPOINTABLE_OBJECT_GRAPH'
  }


def records_of(workdir):
  return [{k: v for k, v in r.items() if k != 'seconds'} for r in read_metrics(workdir)]


def assert_same_run(first, second):
  a, b = checkpoint_of(first), checkpoint_of(second)
  assert a.keys() == b.keys() and len(a) > 10
  for key, value in a.items():
    np.testing.assert_array_equal(value, b[key], err_msg=key)
  assert records_of(first) == records_of(second)


class Scripted:
  """Scores that follow a script, one entry a call, whatever the samples."""

  def __init__(self, script, selection='mode_score'):
    self.script, self.selection = iter(script), selection

  def __call__(self, images, splits=1):
    return {'mode_score': 1.0, 'inception_score': 1.0, self.selection: next(self.script)}


@pytest.mark.parametrize('selection', ['mode_score', 'inception_score'])
def test_best_checkpoints_are_kept_apart(config, tmp_path, monkeypatch, selection):
  """By script, the score is best at step 2 and the likelihood at step 3."""
  config.score_samples = 64
  nlls = iter([1.0, 5.0, 6.0, 4.0, 7.0])
  monkeypatch.setattr(loop, 'make_scorer', lambda *_, **__: Scripted([9.0, 1.1, 3.0, 2.0, 2.5], selection))
  with monkeypatch.context() as patch:
    patch.setattr(loop.Evaluator, 'likelihood', lambda self, split: Likelihood(next(nlls), 0.1, 2.0, 0.0, 10))
    assert train(config, tmp_path / 'run')
  records = [r for r in read_metrics(tmp_path / 'run') if r['kind'] == 'validation']
  assert [(r['step'], r['nll']) for r in records] == [(0, 1.0), (1, 5.0), (2, 6.0), (3, 4.0), (4, 7.0)]
  assert max(records[1:], key=lambda r: r[selection])['step'] == 2
  assert available(tmp_path / 'run') == ['latest', 'best_nll', 'best_score']
  runs = {name: load_run(tmp_path / 'run', name) for name in available(tmp_path / 'run')}
  assert {name: run.step for name, run in runs.items()} == {'latest': 4, 'best_nll': 3, 'best_score': 2}

  # A run that ends at step 2 has the average of that step, and not the weights of the flow itself.
  config.steps = 2
  monkeypatch.setattr(loop, 'make_scorer', lambda *_, **__: Scripted([1.1] * 3, selection))
  train(config, tmp_path / 'short')
  best = flow_weights(tmp_path / 'run', 'best_score')
  for a, b in zip(best, flow_weights(tmp_path / 'short', 'latest'), strict=True):
    np.testing.assert_array_equal(a, b)
  stored = checkpoint_of(tmp_path / 'short')
  average, trained = (
    np.concatenate([v.ravel() for k, v in sorted(stored.items()) if k.startswith(part)])
    for part in ('ema/', 'generator/')
  )
  assert np.any(average != trained)
  np.testing.assert_array_equal(np.sort(np.concatenate([v.ravel() for v in best])), np.sort(average))


def test_the_first_evaluation_is_no_candidate(config, tmp_path):
  """Step 0, an untrained flow, is logged but never the best."""
  config.steps = 1
  config.optimizer.learning_rate = 0.5  # Worse after one step than before it.
  train(config, tmp_path / 'run')
  before, after = (r['nll'] for r in read_metrics(tmp_path / 'run') if r['kind'] == 'validation')
  assert after > before
  assert load_run(tmp_path / 'run', 'best_nll').step == 1


def test_unlabelled_images_train_without_scores(config, tmp_path):
  config.score_samples = 2000
  assert train(config, tmp_path / 'run')
  assert available(tmp_path / 'run') == ['latest', 'best_nll']
  keys = {key for record in read_metrics(tmp_path / 'run') for key in record}
  assert {'nll', 'bits_per_dim', 'round_trip_error', 'saturated', 'non_finite', 'sample_std'} <= keys
  assert not {k for k in keys if 'score' in k or 'classifier' in k}


def test_a_scorer_that_was_asked_for_needs_labels(config, tmp_path):
  config.score_samples = 2000
  with pytest.raises(UsageError, match=r'^`scorer` must be .* has no labels'):
    train(config, tmp_path / 'run', scorer_required=True)
  config.score_samples = 0
  assert train(config, tmp_path / 'run', scorer_required=True)


def test_what_is_logged_when(config, tmp_path):
  config.update({'steps': 5, 'log_every': 2, 'eval_every': 3})
  train(config, tmp_path / 'run')
  assert [(r['kind'], r['step']) for r in read_metrics(tmp_path / 'run')] == [
    ('validation', 0),
    ('train', 2),
    ('validation', 3),
    ('train', 4),
    ('validation', 5),
  ]
  grids = sorted(f.name for f in (tmp_path / 'run' / 'samples').iterdir())
  assert grids == [f'step_{step:07d}.png' for step in (0, 3, 5)]


def test_ctrl_c_ends_after_the_step_and_the_run_goes_on_as_if_nothing_had_been(config, tmp_path, monkeypatch):
  config.update({'steps': 6, 'eval_every': 6})
  assert train(config, tmp_path / 'whole')
  handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]

  class Interrupted(RunLog):
    count = 0

    def advance(self):
      super().advance()
      self.count += 1
      if self.count == 3:
        os.kill(os.getpid(), signal.SIGINT)

  with monkeypatch.context() as patch:
    patch.setattr(loop, 'RunLog', Interrupted)
    assert not train(config, tmp_path / 'parts')
  assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == handlers
  assert checkpoint_of(tmp_path / 'parts')['step/.ATTRIBUTES/VARIABLE_VALUE'] == 3
  assert available(tmp_path / 'parts') == ['latest']
  assert train(config, tmp_path / 'parts')
  assert_same_run(tmp_path / 'whole', tmp_path / 'parts')


def test_a_finished_run_is_not_trained_further(config, tmp_path):
  train(config, tmp_path / 'run')
  before = {f: f.read_bytes() for f in (tmp_path / 'run').rglob('*') if f.is_file() and 'tensorboard' not in f.parts}
  config.log_every = 3
  assert train(config, tmp_path / 'run')
  for file, content in before.items():
    if file.name != 'config.json':
      assert file.read_bytes() == content, file


def poison_after(step, variables):
  """A `make_train_step` whose function turns a weight to NaN at the end of a step."""
  original = loop.make_train_step

  def make(state, objective, config):
    train_step = original(state, objective, config)

    def poisoned(images):
      metrics = train_step(images)
      if int(state.step) == step:
        first = getattr(state, variables).trainable_variables[0]
        first.assign(first * np.nan)
      return metrics

    return poisoned

  return make


@pytest.mark.parametrize(('part', 'log_every'), [('generator', 100), ('critic', 1)])
def test_nan_weights_stop_the_training_and_are_not_saved(config, tmp_path, monkeypatch, part, log_every):
  config.update({'objective': 'hybrid', 'log_every': log_every, 'eval_every': 2, 'steps': 8})
  monkeypatch.setattr(loop, 'make_train_step', poison_after(4, part))
  with pytest.raises(TrainingDiverged) as caught:
    train(config, tmp_path)
  message = str(caught.value)
  assert 'weights not finite at step 4' in message and str(tmp_path) in message and '\n' not in message
  assert load_run(tmp_path, 'latest').step == 2
  assert all(np.isfinite(v).all() for v in flow_weights(tmp_path, 'latest'))
  assert all(np.isfinite(v).all() for k, v in checkpoint_of(tmp_path).items() if not k.startswith('best_score'))


def test_nan_images_name_the_terms(config, tmp_path, monkeypatch):
  config.steps = 9
  original = loop.data.training_batches
  monkeypatch.setattr(
    loop.data,
    'training_batches',
    lambda *args, **kwargs: original(*args, **kwargs).enumerate().map(lambda i, x: x if i < 2 else x * np.nan),
  )
  with pytest.raises(TrainingDiverged, match=r'^nll, loss, gradient_norm, weights not finite at step 3'):
    train(config, tmp_path)
  assert load_run(tmp_path, 'latest').step == 2
  assert read_metrics(tmp_path)[-1]['nll'] is None


def test_an_absurd_learning_rate_leaves_the_start_alone(config, tmp_path):
  config.optimizer.learning_rate = 1e30
  with pytest.raises(TrainingDiverged, match='weights not finite at step 1'):
    train(config, tmp_path)
  assert available(tmp_path) == ['latest']
  assert load_run(tmp_path, 'latest').step == 0
  assert all(np.isfinite(v).all() for v in flow_weights(tmp_path, 'latest'))


def test_a_lost_latest_checkpoint_does_not_start_again(config, tmp_path):
  config.steps = 2
  train(config, tmp_path)
  before = read_metrics(tmp_path)
  shutil.rmtree(tmp_path / 'checkpoints' / 'latest')
  with pytest.raises(UsageError, match='has checkpoint best_nll but none to resume from'):
    train(config, tmp_path)
  assert read_metrics(tmp_path) == before


def test_overflown_gradients_of_float16_are_no_divergence(config, tmp_path, monkeypatch):
  config.update({'precision': 'mixed_float16', 'steps': 3})
  original = loop.make_train_step

  def make(state, *args):
    state.optimizer.dynamic_scale.assign(1e38)
    return original(state, *args)

  monkeypatch.setattr(loop, 'make_train_step', make)
  assert train(config, tmp_path)
  assert read_metrics(tmp_path)[1]['gradient_norm'] is None


def test_an_interrupted_start_logs_step_zero_once(config, tmp_path, monkeypatch):
  config.update({'objective': 'mle', 'eval_every': 100, 'steps': 3})

  def killed(*args):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(RunLog, 'advance', killed)
    with pytest.raises(KeyboardInterrupt):
      train(config, tmp_path)
  train(config, tmp_path)
  assert [r['step'] for r in read_metrics(tmp_path)] == [0, 1, 2, 3, 3]


def test_the_objective_is_built_once(config, tmp_path, monkeypatch):
  built = []
  original = objectives.make
  monkeypatch.setattr(objectives, 'make', lambda *args, **kwargs: built.append(args) or original(*args, **kwargs))
  config.steps, config.score_samples = 2, 0
  train(config, tmp_path)
  assert len(built) == 1
  config.steps = 3  # Going on reads the description of the run, too.
  train(config, tmp_path)
  assert len(built) == 2


@pytest.mark.parametrize('objective', ['mle', 'hybrid'])
def test_an_objective_with_a_likelihood_needs_a_density(config, tmp_path, objective):
  config.update({'objective': objective, 'generator': 'dcgan'})
  config.dcgan.channels = (2,)
  with pytest.raises(UsageError, match=rf"^`objective` must be 'adversarial' with generator dcgan.*: '{objective}'"):
    train(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
  # A likelihood of no weight needs none.
  config.update({'objective': 'hybrid', 'lambda': 0.0, 'steps': 1})
  assert train(config, tmp_path / 'run')

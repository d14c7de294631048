import dataclasses
import json
import math
import types

import keras
import numpy as np
import pytest

from flowgan_tf import data
from flowgan_tf.errors import UsageError
from flowgan_tf.evaluation import evaluate, scoring
from flowgan_tf.evaluation.evaluate import evaluate_run
from flowgan_tf.evaluation.evaluator import Evaluator
from flowgan_tf.evaluation.scoring import cache_dir, make_scorer
from flowgan_tf.runs.checkpoints import Checkpoints
from flowgan_tf.runs.config import make_generator
from flowgan_tf.runs.seeds import Purpose
from flowgan_tf.runs.workdir import open_workdir
from flowgan_tf.training.state import TrainState
from tests.tiny import make_config, write_images


def scorer(images, splits=1):
  """Stands for a `Scorer`."""
  return {'mode_score': float(images.mean()), 'score_samples': len(images), 'score_splits': splits}


scorer.selection = 'mode_score'


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  return write_images(tmp_path_factory.mktemp('data') / 'images.npz', count=150, labels=True)


@pytest.fixture(scope='module')
def dataset(images):
  return data.load(images)


@pytest.fixture(scope='module')
def config(images):
  return make_config(objective='mle', dataset=images, seed=3, score_samples=10)


@pytest.fixture(scope='module')
def flow(config):
  keras.utils.set_random_seed(0)
  flow = make_generator(config, (4, 4, 1))
  rng = np.random.default_rng(0)
  for variable in flow.trainable_variables:
    variable.assign_add(rng.normal(0, 0.2, variable.shape))
  return flow


@pytest.fixture(scope='module')
def evaluator(flow, dataset, config):
  return Evaluator(flow, dataset, config, scorer)


@pytest.mark.parametrize('split', ['train', 'validation', 'test'])
def test_likelihood_is_of_the_whole_split(evaluator, flow, dataset, split):
  """Splits of 120, 15 and 15 images, measured in batches of 100."""
  images = getattr(dataset, split).images
  x = data.dequantize(images, 256, 3 + Purpose.EVALUATION)
  log_prob = flow.log_prob(x).numpy().astype(np.float64)
  likelihood = evaluator.likelihood(split)
  assert likelihood.n == len(images)
  assert likelihood.nll == pytest.approx(-log_prob.mean(), abs=1e-4)
  assert likelihood.bits_per_dim == pytest.approx(8 - log_prob.mean() / (16 * math.log(2)), abs=1e-5)
  assert likelihood == evaluator.likelihood(split)


def test_samples(evaluator, flow):
  """501 samples take two calls."""
  samples = evaluator.sample(501, Purpose.SCORE)
  assert samples.shape == (501, 4, 4, 1) and samples.dtype == np.float32
  assert len(np.unique(samples.reshape(501, -1), axis=0)) == 501
  np.testing.assert_array_equal(evaluator.sample(501, Purpose.SCORE), samples)
  for other in (evaluator.sample(20, Purpose.GRID), evaluator.sample(20, Purpose.SCORE, step=1)):
    assert np.all(other != samples[:20])
  # Neither the prior's mean nor its scale is lost on the way.
  noise = flow.encode(samples).numpy()
  assert noise.std() == pytest.approx(math.pi / math.sqrt(3), rel=0.05)


def test_scores_stand_beside_the_health_of_the_samples(evaluator):
  images = np.full((20, 4, 4, 1), 0.2)
  images[:10, :2] = 0.7
  assert evaluator.scores(images, splits=2) == {
    'saturated': 0.0,
    'non_finite': 0.0,
    'sample_std': pytest.approx(0.125),
    'mode_score': pytest.approx(0.325),
    'score_samples': 20,
    'score_splits': 2,
  }


def test_samples_that_blew_up_have_no_score(evaluator):
  images = np.full((20, 4, 4, 1), 0.2)
  images[0, 0, 0] = np.nan
  scores = evaluator.scores(images)
  assert scores.keys() == {'saturated', 'non_finite', 'sample_std'}
  assert scores['non_finite'] == pytest.approx(1 / 320)


def test_without_a_scorer_there_is_health_alone(flow, dataset, config):
  scores = Evaluator(flow, dataset, config, None).scores(np.full((4, 4, 4, 1), 0.2))
  assert scores.keys() == {'saturated', 'non_finite', 'sample_std'}


@pytest.fixture
def networks(monkeypatch):
  """The classifiers that were asked for, none of which is trained."""
  asked = []

  def load_or_train(dataset, folder):
    asked.append(dataset)
    return types.SimpleNamespace(label_distribution=None)

  monkeypatch.setattr(scoring.classifiers, 'load_or_train', load_or_train)
  monkeypatch.setattr(scoring, 'load_or_compute', lambda *_: None)
  return asked


def test_a_classifier_needs_labels(config, tmp_path):
  unlabelled = data.load(write_images(tmp_path / 'unlabelled.npz'))
  assert make_scorer(config, unlabelled) is None
  with pytest.raises(UsageError, match=r'--scorer=classifier: --dataset=.* has no labels.*--scorer=inception'):
    make_scorer(config, unlabelled, required=True)


def test_too_few_images_are_refused_before_a_classifier_is_trained(config, tmp_path, networks):
  """Of 3 images one is for training, of 4 two; a covariance takes two."""
  few = data.load(write_images(tmp_path / 'three.npz', count=3, labels=True))
  few = dataclasses.replace(few, train=data.Split(few.train.images, np.zeros(1, np.int64)), num_classes=1)
  assert len(few.train) == 1
  with pytest.raises(UsageError, match='got 1 training image, expected at least 2'):
    make_scorer(config, few)
  assert not networks
  two = data.Split(np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, np.int64))
  make_scorer(config, dataclasses.replace(few, train=two))
  assert len(networks) == 1


def test_a_label_that_is_never_seen_is_refused(config, tmp_path):
  path = tmp_path / 'from_one.npz'
  np.savez(path, images=np.zeros((30, 4, 4), np.uint8), labels=np.arange(30) % 2 + 1)
  with pytest.raises(UsageError, match='no training image has label 0; expected each of 0 to 2'):
    make_scorer(config, data.load(str(path)))


def test_cache_dir(config, tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  assert cache_dir(config) == tmp_path / '.cache' / 'flowgan_tf'


def test_a_cache_that_cannot_be_written_is_said_before_the_work(config, dataset, tmp_path, caplog, networks):
  (tmp_path / 'file').touch()
  config = config.copy_and_resolve_references()
  config.cache_dir = str(tmp_path / 'file' / 'cache')
  with caplog.at_level('WARNING', logger='flowgan_tf'):
    assert make_scorer(config, dataset) is not None
  [message] = [record.getMessage() for record in caplog.records]
  assert message.startswith(f'--config.cache_dir={config.cache_dir}: cannot be written') and '\n' not in message
  assert len(networks) == 1


def test_evaluate_run(tmp_path, dataset, config, monkeypatch):
  monkeypatch.setattr(evaluate, 'make_scorer', lambda *_, **__: scorer)
  workdir = open_workdir(tmp_path / 'run', config, dataset)
  state = TrainState(config, dataset.image_shape)
  checkpoints = Checkpoints(workdir, state.checkpoint())
  flows = {}
  for step, name in ((4, 'latest'), (2, 'best_nll')):
    state.step.assign(step)
    for variable in state.ema.trainable_variables:
      variable.assign_add(np.full(variable.shape, 0.1, np.float32))
    flows[name] = [v.numpy() for v in state.ema.variables]
    checkpoints.save(name)
  records = evaluate_run(workdir, ['latest', 'best_nll'], 'test', 30)
  assert json.loads((workdir / 'evaluation.json').read_text()) == records
  x = data.dequantize(dataset.test.images, 256, 3 + Purpose.EVALUATION)
  for record, name, step in zip(records, ('latest', 'best_nll'), (4, 2), strict=True):
    for variable, value in zip(state.generator.variables, flows[name], strict=True):
      variable.assign(value)
    assert record['nll'] == pytest.approx(-state.generator.log_prob(x).numpy().mean(), rel=1e-5)
    expected = {'checkpoint': name, 'step': step, 'split': 'test', 'n': 15, 'score_samples': 30, 'score_splits': 10}
    assert record | expected == record
  assert records[0]['nll'] != records[1]['nll']


def test_evaluation_on_other_data_is_refused(tmp_path, dataset, config, monkeypatch):
  workdir = open_workdir(tmp_path / 'run', config, dataset)
  Checkpoints(workdir, TrainState(config, dataset.image_shape).checkpoint()).save('latest')
  monkeypatch.setattr(data, 'load', lambda *_: types.SimpleNamespace(fingerprint='another'))
  with pytest.raises(UsageError, match='was trained on other data'):
    evaluate_run(workdir, ['latest'], 'test', 30)


def test_float64_stands_beside_float32(tmp_path, dataset, config, flow, monkeypatch):
  """Nontrivial weights, and batch norm, whose running statistics have to come along."""
  config = config.copy_and_resolve_references()
  config.update_from_flattened_dict({'generator.name': 'real_nvp', 'generator.channels': 4, 'generator.blocks': 1})
  config.generator.normalization = 'batch'
  workdir = open_workdir(tmp_path / 'run', config, dataset)
  state = TrainState(config, dataset.image_shape)
  rng = np.random.default_rng(1)
  for variable in state.ema.variables:
    variable.assign_add(np.abs(rng.normal(0, 0.2, variable.shape)))
  Checkpoints(workdir, state.checkpoint()).save('latest')
  [record] = evaluate_run(workdir, ['latest'], 'test', 0, float64=True)
  assert record['nll_float64'] == pytest.approx(record['nll'], rel=1e-5) and record['nll_float64'] != record['nll']
  assert record['bits_per_dim_float64'] == pytest.approx(record['bits_per_dim'], rel=1e-5)
  assert record['round_trip_error_float64'] < 1e-12 < 1e-8 < record['round_trip_error']


def test_a_generator_without_a_likelihood(tmp_path, dataset, config, monkeypatch):
  monkeypatch.setattr(evaluate, 'make_scorer', lambda *_, **__: None)
  config = config.copy_and_resolve_references()
  config.objective, config.generator.name = 'adversarial', 'dcgan'
  config.generator.upsampling_channels = (4,)
  workdir = open_workdir(tmp_path / 'run', config, dataset)
  Checkpoints(workdir, TrainState(config, dataset.image_shape).checkpoint()).save('latest')
  [record] = evaluate_run(workdir, ['latest'], 'test', 10)
  assert record.keys() == {'step', 'split', 'saturated', 'non_finite', 'sample_std', 'checkpoint'}
  with pytest.raises(UsageError, match=r'--float64: .*generator dcgan, which has no likelihood'):
    evaluate_run(workdir, ['latest'], 'test', 10, float64=True)


@pytest.fixture
def trained(tmp_path, dataset, config):
  """A run that had no scores during training."""
  config = config.copy_and_resolve_references()
  config.score_samples = 0
  workdir = open_workdir(tmp_path / 'run', config, dataset)
  Checkpoints(workdir, TrainState(config, dataset.image_shape).checkpoint()).save('latest')
  return workdir


def test_a_training_without_scores_may_be_scored_later(trained, monkeypatch):
  monkeypatch.setattr(evaluate, 'make_scorer', lambda *_, **__: scorer)
  [record] = evaluate_run(trained, ['latest'], 'test', 20)
  assert record['score_samples'] == 20
  [record] = evaluate_run(trained, ['latest'], 'test', 0)
  assert 'nll' in record and not {'score_samples', 'sample_std'} & record.keys()


def test_scorer_and_weights_of_an_evaluation_win_over_those_of_the_run(trained, monkeypatch):
  asked = []

  def make(config, dataset, required):
    asked.append((config.scorer, config.inception_weights, required))

  monkeypatch.setattr(evaluate, 'make_scorer', make)
  evaluate_run(trained, ['latest'], 'test', 10)
  evaluate_run(trained, ['latest'], 'test', 10, scorer='inception', inception_weights='file.h5')
  assert asked == [('classifier', '', False), ('inception', 'file.h5', True)]


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    ({'scorer': 'inception_v3'}, r'--scorer=inception_v3: expected one of classifier, inception'),
    ({'inception_weights': 'file.h5'}, r'--inception_weights=file\.h5: .*add --scorer=inception'),
    ({'inception_weights': 'file.h5', 'scorer': 'classifier'}, r'add --scorer=inception'),
    ({'samples': 9}, r'--samples=9: expected 0 or at least 10'),
    ({'samples': -1}, r'--samples=-1: expected 0 or at least 10'),
  ],
)
def test_arguments_out_of_range_are_refused(trained, arguments, said):
  with pytest.raises(UsageError, match=said):
    evaluate_run(trained, ['latest'], 'test', **arguments)
  assert not (trained / 'evaluation.json').exists()

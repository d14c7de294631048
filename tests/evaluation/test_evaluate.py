"""The evaluator, `evaluate_run` and its records, on labelled images of 4 x 4 pixels."""

import dataclasses
import functools
import json
import math
import pathlib
import shutil
import types
from unittest import mock

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from flowgan_tf import data, flows
from flowgan_tf.base.errors import UsageError
from flowgan_tf.data import pipeline
from flowgan_tf.evaluation import evaluate
from flowgan_tf.evaluation.evaluate import Evaluator, evaluate_run
from flowgan_tf.evaluation.results import merge_records, read_evaluation
from flowgan_tf.flows import Generator
from flowgan_tf.flows.prior import standard_prior
from flowgan_tf.metrics.conditional import label_agreement
from flowgan_tf.runs.checkpoints import Checkpoints
from flowgan_tf.runs.folder import exclusive, open_workdir
from flowgan_tf.runs.run import make_generator
from flowgan_tf.runs.seeds import Purpose
from tests.tiny import IMAGE_SHAPE, make_config, make_state, write_images


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  return write_images(tmp_path_factory.mktemp('data') / 'images.npz', count=150, labels=True)


@pytest.fixture(scope='module')
def dataset(images):
  return data.load(images)


@pytest.fixture(scope='module')
def config(images):
  return make_config(objective='mle', dataset=images, seed=3, score_samples=10)


# The evaluator.


@pytest.fixture(scope='module')
def flow(config):
  keras.utils.set_random_seed(0)
  flow = make_generator(config, IMAGE_SHAPE)
  rng = np.random.default_rng(0)
  for variable in flow.trainable_variables:
    variable.assign_add(rng.normal(0, 0.2, variable.shape))
  return flow


@pytest.fixture(scope='module')
def evaluator(flow, dataset, config):
  return Evaluator(flow, dataset, config)


@pytest.mark.parametrize('split', ['train', 'test'])
def test_likelihood_is_of_the_whole_split(evaluator, flow, dataset, split):
  """Splits of 120 and 15 images, measured in batches of 100."""
  images = getattr(dataset, split).images
  x = data.dequantize(images, 256, 3 + Purpose.EVALUATION)
  log_prob = flow.log_prob(x).numpy().astype(np.float64)
  likelihood = evaluator.likelihood(split)
  assert likelihood.n == len(images)
  assert likelihood.nll == pytest.approx(-log_prob.mean(), abs=1e-4)
  assert likelihood.bits_per_dim == pytest.approx(8 - log_prob.mean() / (16 * math.log(2)), abs=1e-5)
  assert likelihood == evaluator.likelihood(split)


def test_round_trips_of_a_table_are_measured_in_the_units_of_its_columns(monkeypatch, tmp_path):
  rows = np.random.default_rng(0).normal(0.0, [1000.0, 0.001], (50, 2))
  np.savez(tmp_path / 'table.npz', x_train=rows)
  table, units = data.load(str(tmp_path / 'table.npz')), []
  monkeypatch.setattr(evaluate, 'make_likelihood_fn', lambda *_, unit, **__: units.append(unit))
  Evaluator(flows.vectors(2, couplings=2, hidden_units=4), table, make_config())
  np.testing.assert_allclose(units[0], np.std(table.train.images.astype(np.float64), axis=0), rtol=1e-6)
  np.testing.assert_allclose(units[0], [1000.0, 0.001], rtol=0.3)


def test_likelihood_of_a_file_is_that_of_its_images(evaluator, flow, dataset, config, tmp_path, monkeypatch):
  """120 images, in chunks of one batch of 100 each."""
  np.save(tmp_path / 'train.npy', dataset.train.images)
  stored = dataclasses.replace(dataset, train=data.Split(data.StoredImages(tmp_path / 'train.npy'), None))
  monkeypatch.setattr(pipeline, '_VALUES_AT_ONCE', 1)
  monkeypatch.setattr(data.StoredImages, '__array__', None)
  assert Evaluator(flow, stored, config).likelihood('train') == evaluator.likelihood('train')


def test_samples(evaluator, flow):
  """501 samples take two calls."""
  samples = evaluator.sample(501, Purpose.SCORE)
  assert samples.shape == (501, 4, 4, 1) and samples.dtype == np.float32
  assert len(np.unique(samples.reshape(501, -1), axis=0)) == 501
  np.testing.assert_array_equal(evaluator.sample(501, Purpose.SCORE), samples)
  for other in (evaluator.sample(20, Purpose.GRID), evaluator.sample(20, Purpose.SCORE, step=1)):
    assert np.all(other != samples[:20])
  config = evaluator._config.copy_and_resolve_references()
  config.seed += 1
  assert np.all(Evaluator(flow, evaluator._dataset, config).sample(20, Purpose.SCORE) != samples[:20])
  # Neither the prior's mean nor its scale is lost on the way.
  noise = flow.encode(samples).numpy()
  assert noise.std() == pytest.approx(math.pi / math.sqrt(3), rel=0.05)


# The evaluator of conditional generators.


class Obedient(Generator):
  """Draws noise around an image that its condition demands: the label as grey, or the condition enlarged."""

  has_density, event_shape = False, tf.TensorShape([4, 4, 1])
  distribution = standard_prior('normal', (16,), tf.float32)
  name = 'obedient'

  def __init__(self, condition):
    classes = condition.classes
    self._set_condition(classes and tf.fill([classes], 1 / classes), condition.shape)

  def given(self, condition):
    return types.SimpleNamespace(
      sample_noise=self.sample_noise, decode=functools.partial(self.decode, condition=condition)
    )

  def decode(self, noise, condition):
    noise = 0.001 * tf.reshape(noise, (-1, 4, 4, 1))
    if condition.shape.rank == 1:
      return noise + tf.reshape(tf.cast(condition, tf.float32), (-1, 1, 1, 1)) / 10
    return noise + tf.repeat(tf.repeat(condition, 2, axis=1), 2, axis=2)


def sorted_dataset(classes=8):
  """Images of one class after the other, as from a folder with a sub-folder for each class."""
  rng = np.random.default_rng(0)
  splits = (
    data.Split(rng.integers(0, 256, (8 * n, 4, 4, 1)).astype(np.uint8), np.repeat(np.arange(classes), n))
    for n in (30, 20, 25)
  )
  return data.Dataset('sorted', 256, *splits, classes)


def grey_label(images, splits=1, labels=None):
  """Stands for a `Scorer` that sees the label in the grey of an image."""
  found = np.rint(10 * images.mean(axis=(1, 2, 3))).astype(int)
  in_splits = [len(set(part)) for part in np.array_split(found, splits)]
  return {'splits': in_splits} | ({} if labels is None else label_agreement(found, labels, 10))


def obedient(kind, config):
  dataset = dataclasses.replace(sorted_dataset(), condition_kind=kind)
  return Evaluator(Obedient(dataset.condition), dataset, config), dataset


def test_data_that_give_something_else_than_the_generator_was_made_for_are_rejected(flow, config):
  labelled = dataclasses.replace(sorted_dataset(), condition_kind='label')
  for generator, dataset, got in (
    (flow, labelled, 'label'),
    (Obedient(labelled.condition), sorted_dataset(), ''),
    (Obedient(labelled.condition), dataclasses.replace(labelled, condition_kind='mask:half'), 'mask:half'),
  ):
    with pytest.raises(UsageError, match=rf"^`dataset.condition_kind` must be the condition of .*\. Got: '{got}'\.$"):
      Evaluator(generator, dataset, config)


def test_samples_have_the_labels_that_were_asked_for_and_splits_see_all_classes(config):
  evaluator, dataset = obedient('label', config)
  samples = evaluator.sample(200, Purpose.SCORE, split='test')
  found = evaluator.score(samples, grey_label, 5, 'test')
  assert found['label_share'] == 1.0 and min(found['splits']) >= 7
  assert sorted(evaluator.shuffled('test', 200).labels) == sorted(dataset.test.labels)
  # Shuffled labels are met by chance; so are the labels of other images.
  for images in (np.random.default_rng(1).permutation(samples), evaluator.sample(200, Purpose.SCORE)):
    by_chance = evaluator.score(images, grey_label, 5, 'test')['label_share']
    assert scipy.stats.binomtest(round(200 * by_chance), 200, 1 / 8).pvalue > 1e-3
  assert evaluator.spread_of_samples('test') == {}


def test_a_quick_likelihood_is_of_images_of_all_classes(config, monkeypatch):
  """The density of an image takes a pass for each of 8 classes: 40 of 160 images, at least, are measured."""
  monkeypatch.setattr(evaluate, '_FEWEST_QUICK', 40)
  dataset = dataclasses.replace(sorted_dataset(), condition_kind='label')
  flow = make_generator(config, IMAGE_SHAPE, arguments=dataset.condition.arguments)
  measured = []
  monkeypatch.setattr(evaluate, 'make_likelihood_fn', lambda *_, **__: lambda *args: measured.append(args))
  evaluator = Evaluator(flow, dataset, config)
  evaluator.likelihood('validation', quick=True)
  evaluator.likelihood('validation')
  (chunks, labels), (_, all_labels) = measured
  images = np.concatenate(list(chunks))
  assert len(images) == len(labels) == 40 and len(set(labels)) >= 7 and len(all_labels) == 160
  for image, label in zip(np.floor(256 * images), labels, strict=True):
    assert (image == dataset.validation.images[all_labels == label]).all(axis=(1, 2, 3)).any()


@pytest.mark.parametrize(
  ('generator', 'devices', 'compiled'), [('nice', [], False), ('nice', ['GPU'], True), ('jet', [], True)]
)
def test_on_a_cpu_xla_compiles_no_evaluation_of_nice(generator, devices, compiled, monkeypatch):
  config = make_config({'generator': generator, 'jet.couplings': 2, 'jet.patch_size': 2}, jit=True)
  monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: devices)
  found = []
  monkeypatch.setattr(evaluate, 'make_likelihood_fn', lambda *_, jit, **__: found.append(jit))
  Evaluator(make_generator(config, IMAGE_SHAPE), sorted_dataset(), config, distribute=lambda f: found.append(vars(f)))
  decode, likelihood = found
  assert decode['_jit_compile'] == likelihood == compiled


def test_samples_for_images_restore_them_and_their_conditions(config):
  """Noise of 0.001 is 60 dB, and 6 dB less in means over 4 pixels.

  An image has 4 such means, which makes the mean of decibels 1.2 higher; 8 samples have 0.965 of the deviation.
  """
  evaluator, dataset = obedient('low_resolution:2', config)
  samples = evaluator.sample(250, Purpose.SCORE, split='test')
  found = evaluator.score(samples, grey_label, 5, 'test')
  assert 'label_share' not in found and found['consistency'] == pytest.approx(67.2, abs=1)
  smaller = dataset.test.images.reshape(200, 2, 2, 2, 2).mean(axis=(2, 4), keepdims=True)
  error = np.square((dataset.test.images.reshape(200, 2, 2, 2, 2) - smaller) / 256).mean(axis=(1, 2, 3, 4))
  assert found['psnr'] == pytest.approx(-10 * np.log10(error).mean(), abs=0.2) and 0.2 < found['ssim'] < 0.9
  assert evaluator.score(samples[::-1], grey_label, 5, 'test')['consistency'] < 20
  spread = evaluator.spread_of_samples('test')
  assert spread == {'spread': pytest.approx(0.000965, rel=0.05), 'spread_conditions': 100, 'spread_samples': 8}
  samples[0, 0, 0] = np.nan
  assert not {'psnr', 'consistency', 'splits'} & evaluator.score(samples, grey_label, 5, 'test').keys()


def test_samples_for_vectors_have_their_spread(config):
  dataset = sorted_dataset()
  splits = (dataclasses.replace(s, conditions=np.zeros((len(s), 2, 2, 1))) for s in (dataset.train, dataset.test))
  dataset = dataclasses.replace(dataset, condition_kind='vector', **dict(zip(('train', 'test'), splits, strict=True)))
  evaluator = Evaluator(Obedient(dataset.condition), dataset, config)
  assert 0 < evaluator.spread_of_samples('test')['spread'] < 0.002
  scores = evaluator.score(evaluator.sample(20, Purpose.SCORE, split='test'), grey_label, 2, 'test')
  assert scores.keys() == {'saturated', 'non_finite', 'sample_std', 'splits'}


# A run.


def scorer(images, splits=1):
  """Stands for a `Scorer`."""
  return {'mode_score': float(images.mean()), 'score_samples': len(images), 'score_splits': splits}


def make_run(folder, config, dataset):
  """Makes a run with the checkpoints `latest` of step 4 and `best_nll` of step 2, and returns their generators."""
  dataset = dataclasses.replace(dataset, condition_kind=config.condition)
  workdir = open_workdir(folder, config, dataset)
  state = make_state(config, dataset.image_shape, dataset.condition)
  checkpoints = Checkpoints(workdir, state.checkpoint())
  generators = {}
  for step, name in ((4, 'latest'), (2, 'best_nll')):
    state.step.assign(step)
    for variable in state.ema.trainable_variables:
      variable.assign_add(np.random.default_rng(step).normal(0, 0.2, variable.shape))
    generators[name] = state.ema.with_dtype('float32')
    checkpoints.save(name)
  return workdir, generators


@pytest.fixture(scope='module')
def made(tmp_path_factory, config, dataset):
  return make_run(tmp_path_factory.mktemp('made') / 'run', config, dataset)


@pytest.fixture
def workdir(made, tmp_path, monkeypatch):
  monkeypatch.setattr(evaluate, 'make_scorer', lambda *_, **__: scorer)
  return pathlib.Path(shutil.copytree(made[0], tmp_path / 'run'))


def test_evaluate_run(workdir, made, dataset):
  assert read_evaluation(workdir) == []
  records = evaluate_run(workdir, ['latest', 'best_nll'], 'test', 30, float64=True)
  assert json.loads((workdir / 'evaluation.json').read_text())['records'] == records == read_evaluation(workdir)
  x = data.dequantize(dataset.test.images, 256, 3 + Purpose.EVALUATION)
  for record, name, step in zip(records, ('latest', 'best_nll'), (4, 2), strict=True):
    assert record['nll'] == pytest.approx(-made[1][name].log_prob(x).numpy().mean(), rel=1e-5)
    for number in ('nll', 'bits_per_dim'):
      assert record[number] != record[f'{number}_float64'] == pytest.approx(record[number], rel=1e-5)
    assert record['round_trip_error_float64'] < 1e-12 < 1e-8 < record['round_trip_error']
    expected = {'checkpoint': name, 'step': step, 'split': 'test', 'n': 15, 'score_samples': 30, 'score_splits': 10}
    assert record | expected == record
  assert records[0]['nll'] != records[1]['nll'] and records[0]['mode_score'] != records[1]['mode_score']


def test_as_many_real_test_images_are_scored_beside_the_samples(workdir, dataset):
  """There are 15. The score of fewer images than samples would be no bound."""
  [record] = evaluate_run(workdir, ['latest'], 'test', 15)
  # Dequantisation adds half a grey level on average.
  mean = pytest.approx((dataset.test.images.mean() + 0.5) / 256, abs=1e-3)
  assert record | {'real_mode_score': mean, 'real_score_samples': 15} == record
  [record] = evaluate_run(workdir, ['latest'], 'test', 16)
  assert record['score_samples'] == 16 and not [name for name in record if name.startswith('real_')]


def test_real_images_are_scored_in_as_many_splits_as_samples(workdir, monkeypatch):
  """A score of fewer and larger splits is higher."""
  splits = []
  monkeypatch.setattr(
    evaluate, 'make_scorer', lambda *_, **__: lambda images, n=1: splits.append((len(images), n)) or scorer(images, n)
  )
  evaluate_run(workdir, ['latest'], 'test', 15)
  assert splits == [(15, 10)] * 2


def test_inception_scores_50_000_samples_by_default_as_in_papers(workdir, monkeypatch):
  drawn = []
  monkeypatch.setattr(Evaluator, 'sample', lambda _, n, *__, **___: drawn.append(n) or np.zeros((10, *IMAGE_SHAPE)))
  evaluate_run(workdir, ['latest'], 'test', scorer='inception')
  assert drawn == [50_000]


def test_two_evaluations_at_once_keep_the_records_of_both(workdir, monkeypatch):
  load = evaluate.load_data

  def slow(run):
    monkeypatch.setattr(evaluate, 'load_data', load)
    evaluate_run(workdir, ['latest'], 'validation', 0)  # Begins and ends while the other one is at work.
    return load(run)

  monkeypatch.setattr(evaluate, 'load_data', slow)
  [record] = evaluate_run(workdir, ['latest'], 'test', 0)
  assert 'nll' in record and not {'score_samples', 'sample_std'} & record.keys()
  assert {record['split'] for record in read_evaluation(workdir)} == {'validation', 'test'}


def test_no_other_evaluation_comes_between_reading_and_writing(workdir, monkeypatch):
  alone = []

  def watched(function):
    def call(*args):
      try:
        with exclusive(workdir / 'checkpoints'):
          alone.append(False)
      except UsageError:
        alone.append(True)
      return function(*args)

    return call

  monkeypatch.setattr(evaluate, 'read_evaluation', watched(read_evaluation))
  monkeypatch.setattr(evaluate, 'write_evaluation', watched(evaluate.write_evaluation))
  evaluate_run(workdir, ['latest'], 'test', 0)
  assert alone == [False, True, True]  # The file is read for the first time before the work.


def test_a_generator_without_a_likelihood(tmp_path, images, dataset, monkeypatch):
  monkeypatch.setattr(evaluate, 'make_scorer', lambda *_, **__: None)
  config = make_config({'dcgan.channels': (4,)}, generator='dcgan', objective='adversarial', dataset=images)
  workdir, _ = make_run(tmp_path / 'run', config, dataset)
  [record] = evaluate_run(workdir, ['latest'], 'test', 10)
  assert record.keys() == {'step', 'split', 'saturated', 'non_finite', 'sample_std', 'checkpoint'}
  with pytest.raises(UsageError, match=r'^`float64` must be False, as dcgan of .* has no likelihood'):
    evaluate_run(workdir, ['latest'], 'test', 10, float64=True)


@pytest.mark.parametrize(('kind', 'generator'), [('label', 'nice'), ('low_resolution:2', 'dcgan')])
def test_a_conditional_run(tmp_path, images, dataset, monkeypatch, kind, generator):
  """The scores of 15 real images stand beside the scores of samples. A generator without a likelihood has no others."""
  network = mock.Mock(return_value={'mode_score': 1.0, 'scorer': 'classifier'})
  monkeypatch.setattr(evaluate, 'make_scorer', lambda *_, **__: network)
  objective = 'adversarial' if generator == 'dcgan' else 'mle'
  config = make_config({'dcgan.channels': (4,)}, generator=generator, objective=objective, dataset=images)
  config.condition = kind
  workdir, _ = make_run(tmp_path / 'run', config, dataset)
  [record] = evaluate_run(workdir, ['latest'], 'test', 15)
  assert (record['condition'], record['real_mode_score']) == (kind, 1.0)
  of_labels = {'conditional_nll', 'class_accuracy', 'class_accuracy_error', 'calibration_error'}
  of_images = {'psnr', 'ssim', 'consistency', 'real_consistency', 'spread'}
  assert ('nll' in record) == (generator == 'nice')
  assert (of_labels if kind == 'label' else of_images) <= record.keys()
  assert not (of_images if kind == 'label' else of_labels) & record.keys()
  if kind == 'label':
    for call in network.call_args_list:
      assert sorted(call.args[2]) == sorted(dataset.test.labels)
  else:
    # Noise of dequantisation, of variance 1 / (12 256^2), in means over 4 pixels.
    assert record['real_consistency'] == pytest.approx(10 * math.log10(4 * 12 * 256**2), abs=1)


def test_scorer_and_weights_of_an_evaluation_win_over_those_of_the_run(workdir, monkeypatch):
  asked = []

  def make(config, dataset, required, thorough):
    asked.append((config.scorer, config.inception_weights, required))

  monkeypatch.setattr(evaluate, 'make_scorer', make)
  evaluate_run(workdir, ['latest'], 'test', 10)
  evaluate_run(workdir, ['latest'], 'test', 10, scorer='inception', inception_weights='file.h5')
  assert asked == [('classifier', '', False), ('inception', 'file.h5', True)]


def test_arguments_out_of_range_are_rejected(workdir):
  for arguments, said in (
    ({'scorer': 'inception_v3'}, r"^`scorer` must be one of classifier, resnet, inception\. Got: 'inception_v3'\.$"),
    ({'inception_weights': 'file.h5'}, r"^`inception_weights` must go with `scorer` 'inception'\. Got: file\.h5\.$"),
    ({'samples': 9}, r'^`samples` must be 0 or at least 10\. Got: 9\.$'),
    ({'split': 'tset'}, r"^`split` must be one of train, validation, test\. Got: 'tset'\.$"),
    ({'checkpoints': []}, r'^`checkpoints` must be at least one name\. Got: \[\]\.$'),
  ):
    with pytest.raises(UsageError, match=said):
      evaluate_run(workdir, **{'checkpoints': ['latest'], 'split': 'test'} | arguments)


# Records.


def record(checkpoint, split='test', step=4, **more):
  return {'checkpoint': checkpoint, 'split': split, 'step': step, **more}


def test_what_is_measured_again_replaces_what_was():
  """Other checkpoints and splits stay, unless they are of another step; scores stay until there are new ones."""
  new = record('latest', nll=9.0)
  others = [record('latest', 'validation', nll=2.0), record('best_nll', nll=3.0)]
  assert merge_records([record('latest', nll=1.0), *others], [new]) == [new, *others]
  assert merge_records([record('latest', 'validation', step=2, nll=2.0)], [new]) == [new]
  old = [record('latest', nll=1.0, nll_float64=1.5, scorer='inception_v3', scorer_hash='a', fid=3.0)]
  assert merge_records(old, [new]) == [old[0] | {'nll': 9.0}]
  new |= {'scorer': 'classifier', 'scorer_hash': 'b', 'mode_score': 1.0}
  assert merge_records(old, [new]) == [new | {'nll_float64': 1.5}]


def test_a_damaged_file_is_rejected_before_the_work(workdir, monkeypatch):
  path = workdir / 'evaluation.json'
  evaluate_run(workdir, ['latest'], 'test', 0)
  path.write_text(path.read_text().replace('"step": 4', '"step": 5'))
  monkeypatch.setattr(evaluate, 'Evaluator', lambda *_, **__: pytest.fail('at work'))
  with pytest.raises(UsageError) as caught:
    evaluate_run(workdir, ['latest'], 'test', 0)
  assert str(caught.value) == f'{path}: damaged (not what was written); remove it, and run bin/evaluate {workdir} again'
  monkeypatch.setattr(evaluate, 'make_writable', mock.Mock(side_effect=UsageError('cannot be written')))
  with pytest.raises(UsageError, match='cannot be written'):
    evaluate_run(workdir, ['latest'], 'test', 0)


@pytest.mark.parametrize(
  ('error', 'precision', 'steep', 'warns'),
  [
    (0.5, 'float32', False, True),
    (math.nan, 'mixed_bfloat16', False, True),
    (0.1, 'mixed_bfloat16', False, False),
    (0.5, 'float32', True, False),
  ],
)
def test_a_wrong_inverse_is_told(caplog, error, precision, steep, warns):
  generator = types.SimpleNamespace(has_steep_inverse=steep)
  evaluate.warn_of_wrong_inverse(generator, {'round_trip_error': error}, 7, precision)
  assert caplog.text.count('Step 7: the round trip of an image is wrong by') == warns

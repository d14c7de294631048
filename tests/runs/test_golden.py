"""What earlier versions wrote into `tests/golden` loads, resumes and is reported, with the recorded numbers."""

import pathlib
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf import data
from flowgan_tf.evaluation.evaluate import Evaluator
from flowgan_tf.evaluation.results import read_evaluation
from flowgan_tf.keras import FlowModel
from flowgan_tf.objectives.objective import make_objective
from flowgan_tf.runs.checkpoints import Checkpoints
from flowgan_tf.runs.config import run_identity
from flowgan_tf.runs.folder import open_workdir, read_description
from flowgan_tf.runs.log import read_metrics
from flowgan_tf.runs.run import load_run
from flowgan_tf.study.summary import read_summary
from flowgan_tf.training.state import TrainState
from tests.programs.conftest import call

GOLDEN = pathlib.Path(__file__).parent.parent / 'golden'
RELEASES = sorted(path.parent for path in GOLDEN.glob('*/numbers.npz'))


@pytest.fixture
def golden(tmp_path):
  return pathlib.Path(shutil.copytree(GOLDEN / 'nice', tmp_path / 'nice'))


def test_the_likelihood_is_the_recorded_one(golden):
  for checkpoint in ('best_nll', 'best_score'):
    run = load_run(golden, checkpoint)
    [recorded] = [record for record in read_evaluation(golden) if record['checkpoint'] == checkpoint]
    run.config.jit = False  # XLA would take longer than the rest.
    found = Evaluator(run.generator, data.load('digits'), run.config).likelihood('test')
    assert run.step == recorded['step']
    np.testing.assert_allclose(found.nll, recorded['nll'], atol=1e-4)


def test_the_whole_state_is_restored(golden, caplog):
  config, facts, *_ = read_description(golden)
  assert config.condition == '' and 'condition' not in facts  # It is older than conditions.
  dataset = data.load('digits')
  assert open_workdir(golden, config, dataset) == golden
  state = TrainState(config, facts['image_shape'], make_objective(config))
  assert Checkpoints(golden, state.checkpoint(), run_identity(config, dataset.fingerprint)).restore()
  # The checkpoint was saved before the evaluation of its step.
  [before] = [r['nll'] for r in read_metrics(golden) if (r['kind'], r['step']) == ('validation', 3)]
  assert (int(state.step), float(state.best_nll)) == (6, pytest.approx(before))
  for restored, best in zip(state.ema.variables, load_run(golden).generator.variables, strict=True):
    np.testing.assert_array_equal(restored.numpy(), best.numpy())
  assert caplog.messages == []


def test_records_are_read(golden, caplog):
  records = [(r['kind'], r['step']) for r in read_metrics(golden)]
  assert records == [('train', 2), ('validation', 3), ('train', 4), ('train', 6), ('validation', 6)]
  studies = read_summary(golden).studies
  assert studies.keys() == {'jacobian', 'kde', 'outliers'}
  assert {study.record['step'] for study in studies.values()} == {3}
  assert studies['jacobian'].arrays['singular_values'].shape == (2, 64)
  assert caplog.messages == []


def test_a_saved_model_gives_the_recorded_numbers(golden, tmp_path):
  shutil.unpack_archive(golden / 'saved_model.zip', tmp_path / 'export')
  model = tf.saved_model.load(tmp_path / 'export')
  with np.load(golden / 'saved_model.npz') as recorded:
    images, noise = recorded['images'], recorded['noise']
    found = {'log_prob': model.log_prob(images), 'encoded': model.encode(images), 'decoded': model.decode(noise)}
    found['sampled'] = model.sample(n=2, seed=3, temperature=0.7)
    for name, value in found.items():
      np.testing.assert_allclose(value, recorded[name], rtol=1e-4, atol=1e-4, err_msg=name)
  np.testing.assert_allclose(load_run(golden).generator.log_prob(images), found['log_prob'], atol=1e-4)


@pytest.fixture(scope='module', params=RELEASES, ids=lambda folder: folder.name)
def release(request, tmp_path_factory):
  """The files of a release, unpacked, and the numbers of its flow; see `tests/golden/make.py`."""
  folder = shutil.copytree(request.param, tmp_path_factory.mktemp('golden') / request.param.name)
  shutil.unpack_archive(folder / 'packed.zip', folder / 'packed')
  shutil.unpack_archive(folder / 'saved_model.tar.xz', folder / 'saved_model', filter='data')
  with np.load(folder / 'numbers.npz') as numbers:
    return folder, dict(numbers)


def assert_gives(numbers, model, sample, **given):
  """`model` gives the numbers of images; `sample` draws images, whose values another TFP may change."""
  images = numbers['images']
  found = {'log_prob': model.log_prob(images), 'class_log_probs': model.class_log_probs(images)}
  found |= {'given_log_prob': model.log_prob(images, **given), 'noise': model.encode(images, **given)}
  for name, value in found.items():
    np.testing.assert_allclose(value, numbers[name], rtol=1e-5, atol=1e-3, err_msg=name)
  samples = sample(seed=3, **given)
  assert samples.shape == images.shape and 0 <= np.min(samples) <= np.max(samples) <= 1


@pytest.mark.parametrize('kind', ['run', 'keras'])
def test_the_flow_of_a_release_gives_its_numbers(release, kind):
  folder, numbers = release
  if kind == 'run':
    flow = load_run(folder / 'run').generator
  else:
    model = keras.saving.load_model(folder / 'flow.keras')
    assert isinstance(model, FlowModel)
    flow = model.flow
  assert_gives(numbers, flow, lambda **given: flow.sample(4, **given), condition=numbers['labels'])
  assert flow.classes == 10


@pytest.mark.slow
def test_the_saved_model_of_a_release_gives_its_numbers(release):
  folder, numbers = release
  model = tf.saved_model.load(folder / 'saved_model')
  assert_gives(numbers, model, lambda **given: model.sample(n=4, **given), label=numbers['labels'])
  images, label = tf.constant(numbers['images']), tf.constant(numbers['labels'], tf.int32)
  (served,) = model.signatures['log_prob'](images=images, label=label).values()
  np.testing.assert_allclose(served, numbers['given_log_prob'], rtol=1e-5, atol=1e-3)
  assert {*model.signatures} == {'sample', 'decode', 'log_prob', 'encode', 'class_log_probs'}


def test_the_packed_flow_of_a_release_gives_its_numbers(release):
  folder, numbers = release
  flow = load_run(folder / 'packed').generator
  np.testing.assert_allclose(flow.log_prob(numbers['images']), numbers['packed_log_prob'], rtol=1e-5, atol=1e-3)


def test_the_records_of_a_release_are_read(release):
  run = release[0] / 'run'
  config = read_description(run).config
  assert (config.dataset, config.condition, config.objective, config.steps) == ('digits', 'label', 'mle', 6)
  assert (config.nice.components, config.nice.hidden_units, config.batch_size) == (10, 8, 50)
  assert read_summary(run).studies.keys() == {'jacobian', 'kde'} and read_metrics(run)[-1]['step'] == 6


@pytest.mark.slow
def test_the_program_measures_the_likelihood_of_a_release(release):
  run = release[0] / 'run'
  before = {record['checkpoint']: record['nll'] for record in read_evaluation(run)}
  assert call('evaluate', run, '--samples=0').status == 0
  after = {record['checkpoint']: record['nll'] for record in read_evaluation(run)}
  assert after == pytest.approx(before, abs=1e-3) and after.keys() == {'latest', 'best_nll'}

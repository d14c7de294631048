"""The run in `tests/golden` loads, resumes and is reported, with the numbers that it recorded."""

import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf import data
from flowgan_tf.evaluation.evaluate import Evaluator, read_evaluation
from flowgan_tf.objectives.objective import make_objective
from flowgan_tf.runs.checkpoints import Checkpoints
from flowgan_tf.runs.config import run_identity
from flowgan_tf.runs.folder import open_workdir, read_description
from flowgan_tf.runs.log import read_metrics
from flowgan_tf.runs.run import load_run
from flowgan_tf.study.summary import read_summary
from flowgan_tf.training.state import TrainState


@pytest.fixture
def golden(tmp_path):
  return pathlib.Path(shutil.copytree(pathlib.Path(__file__).parent.parent / 'golden' / 'nice', tmp_path / 'nice'))


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

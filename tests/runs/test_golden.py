"""Runs of older versions load, resume and report, with the numbers that they recorded."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from flowgan_tf import data
from flowgan_tf.evaluation.evaluator import Evaluator
from flowgan_tf.runs.run import describe_run, load_run
from flowgan_tf.study.summary import read_studies
from flowgan_tf.training.loop import train

GOLDEN = pathlib.Path(__file__).parent.parent / 'golden'


@pytest.fixture
def golden(tmp_path):
  """Copies, since loading makes folders writable and training goes on in them."""
  return pathlib.Path(shutil.copytree(GOLDEN, tmp_path / 'golden'))


@pytest.mark.parametrize(('name', 'checkpoint'), [('nice', 'best_nll'), ('nice', 'best_score'), ('real_nvp', 'latest')])
def test_the_likelihood_is_the_recorded_one(golden, name, checkpoint):
  run = load_run(golden / name, checkpoint)
  records = json.loads((golden / name / 'evaluation.json').read_text())
  [recorded] = [record for record in records if record['checkpoint'] == checkpoint]
  found = Evaluator(run.generator, data.load('digits'), run.config).likelihood('test')
  assert run.step == recorded['step']
  np.testing.assert_allclose(found.nll, recorded['nll'], atol=1e-4)


def test_a_generator_without_a_density_is_restored(golden):
  run = load_run(golden / 'dcgan')
  assert run.step == 6
  # N(0, 0.02^2) is what weights start from: a generator that was not restored has no running means.
  means = [v for v in run.generator.variables if 'moving_mean' in v.name]
  assert means and all(np.abs(mean.numpy()).max() > 0 for mean in means)


def test_training_goes_on(golden):
  name = 'dcgan'  # which was trained without scores, that is without a classifier of its own version
  config, _ = describe_run(golden / name)
  config.steps = 8
  assert train(config, golden / name)
  steps = [json.loads(line)['step'] for line in (golden / name / 'metrics.jsonl').read_text().splitlines()]
  assert steps[-1] == 8


@pytest.mark.parametrize(
  ('name', 'block'),
  [
    ('nice', {'couplings': 2, 'hidden_units': 8, 'hidden_layers': 1}),
    ('real_nvp', {'scales': 2, 'channels': 2, 'blocks': 1, 'batch_norm_between': False, 'log_scale_bound': 2.0}),
    ('dcgan', {'channels': (2, 2)}),
  ],
)
def test_settings_of_version_1_are_those_of_the_builders(golden, name, block):
  """The prior of all three, and the norm of the flows, were not what the builders have as defaults."""
  config, _ = describe_run(golden / name)
  common = {'prior': 'logistic'} if name == 'dcgan' else {'prior': 'logistic', 'normalization': 'layer', 'alpha': 1e-7}
  assert config.generator == name and config[name].to_dict() == common | block
  assert config.critic == 'dcgan_critic'
  assert config.dcgan_critic.to_dict() == {'channels': (2,), 'dense_units': 4, 'layer_norm': False}


def test_analyses_are_read(golden):
  studies = read_studies(golden / 'nice')
  study = studies['jacobian']
  assert study.record['step'] == 3
  assert study.arrays['singular_values'].shape == (2, 64)
  assert studies['kde'].record['n_samples'] == 50

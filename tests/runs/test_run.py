"""What the settings of a run describe, and what is restored from its folder."""

import dataclasses
import functools

import numpy as np
import pytest

from flowgan_tf.base.errors import UsageError
from flowgan_tf.objectives import DIVERGENCES
from flowgan_tf.objectives.objective import make_objective
from flowgan_tf.runs.checkpoints import Checkpoints
from flowgan_tf.runs.config import run_identity
from flowgan_tf.runs.folder import open_workdir
from flowgan_tf.runs.run import load_data, load_run, make_critic, make_generator
from flowgan_tf.training.state import TrainState
from tests.tiny import edit_record, make_config, make_state

of_classes = functools.partial(make_generator, arguments={'classes': 2})


def test_a_run_and_its_data_are_loaded(run, config, dataset, images):
  workdir, state = run
  loaded = load_run(str(workdir), 'latest')
  assert (loaded.step, loaded.checkpoint, loaded.workdir) == (6, 'latest', workdir)
  assert (loaded.image_shape, loaded.config.to_json()) == ((4, 4, 1), config.to_json())
  for a, b in zip(loaded.generator.variables, state.ema.variables, strict=True):
    np.testing.assert_array_equal(a.numpy(), b.numpy())
  assert load_data(loaded).fingerprint == loaded.fingerprint == dataset.fingerprint
  with pytest.raises(UsageError, match=f'{workdir}: was trained on other data than {images} holds now'):
    load_data(dataclasses.replace(loaded, fingerprint='0' * 64))
  loaded.config.dataset = str(workdir / 'moved')
  with pytest.raises(UsageError, match=f'{workdir}: was trained on {workdir}/moved, which is no longer there; put it'):
    load_data(loaded)


@pytest.mark.parametrize(
  ('kind', 'arguments'), [('label', {'classes': 2}), ('low_resolution:2', {'condition_shape': (2, 2, 1)})]
)
def test_a_conditional_run_is_loaded_with_its_condition(config, dataset, tmp_path, kind, arguments):
  config.condition = kind
  train = dataclasses.replace(dataset.train, labels=np.arange(len(dataset.train)) % 2)
  dataset = dataclasses.replace(dataset, train=train, num_classes=2, condition_kind=kind)
  workdir = open_workdir(tmp_path / 'run', config, dataset)
  state = TrainState(config, dataset.image_shape, make_objective(config), condition=dataset.condition)
  state.ema.trainable_variables[0].assign_add(state.ema.trainable_variables[0] + 1)
  Checkpoints(workdir, state.checkpoint(), run_identity(config, dataset.fingerprint)).save('latest')
  generator = load_run(workdir).generator
  assert {name: getattr(generator, name) for name in arguments} == arguments
  for a, b in zip(generator.variables, state.ema.variables, strict=True):
    np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize(
  ('objective', 'weight', 'checkpoint'), [('hybrid', 0.0, 'best_score'), ('mle', 0.1, 'best_nll')]
)
def test_the_best_nll_of_a_flow_without_a_likelihood_term_is_not_taken(
  config, dataset, tmp_path, objective, weight, checkpoint
):
  config.update({'objective': objective, 'lambda': weight})
  workdir = open_workdir(tmp_path / 'run', config, dataset)
  saved = Checkpoints(
    workdir, make_state(config, dataset.image_shape).checkpoint(), run_identity(config, dataset.fingerprint)
  )
  for name in ('latest', 'best_nll', 'best_score'):
    saved.save(name)
  assert load_run(workdir).checkpoint == checkpoint


def test_the_checkpoint_of_another_run_is_rejected(run):
  edit_record(run[0] / 'config.json', lambda record: record['config'].update(seed=7))
  with pytest.raises(UsageError, match=r'latest/ckpt-6: is a checkpoint of another run \(seed 0 and not 7\); put this'):
    load_run(run[0])


def test_what_is_no_run(tmp_path):
  for folder in ('empty', 'linked'):
    (tmp_path / folder).mkdir()
  (tmp_path / 'linked' / 'config.json').symlink_to('nowhere')
  said = {'missing': ': no such folder', 'empty': r': holds no config\.json', 'linked': r'/config\.json: damaged'}
  for folder, text in said.items():
    with pytest.raises(UsageError, match=f'^{tmp_path}/{folder}{text}'):
      load_run(tmp_path / folder)


@pytest.mark.parametrize(
  ('make', 'settings', 'image_shape', 'named'),
  [
    (make_generator, {'nice.hidden_units': 65_536, 'nice.hidden_layers': 256}, (4, 4, 1), "`generator` 'nice' does "),
    (make_generator, {'nice.couplings': 1}, (4, 4, 1), '`nice.couplings` must be an integer from 2 to 256. Got: 1.'),
    (
      make_generator,
      {'generator': 'jet', 'jet.patch_size': 10**400},
      (4, 4, 1),
      '`jet.patch_size` must be an integer from 1 to 4096',
    ),
    (make_generator, {'generator': 'real_nvp'}, (7, 7, 1), "`generator` 'real_nvp' does not fit: `image_shape` must "),
    (of_classes, {'nice.components': 3}, (4, 4, 1), '`nice.components` must be 1 or a multiple of the 2 classes'),
    (
      of_classes,
      {'generator': 'real_nvp', 'real_nvp.architecture': 'paper', 'real_nvp.normalization': 'batch'},
      (4, 4, 1),
      "`real_nvp.architecture` must be 'preactivation' if the networks see a condition",
    ),
    (make_critic, {'dcgan_critic.channels': (65_536, 65_536)}, (4, 4, 1), "`critic` 'dcgan_critic' does not fit"),
    (make_critic, {'dcgan_critic.channels': (10**9,)}, (4, 4, 1), '`dcgan_critic.channels` must be 1 to 16 integers'),
  ],
)
def test_what_cannot_be_built_names_its_setting_before_it_is_built(make, settings, image_shape, named):
  with pytest.raises(UsageError) as caught:
    make(make_config(settings), image_shape)
  assert named in str(caught.value) and '\n' not in str(caught.value)
  assert f'`{caught.value.argument}`' in str(caught.value)


def test_the_objective_is_that_of_the_settings():
  found = {'objective': 'hybrid', 'lambda': 0.5, 'final_lambda': 0.25, 'divergence': 'kl', 'gradient_penalty': 3.0}
  made = make_objective(make_config(found | {'penalty': 'zero_centered', 'penalty_interval': 4}))
  [adversary, likelihood] = made.terms
  assert (likelihood.weight, likelihood.final_weight) == (0.5, 0.25)
  assert adversary is made.adversary and adversary.divergence is DIVERGENCES['kl']
  found = adversary.gradient_penalty, adversary.penalty, adversary.settings.penalty_interval
  assert found == (3.0, 'zero_centered', 4)

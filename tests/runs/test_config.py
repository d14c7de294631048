"""Settings: their defaults, their checks, and which of them count."""

import inspect
import math
import re
import types

import numpy as np
import pytest

from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.settings import RENAMED
from flowgan_tf.flows import GENERATORS
from flowgan_tf.objectives import CRITICS, make
from flowgan_tf.runs.config import (
  current_settings,
  declared,
  default_config,
  idle,
  run_identity,
  settings,
  shared_settings,
  training_changes,
  used,
  validate,
)
from tests.tiny import make_config


@pytest.mark.parametrize(
  ('key', 'value', 'expected'),
  [
    ('generator', 'glow', 'one of nice, real_nvp, jet, vectors, dcgan, or MODULE:NAME'),
    ('precision', 'float8', 'one of float32, mixed_bfloat16, mixed_float16.'),
    ('strategy', 'mirrored:0', "'mirrored', "),
    ('condition', 'lable', "'label', 'vector', 'low_resolution:N' with an N of at least 2, 'mask:half' or empty."),
    ('condition', 'low_resolution:0', "'label', "),
    ('nice.condition_networks', False, 'True unless'),
    ('batch_size', 0, 'an integer from 1 to 65536.'),
    ('penalty_interval', 0, 'an integer from 1 to '),
    ('ema_every', 101, 'an integer from 1 to 100.'),
    ('seed', 2**31, 'an integer from 0 to 2147483647.'),
    ('image_size', 4097, 'an integer from 0 to 4096.'),
    ('critic_optimizer.warmup_steps', 10**10, 'an integer from 0 to 1000000000.'),
    ('critic_warmup', 10_000, 'below `steps` 10000.'),
    ('score_samples', 9, '0 or an integer from 10 to 1000000.'),
    ('pseudo_labels', True, 'False for a generator with a single component, here nice.'),
    ('init_checkpoint', 'latest', 'left out without `init_from`.'),
    ('init_checkpoint', 'best', 'one of latest, best_nll, best_score.'),
    ('init_critic', True, "False unless `init_checkpoint` is 'latest', the only checkpoint with a critic."),
    ('ema_decay', 1.0, 'a number of at least 0 and below 1.'),
    ('optimizer.learning_rate', 0.0, 'a positive number.'),
    ('critic_optimizer.decay_rate', 1.5, 'a number above 0 and at most 1.'),
    ('optimizer.clip_norm', -1.0, 'a finite number of at least 0.'),
    ('critic_optimizer.beta_2', -0.1, 'a number of at least 0 and below 1.'),
    ('objective', 'foo', 'one of mle, adversarial, hybrid.'),
    ('lambda', -1.0, 'a finite number of at least 0.'),
    ('final_lambda', 0.0, '0 if and only if `lambda` is, here 0.1.'),
    # What `unlock` and `ignore_type` let a file set, too.
    ('jit', 1, 'True or False.'),
    ('batch_size', True, 'an integer.'),
    ('lambda', [0.1], 'a number.'),
    ('init_from', None, 'a string.'),
    ('dcgan.channels', 8, 'a tuple.'),
    # Generators and critics, also those that are not used.
    ('nice.hidden_units', 0, 'an integer from 1 to 65536.'),
    ('nice.prior', 'cauchy', 'one of logistic, normal.'),
    ('real_nvp.alpha', 0.5, 'a finite number from 0 to 0.499.'),
    ('jet.histogram_bins', 1, '0 or an integer from 2 to 1024.'),
    ('vectors.coupling', 'linear', 'one of additive, affine, spline.'),
    ('dcgan.channels', (4, 0), '1 to 16 integers from 1 to 65536.'),
    ('dense_critic.hidden_units', (), '1 to 256 integers from 1 to 65536.'),
    ('final_lambda', math.inf, '0 or a finite number from 1.2e-38 to '),
    # It would be 0 in float32, and learn nothing.
    ('optimizer.learning_rate', 1e-40, '0 or a finite number from 1.2e-38 to '),
    ('data_dir', 'a\0b', 'a path.'),
    ('new', 3, 'left out, as there is no such setting.'),
    ('nice.new', 3, 'left out, as there is no such setting.'),
    ('optimizer', 5, 'left out, as there is no such setting.'),
  ],
)
def test_a_bad_value_is_one_line_that_names_it(key, value, expected):
  config = default_config()
  block, _, name = key.rpartition('.')
  with config.unlocked(), config.ignore_type():
    (config[block] if block else config)[name] = value
  said = rf'^`{key}` must be {re.escape(expected)}.* Got: {re.escape(repr(value))}\.$'
  with pytest.raises(UsageError, match=said) as caught:
    validate(config)
  assert caught.value.argument == key


def test_former_names_of_settings_hold_in_their_block(monkeypatch, caplog):
  for former, name in (('nice.units', 'nice.hidden_units'), ('updates', 'steps')):
    monkeypatch.setitem(RENAMED, former, name)
  config = default_config(updates=3)
  config.nice.units = 7
  assert (config.steps, config.nice.hidden_units, config.nice.units) == (3, 7, 7)
  assert len(caplog.messages) == 3 and all('updates' in said or 'units' in said for said in caplog.messages)
  with pytest.raises(AttributeError):
    config.jet.units = 7
  assert {*settings(config)} == {*settings(default_config())}
  monkeypatch.setitem(RENAMED, 'weight', 'lambda')
  warned = pytest.warns(DeprecationWarning, match='`weight` is called `lambda` now')
  with warned, pytest.raises(UsageError, match=r'^`lambda_` must be .* Got: -1\.$'):
    make('hybrid', weight=-1)
  recorded = {'updates': 3, 'nice': {'units': 7, 'couplings': 2}, 'jet': {'units': 5}, 'spread_labels': False}
  expected = {'steps': 3, 'nice': {'hidden_units': 7, 'couplings': 2}, 'jet': {'units': 5}}
  assert current_settings(recorded) == expected


def test_networks_that_do_not_see_the_label_need_components_of_each_class():
  config = default_config()
  config.update_from_flattened_dict({'condition': 'label', 'nice.condition_networks': False})
  with pytest.raises(UsageError, match=r'`nice\.condition_networks` must be True unless'):
    validate(config)
  config.nice.components = 2
  validate(config)


def test_pseudo_labels_need_a_likelihood():
  config = default_config()
  config.update_from_flattened_dict({'pseudo_labels': True, 'nice.components': 2})
  for objective, weight in (('mle', 0.0), ('hybrid', 0.1)):
    config.update({'objective': objective, 'lambda': weight})
    validate(config)
  for objective, weight in (('hybrid', 0.0), ('adversarial', 0.1)):
    config.update({'objective': objective, 'lambda': weight})
    with pytest.raises(UsageError, match='`pseudo_labels` must be False without a likelihood, as with `objective` '):
      validate(config)


def test_a_configuration_that_lacks_a_setting_is_rejected():
  for block, name in (('', 'steps'), ('nice', 'couplings'), ('', 'optimizer')):
    config = default_config()
    with config.unlocked():
      del (config[block] if block else config)[name]
    with pytest.raises(UsageError, match=rf'^`({block}\.)?{name}.*` must be set\. Got: nothing\.$'):
      validate(config)


def test_values_at_the_border_and_of_types_that_mean_the_same_hold():
  config = default_config()
  border = {'score_samples': 10, 'seed': 2**31 - 1, 'critic_warmup': 9999, 'penalty_interval': 10**9, 'ema_decay': 0.0}
  config.update_from_flattened_dict(border | {'optimizer.warmup_steps': 10**9, 'final_lambda': 0.1, 'init_from': '~/a'})
  validate(config)
  config.update({'lambda': 0.0, 'final_lambda': 0.0, 'score_samples': 0})
  with config.ignore_type():
    config['lambda'], config.final_lambda, config.batch_size, config.dcgan.channels = 1, 2, np.int64(3), [8, 4]
  validate(config)
  assert settings(config)['batch_size'] == 3 and type(settings(config)['batch_size']) is int


def test_blocks_are_the_builders_arguments():
  for builders in (GENERATORS, CRITICS):
    for name, build in builders.items():
      parameters = [*inspect.signature(build).parameters.values()][1:]
      others = {'dtype', 'name', 'classes', 'condition_shape', 'bounds'}
      assert default_config()[name].to_dict() == {p.name: p.default for p in parameters if p.name not in others}


def test_each_setting_says_what_it_means_and_which_values_it_may_have():
  for name, (_, setting) in declared().items():
    assert setting.description.endswith('.') and 'The argument' not in setting.description, name
    has_range = setting.must is not None or (setting.minimum is not None and setting.maximum is not None)
    assert has_range or setting.kind not in (int, float), name
    assert setting.values, name
  assert len(declared()) == len(list(settings(default_config()))) > 100


def test_what_has_no_effect_has_a_reason():
  of_the_critic = (
    'divergence',
    'critic_steps',
    'critic_warmup',
    'reuse_batch',
    'mixed_statistics',
    'penalty',
    'transport_weight',
    'init_critic',
    'critic_optimizer.beta_1',
  )
  expected = {
    ('mle', 'objective mle'): ('lambda', 'final_lambda', *of_the_critic, 'dcgan_critic.channels'),
    ('adversarial', 'objective adversarial'): ('lambda', 'final_lambda'),
    ('adversarial', ''): of_the_critic,
    ('hybrid', ''): ('lambda', 'final_lambda', *of_the_critic),
    ('mle', ''): ('steps', 'optimizer.beta_1', 'nice.couplings'),
    ('mle', 'generator nice'): ('jet.couplings',),
    ('mle', 'scorer classifier'): ('inception_weights',),
  }
  config = default_config()
  for (config.objective, reason), names in expected.items():
    assert {idle(name, config) for name in names} == {reason}


def test_which_settings_tell_runs_apart_change_a_training_and_are_shared_by_workers():
  one, other = make_config(), make_config(data_dir='elsewhere', log_every=9, strategy='mirrored', steps=77)
  other.real_nvp.scales = 9
  assert training_changes(other, one) == {'steps': (4, 77)}
  other.nice.hidden_units = 16
  assert training_changes(other, one) == {'steps': (4, 77), 'nice.hidden_units': (8, 16)}
  other.nice.hidden_units = 8
  assert run_identity(one, 'abc') == run_identity(other, 'abc') != run_identity(one, 'abd')
  assert run_identity(make_config(seed=1), 'abc') != run_identity(one, 'abc')
  names = settings(used(make_config(generator='real_nvp')))
  assert {'real_nvp.scales', 'dcgan_critic.channels', 'optimizer.beta_1'} <= names.keys() < settings(one).keys()
  assert not [name for name in names if name.startswith(('nice.', 'dcgan.'))]
  dataset = types.SimpleNamespace(name='digits', fingerprint='0123456789abcdefg')
  shared, changed = shared_settings(one, dataset), shared_settings(other, dataset)
  assert shared['dataset'] == 'digits with SHA-256 0123456789abcdef...' and shared['nice.couplings'] == 2
  assert shared['jet.couplings'] is None and 'data_dir' not in shared and 'strategy' not in shared
  assert {name for name, value in shared.items() if value != changed[name]} == {'log_every', 'steps'}

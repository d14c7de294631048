"""Settings: their defaults, their checks, and which of them count."""

import inspect
import math
import types

import numpy as np
import pytest
from ml_collections import config_dict

from flowgan_tf.configs import cifar10, digits, fashion_mnist, mnist
from flowgan_tf.errors import UsageError
from flowgan_tf.flows import GENERATORS
from flowgan_tf.networks import CRITICS
from flowgan_tf.runs.config import (
  CRITIC_SETTINGS,
  GENERATOR_SETTINGS,
  default_config,
  hindrance,
  run_identity,
  settings,
  shared_settings,
  used,
  validate,
)
from tests.tiny import make_config


@pytest.mark.parametrize(
  'get_config', [default_config, *(m.get_config for m in (cifar10, digits, fashion_mnist, mnist))]
)
def test_shipped_configurations_hold(get_config):
  validate(get_config())


@pytest.mark.parametrize(
  ('key', 'value', 'expected'),
  [
    ('generator', 'glow', 'nice, real_nvp, jet, dcgan'),
    ('critic', 'resnet', 'dcgan_critic'),
    ('scorer', 'vgg', 'classifier, inception'),
    ('on_nan', 'retry', 'stop, rollback'),
    ('precision', 'float8', 'float32, mixed_bfloat16, mixed_float16'),
    ('batch_size', 0, 'an integer from 1 to '),
    ('penalty_interval', 0, 'an integer from 1 to '),
    ('critic_warmup', -1, 'an integer from 0 to '),
    ('critic_warmup', 10_000, 'below `steps` 10000.'),
    ('pseudo_labels', True, 'False for a generator without several components, which here is nice.'),
    ('init_checkpoint', 'latest', 'left out without `init_from`.'),
    ('init_checkpoint', 'best', 'latest, best_nll, best_score'),
    ('optimizer.warmup_steps', -1, 'an integer from 0 to '),
    ('critic_optimizer.warmup_steps', 10**10, 'an integer from 0 to 1000000000'),
    ('image_size', 4097, 'an integer from 0 to 4096'),
    ('score_samples', 9, '0 or an integer from 10 to 1000000'),
    ('ema_decay', 1.0, 'below 1'),
    ('ema_every', 0, 'an integer from 1 to '),
    ('seed', 2**31, 'from 0'),
    ('optimizer.schedule', 'linear', 'constant, cosine, exponential'),
    ('optimizer.learning_rate', 0.0, 'positive'),
    ('optimizer.learning_rate', math.nan, 'positive'),
    ('critic_optimizer.learning_rate', -1.0, 'positive'),
    ('critic_optimizer.decay_rate', 1.5, 'at most 1'),
    ('optimizer.clip_norm', -1.0, 'at least 0'),
    ('optimizer.beta_1', 1.0, 'below 1'),
    ('critic_optimizer.beta_2', -0.1, 'below 1'),
    ('objective', 'foo', 'one of mle, adversarial, hybrid'),
    ('divergence', 'foo', 'one of wasserstein, jensen_shannon'),
    ('lambda', -1.0, 'a finite number of at least 0'),
    ('lambda', math.inf, 'a finite number'),
    ('final_lambda', 0.0, '0 if and only if `lambda` is, here 0.1.'),
    ('penalty', 'r1', 'one of one_centered, zero_centered'),
  ],
)
def test_a_bad_value_is_one_line_that_names_it(key, value, expected):
  config = default_config()
  config.update_from_flattened_dict({key: value})
  with pytest.raises(UsageError) as caught:
    validate(config)
  message = str(caught.value)
  assert '\n' not in message
  assert message.startswith(f'`{key}` must be ') and message.endswith(f' Got: {value!r}.')
  assert expected in message and caught.value.argument == key


def test_pseudo_labels_need_a_likelihood():
  config = default_config()
  config.update_from_flattened_dict({'pseudo_labels': True, 'nice.components': 2})
  expected = (
    "^`pseudo_labels` must be False without a likelihood, as with `objective` 'adversarial' or `lambda` 0. Got: "
  )
  for objective, weight in (('mle', 0.0), ('hybrid', 0.1), ('hybrid', 0.0), ('adversarial', 0.1)):
    config.update({'objective': objective, 'lambda': weight})
    if objective == 'mle' or (objective == 'hybrid' and weight):
      validate(config)
      continue
    with pytest.raises(UsageError, match=expected):
      validate(config)


@pytest.mark.parametrize(
  ('key', 'value', 'expected'),
  [
    ('batch_size', 10**9, 'an integer from 1 to 65536'),
    ('seed', 10**5000, 'an integer from 0 to 2147483647'),
    ('batch_size', True, 'an integer'),
    ('batch_size', 2.0, 'an integer'),
    ('jit', 1, 'True or False'),
    ('lambda', [0.1], 'a number'),
    ('final_lambda', math.inf, '0 or a finite number'),
    ('penalty', 3, 'a text'),
    ('init_from', None, 'a text'),
    ('optimizer.learning_rate', 1e-40, '0 or a finite number from 1.2e-38'),  # 0 in float32: it would learn nothing.
    ('dataset', 'x' * 5000, 'a path'),
    ('data_dir', 'a\0b', 'a path'),
    ('nice.hidden_units', (1, 2), 'an integer'),
    ('dcgan.channels', 8, 'a tuple'),
    ('dcgan.channels', (4, 'x'), 'a tuple like (256, 128, 64)'),
    ('optimizer', 5, 'a block of settings'),
    ('new', 3, 'left out, as there is no such setting'),
    ('nice.new', 3, 'left out, as there is no such setting'),
  ],
  ids=lambda value: 'a long integer' if isinstance(value, int) and value > 2**63 else None,
)
def test_what_a_configuration_without_its_lock_may_hold_is_refused(key, value, expected):
  """`unlock` and `ignore_type` let a file set anything."""
  config = default_config()
  with config.unlocked(), config.ignore_type():
    *blocks, name = key.split('.')
    block = config
    for part in blocks:
      block = block[part]
    block[name] = value
  with pytest.raises(UsageError) as caught:
    validate(config)
  message = str(caught.value)
  assert message.startswith(f'`{key}` must be {expected}') and ' Got: ' in message and caught.value.argument == key
  assert '\n' not in message and len(message) < 400


@pytest.mark.parametrize('key', ['steps', 'nice', 'nice.couplings'])
def test_a_missing_setting_is_named(key):
  config = default_config()
  with config.unlocked():
    block, _, name = key.rpartition('.')
    del (config[block] if block else config)[name]
  with pytest.raises(UsageError, match=rf'^`{key}` must be set\. Got: nothing\.$'):
    validate(config)


@pytest.mark.parametrize('found', [None, 5, {}, config_dict.ConfigDict({'steps': 3})])
def test_what_is_no_configuration_is_refused(found):
  with pytest.raises(UsageError, match=r'^(`config`|`batch_size`) must be '):
    validate(found)


def test_numbers_of_other_types_that_mean_the_same_hold():
  config = default_config()
  with config.ignore_type():
    config['lambda'], config.steps, config.dcgan.channels = 1, np.int64(3), [8, 4]
  validate(config)


def test_blocks_are_the_builders_arguments():
  for blocks, builders in ((GENERATOR_SETTINGS, GENERATORS), (CRITIC_SETTINGS, CRITICS)):
    assert list(blocks) == list(builders)
    for name, build in builders.items():
      parameters = [*inspect.signature(build).parameters.values()][1:]
      assert blocks[name] == {p.name: p.default for p in parameters if p.name not in ('dtype', 'name')}
      assert default_config()[name].to_dict() == blocks[name]


@pytest.mark.parametrize(
  ('objective', 'name', 'reason'),
  [
    ('mle', 'lambda', 'objective mle'),
    ('adversarial', 'lambda', 'objective adversarial'),
    ('adversarial', 'final_lambda', 'objective adversarial'),
    ('hybrid', 'lambda', ''),
    ('hybrid', 'final_lambda', ''),
    *[('mle', name, 'objective mle') for name in ('divergence', 'critic_steps', 'critic_warmup', 'reuse_batch')],
    *[('mle', name, 'objective mle') for name in ('critic_optimizer.beta_1', 'dcgan_critic.channels', 'penalty')],
    *[('adversarial', name, '') for name in ('divergence', 'critic_warmup', 'critic_optimizer.beta_1', 'penalty')],
    ('mle', 'optimizer.beta_1', ''),
    ('mle', 'nice.couplings', ''),
    ('mle', 'jet.couplings', 'generator nice'),
    ('mle', 'inception_weights', 'scorer classifier'),
    ('mle', 'steps', ''),
  ],
)
def test_what_has_no_effect_has_a_reason(objective, name, reason):
  config = default_config()
  config.objective = objective
  assert hindrance(name, config) == reason


def test_only_the_blocks_that_are_used_count():
  config = make_config(generator='real_nvp')
  names = settings(used(config))
  assert 'real_nvp.scales' in names and 'dcgan_critic.channels' in names and 'optimizer.beta_1' in names
  assert not [name for name in names if name.startswith(('nice.', 'dcgan.'))]
  assert names.keys() < settings(config).keys()


def test_values_at_the_border_hold():
  config = default_config()
  config.update_from_flattened_dict(
    {
      'ema_decay': 0.0,
      'score_samples': 10,
      'seed': 2**31 - 1,
      'critic_warmup': 9999,
      'penalty_interval': 10**9,
      'optimizer.warmup_steps': 10**9,
      'final_lambda': 0.1,
      'init_from': '~/run',
    }
  )
  validate(config)
  config.update({'lambda': 0.0, 'final_lambda': 0.0, 'score_samples': 0})
  validate(config)


def test_what_tells_runs_apart_and_what_workers_share():
  one, other = make_config(), make_config(data_dir='elsewhere', log_every=9, strategy='mirrored', steps=77)
  assert run_identity(one, 'abc') == run_identity(other, 'abc') != run_identity(one, 'abd')
  assert run_identity(make_config(seed=1), 'abc') != run_identity(one, 'abc')
  dataset = types.SimpleNamespace(name='digits', fingerprint='0123456789abcdefg')
  shared = shared_settings(one, dataset)
  assert shared['dataset'] == 'digits with SHA-256 0123456789abcdef...' and shared['nice.couplings'] == 2
  assert shared['jet.couplings'] is None and 'data_dir' not in shared and 'strategy' not in shared
  changed = shared_settings(other, dataset)
  assert {name for name, value in shared.items() if value != changed[name]} == {'log_every', 'steps'}

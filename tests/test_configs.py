"""Every configuration that ships is valid and builds the flow it promises."""

import importlib
import pathlib
import re

import pytest

from flowgan_tf.configs import cifar10
from flowgan_tf.errors import UsageError
from flowgan_tf.runs.config import default_config, make_generator, settings, validate

CONFIGS = pathlib.Path(__file__).parent.parent / 'flowgan_tf' / 'configs'
NAMES = sorted(path.stem for path in CONFIGS.glob('*.py') if path.stem != '__init__')


@pytest.mark.parametrize('name', NAMES)
def test_config_is_valid_and_adds_no_setting(name):
  config = importlib.import_module(f'flowgan_tf.configs.{name}').get_config()
  validate(config)
  assert config.dataset == name
  assert set(config.keys()) == set(default_config().keys())


# Where nothing else is said: the paper's Real-NVP of two scales with batch norm in the conditioners.
PAPER = {
  'dataset': 'cifar10',
  'batch_size': 64,
  'steps': 200_000,
  'flip': True,
  'jit': False,
  'scorer': 'inception',
  'generator': 'real_nvp',
  'real_nvp.prior': 'normal',
  'real_nvp.alpha': 1e-7,
  'real_nvp.normalization': 'batch',
  'real_nvp.scales': 2,
  'real_nvp.channels': 64,
  'real_nvp.blocks': 8,
  'real_nvp.batch_norm_between': False,
  'dcgan.channels': [512, 256, 128],
  'dcgan.prior': 'normal',
  'dcgan_critic.channels': [64, 128, 256, 512],
  'dcgan_critic.dense_units': 0,
  'dcgan_critic.layer_norm': True,
  'critic_steps': 5,
  'divergence': 'wasserstein',
  'critic_optimizer.learning_rate': 1e-4,
  'critic_optimizer.beta_1': 0.5,
  'critic_optimizer.beta_2': 0.9,
  'critic_optimizer.schedule': 'constant',
  'optimizer.beta_2': 0.9,
  'optimizer.schedule': 'exponential',
}
LIKELIHOOD = {
  'objective': 'mle',
  'optimizer.learning_rate': 1e-3,
  'optimizer.beta_1': 0.9,
  'optimizer.decay_rate': 0.999995,
}
ADVERSARIAL = {
  'objective': 'adversarial',
  'optimizer.learning_rate': 1e-4,
  'optimizer.beta_1': 0.5,
  'optimizer.decay_rate': 1.0,
}
VARIANTS = {
  'mle': LIKELIHOOD,
  'adversarial': ADVERSARIAL,
  'hybrid': {
    'objective': 'hybrid',
    'lambda': 1.0,
    'optimizer.learning_rate': 1e-3,
    'optimizer.beta_1': 0.5,
    'optimizer.decay_rate': 0.99999,
  },
  'dcgan': ADVERSARIAL | {'generator': 'dcgan'},
  'dinh': LIKELIHOOD
  | {
    'real_nvp.alpha': 0.05,
    'real_nvp.scales': 3,
    'real_nvp.batch_norm_between': True,
  },
  'small': LIKELIHOOD
  | {
    'batch_size': 32,
    'steps': 3000,
    'scorer': 'classifier',
    'real_nvp.alpha': 0.05,
    'real_nvp.normalization': 'layer',
    'real_nvp.channels': 32,
    'real_nvp.blocks': 2,
    'optimizer.learning_rate': 2e-3,
    'optimizer.schedule': 'cosine',
  },
}


@pytest.mark.parametrize('variant', VARIANTS)
def test_settings_of_the_variants_of_cifar10(variant):
  config = cifar10.get_config(variant)
  validate(config)
  found = settings(config)
  expected = PAPER | VARIANTS[variant]
  assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize('variant', VARIANTS)
def test_the_generators_of_the_variants_of_cifar10_can_be_built(variant):
  """With few channels and blocks; all else as it ships."""
  config = cifar10.get_config(variant)
  config.update_from_flattened_dict({'real_nvp.channels': 2, 'real_nvp.blocks': 1, 'dcgan.channels': (4, 3, 2)})
  generator = make_generator(config, (32, 32, 3))
  assert generator.has_density == (variant != 'dcgan')
  between = [v for v in generator.variables if 'running_mean' in v.name]
  assert bool(between) == (variant == 'dinh')
  images = generator.sample(2, seed=(0, 0))
  assert images.shape == (2, 32, 32, 3)
  if variant != 'dcgan':
    assert generator.log_prob(images).shape == (2,)


def test_each_command_for_cifar10_has_a_folder_of_its_own():
  commands = re.findall(r'bin/train --config=configs/cifar10\.py:(\w+) --workdir=(\S+)', cifar10.__doc__)
  assert [variant for variant, _ in commands] == list(VARIANTS)
  assert len({workdir for _, workdir in commands}) == len(VARIANTS)
  assert cifar10.__doc__.count('bin/train') == len(VARIANTS)


def test_an_unknown_variant_is_refused():
  with pytest.raises(
    UsageError,
    match=r'cifar10\.py:large: no such variant; expected one of mle, adversarial, hybrid, dcgan, dinh, small',
  ):
    cifar10.get_config('large')


@pytest.mark.parametrize('name', NAMES)
def test_docstring_states_the_command(name):
  module = importlib.import_module(f'flowgan_tf.configs.{name}')
  assert 'bin/train' in module.__doc__


def test_the_link_at_the_top_leads_to_the_packaged_configs():
  assert (CONFIGS.parent.parent / 'configs').resolve() == CONFIGS.resolve()

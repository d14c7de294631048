"""Every configuration that ships is valid and builds the flow it promises."""

import importlib
import pathlib

import pytest

from flowgan_tf.configs import cifar10
from flowgan_tf.errors import UsageError
from flowgan_tf.training.config import default_config, validate

CONFIGS = pathlib.Path(__file__).parent.parent / 'flowgan_tf' / 'configs'
NAMES = sorted(path.stem for path in CONFIGS.glob('*.py') if path.stem != '__init__')


@pytest.mark.parametrize('name', NAMES)
def test_config_is_valid_and_adds_no_setting(name):
  config = importlib.import_module(f'flowgan_tf.configs.{name}').get_config()
  validate(config)
  assert config.dataset == name
  assert set(config.keys()) == set(default_config().keys())


@pytest.mark.parametrize('variant', ['mle', 'adversarial', 'hybrid', 'dcgan', 'dinh', 'small'])
def test_variants_of_cifar10(variant):
  config = cifar10.get_config(variant)
  validate(config)
  assert config.dataset == 'cifar10'


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

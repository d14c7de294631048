"""Every configuration that ships is valid and builds the flow it promises."""

import importlib
import pathlib

import pytest

from flowgan_tf.training.config import default_config, validate

CONFIGS = pathlib.Path(__file__).parent.parent / 'flowgan_tf' / 'configs'
NAMES = sorted(path.stem for path in CONFIGS.glob('*.py') if path.stem != '__init__')


@pytest.mark.parametrize('name', NAMES)
def test_config_is_valid_and_adds_no_setting(name):
  config = importlib.import_module(f'flowgan_tf.configs.{name}').get_config()
  validate(config)
  assert config.dataset == name
  assert set(config.keys()) == set(default_config().keys())


@pytest.mark.parametrize('name', NAMES)
def test_docstring_states_the_command(name):
  module = importlib.import_module(f'flowgan_tf.configs.{name}')
  assert 'bin/train' in module.__doc__


def test_the_link_at_the_top_leads_to_the_packaged_configs():
  assert (CONFIGS.parent.parent / 'configs').resolve() == CONFIGS.resolve()

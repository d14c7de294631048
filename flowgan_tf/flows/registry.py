"""The generators by name. This file and the builders' own do without TensorFlow until a builder is called."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from flowgan_tf.base.errors import check
from flowgan_tf.base.plugins import Registry, short_name
from flowgan_tf.base.settings import Settings, setting
from flowgan_tf.flows.builder import Builder
from flowgan_tf.flows.dcgan import dcgan
from flowgan_tf.flows.jet import jet
from flowgan_tf.flows.nice import nice
from flowgan_tf.flows.real_nvp import real_nvp
from flowgan_tf.flows.vectors import vectors

# The choices of the setting `generator`. Each has a block of settings, named like the builder's arguments.
GENERATORS: Registry[Builder] = Registry(
  'generator',
  'a function decorated with `flowgan_tf.flows.builder`',
  lambda part: hasattr(part, 'traits'),
  {'nice': nice, 'real_nvp': real_nvp, 'jet': jet, 'vectors': vectors, 'dcgan': dcgan},
)


def generator_of(config: Any) -> Builder:
  """Returns the builder of the generator that a configuration names."""
  return GENERATORS[config.generator]


def arguments_of(config: Any) -> Mapping[str, Any]:
  """Returns the settings of the generator that a configuration names: arguments of its builder."""
  return config[short_name(config.generator)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneratorSettings(Settings):
  """The choice of a generator."""

  generator: str = setting(
    'nice', 'Name of the generator, such as nice, or MODULE:FUNCTION.', choices=GENERATORS, short=True
  )

  @classmethod
  def check(cls, config: Any) -> None:
    """Checks that something tells the classes apart if the networks do not see the condition."""
    name, arguments = short_name(config.generator), arguments_of(config)
    networks = arguments.get('condition_networks', True)
    expected = "True if `condition` is not 'label', because only a label can choose components of the prior"
    check(f'{name}.condition_networks', networks, expected, networks or config.condition == 'label')
    expected = f'True if `{name}.components` is 1, because nothing else tells the classes apart'
    check(f'{name}.condition_networks', networks, expected, networks or arguments.get('components', 1) > 1)

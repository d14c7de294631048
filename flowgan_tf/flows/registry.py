"""The generators by name. This file and the builders' own do without TensorFlow until a builder is called."""

from __future__ import annotations

import dataclasses
from typing import Any

from flowgan_tf.base.plugins import Registry, short_name
from flowgan_tf.base.settings import Settings, setting, settings_of
from flowgan_tf.flows.builder import Builder, check_networks
from flowgan_tf.flows.dcgan import dcgan
from flowgan_tf.flows.jet import jet
from flowgan_tf.flows.nice import nice
from flowgan_tf.flows.real_nvp import real_nvp
from flowgan_tf.flows.traits import Traits
from flowgan_tf.flows.vectors import vectors

# The choices of the setting `generator`. Each has a block of settings, named like the builder's arguments.
GENERATORS: Registry[Builder] = Registry(
  'generator',
  'a function decorated with `flowgan_tf.flows.builder`',
  lambda part: hasattr(part, 'traits'),
  {'nice': nice, 'real_nvp': real_nvp, 'jet': jet, 'vectors': vectors, 'dcgan': dcgan},
)


def traits_of(config: Any) -> Traits:
  """Returns what is known of the generator that a configuration describes."""
  build = GENERATORS[config.generator]
  return build.traits(**vars(settings_of(build).of(config[short_name(config.generator)])))


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneratorSettings(Settings):
  """The choice of a generator."""

  generator: str = setting('nice', 'Generator. Your own is MODULE:FUNCTION.', choices=GENERATORS, short=True)

  @classmethod
  def check(cls, config: Any) -> None:
    """Checks that something tells the classes apart if the networks do not see the condition."""
    traits, name = traits_of(config), f'{short_name(config.generator)}.condition_networks'
    check_networks(traits.sees_condition, config.condition == 'label', traits.components, name)

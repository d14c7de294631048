"""The configuration of a training: the settings of all parts together, their checks, and what they say of a run.

Each setting is declared by its owner: see `flowgan_tf.base.settings`. Neither this module nor the config files import
TensorFlow, so that a program rejects a wrong flag within a second.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ml_collections import config_dict

from flowgan_tf.base.errors import UsageError, check
from flowgan_tf.base.files import as_json
from flowgan_tf.base.plugins import folders_of, is_plugin, short_name
from flowgan_tf.base.settings import Setting, Settings, check_kind, former_names, settings_of
from flowgan_tf.data.settings import DataSettings
from flowgan_tf.flows.registry import GENERATORS, GeneratorSettings
from flowgan_tf.objectives import CRITICS
from flowgan_tf.objectives.objective import ObjectiveSettings, kinds_of
from flowgan_tf.runs.record import NAMES, PLACES
from flowgan_tf.runs.settings import OptimizerSettings, ReportSettings, StartSettings, TrainingSettings

if TYPE_CHECKING:
  from flowgan_tf.data import Dataset

_LOG = logging.getLogger(__name__)

PATHS = (*PLACES, 'init_from')  # settings that are paths, besides `dataset`

# The owners of the settings at the top of a configuration; the terms of the loss follow.
_OWNERS = (TrainingSettings, DataSettings, GeneratorSettings, StartSettings, ObjectiveSettings, ReportSettings)
# The settings that name a part with a block of settings of its own, and the parts.
_BUILDERS: dict[str, Mapping[str, Callable]] = {'generator': GENERATORS, 'critic': CRITICS}
PLUGGED = (*_BUILDERS, 'terms')  # settings that name parts with settings of their own
_OPTIMIZERS = ('optimizer', 'critic_optimizer')
# Settings that are removed, and the values with which earlier versions trained as this version does.
_REMOVED = {'critic_sees': 'pixels', 'spread_labels': False}


class Declared(NamedTuple):
  """A setting of a configuration."""

  owner: type[Settings]
  setting: Setting


def _owners(config: Mapping[str, Any]) -> Iterator[tuple[str, type[Settings]]]:
  """Yields the owners of settings, each behind the name of its block, which is '' at the top."""
  for owner in (*_OWNERS, *(kind.Settings for kind in kinds_of(config))):
    yield '', owner
  for name in _OPTIMIZERS:
    yield name, OptimizerSettings
  for setting, registry in _BUILDERS.items():
    for name in dict.fromkeys((*registry, config[setting])):
      yield short_name(name), settings_of(registry[name])


_WITHOUT_PLUGINS = {'generator': 'nice', 'critic': 'dcgan_critic', 'terms': ()}


def declared(config: Mapping[str, Any] = _WITHOUT_PLUGINS) -> dict[str, Declared]:
  """Returns every setting of a configuration by its dotted name, such as 'nice.couplings'.

  The names of generator, critic and terms in `config` say which plug-ins there are. Their settings are included.

  Raises:
    UsageError: If a term has a setting of a name that another part has.
  """
  found: dict[str, Declared] = {}
  for block, owner in _owners(config):
    for name, setting in owner.declared().items():
      dotted = f'{block}.{name}' if block else name
      if dotted in found:
        both = f'{owner.__qualname__}, the first of {found[dotted].owner.__qualname__}'
        raise UsageError(f'`terms` must have settings of their own. Got: a second `{dotted}` of {both}.', 'terms')
      found[dotted] = Declared(owner, setting)
  return found


class _Block(config_dict.ConfigDict):
  """A block in which some settings have former names; a line of the log says what they are called now."""

  _names: Mapping[str, str] = {}

  def _current(self, key):
    if key not in self._names:
      return key
    _LOG.warning('The setting %s is called %s now.', key, self._names[key])
    return self._names[key]

  def __setitem__(self, key, value):
    super().__setitem__(self._current(key), value)

  def __getitem__(self, key):
    return super().__getitem__(self._current(key))


def _make_block(name: str) -> config_dict.ConfigDict:
  if not (names := former_names(name)):
    return config_dict.ConfigDict()
  object.__setattr__(block := _Block(), '_names', names)  # An assignment would make it a setting.
  return block


def _fill(config: config_dict.ConfigDict, chosen: Mapping[str, Any]) -> None:
  """Gives a configuration the settings and blocks that it lacks, with their defaults, for the parts that are chosen."""
  known = {*config}
  for block, _ in _owners(chosen):
    if block and block not in known:
      config[block] = _make_block(block)
  for name, (_, setting) in declared(chosen).items():
    block, _, key = name.rpartition('.')
    if (block or name) not in known:
      is_open = setting.default is None
      (config[block] if block else config)[key] = config_dict.placeholder(setting.kind) if is_open else setting.default


def default_config(**chosen: Any) -> config_dict.ConfigDict:
  """Returns all settings. Where the paper states a value for its MNIST model, that is the default.

  `chosen` sets some of them, for instance to what a `config.json` says. A plug-in has settings of its own, which are
  there if it is chosen here:

  ```python
  config = fg.runs.default_config(generator='my_flow:checkered')
  config.checkered.filters = 32
  ```
  """
  config = _make_block('')
  _fill(config, _WITHOUT_PLUGINS)
  config.lock()  # so that a misspelt setting is an error
  config.update({name: value for name, value in chosen.items() if name in PLUGGED})
  extend(config).update(chosen)
  return config


def recorded_config(recorded: Mapping[str, Any]) -> config_dict.ConfigDict:
  """Returns the settings of a training as `config.json` has them, without importing the plug-ins that it names.

  Nothing says whether the plug-ins have such settings. It raises a `ValueError` if no setting can have such a name.
  """
  if odd := [name for name in recorded if not name.isidentifier() or name.startswith('_')]:
    raise ValueError(f'no setting has the name {odd[0]!r}')
  config = default_config()
  with config.unlocked():
    config.update(recorded)
  return config


def current_settings(recorded: Mapping[str, Any], block: str = '') -> dict[str, Any]:
  """Returns the settings in a `config.json` under the names of today, and leaves out those that are removed."""
  names = former_names(block)
  return {
    names.get(name, name): current_settings(value, name) if isinstance(value, Mapping) else value
    for name, value in recorded.items()
    if block or name not in _REMOVED
  }


def untrainable_settings(recorded: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the removed settings in a `config.json` whose values this version cannot train with."""
  return {name: recorded[name] for name, same in _REMOVED.items() if recorded.get(name, same) != same}


def without_plugins(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
  """Returns a copy that has the defaults in place of plug-ins, of which it knows nothing unless they are imported."""
  known = default_config()
  plugged = {name for name in NAMES if is_plugin(config[name])}
  plugged |= {'terms'} if any(map(is_plugin, config.terms)) else set()
  known.update({name: value for name, value in config.items() if name in known and name not in plugged})
  return known


def in_one_line(error: BaseException) -> str:
  """Returns what an error of ml_collections or of a config file says; of a setting that does not exist only its name.

  Otherwise ml_collections would list all settings.
  """
  text = str(error)
  if not (missing := re.search(r'Key "(.+?)" does not exist', text)):
    return f'{type(error).__name__}: {text}'
  near = re.search(r'Did you mean "(.+?)" instead', text)
  return f'there is no setting {missing[1]}' + (f'; did you mean {near[1]}?' if near else '')


def plugins_of(config: config_dict.ConfigDict) -> dict[str, str] | None:
  """Returns the modules of the plug-ins that a configuration names, and their folders; None without plug-ins."""
  return folders_of([*(config[name] for name in NAMES), *config.terms]) or None


def extend(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
  """Gives a configuration the settings of the plug-ins that it names, with their defaults, and returns it."""
  with config.unlocked():
    for setting in _BUILDERS:
      block = short_name(config[setting])
      others = {short_name(config[other]) for other in _BUILDERS if other != setting}
      if is_plugin(config[setting]) and block in {*declared(), *_OPTIMIZERS, *GENERATORS, *CRITICS, *others}:
        raise UsageError(f'`{setting}` must not be called {block}, as other settings are.', setting)
    _fill(config, config)
  return config


def check_settings(config: config_dict.ConfigDict) -> None:
  """Checks that a configuration has the settings of `default_config`, no others, and values of the same types."""
  check('config', config, 'a ConfigDict', isinstance(config, config_dict.ConfigDict))
  chosen = {name: config[name] for name in PLUGGED if name in config}
  with (expected := default_config()).ignore_type():
    expected.update(chosen)
  found, defaults = {name: value for name, value, _ in flat(config)}, list(flat(extend(expected)))
  for name in found.keys() - {name for name, *_ in defaults}:
    raise UsageError(f'`{name}` must be left out, as there is no such setting. Got: {found[name]!r}.', name)
  for name, default, kind in defaults:
    if name not in found:
      raise UsageError(f'`{name}` must be set. Got: nothing.', name)
    if found[name] is not None or default is not None:  # The user may leave such a setting open.
      check_kind(name, found[name], kind)


def validate(config: config_dict.ConfigDict) -> None:
  """Checks the value of each setting, and then whether the values fit each other.

  It also checks the settings of generators and critics that the configuration does not use.

  Raises:
    UsageError: If a setting is missing, unknown or wrong, or two do not fit each other.
  """
  check_values(config)
  for _, owner in _owners(config):
    owner.check(config)


def check_values(config: config_dict.ConfigDict) -> None:
  """Checks like `validate`, but each setting by itself."""
  check_settings(config)
  for block, owner in _owners(config):
    _of_block(owner, block, config)


def _of_block(owner, block, config):
  try:
    return owner.of(config[block] if block else config)
  except UsageError as error:
    if not block:
      raise
    raise UsageError(str(error).replace('`', f'`{block}.', 1), f'{block}.{error.argument}') from error


def flat(config: config_dict.ConfigDict, prefix: str = '') -> Iterator[tuple[str, object, type]]:
  """Yields the dotted name of each setting, such as 'nice.couplings', its value and its type."""
  for name, value in config.items():
    if isinstance(value, config_dict.ConfigDict):
      yield from flat(value, f'{prefix}{name}.')
    else:
      yield prefix + name, value, config.get_type(name)


def settings(config: config_dict.ConfigDict) -> dict[str, object]:
  """Returns the settings by dotted name, with values as in JSON: `{'seed': 0, 'nice.couplings': 4, ...}`."""
  return as_json({name: value for name, value, _ in flat(config)})


def short_flags(config: Mapping[str, Any] = _WITHOUT_PLUGINS) -> set[str]:
  """Returns the names of the settings that have a short flag, --NAME, besides --config.NAME."""
  return {name for name, found in declared(config).items() if found.setting.short}


def _unused(config):
  """Returns the blocks of the generators and critics that a configuration does not name, with the setting to blame."""
  return {
    name: setting for setting, registry in _BUILDERS.items() for name in registry if name != short_name(config[setting])
  }


def used(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
  """Returns the settings that a training uses, without the blocks of the other generators and critics."""
  unused = _unused(config)
  return config_dict.ConfigDict({name: value for name, value in config.items() if name not in unused})


def idle(name: str, config: config_dict.ConfigDict) -> str:
  """Returns why a setting has no effect, such as 'objective mle' for the divergence; '' if it has an effect."""
  block = name.partition('.')[0]
  if blamed := _unused(config).get(block):
    return f'{blamed} {config[blamed]}'
  if block in ('critic_optimizer', short_name(config.critic)) and (why := idle('critic', config)):
    return why
  adversarial = {name for kind in kinds_of(config) if kind.adversarial_only for name in kind.Settings.declared()}
  if name in adversarial and config.objective == 'mle':
    return 'objective mle'
  found = declared(config).get(name)
  return found.owner.idle(name, config) if found else ''


def free_settings(config: config_dict.ConfigDict) -> set[str]:
  """Returns the names of the settings that a run may change whenever it is resumed."""
  return {name for name, found in declared(config).items() if found.setting.free}


def _of_training(config):
  free = free_settings(config)
  return {name: value for name, value in settings(used(config)).items() if name not in free}


def training_changes(config: config_dict.ConfigDict, old: config_dict.ConfigDict) -> dict[str, tuple]:
  """Returns, by name, the old and new values of settings that change a training; file paths do not change it."""
  before, now = _of_training(old), _of_training(config)
  return {name: (before.get(name), value) for name, value in now.items() if value != before.get(name)}


def run_identity(config: config_dict.ConfigDict, fingerprint: str) -> dict[str, object]:
  """Returns what identifies a run: its data, and its settings except `steps`, which may grow."""
  found = _of_training(config) | {'data': fingerprint}
  del found['steps']
  return found


def shared_settings(config: config_dict.ConfigDict, dataset: Dataset) -> dict[str, object]:
  """Returns what must be the same on all workers, by name: all settings but paths, and what identifies the data."""
  found = settings(used(config))
  names = [name for name in settings(config) if name not in {'dataset', *PATHS, 'strategy'}]
  identity = f'{dataset.name} with SHA-256 {dataset.fingerprint[:16]}...'
  return {name: found.get(name) for name in names} | {'dataset': identity}

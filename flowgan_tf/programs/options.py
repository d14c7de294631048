"""The flags that programs share, for the settings of a training and of the analyses."""

from __future__ import annotations

import ast
import dataclasses
import functools
import logging
import os
import pathlib
import re
import runpy
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags
from ml_collections import config_dict

import flowgan_tf as fg  # imports its parts when they are first used
from flowgan_tf.base.errors import UsageError, blaming, check, check_choice
from flowgan_tf.base.plugins import is_plugin, search_in, short_name
from flowgan_tf.base.settings import RENAMED
from flowgan_tf.data.names import check_exists, is_local
from flowgan_tf.flows.registry import traits_of
from flowgan_tf.programs import command, recipes
from flowgan_tf.runs import record as records
from flowgan_tf.runs.config import (
  PATHS,
  PLUGGED,
  check_settings,
  declared,
  default_config,
  extend,
  flat,
  free_settings,
  idle,
  in_one_line,
  short_flags,
  validate,
)
from flowgan_tf.runs.folder import (
  Description,
  available,
  check_same_training,
  check_trains_on,
  exclusive,
  find_run,
  read_description,
)
from flowgan_tf.runs.pretrained import PREFIX
from flowgan_tf.runs.record import NAMES
from flowgan_tf.runs.settings import CHECKPOINTS

if TYPE_CHECKING:
  from flowgan_tf.study import Analysis

FLAGS = flags.FLAGS

_LOG = logging.getLogger(__name__)

_CONFIGS = pathlib.Path(__file__).parent.parent / 'configs'

_NAME = r'[A-Za-z_][\w.:+]*'


class _TupleParser(flags.ArgumentParser):
  syntactic_help = 'a tuple such as (8, 4), a single value, or names with commas between them'

  def parse(self, argument):
    if isinstance(argument, str) and re.fullmatch(f'{_NAME}(,{_NAME})*', argument):
      return tuple(argument.split(','))
    try:
      value = ast.literal_eval(argument) if isinstance(argument, str) else argument
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
      raise ValueError(f'must be {self.syntactic_help}') from error
    return value if isinstance(value, tuple) else (value,)


# `config_flags` of ml_collections also defines --config=FILE and --config.x=VALUE. It does not fit: it changes a file
# alone, and not the run in --workdir or what suits --dataset. Its help lists no settings, a misspelt one ends in a
# traceback, and names of terms would need quotes.
def define_settings(module: str) -> None:
  """Defines the flag --config, a flag --config.NAME for each setting, and the short flags.

  The help of the program, which is `module`, shows --config and the short flags.
  """
  _run_config.cache_clear()
  flags.DEFINE_string('config', None, 'Config file. Default: the one that suits --dataset.', module_name=module)
  config = default_config()
  with command.errors_reported():
    try:
      config = default_config(**_parts())
    finally:  # An error names flags, so they are defined before it is reported.
      for name, (_, setting) in declared(config).items():
        said = setting.description
        if setting.choices:
          said += f' One of {setting.values}.'.replace('`', '')
        _define(f'config.{name}', setting.kind, said, __name__)
        if setting.short:
          _define(name, setting.kind, said, module)
      for former, name in _former_flags():
        flags.DEFINE_alias(former, name, module_name=__name__)


def _former_flags() -> list[tuple[str, str]]:
  """Returns the flags of settings that have former names, by these and by those of today."""
  pairs = [(start + old, start + new) for old, new in RENAMED.items() for start in ('config.', '')]
  return [(former, name) for former, name in pairs if name in FLAGS]


def _parts() -> dict[str, Any]:
  """Returns the settings of the command line, or of its config file, that name parts with settings of their own.

  A plug-in's settings become flags, so it is imported before the other flags are known.
  """
  parsers = {name: _TupleParser() if name == 'terms' else flags.ArgumentParser() for name in (*NAMES, 'terms')}
  parsers = {f'config.{name}': parser for name, parser in parsers.items()} | parsers  # The short flag comes last.
  named = _given_early(parsers | {'config': flags.ArgumentParser()})
  parts: dict[str, Any] = {}
  if file := named.pop('config', ''):
    search_in('.')
    config = _read_config(file)
    parts = {name: config[name] for name in PLUGGED}
  parts |= {name.removeprefix('config.'): value for name, value in named.items()}
  if any(map(is_plugin, [*parts.get('terms', ()), *parts.values()])):
    search_in('.')  # For nothing else: a library may look there for a module that is not installed.
    command.load_tensorflow()  # A plug-in imports it.
  return {name: value for name, value in parts.items() if name in PLUGGED}


def _given_early(parsers: Mapping[str, flags.ArgumentParser]) -> dict[str, Any]:
  """Returns the values of these flags on the command line, by name, while the others are not defined yet."""
  early = flags.FlagValues()
  for name, parser in parsers.items():
    flags.DEFINE(parser, name, None, '', flag_values=early)
  with command.errors_reported():
    command.parse(early, sys.argv, known_only=True)
  return {name: early[name].value for name in parsers if early[name].value is not None}


def configurations(
  variants: Sequence[Mapping[str, Any]] = ({},), workdir: pathlib.Path | None = None
) -> list[config_dict.ConfigDict]:
  """Returns the configurations that the flags describe, after checking them without TensorFlow.

  Without --config, the settings of the run in `workdir` are what the flags change. They must not change a run that has
  a checkpoint. One without a checkpoint, which may have been rejected, begins again with its own settings, or without
  them if the flags name settings that could not change in a run with a checkpoint.

  A lambda without an objective turns a configuration for maximum likelihood into a hybrid. Each variant holds the
  settings that the program itself chooses, by name, and gives one configuration.
  """
  for former, name in _former_flags():
    if FLAGS[former].present:
      _LOG.warning('--%s is called --%s now.', former, name)
  begun = read_description(workdir) if workdir else None
  saved = begun if workdir and available(workdir) else None
  base, seen = _base(workdir, begun)
  given = _given(base)
  configs = [_merge(base, {**given, **variant}, saved) for variant in variants]
  _reject(given, variants, configs)
  if workdir:
    _check_workdir(workdir, configs[0], saved)
  if (weights := configs[0].inception_weights) and not os.path.isfile(weights):  # Check this before making a folder.
    name = 'inception_weights'
    raise UsageError(f'{weights}: no such file; `{name}` must be weights of Inception-v3', name)
  if seen:
    _LOG.info(seen)
  return configs


def _base(workdir: pathlib.Path | None, begun: Description | None) -> tuple[config_dict.ConfigDict, str]:
  """Returns the settings that the flags change, and a line that says where they are from if nobody named that place.

  They have the settings of the plug-ins that the flags name, and not of those that these replace.
  """
  config, seen = None, ''
  if FLAGS.config is not None:
    config = _read_config(FLAGS.config)
  elif workdir and begun:
    changeable = {*free_settings(begun.config), 'steps'}
    if available(workdir) or _given(begun.config).keys() <= changeable:
      records.check_resumes(workdir)
      config = begun.config
  if config is None:
    config, seen = _suitable()
  parts = {name: config[name] for name in PLUGGED}
  parts |= {name: value for name, value in _given(config).items() if name in PLUGGED}
  base = default_config(**parts)
  base.update({name: value for name, value in config.items() if name in base and name not in PLUGGED})
  given = _given(base)
  if 'lambda' in given and 'objective' not in given and base.objective == 'mle':
    base.objective = 'hybrid'
  return base, seen


def _merge(
  base: config_dict.ConfigDict, changes: Mapping[str, Any], saved: Description | None
) -> config_dict.ConfigDict:
  """Returns valid settings with changes, in which paths hold in any working directory."""
  config = base.copy_and_resolve_references()
  with config.ignore_type():  # `validate` says which type is wrong.
    config.update_from_flattened_dict(changes)
  validate(config)
  for name in ('dataset', *PATHS):
    path, kept = config[name], saved and saved.config[name]
    absolute = os.path.abspath(os.path.expanduser(path))
    # Data may be away for a while, and how a run that Python trained spells a path identifies it.
    is_name = path.startswith(PREFIX) or (name == 'dataset' and not is_local(path) and absolute != kept)
    if path and path != kept and not is_name:
      config[name] = absolute
  return config


def _reject(
  given: Mapping[str, Any], variants: Sequence[Mapping[str, Any]], configs: Sequence[config_dict.ConfigDict]
) -> None:
  """Rejects given settings that the program itself sets, or that have an effect in no configuration."""
  for name, value in given.items():
    if any(name in variant for variant in variants):
      raise UsageError(f'`{name}` must be left out, because {command.program()} sets it. Got: {value}.', name)
    if all(reasons := [idle(name, config) for config in configs]):
      if FLAGS.config is None:  # Of data that are missing, we do not know which configuration suits them.
        check_exists(configs[0].dataset, configs[0].data_dir)
      raise UsageError(f'`{name}` must be left out, as it has no effect with {reasons[0]}. Got: {value}.', name)


def _given(config: config_dict.ConfigDict) -> dict[str, Any]:
  """Returns the settings of a configuration to which flags give values; a short flag comes before --config.NAME."""
  names = {f'config.{name}': name for name, *_ in flat(config)} | {name: name for name in short_flags(config)}
  return {name: FLAGS[flag].value for flag, name in names.items() if flag in FLAGS and FLAGS[flag].value is not None}


def check_sources(config: config_dict.ConfigDict, workdir: pathlib.Path) -> None:
  """Checks that the data and the run from which a training starts exist, before TensorFlow is loaded."""
  check_exists(config.dataset, config.data_dir)
  if config.init_from and not available(workdir):
    with blaming('init_from'):
      find_run(config.init_from)


def _check_workdir(workdir: pathlib.Path, config: config_dict.ConfigDict, saved: Description | None) -> None:
  """Rejects a folder where another training runs, or this one cannot go on, before TensorFlow is loaded."""
  if config.strategy != 'multi_worker':
    if workdir.is_dir():
      with exclusive(workdir):
        pass
    names = sorted(folder.name for folder in workdir.glob('checkpoints/*') if folder.name in CHECKPOINTS)
    if names and 'latest' not in names:
      advice = 'start from it by --init_from, in a new folder'
      raise UsageError(f'{workdir}: has checkpoint {" and ".join(names)} but none to resume from; {advice}', 'workdir')
  if saved:
    try:
      check_trains_on(workdir)
      check_same_training(workdir, config, saved.config)
    except UsageError as error:
      trained = fg.report.commands.train(saved.commands or ())
      said = f'{error}, or the command of this run: {trained}' if trained else str(error)
      raise UsageError(said, error.argument) from error


def _suitable() -> tuple[config_dict.ConfigDict, str]:
  """Returns the shipped configuration that suits --dataset, and a line that says which one that is."""
  dataset = FLAGS.dataset or FLAGS['config.dataset'].value or 'digits'
  if is_plugin(dataset):
    command.load_tensorflow()  # A plug-in may import it.
  file, needed, seen = recipes.choose(dataset, FLAGS['config.image_size'].value or 0)
  config = _read_config(str(_CONFIGS / file))
  generator, condition = (FLAGS[name].value or FLAGS[f'config.{name}'].value for name in ('generator', 'condition'))
  config.generator = generator or config.generator
  traits, block = traits_of(extend(config)), short_name(config.generator)
  components = traits.components if 'components' in config[block] else 1
  if condition and condition != 'label' and components > 1:
    needed = needed | {f'{block}.components': 1}  # A sample would draw one of several whatever its condition is.
  elif condition and components > 1:
    classes = recipes.count_classes(dataset)
    if classes and components % classes:  # Each class has as many as the others.
      needed = needed | {f'{block}.components': -(-components // classes) * classes}
  config.update_from_flattened_dict(needed)
  flags_needed = ''.join(f' --config.{name}={value}' for name, value in needed.items())
  return config, seen and f'{seen}: trains with --config=configs/{file}{flags_needed}.'


def define_analyses(module: str) -> Callable[[Sequence[str]], dict[str, dict[str, Any]]]:
  """Defines a flag for each field of the analyses' settings, and describes the analyses in the program's help.

  Analyses that have a field of the same name share its flag, and each has its own default. If the program already has a
  flag of that name, the flag keeps its meaning, and the analyses use their default. Returns a function that takes names
  of analyses and reads their settings.
  """
  analyses = _known_analyses()
  users: dict[str, list[Analysis]] = {}
  for analysis in analyses:
    for name in analysis.Settings.declared():
      users.setdefault(name, []).append(analysis)
  users = {name: sharing for name, sharing in users.items() if name not in FLAGS}
  for name, sharing in users.items():
    setting = sharing[0].Settings.declared()[name]
    whose = '' if len(sharing) == len(analyses) else f'{", ".join(analysis.name for analysis in sharing)}: '
    _define(name, setting.kind, whose + setting.description, module, setting.default)
  about = [f'{a.name:11} {a.description}{f" ({a.paper})" if a.paper else ""}' for a in analyses]
  about = [textwrap.fill(text, 100, initial_indent='  ', subsequent_indent=' ' * 14) for text in about]
  sys.modules[module].__doc__ = '\n'.join([(sys.modules[module].__doc__ or '').rstrip(), '', 'Analyses:', *about, ''])
  return functools.partial(_read_analyses, users)


def _known_analyses() -> list[Analysis]:
  """Returns the analyses of the package, and those from outside of it that the command line names."""
  named = [*filter(is_plugin, _given_early({'what': flags.ListParser()}).get('what', ()))]
  if named:
    search_in('.')
    command.load_tensorflow()
  with command.errors_reported():
    return [*fg.study.ANALYSES.values(), *(fg.study.ANALYSES[name] for name in named)]


def _read_analyses(users: Mapping[str, Sequence[Analysis]], what: Sequence[str]) -> dict[str, dict[str, Any]]:
  """Returns the settings of analyses, by their names, from the flags that belong to each."""
  given = {name: FLAGS[name].value for name in users if not FLAGS[name].using_default_value}
  settings, known = {}, fg.study.ANALYSES
  for name in what:
    check_choice('what', name, known)
    analysis = known[name]
    values = {setting: given[setting] for setting in analysis.Settings.declared() if setting in given}
    for flag in analysis.needs_flags:
      needed = flag.removeprefix('--').partition('=')[0]
      check(needed, values.get(needed), f'given for {name}, as in {flag}', values.get(needed))
    defaults = {setting: found.default for setting, found in analysis.Settings.declared().items()}
    settings[name] = dataclasses.asdict(analysis.Settings.of(defaults | values))
  chosen = {known[name].name for name in what}
  idle_flags = (flag for flag, sharing in users.items() if chosen.isdisjoint(analysis.name for analysis in sharing))
  command.reject_idle(idle_flags, f'with --what={",".join(what)}')
  return settings


def _define(name: str, kind: type, description: str, module: str, default: object = None) -> None:
  if kind is tuple:
    flags.DEFINE(_TupleParser(), name, default, description, module_name=module, serializer=flags.ArgumentSerializer())
    return
  define = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}
  define[kind](name, default, description, module_name=module)


def _read_config(path: str) -> config_dict.ConfigDict:
  return _run_config(path).copy_and_resolve_references()


@functools.cache
def _run_config(path: str) -> config_dict.ConfigDict:
  file, colon, variant = path.partition(':')
  shipped = str(_CONFIGS / os.path.basename(file))
  if not os.path.exists(file) and os.path.isfile(shipped):  # We may be outside of a checkout.
    file = shipped
  if not (os.path.isfile(shipped) and os.path.samefile(file, shipped)):
    search_in(os.path.dirname(file) or '.')
    if os.path.isfile(file) and re.search(r'tensorflow|\w:\w', pathlib.Path(file).read_text(errors='replace')):
      command.load_tensorflow()  # The file, or a plug-in that it names, imports it.
  try:
    get_config = runpy.run_path(file)['get_config']
    config = get_config(variant) if colon else get_config()
  except UsageError as error:
    raise UsageError(str(error) if os.path.basename(file) in str(error) else f'{file}: {error}') from error
  except (Exception, SystemExit) as error:  # A file can raise anything.
    raise UsageError(f'{file}: --config cannot be used ({in_one_line(error)})') from error
  try:
    check_settings(config)
  except UsageError as error:
    said = f'{file}: get_config() must return a changed flowgan_tf.runs.default_config(); {error}'
    raise UsageError(said, error.argument) from error
  return config

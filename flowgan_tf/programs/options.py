"""The flags that programs share, for the settings of a training and of the analyses."""

import ast
import contextlib
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
from typing import Any

from absl import flags
from ml_collections import config_dict

import flowgan_tf as fg  # imports its parts when they are first used
from flowgan_tf.base.errors import UsageError, check, check_choice
from flowgan_tf.base.plugins import is_plugin, search_in
from flowgan_tf.base.settings import Setting
from flowgan_tf.data.names import check_exists, is_local
from flowgan_tf.flows.registry import GENERATORS
from flowgan_tf.programs import command, recipes
from flowgan_tf.runs import record as records
from flowgan_tf.runs.config import (
  PATHS,
  PLUGGED,
  check_settings,
  declared,
  default_config,
  flat,
  free_settings,
  idle,
  in_one_line,
  settings,
  short_flags,
  validate,
)
from flowgan_tf.runs.folder import available, check_same_training, exclusive, find_run, read_description
from flowgan_tf.runs.pretrained import PREFIX
from flowgan_tf.runs.settings import CHECKPOINTS

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


def define_settings(module: str) -> None:
  """Defines the flag --config, a flag --config.NAME for each setting, and the short flags.

  The help of the program, which is `module`, shows --config and the short flags.
  """
  _run_config.cache_clear()
  flags.DEFINE_string('config', None, 'Config file. Default: the one that suits --dataset.', module_name=module)
  with command.errors_reported():
    config = default_config(**_plugins_on_the_command_line())
  for name, (_, setting) in declared(config).items():
    _define(f'config.{name}', setting.kind, setting.description, __name__)
    if setting.short:
      _define(name, setting.kind, setting.description, module)


def _plugins_on_the_command_line() -> dict[str, Any]:
  """Returns the settings that name plug-ins, whose own settings become flags, too.

  The flag itself, the config file or the run that is resumed may name them. What is wrong there is said later.
  """
  given = _given_flags()
  found: dict[str, Any] = {}
  with contextlib.suppress(UsageError):  # It comes first, because plug-ins may lie beside it.
    if given.get('config'):
      search_in('.')
      found = settings(_read_config(given['config']))
  path = pathlib.Path(os.path.expanduser(given.get('workdir', '')))
  if given.get('workdir'):
    command.trust_early(os.fspath(path))
  with contextlib.suppress(UsageError, OSError):
    if given.get('workdir') and (saved := read_description(path)):  # Plug-ins may lie where it was trained.
      found = found or {**settings(saved.config)}
  found |= given
  chosen = {name: found[name] for name in PLUGGED if is_plugin(found.get(name))}
  with contextlib.suppress(ValueError):
    if terms := found.get('terms'):
      chosen['terms'] = tuple(_TupleParser().parse(terms) if isinstance(terms, str) else terms)
  if chosen or any(is_plugin(found.get(name)) for name in ('divergence', 'dataset')):
    search_in('.')  # For nothing else: a library may look there for a module that is not installed.
    command.load_tensorflow()  # A plug-in imports it.
  return chosen


def _given_flags() -> dict[str, str]:
  """Returns the flags that have a value on the command line, which nothing has parsed yet.

  A value after a space does not start with a hyphen: that is the next flag after one that is true or false.
  """
  return dict(re.findall(r'^--?(?:config\.)?([\w.]+)(?:=|\n(?!-))(.*)$', '\n'.join(sys.argv[1:]), re.MULTILINE))


def configurations(
  variants: Sequence[Mapping[str, Any]] = ({},), workdir: pathlib.Path | None = None
) -> list[config_dict.ConfigDict]:
  """Returns the configurations that the flags describe, after checking them without TensorFlow.

  Without --config, the settings of the run in `workdir` are what the flags change. They must not change a run that has
  a checkpoint. One without a checkpoint, which may have been refused, begins again with its own settings, or without
  them if the flags name settings that could not change in a run with a checkpoint.

  A lambda without an objective turns a configuration for maximum likelihood into a hybrid. Each variant holds the
  settings that the program itself chooses, by name, and gives one configuration.
  """
  begun = read_description(workdir) if workdir else None
  saved = begun if workdir and available(workdir) else None
  changeable = {*free_settings(begun.config), 'steps'} if begun else set()
  if begun and FLAGS.config is None and (saved or _given(begun.config).keys() <= changeable):
    base, said = begun.config.copy_and_resolve_references(), ''
    if workdir:
      records.check_resumes(workdir)
  else:
    base, said = (_read_config(FLAGS.config), '') if FLAGS.config is not None else _suitable()
  for name in PLUGGED:
    for flag in (name, f'config.{name}'):
      if flag in FLAGS and FLAGS[flag].value is not None:
        base[name] = FLAGS[flag].value
  # Without the settings of plug-ins that the flags replace.
  chosen = default_config(**{name: base[name] for name in PLUGGED})
  chosen.update({name: value for name, value in base.items() if name in chosen})
  base = chosen
  given = _given(base)
  if 'lambda' in given and 'objective' not in given and base.objective == 'mle':
    base.objective = 'hybrid'
  configs = []
  for variant in variants:
    config = base.copy_and_resolve_references()
    with config.ignore_type():  # `validate` says which type is wrong.
      config.update_from_flattened_dict({**given, **variant})
    validate(config)
    for name in PATHS:  # Valid in any working directory.
      kept = saved and config[name] == saved.config[name]
      if config[name] and not config[name].startswith(PREFIX) and not kept:
        config[name] = os.path.abspath(os.path.expanduser(config[name]))
    path = os.path.abspath(os.path.expanduser(config.dataset))
    if saved and saved.config.dataset == path:
      config.dataset = path
    configs.append(config)
  for name, value in given.items():
    if any(name in variant for variant in variants):
      raise UsageError(f'`{name}` must be left out, because {command.program()} sets it. Got: {value}.', name)
    if all(reasons := [idle(name, config) for config in configs]):
      if FLAGS.config is None:  # Of data that are missing, we do not know which configuration suits them.
        check_exists(configs[0].dataset, configs[0].data_dir)
      raise UsageError(f'`{name}` must be left out, as it has no effect with {reasons[0]}. Got: {value}.', name)
  if workdir and configs[0].strategy != 'multi_worker':
    _check_workdir(workdir)
  if saved and workdir:
    try:
      check_same_training(workdir, configs[0], saved.config)
    except UsageError as error:
      own = fg.report.commands.training(saved.config, workdir)
      raise UsageError(f'{error}, or the command of this run: {own}', error.argument) from error
  if (weights := configs[0].inception_weights) and not os.path.isfile(weights):  # Check this before making a folder.
    name = 'inception_weights'
    raise UsageError(f'{weights}: no such file; `{name}` must be weights of Inception-v3', name)
  if said:
    _LOG.info(said)
  for config in configs:
    if is_local(config.dataset) and not (saved and config.dataset == saved.config.dataset):
      config.dataset = os.path.abspath(os.path.expanduser(config.dataset))
  return configs


def _given(config: config_dict.ConfigDict) -> dict[str, Any]:
  """Returns the settings of a configuration to which flags give values."""
  values = {name: FLAGS[flag].value for name, *_ in flat(config) if (flag := f'config.{name}') in FLAGS}
  given = {name: value for name, value in values.items() if value is not None}
  return given | {n: value for n in short_flags(config) if n in FLAGS and (value := FLAGS[n].value) is not None}


def check_sources(config: config_dict.ConfigDict, workdir: pathlib.Path) -> None:
  """Checks that the data and the run from which a training starts exist, before TensorFlow is loaded."""
  check_exists(config.dataset, config.data_dir)
  if config.init_from and not available(workdir):
    try:
      find_run(config.init_from)
    except UsageError as error:
      raise UsageError(f'`init_from`: {error}', 'init_from') from error


def _check_workdir(workdir: pathlib.Path) -> None:
  """Refuses a folder where another training runs, or none can go on, before TensorFlow is loaded."""
  if workdir.is_dir():
    with exclusive(workdir):
      pass
  found = sorted(folder.name for folder in workdir.glob('checkpoints/*') if folder.name in CHECKPOINTS)
  if found and 'latest' not in found:
    advice = 'start from it by --init_from, in a new folder'
    raise UsageError(f'{workdir}: has checkpoint {" and ".join(found)} but none to resume from; {advice}', 'workdir')


def _suitable() -> tuple[config_dict.ConfigDict, str]:
  """Returns the shipped configuration that suits --dataset, and a line that says which one that is."""
  dataset = FLAGS.dataset or FLAGS['config.dataset'].value or 'digits'
  if is_plugin(dataset):
    command.load_tensorflow()  # A plug-in may import it.
  file, needed, seen = recipes.choose(dataset, FLAGS['config.image_size'].value or 0)
  config = _read_config(str(_CONFIGS / file))
  generator, condition = (FLAGS[name].value or FLAGS[f'config.{name}'].value for name in ('generator', 'condition'))
  generator = generator or config.generator
  components = GENERATORS[generator].traits(**config[generator]).components if generator in config else 1
  if condition and condition != 'label' and components > 1:
    needed = needed | {f'{generator}.components': 1}  # A sample would draw one of several whatever its condition is.
  elif condition and components > 1:
    classes = recipes.count_classes(dataset)
    if classes and components % classes:  # Each class has as many as the others.
      needed = needed | {f'{generator}.components': -(-components // classes) * classes}
  config.update_from_flattened_dict(needed)
  flags_needed = ''.join(f' --config.{name}={value}' for name, value in needed.items())
  return config, seen and f'{seen}: trains with --config=configs/{file}{flags_needed}.'


def define_analyses(module: str) -> Callable[[Sequence[str]], dict[str, dict[str, Any]]]:
  """Defines a flag for each field of the analyses' settings, and describes the analyses in the program's help.

  Analyses that have a field of the same name share its flag, and each has its own default. If the program already has a
  flag of that name, the flag keeps its meaning, and the analyses use their default. Returns a function that takes names
  of analyses and reads their settings.
  """
  analyses = fg.study.ANALYSES
  users: dict[str, tuple[Setting, list[str]]] = {}
  named = [name for name in _given_flags().get('what', '').split(',') if is_plugin(name)]
  if named:
    search_in('.')
    for run in sys.argv[1:]:  # Their trainings may have found the same modules elsewhere.
      command.trust_early(run)
      for folder in _plugins_of_run(run).values():
        search_in(folder)
    command.load_tensorflow()
  with command.errors_reported():
    known = [*analyses.values(), *(analyses[name] for name in named)]
  for analysis in known:
    for name, setting in analysis.Settings.declared().items():
      users.setdefault(name, (setting, []))[1].append(analysis.name)
  ours = users.keys() - set(FLAGS)
  for name, (setting, found) in users.items():
    if name in ours:
      whose = '' if len(found) == len(known) else f'{", ".join(found)}: '
      _define(name, setting.kind, whose + setting.description, module, setting.default)
  about = [f'{a.name:11} {a.description}{f" ({a.paper})" if a.paper else ""}' for a in known]
  about = [textwrap.fill(text, 100, initial_indent='  ', subsequent_indent=' ' * 14) for text in about]
  sys.modules[module].__doc__ = '\n'.join([(sys.modules[module].__doc__ or '').rstrip(), '', 'Analyses:', *about, ''])

  def read(what: Sequence[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name in what:
      check_choice('what', name, analyses)
      kind = analyses[name].Settings
      given = ours - {flag for flag in ours if FLAGS[flag].using_default_value}
      values = {field.name: FLAGS[field.name].value for field in dataclasses.fields(kind) if field.name in given}
      for flag in analyses[name].needs_flags:
        needed = flag.removeprefix('--').partition('=')[0]
        check(needed, values.get(needed), f'given for {name}, as in {flag}', values.get(needed))
      found[name] = dataclasses.asdict(kind(**values))
    chosen = {analyses[name].name for name in found}
    command.refuse_idle((n for n in ours if not chosen & {*users[n][1]}), f'with --what={",".join(what)}')
    return found

  return read


def _plugins_of_run(workdir: str) -> dict[str, str]:
  with contextlib.suppress(UsageError, OSError):
    record = records.read(pathlib.Path(workdir))
    return (record['plugins'] or {}) if record and records.is_own(record) else {}
  return {}


def _define(name: str, kind: type, description: str, module: str, default: object = None) -> None:
  if kind is tuple:
    flags.DEFINE(_TupleParser(), name, default, description, module_name=module)
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

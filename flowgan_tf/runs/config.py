"""The settings of a training, with their defaults and checks.

Neither this module nor the config files import TensorFlow, so that a program refuses a wrong flag within a second.
"""

import ast
import math
import numbers
import pathlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ml_collections import config_dict

from flowgan_tf import objectives
from flowgan_tf.errors import (
  LARGEST_IMAGE,
  UsageError,
  check,
  check_choice,
  check_integer,
  check_number,
  check_path,
  renamed,
)
from flowgan_tf.files import as_json

if TYPE_CHECKING:
  from flowgan_tf.data import Dataset

PRECISIONS = ('float32', 'mixed_bfloat16', 'mixed_float16')  # names of Keras dtype policies
SCORERS = ('classifier', 'resnet', 'inception')
CHECKPOINTS = ('latest', 'best_nll', 'best_score')
PATHS = ('data_dir', 'cache_dir', 'inception_weights', 'init_from')  # settings that are paths, besides `dataset`
_CONDITION = re.compile(r'(label|vector|low_resolution:([2-9]|[1-9]\d{1,3})|mask:half)?')
_STRATEGY = re.compile(r'(mirrored(:[1-9]\d{0,3})?|multi_worker)?')

_PACKAGE = pathlib.Path(__file__).parent.parent


# Arguments of builders that are not settings: the precision and the data determine them.
_FROM_ELSEWHERE = ('dtype', 'name', 'classes', 'condition_shape')


def _arguments(function: str, module: str) -> dict[str, object]:
  """Returns the keywords of a builder and their defaults, from its source: importing it would load TensorFlow."""
  functions = [node for node in ast.parse((_PACKAGE / module).read_text()).body if isinstance(node, ast.FunctionDef)]
  [arguments] = [node.args for node in functions if node.name == function]
  pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
  return {a.arg: ast.literal_eval(default) for a, default in pairs if a.arg not in _FROM_ELSEWHERE}


# The block of settings of each generator of `GENERATORS` and each critic of `CRITICS`: the arguments of its builder.
_GENERATORS = ('nice', 'real_nvp', 'jet', 'vectors', 'dcgan')
GENERATOR_SETTINGS = {name: _arguments(name, f'flows/{name}.py') for name in _GENERATORS}
CRITIC_SETTINGS = {'dcgan_critic': _arguments('dcgan_critic', 'networks/critic.py')}

_OF_A_HYBRID = ('lambda', 'final_lambda')
# The settings that only a critic needs, besides those whose names begin with `critic`.
_OF_A_CRITIC = (
  'consistency_weight',
  'divergence',
  'gradient_penalty',
  'init_critic',
  'penalty',
  'penalty_interval',
  'reuse_batch',
  'transport_weight',
  'final_transport_weight',
  *CRITIC_SETTINGS,
)

# The settings that have a short flag, --NAME, besides --config.NAME, and its help.
SHORT_FLAGS = {
  'dataset': 'Name of a data set, or path of a folder of images or .npy files, or of an .npz file.',
  'data_dir': 'Folder with data prepared by TFDS. Default: TFDS_DATA_DIR.',
  'condition': 'What the generator is conditioned on: label, vector, low_resolution:N or mask:half. Default: nothing.',
  'generator': 'Name of the generator, such as nice.',
  'objective': 'mle, adversarial or hybrid. Default: hybrid with --lambda, and otherwise what the config file says.',
  'lambda': 'Weight of the likelihood in the hybrid objective, in V - lambda log p.',
  'divergence': 'Name of the divergence that the critic estimates, such as wasserstein.',
  'init_from': 'Run whose generator the training starts from.',
  'critic_steps': 'Updates of the critic per step.',
  'steps': 'Step at which training ends.',
  'batch_size': 'Images per batch.',
  'seed': 'Seed of everything random.',
  'precision': 'float32, mixed_bfloat16 or mixed_float16.',
  'jit': 'Compile with XLA.',
  'strategy': 'Devices that share each batch: mirrored, mirrored:N or multi_worker.',
  'on_nan': 'What to do when a loss is not finite: stop, or rollback with half the learning rate.',
  'scorer': 'Network behind the scores: classifier, resnet or inception.',
  'inception_weights': 'File with the weights of Inception-v3. Default: a download.',
}

# The settings of the objective, by argument of `objectives.make`.
_OBJECTIVE_ARGUMENTS = {
  'name': 'objective',
  'lambda_': 'lambda',
  'final_lambda': 'final_lambda',
  'divergence': 'divergence',
  'gradient_penalty_weight': 'gradient_penalty',
  'penalty': 'penalty',
  'penalty_interval': 'penalty_interval',
  'transport_weight': 'transport_weight',
  'final_transport_weight': 'final_transport_weight',
}

# Settings that may differ when a run is resumed: where files are, how often it logs, what it does if it diverges, and
# which devices share the work.
_FREE = {'cache_dir', 'data_dir', 'inception_weights', 'log_every', 'on_nan', 'strategy'}
_SMALLEST_FLOAT, _LARGEST_FLOAT = 1.2e-38, 3.4e38  # of float32, in which trainings compute

# What a value must be, and whether it is, for each type of setting.
_KINDS = {
  bool: lambda v: ('True or False', isinstance(v, bool)),
  int: lambda v: ('an integer', isinstance(v, numbers.Integral) and not isinstance(v, bool)),
  float: lambda v: ('a number', isinstance(v, numbers.Real) and not isinstance(v, bool)),
  str: lambda v: ('a text', isinstance(v, str)),
  tuple: lambda v: ('a tuple', isinstance(v, tuple | list)),
}

_SCHEDULES = ('constant', 'cosine', 'exponential')
_CHOICES = {
  'generator': GENERATOR_SETTINGS,
  'critic': CRITIC_SETTINGS,
  'precision': PRECISIONS,
  'scorer': SCORERS,
  'on_nan': ('stop', 'rollback'),
  'optimizer.schedule': _SCHEDULES,
  'critic_optimizer.schedule': _SCHEDULES,
}
# The smallest and the largest integers. The largest are far above what any training needs, and below what makes
# TensorFlow or a machine fail.
_INTEGERS = {
  'seed': (0, 2**31 - 1),
  'labelled': (0, 10**9),
  'shift': (0, 1000),
  'image_size': (0, LARGEST_IMAGE),
  'batch_size': (1, 65_536),
  'steps': (1, 10**9),
  'critic_steps': (1, 1000),
  'critic_warmup': (0, 10**9),
  'penalty_interval': (1, 10**9),
  'ema_every': (1, 100),  # The average may lag behind by as many steps, less one.
  'log_every': (1, 10**9),
  'eval_every': (1, 10**9),
  'optimizer.warmup_steps': (0, 10**9),
  'critic_optimizer.warmup_steps': (0, 10**9),
}
_BELOW_ONE = ('a number of at least 0 and below 1', lambda v: 0 <= v < 1)
_NOT_NEGATIVE = ('a number of at least 0', lambda v: v >= 0)
_POSITIVE = ('a positive number', lambda v: v > 0)
_OF_ADAM = {
  'learning_rate': _POSITIVE,
  'decay_rate': ('a number above 0 and at most 1', lambda v: 0 < v <= 1),
  'clip_norm': _NOT_NEGATIVE,
  'beta_1': _BELOW_ONE,
  'beta_2': _BELOW_ONE,
}
_WEIGHTS = {'class_weight': _NOT_NEGATIVE, 'class_temperature': _POSITIVE, 'consistency_weight': _NOT_NEGATIVE}
_NUMBERS = {'ema_decay': _BELOW_ONE, **_WEIGHTS} | {
  f'{name}.{key}': expected for name in ('optimizer', 'critic_optimizer') for key, expected in _OF_ADAM.items()
}


def default_config() -> config_dict.ConfigDict:
  """Returns all settings. Where the paper states a value for its MNIST model, that is the default."""
  config = config_dict.ConfigDict()
  config.seed = 0

  config.dataset = 'digits'  # a TFDS name, 'digits', a folder of images or .npy files, or a .npz file
  config.data_dir = ''  # folder with data prepared by TFDS; TFDS_DATA_DIR if empty
  config.cache_dir = ''  # folder for classifiers and reference features of the scores; ~/.cache/flowgan_tf if empty
  config.image_size = 0  # height and width to which images are cropped and resized; 0 takes them as they are
  # What the generator is conditioned on: 'label', 'vector', 'low_resolution:N' or 'mask:half'; nothing if empty.
  config.condition = ''
  config.labelled = 0  # number of training images that keep their labels, equally many in each class; 0 for all
  config.spread_labels = False  # whether images without a label get the label of images that are near
  config.class_weight = 0.0  # weight of -log p(y | x) in the loss of a flow with classes
  config.class_temperature = 1.0  # p(y | x) in the loss is a softmax of log p(x, y) over this
  config.consistency_weight = 0.0  # weight of the squared error of samples, reduced again, against their conditions
  config.flip = False  # random horizontal flips of training images
  config.shift = 0  # largest number of pixels by which training images are moved at random, in both directions
  config.batch_size = 100
  config.steps = 10_000

  config.objective = 'mle'  # 'mle', 'adversarial' or 'hybrid': V(G, D) - lambda E[log p]
  config['lambda'] = 0.1
  config.divergence = 'wasserstein'
  config.final_lambda = config_dict.placeholder(float)  # lambda at the last step; None for a constant lambda
  config.gradient_penalty = config_dict.placeholder(float)  # weight; None for the divergence's own default
  config.penalty = config_dict.placeholder(str)  # 'one_centered' or 'zero_centered'; None for the divergence's own
  config.penalty_interval = 1  # critic updates from one penalty to the next, which counts that many times
  config.transport_weight = 0.0  # weight of the mean (G(z) - S(z))^2, S from logits to pixels, in a flow's loss
  config.final_transport_weight = config_dict.placeholder(float)  # at the last step; None for the same weight
  config.critic_warmup = 0  # steps at the start that train the critic alone
  config.init_from = ''  # run whose generator the training starts from; a new generator if empty
  config.init_checkpoint = config_dict.placeholder(str)  # of that run; None for the one that other programs use
  config.init_critic = False  # also start from the critic of that run, which only its checkpoint `latest` has
  config.pseudo_labels = False  # likelihood of an image together with its cluster's component; see `MixturePrior`
  config.critic_steps = 5
  config.reuse_batch = False  # one batch of images and noise for all critic steps, as in the paper's code

  config.generator = 'nice'
  config.critic = 'dcgan_critic'
  for name, block in (GENERATOR_SETTINGS | CRITIC_SETTINGS).items():
    config[name] = config_dict.ConfigDict(block)

  for name in ('optimizer', 'critic_optimizer'):  # Adam for the generator and for the critic
    config[name] = config_dict.ConfigDict()
    config[name].learning_rate = 2e-4
    config[name].beta_1 = 0.5
    config[name].beta_2 = 0.9
    config[name].schedule = 'constant'  # or 'cosine', which falls to 0 at the last step, or 'exponential'
    config[name].decay_rate = 1.0  # factor of the learning rate per step of training, for 'exponential'
    config[name].warmup_steps = 0  # steps at the start in which the learning rate rises from 0
    config[name].clip_norm = 0.0  # largest global norm of the gradient; 0 for no limit
  config.ema_decay = 0.999  # average of the generator's weights, warmed up as (1 + t) / (10 + t); 0 for none
  config.ema_every = 10  # steps from one update of that average to the next, after the first 100 steps; at most 100

  config.on_nan = 'stop'  # or 'rollback', to the last checkpoint with half the learning rates, at most 3 times
  config.log_every = 50
  config.eval_every = 500
  config.score_samples = 2000  # samples behind each score during training; 0 trains without scores
  config.scorer = 'classifier'  # network behind the scores; or 'resnet', which trains longer; or 'inception'
  config.inception_weights = ''  # file with the weights of Inception-v3; downloaded if empty
  config.precision = 'float32'
  config.jit = False  # XLA for generator and optimizer: on a CPU, only dense networks are faster with it
  config.recompute = False  # gradients compute the flow's networks again: less memory, more time
  config.strategy = ''  # 'mirrored' shares each batch among the devices of a machine, 'multi_worker' among machines
  return config.lock()  # so that a misspelt setting is an error


def check_settings(config: config_dict.ConfigDict) -> None:
  """Checks that a configuration has the settings of `default_config`, no others, and values of the same types."""
  check('config', config, 'a ConfigDict', isinstance(config, config_dict.ConfigDict))
  found, defaults = {name: value for name, value, _ in flat(config)}, list(flat(default_config()))
  for name in found.keys() - {name for name, *_ in defaults}:
    raise UsageError(f'`{name}` must be left out, as there is no such setting. Got: {found[name]!r}.', name)
  for name, default, kind in defaults:
    if name not in found:
      raise UsageError(f'`{name}` must be set. Got: nothing.', name)
    if (value := found[name]) is None and default is None:  # The user may leave it open.
      continue
    check(name, value, *_KINDS[kind](value))
    if kind is float:
      held = value == 0 or _SMALLEST_FLOAT <= abs(value) <= _LARGEST_FLOAT or math.isnan(value)
      check(name, value, f'0 or a finite number from {_SMALLEST_FLOAT} to {_LARGEST_FLOAT} in absolute value', held)


def validate(config: config_dict.ConfigDict) -> None:
  """Checks all settings but the arguments of generator and critic, which their builders check."""
  check_settings(config)
  values = {name: value for name, value, _ in flat(config)}
  for name in ('dataset', *PATHS):
    check_path(name, values[name])
  for name, choices in _CHOICES.items():
    check_choice(name, values[name], choices)
  for name, bounds in _INTEGERS.items():
    check_integer(name, values[name], *bounds)
  for name, expected in _NUMBERS.items():
    check_number(name, values[name], *expected)
  expected = "'label', 'vector', 'low_resolution:N' with an N of at least 2, 'mask:half' or empty"
  check('condition', config.condition, expected, bool(_CONDITION.fullmatch(config.condition)))
  check_strategy(config.strategy)
  make_objective(config)
  samples = config.score_samples
  check('score_samples', samples, '0 or an integer from 10 to 1000000', samples == 0 or 10 <= samples <= 10**6)
  check('critic_warmup', config.critic_warmup, f'below `steps` {config.steps}', config.critic_warmup < config.steps)
  if config.init_checkpoint is not None:
    check_choice('init_checkpoint', config.init_checkpoint, CHECKPOINTS)
    check('init_checkpoint', config.init_checkpoint, 'left out without `init_from`', bool(config.init_from))
  expected = "False unless `init_checkpoint` is 'latest', the only checkpoint with a critic"
  check('init_critic', config.init_critic, expected, not config.init_critic or config.init_checkpoint == 'latest')
  for name, only in (('objective', 'mle'), ('flip', False), ('shift', 0)):
    expected = f'{only!r} with generator vectors, whose samples are not images'
    check(name, config[name], expected, config.generator != 'vectors' or config[name] == only)
  name, block = config.generator, config[config.generator]
  several, networks = block.get('components', 1) > 1, block.get('condition_networks', True)
  expected = "True if `condition` is not 'label', because only a label can choose components of the prior"
  check(f'{name}.condition_networks', networks, expected, networks or config.condition == 'label')
  expected = f'True if `{name}.components` is 1, because nothing else tells the classes apart'
  check(f'{name}.condition_networks', networks, expected, networks or several)
  labelled = not config.pseudo_labels or several
  expected = f'False for a generator without several components, which here is {config.generator}'
  check('pseudo_labels', config.pseudo_labels, expected, labelled)
  expected = f'False with `{config.generator}.histogram_bins`, as clusters and prototypes would disagree'
  check('pseudo_labels', config.pseudo_labels, expected, not (config.pseudo_labels and block.get('histogram_bins')))
  expected = "False unless `condition` is 'label' or empty, because samples draw components whatever the condition is"
  check('pseudo_labels', config.pseudo_labels, expected, not config.pseudo_labels or config.condition in ('', 'label'))
  expected = "0 with `condition` 'vector', because a vector may say where things are in the image"
  check('shift', config.shift, expected, not config.shift or config.condition != 'vector')
  likely = config.objective == 'mle' or (config.objective == 'hybrid' and config['lambda'] != 0)
  for name in ('labelled', 'class_weight'):
    expected = "0 unless `condition` is 'label' and the objective has a likelihood"
    check(name, config[name], expected, not config[name] or (config.condition == 'label' and likely))
  same = config.class_weight or config.class_temperature == 1
  check('class_temperature', config.class_temperature, '1 without `class_weight`', same)
  check('spread_labels', config.spread_labels, 'False without `labelled`', config.labelled or not config.spread_labels)
  computed = config.condition not in ('', 'label', 'vector')
  expected = '0 unless `condition` is computed from the image, as low resolution is'
  check('consistency_weight', config.consistency_weight, expected, computed or not config.consistency_weight)
  weight = config.transport_weight if config.objective != 'mle' else 0.0
  expected = '0 with generator dcgan, whose noise has another shape than images'
  check('transport_weight', weight, expected, not weight or config.generator != 'dcgan')
  expected = '0 with histogram networks that see the condition, as the step from logits to pixels then depends on it'
  depends = config.condition and networks and config[config.generator].get('histogram_networks')
  check('transport_weight', weight, expected, not (weight and depends))
  # They pass each image through the networks under every label, and batch norms would take that for the batch.
  block = config[config.generator]
  normed = 'batch' in block.get('normalization', '') or block.get('batch_norm_between', False)
  expected = f'0 with batch norms, unless `{config.generator}.condition_networks` is False'
  for name in ('labelled', 'class_weight'):
    check(name, config[name], expected, not (config[name] and normed and block.get('condition_networks', True)))
  expected = "0 unless `objective` is 'mle', because the critic needs all labels"
  check('labelled', config.labelled, expected, not config.labelled or config.objective == 'mle')
  expected = "False without a likelihood, as with `objective` 'adversarial' or `lambda` 0"
  check('pseudo_labels', config.pseudo_labels, expected, likely or not config.pseudo_labels)


def check_strategy(strategy: str) -> None:
  """Checks the name of a strategy; see `make_replicas`."""
  expected = "'mirrored', 'mirrored:N' with a number of devices, or 'multi_worker'"
  check('strategy', strategy, expected, bool(_STRATEGY.fullmatch(strategy)))


def make_objective(config: config_dict.ConfigDict) -> objectives.Objective:
  """Builds the objective that a configuration describes."""
  try:
    return objectives.make(**{argument: config[name] for argument, name in _OBJECTIVE_ARGUMENTS.items()})
  except UsageError as error:
    raise renamed(error, _OBJECTIVE_ARGUMENTS) from error


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


def used(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
  """Returns the settings that a training uses, without the blocks of the other generators and critics."""
  unused = {*GENERATOR_SETTINGS, *CRITIC_SETTINGS} - {config.generator, config.critic}
  return config_dict.ConfigDict({name: value for name, value in config.items() if name not in unused})


def hindrance(name: str, config: config_dict.ConfigDict) -> str:
  """Returns why a setting has no effect, such as 'objective mle' for the divergence; '' if it has an effect."""
  block = name.partition('.')[0]
  of_a_critic = block.startswith('critic') or block in _OF_A_CRITIC
  if block in GENERATOR_SETTINGS and block != config.generator:
    reason = 'generator'
  elif block in CRITIC_SETTINGS and block != config.critic:
    reason = 'critic'
  elif (config.objective == 'mle' and of_a_critic) or (config.objective != 'hybrid' and name in _OF_A_HYBRID):
    reason = 'objective'
  elif name == 'inception_weights' and config.scorer != 'inception':
    reason = 'scorer'
  else:
    return ''
  return f'{reason} {config[reason]}'


def _of_training(config):
  return {name: value for name, value in settings(used(config)).items() if name not in _FREE}


def training_changes(config: config_dict.ConfigDict, old: config_dict.ConfigDict) -> dict[str, tuple]:
  """Returns, by name, the old and new values of settings that change a training; file paths do not change it."""
  before, now = _of_training(old), _of_training(config)
  return {name: (before.get(name), value) for name, value in now.items() if value != before.get(name)}


def run_identity(config: config_dict.ConfigDict, fingerprint: str) -> dict[str, object]:
  """Returns what identifies a run: its data, and its settings except `steps`, which may grow."""
  found = _of_training(config) | {'data': fingerprint}
  del found['steps']
  return found


def shared_settings(config: config_dict.ConfigDict, dataset: 'Dataset') -> dict[str, object]:
  """Returns what must be the same on all workers, by name: all settings but paths, and what identifies the data."""
  found = settings(used(config))
  names = [name for name in settings(config) if name not in {'dataset', *PATHS, 'strategy'}]
  identity = f'{dataset.name} with SHA-256 {dataset.fingerprint[:16]}...'
  return {name: found.get(name) for name in names} | {'dataset': identity}

"""The flags that programs share: --config, the settings, and what is rejected."""

import pathlib

import absl.flags
import numpy as np
import pytest

import flowgan_tf as fg
from flowgan_tf.base.settings import RENAMED
from flowgan_tf.configs import digits
from flowgan_tf.programs import command, options
from flowgan_tf.runs import record as records
from flowgan_tf.runs.config import declared, default_config, settings
from flowgan_tf.runs.folder import Description, read_description, write_description
from tests.programs.conftest import assert_one_line, call, parsed_config
from tests.tiny import FACTS

FILE = """
from flowgan_tf.runs.config import default_config

def get_config():
  config = default_config()
  {}
  return config
"""


@pytest.mark.parametrize(
  ('body', 'said'),
  [
    ('1 / 0', '--config cannot be used (ZeroDivisionError: division by zero)'),
    ('raise SystemExit', '--config cannot be used (SystemExit'),
    ('config.stpes = 3', '--config cannot be used (there is no setting stpes; did you mean steps?)\n'),
    (
      'config.update({"optimizer": {"learning_rat": 1}})',
      '--config cannot be used (there is no setting learning_rat; did you mean learning_rate?)\n',
    ),
    ('config["nice"]["newer"] = 1', '--config cannot be used (there is no setting newer)\n'),
    ('return None', 'flowgan_tf.runs.default_config(); --config must be a ConfigDict. Got: None.'),
    ('config.unlock(); config.nice.new = 3', '`nice.new` must be left out, as there is no such setting. Got: 3.'),
    ('config._fields["steps"] = "many"', "--steps must be an integer. Got: 'many'."),
  ],
)
def test_a_config_file_may_do_anything(tmp_path, body, said):
  path = tmp_path / 'odd.py'
  path.write_text(FILE.format(body))
  assert_one_line(call('train', f'--config={path}', f'--workdir={tmp_path}/run'), 'train', f'train: {path}: ', said)
  assert not (tmp_path / 'run').exists()


def test_files_without_a_configuration(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for content in (b'', b'\xff\x00'):
    (tmp_path / 'odd.py').write_bytes(content)
    assert_one_line(call('train', '--config=odd.py'), 'train', 'train: odd.py: --config cannot be used (')
  assert_one_line(call('train', '--config=odd.py', '--config.toy.spread=2'), 'train', 'train: odd.py: --config cannot ')
  for path in ('.', 'missing.py:x', 'x' * 5000):
    assert_one_line(call('train', f'--config={path}'), 'train', '--config cannot be ')
  said = 'train: cifar10.py:foo: no such variant; expected one of mle, adversarial, hybrid, '
  assert_one_line(call('train', '--config=configs/cifar10.py:foo'), 'train', said)


def test_shipped_configurations_are_found_anywhere(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for path in ('configs/mnist.py', 'elsewhere/mnist.py:jet'):
    assert parsed_config([f'--config={path}']).dataset == 'mnist'
  (tmp_path / 'mnist.py').write_text(FILE.format('config.steps = 3'))
  assert parsed_config(['--config=mnist.py']).steps == 3
  assert parsed_config([]).steps == digits.get_config().steps


def test_a_condition_that_is_not_a_label_needs_no_components():
  for flags, components in (
    ([], 20),
    (['--condition=label'], 20),
    (['--condition=mask:half'], 1),
    (['--config.condition=low_resolution:2'], 1),
    (['--condition=mask:half', '--config.nice.components=3'], 3),
  ):
    assert parsed_config(flags).nice.components == components
  assert parsed_config(['--condition=mask:half', '--generator=real_nvp']).real_nvp.components == 1


def test_components_of_a_plug_in_suit_the_condition(tmp_path, monkeypatch):
  (tmp_path / 'mixed.py').write_text(
    """
import flowgan_tf as fg

@fg.flows.builder(components=lambda arguments: arguments.components)
def mixed(image_shape, *, components=4, dtype='float32', name='mixed'):
  ...

@fg.flows.builder(components=4)
def fixed(image_shape, *, dtype='float32', name='fixed'):
  ...
"""
  )
  monkeypatch.syspath_prepend(tmp_path)
  images, labels = np.zeros((9, 8, 8, 1), np.uint8), np.arange(9) % 3
  np.savez(tmp_path / 'three.npz', images=images, labels=labels)
  of_classes = [f'--dataset={tmp_path}/three.npz', '--condition=label']
  for flags, components in (([], 4), (of_classes, 6), (['--condition=mask:half'], 1)):
    assert parsed_config(['--generator=mixed:mixed', *flags]).mixed.components == components
  assert parsed_config(['--generator=mixed:fixed', '--condition=mask:half']).generator == 'mixed:fixed'


@pytest.mark.parametrize(
  ('flags', 'said'),
  [
    (['--config.jett.width=3'], 'there is no flag --config.jett.width; did you mean --config.jet.width'),
    (['--config.nice.hidden_units=many'], '--config.nice.hidden_units must be an integer. Got: many.'),
    (['--config.dcgan.channels=('], 'must be a tuple such as (8, 4), a single value, or names'),
    ([f'--steps={"9" * 400}'], '--steps must be an integer from 1 to 1000000000.'),
    (['--config.optimizer.warmup_steps=-1'], '--config.optimizer.warmup_steps must be an integer from 0 to '),
    (['--config.nice.couplings=1'], '--config.nice.couplings must be an integer from 2 to 256. Got: 1.'),
    (['--init_from=missing'], '/missing: no such folder; expected the folder of a training'),
    (['--workdir='], 'must be a path'),
    (['--samples=3'], '--samples=3: '),
    (['--flagfile=odd'], '--flagfile cannot be read'),
    (['junk'], "unexpected argument 'junk'"),
    (['--objective=hybrid', '--config.final_lambda=0'], '--config.final_lambda must be 0 if and only if `lambda` is, '),
    (['--generator=dcgan', '--objective=mle'], "--objective must be 'adversarial' with generator dcgan, which is not "),
    (['--scorer=inception', '--inception_weights=/w'], '/w: no such file; --inception_weights must be '),
    # What would have no effect.
    (['--inception_weights=/w'], '--inception_weights must be left out, as it has no effect with scorer classifier.'),
    (['--config=configs/mnist.py:adversarial', '--lambda=5'], '--lambda must be left out, as it has no effect with '),
    (['--config.optimizer.decay_rate=0.9'], 'it has no effect with optimizer.schedule constant. Got: 0.9.'),
    (
      ['--objective=hybrid', '--config.critic_optimizer.schedule=cosine', '--config.critic_optimizer.decay_rate=0.9'],
      'it has no effect with critic_optimizer.schedule cosine. Got: 0.9.',
    ),
    (
      ['--objective=hybrid', '--divergence=jensen_shannon', '--config.penalty_interval=3'],
      'no effect with gradient_penalty 0.',
    ),
    (
      ['--objective=hybrid', '--config.gradient_penalty=0', '--config.penalty=zero_centered'],
      '--config.penalty must be left out, as it has no effect with gradient_penalty 0. Got: zero_centered.',
    ),
    (['--config.ema_decay=0', '--config.ema_every=5'], '--config.ema_every must be left out, as it has no effect with'),
    (['--dataset=nothere', '--config.nice.couplings=2'], '--dataset must be one of digits, mnist'),
    (['--data_dir=.'], '--data_dir must be left out, as it has no effect with dataset digits. Got: .'),
    (['--samples=20', '--evaluate=false'], '--samples must be left out, as it has no effect with --evaluate=false.'),
    (['--samples=20', '--config.score_samples=0'], 'it has no effect with --config.score_samples=0. Got: 20.'),
    (
      ['--config=configs/table.py', '--config.score_samples=50'],
      '--config.score_samples must be left out, as it has no effect with generator vectors. Got: 50.',
    ),
    (['--config=configs/table.py', '--samples=20'], '--samples must be left out, as it has no effect with generator'),
    (['--objective=hybrid', '--config.jet.width=3'], '--config.jet.width must be left out, as it has no effect with '),
  ],
)
def test_a_bad_flag_ends_in_one_line_before_anything_is_made(tmp_path, monkeypatch, flags, said):
  (tmp_path / 'odd').write_bytes(b'--steps=\xff\n')
  monkeypatch.chdir(tmp_path)
  assert_one_line(call('train', '--workdir=run', *flags), 'train', said)
  assert [path.name for path in tmp_path.iterdir()] == ['odd']


def test_a_run_that_began_without_an_evaluation_goes_on_without_one(tmp_path):
  (tmp_path / 'checkpoints' / 'latest').mkdir(parents=True)
  (tmp_path / 'checkpoints' / 'latest' / 'checkpoint').write_text('model_checkpoint_path: "ckpt-3"')
  (tmp_path / 'checkpoints' / 'latest' / 'ckpt-3.index').touch()
  write_description(tmp_path, Description(parsed_config(['--evaluate=false']), FACTS))
  assert not parsed_config([], tmp_path).evaluate and parsed_config(['--evaluate'], tmp_path).evaluate
  assert parsed_config([]).evaluate


def test_a_run_without_a_checkpoint_begins_again_with_its_settings(tmp_path):
  """Flags for other settings replace all of its own, because a program may have rejected these."""
  write_description(tmp_path, Description(parsed_config(['--config=configs/mnist.py', '--objective=mle']), FACTS))
  for flags in ([], ['--evaluate=false', '--data_dir=/data', '--strategy=mirrored:2'], ['--steps=7']):
    again = parsed_config(flags, tmp_path)
    assert (again.dataset, again.nice.components, again.objective) == ('mnist', 100, 'mle')
  other = parsed_config(['--seed=7'], tmp_path)
  assert (other.dataset, other.seed) == ('digits', 7) and other.nice != again.nice


def test_a_lambda_alone_makes_a_hybrid():
  for flags, objective, weight in (
    (['--lambda=0.3'], 'hybrid', 0.3),
    (['--config.lambda=0.3', '--lambda=0.2'], 'hybrid', 0.2),
    (['--objective=hybrid'], 'hybrid', 0.1),
    ([], 'mle', 0.1),
    (['--config=configs/cifar10.py:hybrid', '--lambda=2'], 'hybrid', 2),
  ):
    config = parsed_config(flags)
    assert (config.objective, config['lambda']) == (objective, weight)


def test_flags_override_the_file_and_the_last_of_the_same_flag_counts(tmp_path):
  """Also in a file of flags, which may name the configuration."""
  flags = tmp_path / 'flags.txt'
  flags.write_text('--config=configs/mnist.py\n--config.lambda=0.25\n--config.nice.couplings=3\n')
  tuples = ['--config.dcgan_critic.channels=(8, 4)', '--config.dcgan_critic.channels=2']
  config = parsed_config([f'--flagfile={flags}', '--config.nice.couplings=4', '--config.steps=9', '--steps=7', *tuples])
  assert (config.dataset, config['lambda'], config.nice.couplings, config.steps) == ('mnist', 0.25, 4, 7)
  assert config.dcgan_critic.channels == (2,) and config.objective == 'hybrid'


def test_flags_do_not_change_what_a_config_file_says():
  options._read_config('configs/digits.py').steps = 3
  assert options._read_config('configs/digits.py').steps == digits.get_config().steps


def test_a_plug_in_has_flags_wherever_it_is_named(tmp_path, monkeypatch):
  """Also behind flags that are not known yet, and in a file of flags."""
  (tmp_path / 'flags').write_text('--generator=tests.plugged:toy\n')
  for flags in (
    ['--steps', '3', '--config.toy.spread=2.5', '--generator', 'tests.plugged:toy'],
    ['--nojit', '--config.generator=tests.plugged:toy', '--config.toy.spread', '2.5'],
    ['--config.toy.spread=2.5', f'--flagfile={tmp_path}/flags'],
  ):
    assert parsed_config(flags).toy.spread == 2.5


@pytest.fixture
def renamed(monkeypatch):
  for former, name in (('nice.units', 'nice.hidden_units'), ('updates', 'steps')):
    monkeypatch.setitem(RENAMED, former, name)


def test_former_names_are_flags_and_in_config_files(renamed, tmp_path, caplog):
  (tmp_path / 'old.py').write_text(FILE.format('config.nice.units = 7; config.updates = 2 * config.updates'))
  steps = 2 * default_config().steps
  for flags, expected in (
    (['--config.nice.units=7', '--updates=3'], (7, 3)),
    (['--config.updates=3'], (digits.get_config().nice.hidden_units, 3)),
    ([f'--config={tmp_path}/old.py'], (7, steps)),
  ):
    caplog.clear()
    config = parsed_config(flags)
    assert (config.nice.hidden_units, config.steps) == expected
    said = ' '.join(caplog.messages)
    assert ('units' in said) == (expected[0] == 7) and 'updates' in said and 'steps' in said
  assert {*settings(config)} == {*settings(default_config())}


def test_an_older_run_has_former_names(renamed, tmp_path, caplog):
  write_description(tmp_path, Description(default_config(), FACTS))
  record = records.read(tmp_path)
  record['config']['updates'] = record['config'].pop('steps') + 1
  record['config']['nice']['units'] = record['config']['nice'].pop('hidden_units') + 1
  records.write(tmp_path, record)
  config, default = read_description(tmp_path).config, default_config()
  assert (config.steps, config.nice.hidden_units) == (default.steps + 1, default.nice.hidden_units + 1)
  assert not caplog.messages


def test_builders_take_former_names(renamed):
  with pytest.warns(DeprecationWarning, match='`units`.*`hidden_units`'):
    flow = fg.flows.nice((2, 2, 1), couplings=2, units=3, hidden_layers=1)
  assert any(variable.shape == (3,) for variable in flow.trainable_variables)


def test_paths_are_made_absolute(tmp_path, monkeypatch):
  for name in ('images', 'digits'):
    (tmp_path / 'cwd' / name).mkdir(parents=True)
  monkeypatch.chdir(tmp_path / 'cwd')
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  starts = {'../b/': f'{tmp_path}/b', '~/a': f'{tmp_path}/home/a', '/c/d': '/c/d', '': ''}
  for given, expected in (starts | {'pretrained:mnist': 'pretrained:mnist'}).items():
    assert parsed_config([f'--init_from={given}']).init_from == expected
  for given, expected in {'images': f'{tmp_path}/cwd/images', 'digits': 'digits'}.items():
    assert parsed_config([f'--dataset={given}']).dataset == expected


def test_a_run_with_a_path_from_here_goes_on(tmp_path, monkeypatch):
  """As `fg.training.train` leaves it. Its own spelling identifies the run."""
  monkeypatch.chdir(tmp_path)
  pathlib.Path('images').mkdir()
  saved = parsed_config([])
  saved.dataset, saved.init_from = 'images', 'runs/base'
  (tmp_path / 'run' / 'checkpoints' / 'latest').mkdir(parents=True)
  (tmp_path / 'run' / 'checkpoints' / 'latest' / 'checkpoint').write_text('model_checkpoint_path: "ckpt-3"')
  (tmp_path / 'run' / 'checkpoints' / 'latest' / 'ckpt-3.index').touch()
  write_description(tmp_path / 'run', Description(saved, FACTS))
  for flags in ([], ['--init_from=runs/base'], ['--dataset=images']):
    config = parsed_config(flags, tmp_path / 'run')
    assert (config.dataset, config.init_from) == ('images', 'runs/base')
  saved.dataset = f'{tmp_path}/away'
  write_description(tmp_path / 'run', Description(saved, FACTS))
  assert parsed_config(['--dataset=away'], tmp_path / 'run').dataset == f'{tmp_path}/away'


@pytest.mark.parametrize('name', ['workdir', 'out'])
def test_paths_may_begin_at_home(name, tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  values = absl.flags.FlagValues()
  absl.flags.DEFINE_string(name, None, '', flag_values=values)
  monkeypatch.setattr(command, 'FLAGS', values)
  monkeypatch.setattr(command, '_PATHS', [name])
  assert command._parse(['program', f'--{name}=~/a b']) == ['program']
  assert values[name].value == f'{tmp_path}/a b'


def test_the_full_help_says_what_each_setting_means():
  said = ''.join(call('train', '--helpfull').out.split())  # It breaks lines also at hyphens.
  for name, (_, setting) in declared().items():
    assert f'--{"[no]" * (setting.kind is bool)}config.{name}:{"".join(setting.description.split())}' in said, name

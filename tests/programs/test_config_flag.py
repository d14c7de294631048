"""`--config`: whatever a file does, the error is one line that names the file."""

import pytest

from tests.programs.conftest import assert_one_line, call, parsed_config

FILE = """
from flowgan_tf.runs.config import default_config

def get_config({}):
  config = default_config()
  {}
  return config
"""


@pytest.mark.parametrize(
  ('body', 'said'),
  [
    ('1 / 0', 'ZeroDivisionError: division by zero'),
    ('raise RuntimeError("x")', 'RuntimeError: x'),
    ('assert False', 'AssertionError'),
    ('raise SystemExit(3)', 'SystemExit: 3'),
    ('raise SystemExit', 'SystemExit'),
    ('return get_config()', 'RecursionError'),
    ('raise OSError("unreadable")', 'unreadable'),
    ('raise ValueError("two\\nlines")', 'ValueError: two lines'),
    ('raise UnicodeDecodeError("utf-8", b"", 0, 1, "bad")', 'UnicodeDecodeError'),
    ('config.batch_size = "many"', "TypeError: Could not override field 'batch_size'"),
    ('config["lambda"] = 10**400', 'OverflowError'),
    (
      'return None',
      'flowgan_tf.runs.default_config(); --config must be a ConfigDict. Got: None.',
    ),
    ('return dict(config)', 'must be a ConfigDict. Got: {'),
    ('config.unlock(); config.new = 3', '`new` must be left out, as there is no such setting. Got: 3.'),
    ('config.unlock(); config.nice.new = 3', '`nice.new` must be left out'),
    ('config.unlock(); del config.nice', '`nice` must be set. Got: nothing.'),
    ('config.unlock(); del config.nice; config.nice = 5', '`nice` must be a block of settings. Got: 5.'),
    ('config.optimizer = {"beta_1": 0.5}', '`optimizer.beta_2` must be set. Got: nothing.'),
    ('config._fields["steps"] = "many"', "--steps must be an integer. Got: 'many'."),
  ],
)
def test_a_file_may_do_anything(tmp_path, body, said):
  path = tmp_path / 'odd.py'
  path.write_text(FILE.format('', body))
  outcome = call('train', f'--config={path}', f'--workdir={tmp_path}/run')
  assert_one_line(outcome, 'train', f'train: {path}: ', said)
  assert 'Traceback' not in outcome.err
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('content', [b'def get_config(:', b'', b'\xff\x00', b'import nosuchmodule', b'exit(0)'])
def test_files_without_a_configuration(tmp_path, content):
  path = tmp_path / 'odd.py'
  path.write_bytes(content)
  assert_one_line(call('train', f'--config={path}'), 'train', f'train: {path}: --config cannot be used (')


@pytest.mark.parametrize('path', ['', '.', 'missing.py', 'missing.py:x', 'x' * 5000, 'a\0b', ':'])
def test_paths_of_no_file(tmp_path, monkeypatch, path):
  monkeypatch.chdir(tmp_path)
  assert_one_line(call('train', f'--config={path}'), 'train', '--config cannot be ')


def test_a_variant_that_the_file_does_not_have(tmp_path):
  outcome = call('train', '--config=configs/cifar10.py:foo')
  assert outcome.err == (
    'train: cifar10.py:foo: no such variant; expected one of mle, adversarial, hybrid, dcgan, dinh, small, jet, paper\n'
  )
  (tmp_path / 'plain.py').write_text(FILE.format('', 'pass'))
  outcome = call('train', f'--config={tmp_path}/plain.py:foo')
  assert_one_line(outcome, 'train', f'{tmp_path}/plain.py: --config cannot be used (TypeError: get_config() takes 0 ')
  assert 'Traceback' not in outcome.err


@pytest.mark.parametrize('flag', ['.', '..=3', '.nice.=3', '.nice[0]=3', '.nice.couplings.x=3', f'.{"(" * 300}=3'])
def test_overrides_that_name_no_setting(flag):
  assert_one_line(call('train', f'--config{flag}'), 'train', 'no such setting')


def test_a_misspelt_setting_is_named_with_the_nearest():
  outcome = call('train', '--config.nice.hidden_unit=3')
  assert outcome.err.startswith('train: --config has no such setting: \'hidden_unit\' Did you mean "hidden_units"')


def test_of_the_same_override_the_last_one_counts():
  """ml_collections appends to a tuple."""
  config = parsed_config(
    [
      '--config.dcgan.channels=(8, 4)',
      '--config.nice.couplings=3',
      '--config.dcgan.channels=(2,)',
      '--steps=5',
      '--config.nice.couplings=4',
      '--config.lambda=0.5',
    ]
  )
  assert config.dcgan.channels == (2,) and config.nice.couplings == 4 and config.steps == 5 and config['lambda'] == 0.5


def test_a_file_of_flags_may_name_the_configuration(tmp_path):
  flags = tmp_path / 'flags.txt'
  flags.write_text('--config=configs/mnist.py\n--config.lambda=0.25\n--config.nice.couplings=3\n')
  config = parsed_config([f'--flagfile={flags}', '--steps=7'])
  assert (config.dataset, config['lambda'], config.nice.couplings, config.steps) == ('mnist', 0.25, 3, 7)


@pytest.mark.parametrize('flags', [['--flagfile'], ['--flagfile=missing.txt'], ['--flagfile=.'], ['--flagfile', '--x']])
@pytest.mark.parametrize('program', ['train', 'sweep', 'sample'])
def test_files_of_flags_that_cannot_be_read(program, flags, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert_one_line(call(program, *flags), program, 'flagfile')


def test_a_file_of_flags_that_is_no_text(tmp_path):
  (tmp_path / 'flags').write_bytes(b'--steps=\xff\n')
  assert_one_line(call('train', f'--flagfile={tmp_path}/flags'), 'train', '--flagfile: cannot be read')

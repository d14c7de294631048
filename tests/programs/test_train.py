import json
import re

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from flowgan_tf.errors import UsageError
from flowgan_tf.runs.log import read_metrics
from flowgan_tf.runs.run import load_run
from tests.programs.conftest import CHECKOUT, TINY, assert_one_line, call, call_outside
from tests.tiny import write_images

FAST = ('--objective=mle', '--nojit', '--steps=4', '--batch_size=8', '--config.eval_every=2', *TINY[5:8])
BASED_ON_OURS = """
from flowgan_tf.runs.config import default_config

def get_config():
  config = default_config()
  {}
  return config
"""


def test_a_finished_run(finished):
  workdir, outcome = finished
  assert {f.name for f in workdir.iterdir()} == {
    'checkpoints',
    'config.json',
    'evaluation.json',
    'export',
    'metrics.jsonl',
    'samples',
    'tensorboard',
  }
  config = json.loads((workdir / 'config.json').read_text())['config']
  assert (config['objective'], config['lambda'], config['steps'], config['dataset']) == ('hybrid', 0.1, 20, 'digits')
  assert (config['nice']['hidden_units'], config['batch_size'], config['jit']) == (16, 50, False)
  records = json.loads((workdir / 'evaluation.json').read_text())['records']
  assert [record['checkpoint'] for record in records] == ['latest', 'best_nll', 'best_score']
  assert all(record['checkpoint'] in outcome.out for record in records)
  for line in ('samples', 'metrics', 'TensorBoard', 'SavedModel'):
    assert any(text.startswith(line) and str(workdir) in text for text in outcome.out.splitlines())


def test_the_export_is_that_of_the_named_checkpoint(finished):
  workdir, outcome = finished
  assert f'SavedModel   {workdir}/export  (checkpoint best_nll)' in outcome.out
  images = np.random.default_rng(0).uniform(0.1, 0.9, (3, 8, 8, 1)).astype(np.float32)
  model = tf.saved_model.load(str(workdir / 'export'))
  np.testing.assert_allclose(
    model.log_prob(images), load_run(workdir, 'best_nll').generator.log_prob(images), atol=1e-3
  )


def test_log_files_and_terminal_agree(finished):
  workdir, outcome = finished
  events = EventAccumulator(str(workdir / 'tensorboard'), size_guidance={'tensors': 0})
  events.Reload()
  records = read_metrics(workdir)
  assert re.search(r'nice: [\d,]+ parameters\.\ncritic: [\d,]+ parameters\.\n', outcome.err)
  lines = iter([line for line in outcome.err.splitlines() if line.startswith('step ')])
  for record in records:
    kind, step = record['kind'], record['step']
    for name, value in record.items():
      if name not in ('kind', 'step', 'seconds') and not isinstance(value, str):
        [shown] = [event for event in events.Tensors(f'{kind}/{name}') if event.step == step]
        assert tf.make_ndarray(shown.tensor_proto) == pytest.approx(value, rel=1e-6)
    if kind == 'validation':
      line = next(lines)
      assert line.startswith(f'step {step}: nll {record["nll"]:,.2f}, bits_per_dim {record["bits_per_dim"]:.3f}, ')
      assert f'mode_score {record["mode_score"]:.2f}' in line
  assert list(lines) == []
  train = [record for record in records if record['kind'] == 'train']
  assert {'nll', 'critic_gap', 'critic_loss', 'generator_loss', 'gradient_penalty', 'gradient_norm'} <= train[0].keys()


def test_bits_per_dim_of_digits_count_17_levels(finished):
  for record in json.loads((finished[0] / 'evaluation.json').read_text())['records']:
    assert record['bits_per_dim'] == pytest.approx(record['nll'] / (64 * np.log(2)) + np.log2(17))
    assert record['n'] == 180


@pytest.mark.parametrize(
  ('flags', 'parts'),
  [
    (['--lambda=-1'], ['lambda', '-1', 'at least 0']),
    (['--lambda=nan'], ['lambda', 'nan', 'finite']),
    (['--lambda=inf'], ['lambda', 'inf', 'finite']),
    (['--lambda=abc'], ['lambda', 'abc']),
    (['--lambda='], ['lambda']),
    (['--config.final_lambda=0'], ['--config.final_lambda must be 0 if and only if --lambda is, here 0.1. Got: 0.0.']),
    (['--config.final_lambda=-1'], ['--config.final_lambda must be a finite number of at least 0. Got: -1.0.']),
    (['--config.penalty=r1'], ['--config.penalty must be one of one_centered, zero_centered. Got: ', 'r1']),
    (['--config.penalty_interval=0'], ['--config.penalty_interval must be an integer from 1 to 1000000000. Got: 0.']),
    (['--steps=20', '--config.critic_warmup=20'], ['--config.critic_warmup must be below --steps 20. Got: 20.']),
    (['--config.critic_warmup=-1'], ['--config.critic_warmup must be an integer from 0 to 1000000000. Got: -1.']),
    (['--config.optimizer.warmup_steps=-1'], ['--config.optimizer.warmup_steps must be an integer from 0 to ']),
    (['--config.critic_optimizer.warmup_steps=x'], ['critic_optimizer.warmup_steps', 'x']),
    (['--init_from=missing'], ['--init_from: ', '/missing: no such folder; expected the folder of a training']),
    (['--init_from=a\0b'], ['--init_from must be a path.']),
    ([f'--init_from={"x" * 5000}'], ['--init_from must be a path.']),
    (['--objective=foo'], ['objective', 'foo', 'mle, adversarial, hybrid']),
    (['--divergence=foo'], ['divergence', 'foo', 'wasserstein']),
    (['--nosuchflag=1'], ['nosuchflag']),
    (['--config=nosuch.py'], ['nosuch.py']),
    (['--config=configs'], ['config']),
    (['--config.nosuch=1'], ['nosuch']),
    (['--config.nice.hidden_units=many'], ['hidden_units', 'many']),
    (['--config.critic=resnet'], ['critic', 'resnet', 'dcgan_critic']),
    (['--config.nice.couplings=1'], ['nice.couplings', 'from 2 to 256. Got: 1.']),
    (['--generator=glow'], ['generator', 'glow', 'nice, real_nvp, jet, dcgan']),
    (['--generator=dcgan', '--objective=mle'], ['mle', 'adversarial', 'dcgan, which is not invertible']),
    (['--generator=dcgan', '--objective=hybrid', '--lambda=0.1'], ['hybrid', 'dcgan, which is not invertible']),
    (['--generator=dcgan', '--objective=adversarial', '--config.dcgan.channels=()'], ['dcgan.channels', '()']),
    (['--scorer=foo'], ['scorer', 'foo', 'classifier, inception']),
    (['--config=configs/cifar10.py:large'], ['cifar10.py:large', 'mle, adversarial, hybrid, dcgan, dinh, small']),
    (['--config.ema_decay=1.5'], ['ema_decay', '1.5']),
    (['--objective=adversarial', '--config.dcgan_critic.channels=()'], ['dcgan_critic.channels', '()']),
    (['--dataset=nosuch'], ['nosuch', 'digits, mnist']),
    (['--dataset=nosuch.npz'], ['nosuch.npz', 'no such file']),
    (['--steps=0'], ['steps', 'from 1 to 1000000000. Got: 0.']),
    (['--steps=ten'], ['steps', 'ten']),
    (['--batch_size=0'], ['batch_size', 'from 1 to 65536. Got: 0.']),
    (['--critic_steps=-2'], ['critic_steps', 'from 1 to 1000. Got: -2.']),
    (['--samples=3'], ['samples', '3']),
    (['--seed=-1'], ['seed', '-1']),
    (['--on_nan=retry'], ['on_nan', 'retry', 'stop, rollback']),
    (['--precision=foo'], ['precision', 'foo', 'float32, mixed_bfloat16, mixed_float16']),
    (['--batch_size=1000000000'], ['--batch_size must be an integer from 1 to 65536. Got: 1000000000.']),
    (['--config.nice.hidden_units=100000000000'], ['--config.nice.hidden_units must be an integer from 1 to 65536.']),
    (['--critic_steps=100000000'], ['--critic_steps must be an integer from 1 to 1000.']),
    (['--config.nice.couplings=1000000000'], ['--config.nice.couplings must be an integer from 2 to 256.']),
    (['--config.score_samples=1000000000000'], ['--config.score_samples must be 0 or an integer from 10 to 1000000.']),
    (['--samples=1000000000000'], ['--samples=', '[10, 1000000]']),
    ([f'--steps={"9" * 400}'], ['--steps must be an integer from 1 to 1000000000.']),
    ([f'--steps={"9" * 5000}'], ['--steps']),
    (['--lambda=1e39'], ['--lambda must be 0 or a finite number']),
    ([f'--dataset={"x" * 5000}'], ['--dataset must be a path.']),
    (['--dataset=mnist', f'--data_dir={"x" * 5000}'], ['--data_dir must be a path.']),
    (['--data_dir=a\0b'], ['--data_dir must be a path.']),
    (['--workdir='], ['--workdir', 'must be a path']),
    ([f'--workdir={"x" * 5000}'], ['--workdir', 'must be a path']),
    (['--workdir=a\0b'], ['--workdir', 'must be a path']),
    (['--scorer=inception', '--inception_weights=/missing'], ['/missing: no such file; --inception_weights must be']),
    (['junk'], ["'junk'"]),
    (['--', '--steps=3'], ["'--steps=3'"]),
  ],
)
def test_a_bad_value_ends_in_one_line_before_anything_is_made(tmp_path, flags, parts):
  outcome = call('train', f'--workdir={tmp_path / "run"}', *flags)
  assert_one_line(outcome, 'train', *parts)
  assert list(tmp_path.iterdir()) == []


def test_config_files_that_are_none(tmp_path):
  for name, text in (
    ('syntax.py', 'def get_config(:'),
    ('nothing.py', ''),
    ('imports.py', 'import nosuchmodule'),
    ('unknown.py', BASED_ON_OURS.format('config.stpes = 3')),
    ('types.py', BASED_ON_OURS.format("config.steps = 'many'")),
  ):
    (tmp_path / name).write_text(text)
    assert_one_line(call('train', f'--config={tmp_path / name}', f'--workdir={tmp_path / "run"}'), 'train')
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('generator', 'parts'),
  [
    ('real_nvp', ['real_nvp', '(7, 7, 1)']),
    ('jet', ['--config.jet.patch_size must be a divisor of', '7 and 7. Got: 4']),
  ],
)
def test_images_that_do_not_fit_the_flow(tmp_path, generator, parts):
  images = write_images(tmp_path / 'odd.npz', shape=(7, 7, 1))
  outcome = call('train', f'--dataset={images}', f'--generator={generator}', f'--workdir={tmp_path / "run"}')
  assert_one_line(outcome, 'train', *parts)
  assert not (tmp_path / 'run').exists()


def test_folders_that_cannot_be_a_run(tmp_path, images, finished, cache):
  flags = (*FAST, f'--dataset={images}')
  file = tmp_path / 'file'
  file.write_text('precious')
  for workdir in (file, file / 'run'):
    outcome = call('train', *flags, f'--workdir={workdir}')
    assert_one_line(outcome, 'train', f'train: {workdir}: cannot be written')
  assert_one_line(call('train', *flags, f'--workdir={tmp_path}'), 'train', str(tmp_path), 'not empty')
  assert [f.name for f in tmp_path.iterdir()] == ['file'] and file.read_text() == 'precious'
  # Somebody else's run.
  workdir, _ = finished
  config = (workdir / 'config.json').read_bytes()
  outcome = call('train', *TINY, f'--config.cache_dir={cache}', '--steps=20', '--lambda=0.5', f'--workdir={workdir}')
  assert_one_line(outcome, 'train', str(workdir), 'lambda 0.1 -> 0.5')
  outcome = call('train', *flags, f'--workdir={workdir}')
  assert_one_line(outcome, 'train', str(workdir), 'another configuration')
  assert (workdir / 'config.json').read_bytes() == config
  (tmp_path / 'cut').mkdir()
  (tmp_path / 'cut' / 'config.json').write_bytes(config[:100])
  outcome = call('train', *flags, f'--workdir={tmp_path / "cut"}')
  assert_one_line(outcome, 'train', f'{tmp_path}/cut/config.json', 'damaged')


def test_divergence_is_one_line_and_exit_status_1(tmp_path, images):
  flags = (*FAST, f'--dataset={images}', f'--workdir={tmp_path / "run"}', '--config.optimizer.learning_rate=1e30')
  outcome = call('train', *flags)
  assert outcome.status == 1
  assert outcome.out == ''
  *_, last = outcome.err.splitlines()
  assert last.startswith('train: ') and 'not finite at step 2: the weight coupling_1/' in last
  assert 'the last good checkpoint, of step 0, is kept' in last and last.endswith("or --on_nan 'rollback'")
  assert 'Traceback' not in outcome.err


def test_unlabelled_images_and_a_fresh_folder(tmp_path, images):
  """The flags win over the config file, and the table has no scores."""
  (tmp_path / 'mine.py').write_text(BASED_ON_OURS.format('config.steps, config.nice.couplings = 99, 3'))
  workdir = tmp_path / 'a' / 'run'
  outcome = call('train', f'--config={tmp_path}/mine.py', *FAST, f'--dataset={images}', f'--workdir={workdir}')
  assert outcome.status == 0, outcome
  assert 'MODE' not in outcome.out and 'test NLL (nats)' in outcome.out
  config = json.loads((workdir / 'config.json').read_text())['config']
  assert (config['steps'], config['nice']['couplings'], config['nice']['hidden_units']) == (4, 2, 16)


@pytest.mark.parametrize('path', ['configs/mnist.py', 'elsewhere/configs/mnist.py'])
def test_shipped_configurations_are_found_anywhere(tmp_path, monkeypatch, path):
  monkeypatch.chdir(tmp_path)
  outcome = call('train', f'--config={path}', '--dataset=nosuch', '--steps=3', '--workdir=run')
  assert_one_line(outcome, 'train', "'nosuch'")


def test_a_process_of_its_own(tmp_path):
  """The script in bin/, with what only a process shows: nothing but our line on standard error."""
  outcome = call_outside('train', '--config.nice.couplings=1', f'--workdir={tmp_path / "run"}')
  assert_one_line(outcome, 'train', '--config.nice.couplings must be an integer from 2 to 256. Got: 1.')
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('program', ['train', 'evaluate', 'sample', 'export'])
@pytest.mark.parametrize('flag', ['--help', '--helpshort', '--helpfull'])
def test_help_shows_the_docstring_and_our_flags(program, flag):
  outcome = call(program, flag)
  assert (outcome.status, outcome.err) == (0, '')
  text = (CHECKOUT / 'flowgan_tf' / 'programs' / f'{program}.py').read_text()
  first = text.splitlines()[0].strip('"')
  assert first in outcome.out
  flags = {'train': ['objective', 'lambda', 'workdir', 'steps'], 'sample': ['temperature', 'interpolate', 'seed']}
  for name in flags.get(program, ['checkpoint']):
    assert f'--{name}:' in outcome.out or f'--[no]{name}:' in outcome.out


@pytest.mark.parametrize('program', ['train', 'evaluate', 'sample', 'export', 'analyze', 'report', 'sweep'])
def test_a_program_is_a_module_too(program):
  """As in `python -m flowgan_tf.programs.train`."""
  assert_one_line(call(program, '--nosuch=1', as_module=True), program, 'nosuch')
  said = call(program, '--helpshort', as_module=True)
  first = (CHECKOUT / 'flowgan_tf' / 'programs' / f'{program}.py').read_text().splitlines()[0].strip('"')
  assert first in said.out and ('--workdir:' in said.out or '--out:' in said.out or '--checkpoint:' in said.out)


def test_a_module_trains(tmp_path, images):
  outcome = call('train', *FAST, f'--dataset={images}', f'--workdir={tmp_path}/run', '--steps=1', as_module=True)
  assert outcome.status == 0 and (tmp_path / 'run' / 'export').is_dir(), outcome


def test_lambdas_that_differ_have_folders_of_their_own(images, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)

  def train(config, workdir, **_):
    raise UsageError(str(workdir))

  monkeypatch.setattr('flowgan_tf.training.loop.train', train)
  folders = {call('train', f'--dataset={images}', '--objective=hybrid', f'--lambda={v}').err for v in (0.1, 0.10000001)}
  assert folders == {'train: runs/images-hybrid-0.1\n', 'train: runs/images-hybrid-0.10000001\n'}


@pytest.mark.parametrize('returned', ['5', '{}', 'config_dict.ConfigDict({"steps": 3})'])
def test_a_config_file_that_returns_something_else(tmp_path, returned):
  path = tmp_path / 'odd.py'
  path.write_text(f'from ml_collections import config_dict\n\n\ndef get_config():\n  return {returned}\n')
  assert_one_line(call('train', f'--config={path}', '--steps=2'), 'train', 'config', 'get_config()')

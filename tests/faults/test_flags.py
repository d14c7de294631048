"""Flags with random values: a program ends with a status that it promises, without a traceback, and soon.

A rejection is one line on standard error. What is accepted stops where work would begin: the first step of a
training, a measurement, a SavedModel.
"""

import pathlib
import random
import shutil
import time

import pytest

from flowgan_tf.data import tfds
from flowgan_tf.evaluation import evaluate
from flowgan_tf.metrics.inception import load_inception
from flowgan_tf.runs.config import default_config, settings
from flowgan_tf.study import ANALYSES
from tests.programs.conftest import PROGRAMS, call, flag_names

GOLDEN = pathlib.Path(__file__).parent.parent / 'golden' / 'nice'
SECONDS = 5  # for a rejection, on a machine with nothing else to do

# A config file whose networks are so small that what is accepted is built at once.
SMALL = """
from flowgan_tf.configs import digits

def get_config():
  config = digits.get_config()
  for name in ('nice', 'jet'):
    config[name].couplings, config[name].hidden_units = 2, 2
  config.nice.hidden_layers, config.jet.width = 1, 1
  config.real_nvp.scales, config.real_nvp.channels, config.real_nvp.blocks = 1, 1, 0
  config.dcgan.channels = config.dcgan_critic.channels = (1,)
  config.dcgan_critic.dense_units = 0
  return config
"""
NUMBERS = ('0', '-1', '1', '2', '3', '10', '64', '0.5', '1e-3', '1_0', '0x10', '٣', ' 1', '-0.0')
ODD_NUMBERS = ('nan', 'inf', '-inf', '1e9', '1000000000', '65537', '1e39', '1e-50', '1e400', '9' * 400, '9' * 5000)
TEXTS = ('', ' ', '-', '--', '=', ',', 'a,b', '0.1,0.1', '0.1,0.10000001', "'", '"', '`', '`steps`', '\n', 'a\nb')
TEXTS += ('x' * 300, 'x' * 5000, 'ü', '画像', '\udcff', '%s', '{}', '(' * 500, 'None', 'True', 'false')
LITERALS = ('[]', '()', '(1,)', '[1, 2]', '(4, "a")', '(1.5,)', '(-1,)', '(1,) * 3', "{'a': 1}", '{1}', '(None,)')
PATHS = ('.', '..', '~', '~nobody', 'missing', 'missing.npz', 'file', 'file/x', 'folder', 'folder/', 'new/run', '[a]*?')
PATHS += ('/dev/null/x', '/proc/x', 'x' * 300 + '/x', 'cut.npz', 'RUN', 'RUN/config.json', '--')
NAMES = ('digits', 'mnist', 'nice', 'real_nvp', 'jet', 'dcgan', 'dcgan_critic', 'mle', 'adversarial', 'hybrid')
NAMES += ('wasserstein', 'kl', 'relativistic', 'zero_centered', 'float32', 'mixed_float16', 'classifier', 'inception')
NAMES += ('latest', 'best_nll', 'test', 'layer', 'cosine', 'additive', 'transformer')
NAMES += ('kde', 'jacobian,outliers', 'outliers', 'configs/mnist.py', 'configs/cifar10.py:small', 'configs/digits.py:x')
VALUES = (NUMBERS, ODD_NUMBERS, TEXTS, LITERALS, PATHS, NAMES)


def arguments(program: str, names: list[str], draw: random.Random) -> list[str]:
  """Some flags of a program with random values, and random arguments."""
  found = ['--config=small.py'] if program in ('train', 'sweep') else []
  found += [f'--{name}={draw.choice(draw.choice(VALUES))}' for name in draw.choices(names, k=draw.choice((1, 1, 2, 3)))]
  if draw.random() < 0.1:
    found.append(draw.choice(('--nosuch', '--flagfile', '--flagfile=.', '--flagfile=missing', '--flagfile=file', '--')))
  runs = ['RUN'] if program not in ('train', 'sweep') else []
  if draw.random() < 0.2:
    runs = [draw.choice(draw.choice((TEXTS, PATHS))) for _ in range(draw.choice((0, 1, 2)))]
  if program == 'analyze' and draw.random() < 0.8:
    found.insert(0, f'--what={draw.choice(list(ANALYSES))}')
  return runs + found


def stop(*_, **__):
  raise SystemExit(0)


def scorer(config, *_, **__):
  if config.scorer == 'inception':
    load_inception(config.inception_weights or None)
  stop()


@pytest.fixture
def until_work(monkeypatch):
  """Programs that end, with status 0, where their work would begin."""
  monkeypatch.setattr('flowgan_tf.training.loop._Loop', stop)
  monkeypatch.setattr('flowgan_tf.export.saved_model.tf.saved_model.save', stop)
  monkeypatch.setattr(evaluate, 'make_scorer', scorer)
  monkeypatch.setattr(evaluate, 'Evaluator', stop)
  monkeypatch.setattr(tfds, 'host_answers', lambda url, **_: False)

  def measure(self, subject, settings):
    stop(self.check(settings, subject.run.config, subject.dataset))

  for analysis in ANALYSES.values():
    monkeypatch.setattr(type(analysis), 'measure', measure)


@pytest.mark.slow
@pytest.mark.usefixtures('until_work')
def test_random_flags(faults, tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.setenv('KERAS_HOME', str(tmp_path))
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'missing'))
  names = {program: flag_names(program) for program in PROGRAMS}
  for program in ('train', 'sweep'):
    names[program] += [f'config.{name}' for name in (*settings(default_config()), 'nice', 'optimizer', 'nosuch')]
  for trial in faults.trials('flags with random values, of all programs', long=4000, short=40):
    folder = tmp_path / 'cwd'
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(GOLDEN, folder / 'RUN')
    (folder / 'folder').mkdir()
    (folder / 'file').write_bytes(b'\xff\x00 no text')
    (folder / 'small.py').write_text(SMALL)
    (folder / 'cut.npz').write_bytes(b'PK\x03\x04')
    monkeypatch.chdir(folder)
    draw = random.Random(trial)
    program = PROGRAMS[trial % len(PROGRAMS)]
    given = arguments(program, names[program], draw)
    began = time.process_time()
    outcome = call(program, *given)
    seconds = time.process_time() - began
    said = (trial, program, given, outcome)
    assert outcome.status in (0, 1, 2, 130, 143), said
    assert 'Traceback' not in outcome.err and 'Warning' not in outcome.err, said
    if outcome.status == 2:
      assert outcome.err.count('\n') == 1 and outcome.err.startswith(f'{program}: '), said
      assert seconds < SECONDS, said

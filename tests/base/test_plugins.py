"""Parts from outside of the package: a module on the path trains, is evaluated, exported, analysed and reported."""

import importlib
import pathlib
import re
import shlex
import shutil
import sys
from unittest import mock

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from absl import flags

from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.plugins import folders_of, is_plugin
from flowgan_tf.data.sources import SOURCES, load
from flowgan_tf.evaluation.results import read_evaluation
from flowgan_tf.flows import GENERATORS, Flow, fit_bijectors
from flowgan_tf.flows.histograms import pixel_logit
from flowgan_tf.objectives import DIVERGENCES, TERMS, Drawn, Objective, Seen
from flowgan_tf.objectives.objective import make_objective
from flowgan_tf.programs import command
from flowgan_tf.runs.config import default_config, idle, validate
from flowgan_tf.runs.folder import Description, open_workdir, read_description, write_description
from flowgan_tf.runs.log import read_metrics
from flowgan_tf.runs.run import load_run, make_generator
from flowgan_tf.study import ANALYSES, Study, analyses_of
from flowgan_tf.study.apply import _apply
from flowgan_tf.training.loop import train
from flowgan_tf.training.state import TrainState
from flowgan_tf.training.step import TrainStep
from tests.programs.conftest import CHECKOUT, assert_one_line, call, parsed_config, untouched
from tests.tiny import FACTS

FLAGS = shlex.split("""--generator=my_parts:toy --objective=hybrid --divergence=my_parts:DIVERGENCE
  --terms=my_parts:Bright --dataset=my_parts:stripes --batch_size=8 --critic_steps=1 --steps=2 --nojit
  --config.score_samples=0 --config.dcgan_critic.channels=(2,) --config.dcgan_critic.dense_units=0""")


@pytest.fixture
def module(tmp_path, monkeypatch):
  """A folder with the module `my_parts`, which is where the programs are called."""
  shutil.copy(pathlib.Path(__file__).parent.parent / 'plugged.py', tmp_path / 'my_parts.py')
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', sys.path[:])
  yield tmp_path
  sys.modules.pop('my_parts', None)


@pytest.mark.slow
def test_parts_from_outside_of_every_kind(module, tmp_path):
  flags = (*FLAGS, '--workdir=run')
  trained = call('train', *flags, '--config.toy.spread=2.0', '--toy_weight=0.5')
  assert trained.status == 0 and 'my_parts:toy: 3 parameters' in trained.err, trained
  # Other programs find the module by the run alone.
  sys.modules.pop('my_parts')
  sys.path[:] = [path for path in sys.path if path != str(tmp_path)]
  config = read_description(tmp_path / 'run').config
  assert config.toy.to_dict() == {'spread': 2.0, 'shifts': (0.0, 0.0)} and config.toy_weight == 0.5
  assert all(np.isfinite(record['nll']) for record in read_metrics(tmp_path / 'run'))
  evaluated = call('evaluate', 'run', '--checkpoint=latest', '--samples=0', '--float64')
  assert evaluated.status == 0, evaluated
  [record] = [record for record in read_evaluation(tmp_path / 'run') if record['checkpoint'] == 'latest']
  assert record['nll_float64'] == pytest.approx(record['nll'], rel=1e-4)
  analysed = call('analyze', 'run', '--what=my_parts:BRIGHTNESS', '--few=20')
  assert analysed.status == 0 and 'analysis/brightness.json' in analysed.out, analysed
  assert call('report', 'run').status == 0
  page = (tmp_path / 'run' / 'report.html').read_text()
  assert all(text in page for text in ('Numbers of my_parts:BRIGHTNESS', '--what=my_parts:BRIGHTNESS'))
  images = np.random.default_rng(0).uniform(0.1, 0.9, (3, 4, 4, 1)).astype(np.float32)
  flow, model = load_run(tmp_path / 'run').generator, tf.saved_model.load(str(tmp_path / 'run' / 'export'))
  np.testing.assert_allclose(model.log_prob(images), flow.log_prob(images), rtol=1e-4, atol=1e-4)


def test_a_term_is_part_of_the_loss(module):
  """Its settings are settings of the training, and its numbers are in the log."""
  nothing = ['--config.eval_every=2', '--evaluate=false', '--config.log_every=1', '--workdir=run', '--toy_weight=100']
  trained = call('train', *FLAGS, *nothing)
  assert trained.status == 0 and 'A new run in run.' in trained.err, trained
  for record in (record for record in read_metrics(module / 'run') if record['kind'] == 'train'):
    terms = record['generator_loss'] + 0.1 * record['nll'] + 100 * record['bright']
    assert 0 < record['bright'] < 1 and record['loss'] == pytest.approx(terms, rel=1e-5)


def test_a_term_is_not_left_out_in_silence(module, monkeypatch):
  monkeypatch.syspath_prepend(module)
  monkeypatch.setattr(TERMS['my_parts:Bright'], 'adversarial_only', True)
  config = default_config(terms=('my_parts:Bright',), objective='mle')
  with pytest.raises(UsageError, match=r'^`objective`.*Bright'):
    validate(config)
  assert idle('toy_weight', config) == 'objective mle'
  config.objective = 'hybrid'
  validate(config)
  assert [type(term).__name__ for term in make_objective(config).terms][-1] == 'Bright'
  assert idle('toy_weight', config) == ''


def test_a_bijector_starts_from_the_rows_of_a_table(module):
  rng = np.random.default_rng(0)
  arrays = {name: (3 + 2 * rng.normal(size=(n, 2))).astype('float32') for name, n in (('x_train', 90), ('x_test', 9))}
  np.savez('table.npz', **arrays)
  flags = shlex.split('--generator=my_parts:rows --dataset=table.npz --objective=mle --steps=1 --batch_size=8 --nojit')
  trained = call('train', *flags, '--config.ema_decay=0', '--config.optimizer.learning_rate=1e-6', '--workdir=run')
  assert trained.status == 0, trained
  act_norm, kept = load_run(module / 'run').generator.bijector, 81
  assert kept == len(arrays['x_train']) * 9 // 10
  assert abs(act_norm.mean - arrays['x_train'].mean()) < 0.2 and abs(act_norm.std - arrays['x_train'].std()) < 0.2


def test_a_configuration_holds_the_settings_of_a_plug_in(module, monkeypatch):
  monkeypatch.syspath_prepend(module)
  config = default_config(generator='my_parts:toy', terms=('my_parts:Bright',), toy_weight=0.5)
  assert (config.toy.spread, config.toy_weight) == (1.0, 0.5)
  validate(config)


def test_another_module_of_the_same_name_is_rejected(module, tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(module)
  config = default_config(generator='my_parts:toy')
  (tmp_path / 'run').mkdir()
  elsewhere = tmp_path / 'elsewhere'
  elsewhere.mkdir()
  write_description(tmp_path / 'run', Description(config, FACTS, plugins={'my_parts': str(elsewhere)}))
  assert read_description(tmp_path / 'run').config.toy.spread == 1.0  # The module has moved.
  shutil.copy(module / 'my_parts.py', elsewhere)
  with pytest.raises(UsageError, match=r'run/config\.json: .*my_parts.*elsewhere'):
    read_description(tmp_path / 'run')


@pytest.mark.parametrize(
  ('flag', 'named'),
  [
    ('--generator=nothing_here:toy', ['--generator', 'nothing_here']),
    ('--generator=my_parts:Bright', ['--generator', 'my_parts:Bright', '`flowgan_tf.flows.builder`']),
    ('--terms=my_parts:toy', ['--terms', 'my_parts:toy', '`flowgan_tf.objectives.Term`']),
    ('--terms=my_parts:Bright,my_parts:Bright', ['--terms', '`toy_weight`']),
    ('--terms=5', ['--terms', 'MODULE:CLASS', ' 5.']),
    ('--divergence=my_parts:toy', ['--divergence', 'my_parts:toy', '`flowgan_tf.objectives.Divergence`']),
    ('--dataset=my_parts:strips', ['--dataset my_parts:strips', 'stripes']),
    ('--dataset=my_parts:DIVERGENCE', ['--dataset', 'Dataset']),
    ('--terms=Bright', ['--terms', 'MODULE:CLASS', 'Bright']),
    ('--terms=adversary', ['--terms', 'MODULE:CLASS', 'adversary']),
    ('--config.tooy.spread=1', ['--config.tooy.spread', '--generator=MODULE:tooy']),
    ('--unheard=1', ['--unheard\n']),
    ('--smooth_weight=1', ['--smooth_weight', '--terms=MODULE:CLASS']),
    ('--config.nice.copulings=1', ['--config.nice.copulings', '--config.nice.couplings']),
  ],
)
def test_a_mistake_is_one_line(module, flag, named):
  assert_one_line(call('train', '--workdir=run', flag), 'train', *named)


def test_what_a_builder_from_outside_declares_is_checked_and_shown(module):
  wrong = call('train', '--workdir=run', '--generator=my_parts:toy', '--config.toy.spread=-1')
  assert_one_line(wrong, 'train', '--config.toy.spread', '0.1', '10', '-1.0')
  assert 'Factor of the noise.' in call('train', '--generator=my_parts:toy', '--helpfull').out


WRONG = """
import dataclasses
import keras
import tensorflow_probability as tfp
import flowgan_tf as fg

class Term(fg.objectives.Term):
  def loss(self, drawn):
    return 0.0, {}

class OtherSettings(Term):
  @dataclasses.dataclass
  class Settings:
    weight: float = fg.objectives.setting(0.0, 'Weight.')

class NoDecorator(Term):
  class Settings(fg.objectives.Settings):
    weight: float = fg.objectives.setting(0.0, 'Weight.')

class BareField(Term):
  @dataclasses.dataclass(frozen=True, kw_only=True)
  class Settings(fg.objectives.Settings):
    weight: float = 0.5

class NoLoss(fg.objectives.Term):
  pass

@fg.flows.builder
def left_open(image_shape, *, filters=None, dtype='float32', name='left_open'):
  return None

@fg.flows.builder
def required(image_shape, *, filters, dtype='float32', name='required'):
  return None

@fg.flows.builder
def twins(vector_shape, *, dtype='float32', name='twins'):
  mask = fg.bijectors.masks.even_odd(vector_shape)
  couplings = [fg.bijectors.AdditiveCoupling(keras.layers.Dense(2), mask, 'same') for _ in range(2)]
  prior = fg.flows.prior.standard_prior('normal', vector_shape, 'float32')
  return fg.flows.Flow(prior, tfp.bijectors.Chain(couplings), name)

def two_heads(image_shape, *, condition_shape, dtype):
  images = keras.Input(image_shape)
  flat = keras.layers.Flatten()(images)
  return keras.Model(images, [keras.layers.Dense(1)(flat), keras.layers.Dense(1)(flat)])

class Measures(fg.study.Analysis):
  name, title, caption, columns = 'measures', 'Measures', 'A caption', ()

class Taken(Measures):
  description = 'numbers with names of the record'

  def measure(self, subject, settings):
    return {'step': 0.5, 'settings': {}}, {}

TAKEN = Taken()
"""


@pytest.mark.parametrize(
  ('name', 'named'),
  [
    ('OtherSettings', '`Settings`'),
    ('NoDecorator', '@dataclasses.dataclass'),
    ('BareField', '`weight`'),
    ('NoLoss', '`loss`'),
  ],
)
def test_what_is_wrong_with_a_part_is_named(module, monkeypatch, name, named):
  monkeypatch.syspath_prepend(module)
  (module / 'my_parts.py').write_text(WRONG)
  with pytest.raises(UsageError, match=f'^`terms` my_parts:{name}: .*{named}'):
    TERMS[f'my_parts:{name}']


def test_numbers_of_an_analysis_do_not_replace_those_of_the_record(module, monkeypatch):
  monkeypatch.syspath_prepend(module)
  (module / 'my_parts.py').write_text(WRONG)
  subject = mock.MagicMock(run=mock.MagicMock(workdir=module, image_shape=(4, 4, 1)))
  subject.dataset.condition_kind = ''
  with pytest.raises(UsageError, match=r'measures.*settings, step'):
    _apply(subject, 'my_parts:TAKEN')


def test_keywords_of_a_builder_need_defaults(module, monkeypatch):
  monkeypatch.syspath_prepend(module)
  (module / 'my_parts.py').write_text(WRONG)
  for name in ('left_open', 'required'):
    with pytest.raises(UsageError, match=rf'^`{name}\.filters`.*default'):
      default_config(generator=f'my_parts:{name}')


def test_couplings_of_one_name_are_found_when_the_generator_is_built(module, monkeypatch):
  monkeypatch.syspath_prepend(module)
  (module / 'my_parts.py').write_text(WRONG)
  with pytest.raises(UsageError, match=r"^`generator` 'my_parts:twins'.*'same', 'same'"):
    make_generator(default_config(generator='my_parts:twins'), (4,))


def test_a_critic_with_two_outputs_is_rejected(module, monkeypatch):
  monkeypatch.syspath_prepend(module)
  (module / 'my_parts.py').write_text(WRONG)
  config = default_config(critic='my_parts:two_heads', objective='adversarial')
  config.nice.couplings, config.nice.hidden_units = 2, 4
  with pytest.raises(UsageError, match=r'^`layer`'):
    TrainState(config, (4, 4, 1), make_objective(config))


def test_a_transport_needs_the_logits_of_pixels(module, monkeypatch):
  monkeypatch.syspath_prepend(module)
  with pytest.raises(UsageError, match=r'^`generator`.*`AlphaLogit`'):
    pixel_logit(GENERATORS['my_parts:rows'](2))


def test_folders_of_modules(module, monkeypatch):
  monkeypatch.syspath_prepend(module)
  (module / 'without_init').mkdir()
  (module / 'without_init' / 'parts.py').write_text('def images(): pass')
  SOURCES['without_init.parts:images']
  names = ['without_init.parts:images', 'numpy:ones', 'digits', 'huggingface:mnist']
  assert folders_of(names) == {'without_init.parts': str(module)}
  assert not is_plugin('huggingface:mnist')


def test_a_run_says_where_it_found_a_module_that_is_gone(module, monkeypatch):
  monkeypatch.syspath_prepend(module)
  (module / 'run').mkdir()
  write_description(
    module / 'run', Description(default_config(terms=('my_parts:Bright',)), FACTS, plugins={'my_parts': '/old'})
  )
  (module / 'my_parts.py').rename(module / 'other.py')
  sys.modules.pop('my_parts')
  with pytest.raises(UsageError, match=r'my_parts.*/old$'):
    read_description(module / 'run')


def test_tensorflow_is_loaded_before_a_part_imports_it(module):
  (module / 'own.py').write_text(
    "import flowgan_tf as fg\n\ndef get_config():\n  return fg.runs.default_config(generator='my_parts:toy')\n"
  )
  for arguments in (['--objective=adversarial', '--divergence=my_parts:DIVERGENCE'], ['--config=own.py']):
    sys.modules.pop('my_parts', None)
    found = []
    loads = mock.Mock(side_effect=lambda found=found: found.append('my_parts' in sys.modules))
    with mock.patch.object(command, 'load_tensorflow', loads):
      parsed_config(arguments)
    assert found[0] is False and 'my_parts' in sys.modules, arguments


@pytest.fixture
def page(tmp_path, monkeypatch):
  """The Python of docs/plugins.md as the module `my_parts`; returns the text."""
  text = (CHECKOUT / 'docs' / 'plugins.md').read_text()
  *parts, _ = re.findall(r'^```python\n(.*?)^```$', text, re.DOTALL | re.MULTILINE)
  (tmp_path / 'my_parts.py').write_text('\n\n'.join(parts))
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', sys.path[:])
  yield text
  sys.modules.pop('my_parts', None)


def test_the_commands_of_the_page_parse(page):
  commands = re.findall(r'^bin/train (.*)$', page, re.MULTILINE)
  for flags_given in commands:
    validate(parsed_config(shlex.split(flags_given)))
  assert len(commands) == 4


def test_the_bijector_of_the_page_makes_standard_noise(page, monkeypatch):
  monkeypatch.syspath_prepend('.')
  parts, data = importlib.import_module('my_parts'), load('my_parts:points').train.images
  act_norm, flow = parts.ActNorm(2), parts.gaussian(2)
  for bijector, noise in ((flow.bijector, flow.encode), (tfp.bijectors.Invert(act_norm), act_norm.forward)):
    fit_bijectors(Flow(flow.distribution, bijector), data)
    np.testing.assert_allclose([noise(data).numpy().mean(0), noise(data).numpy().std(0)], [[0, 0], [1, 1]], atol=1e-2)
  expected = scipy.stats.multivariate_normal(data.mean(0), np.diag(data.var(0))).logpdf(data)
  np.testing.assert_allclose(flow.log_prob(data), expected, atol=1e-2)


def test_the_term_of_the_page_is_the_same_on_each_share_of_a_batch(page, monkeypatch):
  monkeypatch.syspath_prepend('.')
  parts = importlib.import_module('my_parts')
  rows = np.random.default_rng(0).normal(0, 2, (8, 2)).astype(np.float32)
  expected = np.maximum(scipy.stats.norm.logpdf(rows).sum(axis=1) + 4, 0)
  assert 0 < np.count_nonzero(expected) < 8
  term = parts.Capped(parts.Capped.Settings(cap=-4.0, cap_weight=0.5), {})
  found = term.of_images(Seen(parts.gaussian(2), tf.constant(rows), None))
  np.testing.assert_allclose(found['excess'], expected, rtol=1e-5, atol=1e-5)
  shares = [{name: tf.reduce_mean(values[i : i + 4]) for name, values in found.items()} for i in (0, 4)]
  losses = [term.loss(Drawn(means=means))[0] for means in shares]
  np.testing.assert_allclose(np.mean(losses), 0.5 * expected.mean(), rtol=1e-5)


def test_the_divergence_of_the_page_is_that_of_pearson(page):
  """With the best critic 2 (p / q - 1) it is E_Q[(p / q - 1)^2]."""
  ratio = np.random.default_rng(0).uniform(0.5, 1.5, 1000).astype(np.float32)
  ratio /= ratio.mean()  # The samples of Q are equally probable; those of P are weighted by p / q.
  critic, chosen = 2 * (ratio - 1), np.random.default_rng(1).choice(1000, 200_000, p=ratio / ratio.sum())
  sys.path.insert(0, '.')
  value = DIVERGENCES['my_parts:PEARSON'].value(tf.constant(critic[chosen]), tf.constant(critic))
  np.testing.assert_allclose(value, np.mean((ratio - 1) ** 2), atol=5e-3)


@pytest.mark.slow
def test_the_parts_of_the_page_train_and_analyse(page):
  flags = '--generator=my_parts:checkered --config.critic=my_parts:plain_critic --divergence=my_parts:PEARSON'
  flags += ' --dataset=my_parts:stripes --terms=my_parts:Bright,my_parts:Capped --bright_weight=0.1 --objective=hybrid'
  flags += ' --config.cap=-1000.0'
  steps = '--steps=2 --batch_size=8 --config.score_samples=0 --nojit'
  trained = call('train', *shlex.split(f'{flags} {steps} --workdir=run --config.log_every=1'))
  assert trained.status == 0, trained
  first = next(record for record in read_metrics(pathlib.Path('run')) if record['kind'] == 'train')
  assert first['excess'] == pytest.approx(1000 - first['nll'], rel=1e-5) and 0 < first['bright'] < 1
  assert call('train', *shlex.split(f'--dataset=my_parts:points --generator=my_parts:gaussian {steps}')).status == 0
  analysed = call('analyze', 'run', '--what=my_parts:BRIGHTNESS', '--few=20')
  assert analysed.status == 0 and 'analysis/brightness.json' in analysed.out, analysed


def test_what_a_module_raises_is_raised(module, monkeypatch):
  monkeypatch.syspath_prepend(module)
  for text, error in (('import no_such_module', ModuleNotFoundError), ('1 / 0', ZeroDivisionError)):
    (module / 'my_parts.py').write_text(text)
    with pytest.raises(error):
      GENERATORS['my_parts:toy']


def test_a_first_step_that_fails_blocks_no_other_generator(module, monkeypatch):
  monkeypatch.syspath_prepend(module)
  config = default_config(generator='my_parts:toy', dataset='my_parts:stripes', steps=1, score_samples=0, batch_size=8)
  with mock.patch.object(TrainStep, 'update', side_effect=RuntimeError('wrong')), pytest.raises(RuntimeError):
    train(config, 'run')
  config.toy.shifts = (1.0,)
  open_workdir('run', config, load('my_parts:stripes'))


def test_settings_suit_the_rows_and_the_classes_of_a_plug_in(module):
  with (module / 'my_parts.py').open('a') as file:
    file.write("""
def table():
  rows = fg.data.Split(np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32), None)
  return fg.data.Dataset('rows', None, rows, rows, rows, num_classes=None)

def three():
  split = fg.data.Split(np.zeros((3, 4, 4, 1), np.uint8), np.arange(3))
  return fg.data.Dataset('three', 256, split, split, split, num_classes=3)
""")
  assert parsed_config(['--dataset=my_parts:table']).generator == 'vectors'
  assert parsed_config(['--dataset=my_parts:stripes']).generator == 'nice'
  assert parsed_config(['--dataset=my_parts:three', '--condition=label']).nice.components == 21


def test_a_config_file_runs_once_and_a_shipped_one_is_no_place_for_plug_ins(module):
  text = "open('runs', 'a').write('x')\nimport flowgan_tf as fg\n"
  text += "def get_config():\n  return fg.runs.default_config(generator='my_parts:toy', batch_size=3)\n"
  (module / 'my_config.py').write_text(text)
  assert parsed_config(['--config=my_config.py', '--config.toy.spread=2.0']).toy.spread == 2.0
  assert (module / 'runs').read_text() == 'x'
  parsed_config(['--config=configs/digits.py'])
  assert not any(path.endswith('configs') for path in sys.path)


def test_a_sweep_knows_the_analyses_of_a_run_by_their_modules(module, tmp_path):
  (tmp_path / 'export').mkdir()
  (tmp_path / 'export' / 'saved_model.pb').touch()
  config, record = default_config(steps=2), {'checkpoint': 'latest', 'step': 2}
  study = Study({**record, 'plugin': 'my_parts:BRIGHTNESS', 'settings': {'few': 5, 'sizes': [8, 4]}}, {})
  found = mock.Mock(config=config, step=2, tested=lambda: [record], studies={'brightness': study})
  with untouched(), mock.patch('flowgan_tf.study.read_summary', return_value=found):
    sweep = importlib.import_module('flowgan_tf.programs.sweep')
    flags.FLAGS(['sweep'])
    for few in (5, 6):
      assert sweep._is_finished(tmp_path, config, {'my_parts:BRIGHTNESS': {'few': few, 'sizes': (8, 4)}}) == (few == 5)


def test_a_page_shows_the_numbers_of_an_analysis_from_outside_without_importing_it(module):
  record = {'what': 'brightness', 'plugin': 'my_parts:BRIGHTNESS', 'checkpoint': 'latest', 'step': 2, 'seconds': 0.1}
  study = Study({**record, 'settings': {}, 'mean': 0.25, 'n': 10, 'note': ['a']}, {})
  *ours, found = analyses_of([mock.Mock(studies={'brightness': study, 'kde': Study({'what': 'kde'}, {})})])
  assert ours == [*ANALYSES.values()] and 'my_parts' not in sys.modules
  assert found.title == 'brightness' and found.caption == 'Numbers of my_parts:BRIGHTNESS'
  assert found.lines(study.record)[1:] == ['mean    n', '---------', '0.25   10']


def test_the_name_of_a_part_is_not_the_name_of_other_settings(module, monkeypatch):
  monkeypatch.syspath_prepend(module)
  text = (module / 'my_parts.py').read_text()
  (module / 'my_parts.py').write_text(text + '\nseed = dcgan_critic = toy\n')
  for name in ('seed', 'dcgan_critic'):
    with pytest.raises(UsageError, match=f'^`generator`.* {name}'):
      default_config(generator=f'my_parts:{name}')


def test_terms_do_not_share_names(module, monkeypatch):
  monkeypatch.syspath_prepend(module)
  config = default_config(terms=('my_parts:Bright',))
  [likelihood, bright] = make_objective(config).terms
  drawn = Drawn(means={'log_prob': tf.constant(-2.0)}, samples=tf.constant([0.5]))
  assert Objective((likelihood, bright)).generator_loss(drawn)[1]['bright'] == 0.5
  with pytest.raises(UsageError, match=r'bright.*Bright'):
    Objective((bright, bright)).generator_loss(drawn)

"""The commands that a page shows make what they stand beside."""

import os
import shlex
import subprocess

import pytest

from flowgan_tf.configs import cifar10, digits, mnist
from flowgan_tf.report import commands
from flowgan_tf.runs.config import default_config, idle, settings, used
from flowgan_tf.study import ANALYSES
from flowgan_tf.study.summary import Study
from tests.programs.conftest import parsed_config
from tests.summaries import conditional, kde
from tests.summaries import summary as make_summary


def summary(config, **fields):
  return make_summary('mle', path='runs/a b', config=config, **fields)


def changed(**values):
  config = default_config()
  config.update_from_flattened_dict({name.replace('__', '.'): value for name, value in values.items()})
  return config


def recipe(**values):
  config = mnist.get_config('hybrid')
  config.update(values)
  return config


CONFIGS = [
  changed(),
  changed(condition='low_resolution:2'),
  cifar10.get_config('dinh'),
  changed(objective='hybrid', **{'lambda': 0.25}),
  changed(objective='adversarial', generator='dcgan', dcgan__channels=(8, 4), flip=True),
  changed(
    dataset='mnist',
    optimizer__learning_rate=5e-4,
    dcgan_critic__channels=(4,),
    jit=False,
    ema_decay=0.0,
    gradient_penalty=2.5,
    nice__alpha=1e-3,
    seed=3,
  ),
  changed(
    objective='hybrid',
    divergence='relativistic',
    final_lambda=1e-3,
    transport_weight=10.0,
    final_transport_weight=1.0,
    penalty='one_centered',
    penalty_interval=4,
    critic_warmup=200,
    critic_steps=1,
    reuse_batch=True,
    init_from='/runs/first',
    optimizer__warmup_steps=100,
  ),
  changed(objective='adversarial', final_lambda=0.0, **{'lambda': 0.0}),
  # Nearest to a variant that has another start and another weight of the penalty.
  recipe(init_from='', gradient_penalty=None),
]


@pytest.mark.parametrize('config', CONFIGS)
def test_training_again_has_the_same_configuration(config):
  words = shlex.split(commands.train(summary(config)))
  assert words[0] == 'bin/train' and words[-1] == '--workdir=runs/a b'
  got, expected = (
    {name: value for name, value in settings(used(found)).items() if not idle(name, config)}
    for found in (parsed_config(words[1:]), config)
  )
  assert got == expected


def test_a_start_is_named_as_from_here_and_places_of_a_machine_are_left_out(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for start, flag in ((f'{tmp_path}/runs/a', ['--init_from=runs/a']), ('/a', ['--init_from=/a']), ('', [])):
    words = shlex.split(commands.train(summary(changed(init_from=start))))
    assert [word for word in words if 'init_from' in word] == flag
  config = recipe(init_from=f'{tmp_path}/runs/mnist-mle', data_dir='/home', cache_dir='/c', inception_weights='/w.h5')
  expected = "bin/train --config=configs/mnist.py:hybrid --objective=hybrid --lambda=0.02 '--workdir=runs/a b'"
  assert commands.train(summary(config)) == expected
  assert parsed_config(shlex.split(expected)[1:]).init_from == config.init_from


def test_the_nearest_shipped_configuration_is_named():
  hybrid, default = mnist.get_config(), digits.get_config()
  hybrid.update({'objective': 'hybrid', 'steps': 500, 'lambda': 2.0})
  default.objective = 'mle'
  for config, flags in (
    (hybrid, '--config=configs/mnist.py --objective=hybrid --lambda=2 --steps=500'),
    (mnist.get_config('paper'), '--config=configs/mnist.py:paper --objective=mle'),
    (default, '--objective=mle'),
  ):
    assert commands.train(summary(config)) == f"bin/train {flags} '--workdir=runs/a b'"


def test_evaluation_and_what_is_missing():
  run = summary(default_config())
  record = {'split': 'test', 'score_samples': 5000, 'scorer': 'inception_v3', 'nll_float64': 1.0}
  expected = "bin/evaluate 'runs/a b' --split=test --samples=5000 --scorer=inception --float64"
  assert commands.evaluate(run, record) == expected
  assert commands.evaluate(run, {'split': 'test'}) == "bin/evaluate 'runs/a b' --split=test --samples=0"
  runs = [run, make_summary('hybrid')]
  assert commands.missing(runs, []) == ["bin/evaluate 'runs/a b'", 'bin/evaluate runs/hybrid']
  of = [ANALYSES[name] for name in ('kde', 'ais')]
  assert commands.missing(runs, of) == ["bin/analyze 'runs/a b' runs/hybrid --what=kde,ais"]
  given = conditional('low_resolution:4')
  assert commands.missing([run, given], of) == [
    "bin/analyze 'runs/a b' --what=kde",
    f"bin/analyze 'runs/a b' {given.path} --what=ais",
  ]
  assert commands.missing([given], of[:1]) == []
  assert commands.missing(runs[1:], [ANALYSES['critic']]) == ['bin/analyze runs/hybrid --what=critic --other=RUN']


def test_a_setting_of_several_values():
  study = Study({'checkpoint': 'latest', 'settings': {'other': 'b', 'sights': ['pixels', 'logits+noise']}}, {})
  run = make_summary('mle', studies={'critic': study})
  expected = 'bin/analyze runs/mle --what=critic --checkpoint=latest --other=b --sights=pixels,logits+noise'
  assert commands.analyze([run], 'critic') == expected


def test_analyses_of_runs_with_the_same_settings_are_one_command():
  study = Study({'checkpoint': 'latest', 'settings': {'seed': 1, 'images': 50, 'other_dataset': ''}}, {})
  run = summary(default_config(), studies={'outliers': study})
  expected = "bin/analyze 'runs/a b' --what=outliers --checkpoint=latest --seed=1 --images=50"
  assert commands.analyze([run], 'outliers') == expected
  other = make_summary('hybrid', studies={'outliers': study})
  assert commands.analyze([run, other], 'outliers') == expected.replace("b'", "b' runs/hybrid")
  other = make_summary('hybrid', studies={'outliers': kde(0.0, 0.0)})
  assert commands.analyze([run, other], 'outliers') is None


@pytest.mark.parametrize(
  'word', ["it's", 'a b', '', 'a\x1b[201~b', "'\n\\", 'x\u202ey', 'caf\xe9 \x01', '$(touch x)\n`y`']
)
def test_a_shell_reads_words_as_they_were(word):
  text = commands.shell(['printf', '%s', word])
  assert text.isprintable()
  environment = {'LC_ALL': 'C.UTF-8', 'PATH': os.environ['PATH']}
  done = subprocess.run(['bash', '-c', text], capture_output=True, check=True, env=environment)
  assert done.stdout.decode() == word


def test_a_shell_reads_bytes_that_are_no_text():
  done = subprocess.run(['bash', '-c', commands.shell(['printf', '%s', 'a\udcff\n'])], capture_output=True, check=True)
  assert done.stdout == b'a\xff\n'

"""The commands that a page shows make what they stand beside."""

import os
import subprocess

import pytest

from flowgan_tf.report import commands
from flowgan_tf.runs.config import default_config
from flowgan_tf.study import ANALYSES
from flowgan_tf.study.summary import Study
from tests.summaries import conditional, kde
from tests.summaries import summary as make_summary


def summary(config, **fields):
  return make_summary('mle', path='runs/a b', config=config, **fields)


def test_the_commands_of_a_training_are_as_they_were_given():
  assert commands.train(()) == ''
  first, second = ['--lambda=0.1', '--config.dcgan.channels=(8, 4)'], ['--workdir', 'a b', '--steps=9']
  expected = "bin/train --lambda=0.1 '--config.dcgan.channels=(8, 4)'"
  assert commands.train([first]) == expected
  assert commands.train([first, second]) == f"{expected} && bin/train --workdir 'a b' --steps=9"


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

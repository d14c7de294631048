"""A run that was cut off goes on, in a new process, as if nothing had been: bit for bit."""

import json
import re
import shlex
import shutil
import signal

import pytest

from flowgan_tf.runs.folder import exclusive
from flowgan_tf.runs.log import read_metrics
from tests.processes import assert_same_run, newest
from tests.programs.conftest import TINY, assert_one_line, call, call_outside

# A process that is killed after one of its steps.
KILL_AFTER = """
import itertools, os, signal
from flowgan_tf.runs.log import RunLog
steps, advance = itertools.count(1), RunLog.advance
RunLog.advance = lambda *given: (advance(*given), next(steps) == {} and os.kill(os.getpid(), signal.SIGKILL))
"""

# All that a training uses which goes on from maximum likelihood.
RECIPE = (
  *TINY,
  *shlex.split("""--divergence=relativistic --critic_steps=1 --steps=7 --config.eval_every=5 --config.reuse_batch=True
    --config.critic_warmup=3 --config.penalty_interval=2 --config.final_lambda=0.01 --config.optimizer.warmup_steps=4
    --config.critic_optimizer.warmup_steps=2 --config.optimizer.schedule=cosine"""),
)


@pytest.mark.slow
def test_a_run_in_three_parts(finished, cache, tmp_path):
  """Ten steps, over the border of the first epoch; two more before it is killed; and the rest."""
  workdir = tmp_path / 'run'
  flags = (*TINY, f'--config.cache_dir={cache}', f'--workdir={workdir}')
  first = call('train', *flags, '--steps=10')
  assert first.status == 0, first
  killed = call_outside('train', *flags, '--steps=20', prelude=KILL_AFTER.format(3))
  assert killed.status == -signal.SIGKILL, killed
  assert (newest(workdir).name, read_metrics(workdir)[-1]['step']) == ('ckpt-10', 12)
  last = call('train', *flags, '--steps=20')
  assert last.status == 0, last
  assert_same_run(finished[0], workdir)
  steps = [(record['kind'], record['step']) for record in read_metrics(workdir)]
  assert len(set(steps)) == len(steps) == 20 + 2
  assert last.out.replace(str(workdir), str(finished[0])) == finished[1].out
  assert (finished[0] / 'evaluation.json').read_text() == (workdir / 'evaluation.json').read_text()


@pytest.mark.slow
def test_the_folder_alone_names_the_run_which_trains_no_further(finished, tmp_path):
  workdir = shutil.copytree(finished[0], tmp_path / 'run')
  again = call('train', '--samples=50', f'--workdir={workdir}')
  assert again.status == 0
  assert again.out.replace(str(workdir), str(finished[0])) == finished[1].out
  found, data, seconds = again.err.splitlines()
  assert data == 'digits: 1,437 training, 180 validation and 180 test images of 8 x 8 x 1, 10 classes.'
  assert found == f'Already at step 20 of 20 in {workdir}.'
  assert re.fullmatch(r'\d+ seconds in all, from the start of the program to the export\.', seconds)
  assert_same_run(workdir, finished[0])


def test_a_folder_in_which_no_training_can_go_on_is_rejected_at_once(finished, tmp_path):
  workdir = shutil.copytree(finished[0], tmp_path / 'run')
  with exclusive(workdir):
    assert_one_line(call('train', f'--workdir={workdir}'), 'train', 'another training is running in this folder')
  shutil.rmtree(workdir / 'checkpoints' / 'latest')
  assert_one_line(call('train', f'--workdir={workdir}'), 'train', 'none to resume from; start from it by --init_from')
  for program in ('train', 'sweep'):
    assert_one_line(call(program, '--workdir=pretrained:mnist'), program, '--workdir=pretrained:mnist: must be a path')


@pytest.mark.parametrize('saved', [False, True])
def test_settings_may_change_until_there_is_a_checkpoint(finished, tmp_path, saved):
  latest = tmp_path / 'checkpoints' / 'latest'
  latest.mkdir(parents=True)
  shutil.copy(finished[0] / 'config.json', tmp_path)
  if saved:
    shutil.copytree(newest(finished[0]).parent, latest, dirs_exist_ok=True)
  flags = ('--config.scorer=inception', f'--config.inception_weights={tmp_path}/none', f'--workdir={tmp_path}')
  outcome = call('train', *flags)
  said = 'another configuration' if saved else f'{tmp_path}/none: no such file'
  assert_one_line(outcome, 'train', said)


def test_a_rejected_training_leaves_no_settings(tmp_path):
  flags = ('--condition=label', '--config.labelled=5', '--objective=mle', f'--workdir={tmp_path}')
  assert call('train', *flags).err.endswith('--config.labelled must be 0 or at least 10, one for each class. Got: 5.\n')
  outcome = call('train', '--config.consistency_weight=1', f'--workdir={tmp_path}')
  assert_one_line(outcome, 'train', '--config.consistency_weight must be 0 unless `condition` is computed')
  histograms = ('--condition=label', '--config.jet.histogram_bins=4', '--config.jet.histogram_networks=1')
  for flags in (('--generator=dcgan',), ('--generator=jet', *histograms)):
    flags = ('--objective=adversarial', '--config.transport_weight=1', *flags, f'--workdir={tmp_path}')
    outcome = call('train', *flags)
    assert_one_line(outcome, 'train', '--config.transport_weight must be 0 with ')


@pytest.fixture(scope='module')
def recipe(tmp_path_factory, finished, cache):
  folder = tmp_path_factory.mktemp('recipe')
  source = shutil.copytree(finished[0], folder / 'source')
  flags = (*RECIPE, f'--config.cache_dir={cache}', f'--init_from={source}')
  return folder / 'whole', flags, call('train', *flags, f'--workdir={folder / "whole"}')


@pytest.mark.slow
def test_a_training_that_starts_from_another_run(recipe, finished):
  workdir, flags, outcome = recipe
  source = workdir.parent / 'source'
  last = json.loads((finished[0] / 'evaluation.json').read_text())['records']
  step = next(record['step'] for record in last if record['checkpoint'] == 'best_nll')
  assert f'The generator starts from {source}, checkpoint best_nll, step {step}.\n' in outcome.err, outcome
  validations = [record for record in read_metrics(workdir) if record['kind'] == 'validation']
  best = min(record['nll'] for record in read_metrics(finished[0]) if record['kind'] == 'validation' and record['step'])
  # The curve begins where the other ended, and a critic that is warmed up alone leaves the flow as it is.
  assert [record['step'] for record in validations] == [0, 5, 7]
  assert validations[0]['nll'] == pytest.approx(best)
  warmup = [record for record in read_metrics(workdir) if record['kind'] == 'train'][:3]
  assert all('critic_gap' in record and 'nll' not in record for record in warmup)
  outcome = call('train', *flags[:-1], f'--workdir={workdir}', f'--init_from={workdir.parent}')
  assert_one_line(outcome, 'train', 'another configuration', f'init_from {source} -> {workdir.parent}')


@pytest.mark.slow
def test_it_goes_on_after_a_kill_without_the_run_that_it_started_from(recipe, tmp_path):
  whole, flags, _ = recipe
  command = (*flags, f'--workdir={tmp_path / "parts"}')
  killed = call_outside('train', *command, prelude=KILL_AFTER.format(6))
  assert killed.status == -signal.SIGKILL, killed
  source = (whole.parent / 'source').rename(whole.parent / 'moved')
  resumed = call('train', *command)
  source.rename(whole.parent / 'source')
  assert resumed.status == 0 and 'Resuming at step 5 of 7' in resumed.err and 'starts from' not in resumed.err
  assert_same_run(whole, tmp_path / 'parts')

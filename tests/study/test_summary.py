"""Summaries of runs, and of runs with damaged files: each is named in one line, and the rest is read."""

import os
import shutil

import numpy as np
import pytest

from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.files import write_record
from flowgan_tf.study import read_summary, summarize
from tests.summaries import evaluated, kde, summary
from tests.tiny import edit_record

DEEP = '[' * 100_000 + ']' * 100_000


def copy(workdir, folder, **config):
  """A run that differs in its configuration alone."""
  shutil.copytree(workdir, folder)
  edit_record(folder / 'config.json', lambda description: description['config'].update(config))
  return folder


@pytest.fixture
def run(workdir, tmp_path):
  return shutil.copytree(workdir, tmp_path / 'run')


def labels(runs):
  return [run.label for run in summarize(runs)[0]]


def test_a_run_as_its_files_tell_it(workdir):
  [found], damage = summarize([workdir])
  assert damage == found.damage == found.evaluation == []
  assert (found.label, found.path, found.image_shape) == ('MLE', str(workdir), (4, 4, 1))
  assert found.step == 2 and found.seconds > 0
  assert {record['step'] for record in found.records('validation')} == {2}
  assert found.sample_grid == (2, (workdir / 'samples' / 'step_0000002.png').read_bytes())
  assert found.evaluated('latest') is None and found.start is None and found.studies == {}


def test_runs_are_in_the_order_of_the_paper_and_told_apart(workdir, tmp_path):
  hybrid = {'objective': 'hybrid'}
  stronger = copy(workdir, tmp_path / 'b', **hybrid, **{'lambda': 10.0})
  weak = copy(workdir, tmp_path / 'c', **hybrid, final_lambda=0.1)
  moving = copy(workdir, tmp_path / 'm', **hybrid, final_lambda=0.001)
  adversarial, again = (copy(workdir, tmp_path / name, objective='adversarial') for name in 'ad')
  divergent = copy(workdir, tmp_path / 'e', objective='adversarial', divergence='jensen_shannon')
  order = ['MLE', 'ADV (a)', 'ADV (d)', 'Hybrid λ = 0.1', 'Hybrid λ = 0.1 to 0.001', 'Hybrid λ = 10']
  assert labels([stronger, again, weak, adversarial, workdir, moving]) == order
  dcgan = copy(workdir, tmp_path / 'g', objective='adversarial', generator='dcgan', dcgan={})
  assert labels([divergent, again, dcgan]) == ['ADV (nice)', 'ADV jensen_shannon (nice)', 'ADV (dcgan)']
  near, nearer = (
    copy(workdir, tmp_path / f't{last}', objective='adversarial', transport_weight=9.0, final_transport_weight=last)
    for last in (9.0, 1.0)
  )
  assert labels([again, near, nearer]) == ['ADV', 'ADV transport 9 to 1', 'ADV transport 9']
  classified = copy(workdir, tmp_path / 'classified', class_weight=10.0)
  adversarial_only = copy(workdir, tmp_path / 'idle', divergence='kl', transport_weight=9.0, consistency_weight=9.0)
  assert labels([classified, adversarial_only]) == ['MLE p(y | x) 10', 'MLE']
  everything = {'divergence': 'kl', 'transport_weight': 9.0, 'consistency_weight': 2000.0}
  assert labels([copy(workdir, tmp_path / 'all', **hybrid, **everything)]) == [
    'Hybrid kl λ = 0.1 transport 9 consistency 2000'
  ]
  own = read_summary(workdir)
  own.config.terms = ('my_parts:Bright', 'my_parts:Smooth')
  assert own.objective == 'MLE + Bright + Smooth'
  own.config.objective, own.config.divergence = 'adversarial', 'my_parts:HINGE'
  assert own.objective == 'ADV HINGE + Bright + Smooth'
  given = copy(workdir, tmp_path / 'A', condition='label')
  assert labels([workdir, given]) == ['MLE', 'MLE (given label)']


def test_labels_are_one_line_and_tell_folders_apart(workdir, tmp_path):
  """A name may hold a line end, and bytes that are not UTF-8."""
  names = [b'a\nb', b'\xff', b'<b>', '犬'.encode()]
  paths = [shutil.copytree(workdir, tmp_path / os.fsdecode(name)) for name in names]
  found = {run.path: run.label for run in summarize(paths)[0]}
  said = [r'a\nb', r'\xff', '<b>', '犬']
  assert found == {str(path): f'MLE ({name})' for path, name in zip(paths, said, strict=True)}
  alike = [copy(workdir, tmp_path / name / 'run') for name in 'cd']
  assert labels(alike) == [f'MLE (run) ({path})' for path in alike]


def test_units():
  run = summary('mle', evaluation=[evaluated('best_nll', 4, -784.0, 6.0)])
  # -784 nats of 784 pixels are -1 / ln 2 bits each, and a grey level is 2^-8 wide.
  assert run.in_unit(-784.0, 'bits/dim') == pytest.approx(-1.4426950 + 8)
  assert run.error_in_unit(784.0, 'bits/dim') == pytest.approx(1.4426950)
  assert run.in_unit(-3.0, 'nats') == -3.0
  assert run.evaluated('best_nll')['bits_per_dim_error'] == pytest.approx(1.4426950 * 1.5 / 784)
  assert run.evaluated('latest') is None


def test_a_damaged_run_is_left_out_but_a_mistake_is_not_damage(workdir, tmp_path):
  twice = workdir / '..' / workdir.name
  for folder, said in ((twice, 'named twice'), (tmp_path / 'no', 'no such'), (tmp_path, 'holds no')):
    with pytest.raises(UsageError, match=said):
      summarize([workdir, folder])
  damaged, new = (copy(workdir, tmp_path / name) for name in ('damaged', 'new'))
  (damaged / 'config.json').write_text(DEEP)
  shutil.rmtree(new / 'checkpoints')
  [found], [first, second] = summarize([damaged, workdir, new])
  assert found.path == str(workdir)
  assert first.startswith(f'{damaged}/config.json: damaged (') and second == f'{new}: has no checkpoint yet'
  with pytest.raises(UsageError, match=r'damaged/config\.json: damaged'):
    summarize([damaged])


def test_evaluations_and_logs(run):
  records = [evaluated('best_nll', 2, 3.0, 4.0), evaluated('latest', 4, 3.0, 4.0)]
  write_record(run / 'evaluation.json', {'records': records})
  assert read_summary(run).evaluation == records
  shutil.copy(run / 'config.json', run / 'evaluation.json')
  assert read_summary(run).damage[0].startswith(f'{run}/evaluation.json: holds no evaluation; remove it, and run')
  (run / 'evaluation.json').write_text('{')
  (run / 'metrics.jsonl').unlink()
  found = read_summary(run)
  assert (found.evaluation, found.metrics, found.step, found.seconds) == ([], [], None, None)
  lost, line = found.damage
  assert lost == f'{run}/metrics.jsonl: is missing; the losses of the training are lost'
  assert line.startswith(f'{run}/evaluation.json: damaged')


def test_damaged_logs_are_named_once(run, caplog):
  log = run / 'metrics.jsonl'
  content = log.read_bytes()
  for end in (b'', b'{"kind": "train", "st'):  # A training may be writing the last line, or have written none yet.
    log.write_bytes(content + end)
    assert read_summary(run).damage == []
  log.write_bytes(b'')
  assert read_summary(run).damage == []
  log.write_bytes(b'{"kind"\n' + content)
  assert read_summary(run).step == 2
  assert summarize([run])[1] == [f'{log}: damaged lines are left out: 1.']
  assert caplog.messages == []


@pytest.mark.parametrize('left', ['checkpoints/latest', 'tensorboard', None])
def test_a_log_is_missing_only_where_there_was_a_training(run, left):
  """A packed run, such as a pretrained one, has its best checkpoint and nothing else of the training."""
  shutil.copytree(run / 'checkpoints' / 'latest', run / 'checkpoints' / 'best_nll', dirs_exist_ok=True)
  (run / 'metrics.jsonl').unlink()
  for name in {'checkpoints/latest', 'tensorboard'} - {left}:
    shutil.rmtree(run / name)
  assert len(read_summary(run).damage) == (left is not None)


def test_odd_grids(run):
  """The one before is shown. Ten million steps come after all that have 7 digits."""
  path, before = (run / 'samples' / f'step_{step}.png' for step in (10_000_000, 9_999_999))
  whole = (run / 'samples' / 'step_0000002.png').rename(before).read_bytes()
  for name in ('final', '0000003 (copy)'):
    (run / 'samples' / f'step_{name}.png').write_text('mine')

  def is_damaged():
    found = read_summary(run)
    return found.sample_grid == (9_999_999, whole) and found.damage[0].startswith(f'{path}: not a readable PNG file (')

  path.mkdir()
  assert is_damaged()
  path.rmdir()
  for content in (b'', whole[: len(whole) // 2], bytes(100) + whole[100:]):
    path.write_bytes(content)
    assert is_damaged()
  path.write_bytes(whole)
  assert read_summary(run).sample_grid == (10_000_000, whole)
  shutil.rmtree(run / 'samples')
  assert read_summary(run).sample_grid is None


def test_odd_analyses(run):
  """Each is named, and those that are whole are there."""
  folder = run / 'analysis'
  for name in ('kde', 'ais', 'gmm'):
    record = kde(3.0, 4.0).record | {'what': name, 'checkpoint': 'latest', 'seconds': 1.5}
    write_record(folder / f'{name}.json', record, {'numbers': np.arange(3.0)})
  (folder / 'ais.json').write_text(DEEP)
  (folder / 'gmm.json').write_text((folder / 'gmm.json').read_text().replace('3.0', '3.5'))
  (folder / 'mine.json').write_text('[1, 2]')
  (folder / 'folder.json').mkdir()
  shutil.copy(folder / 'kde.json', folder / 'other.json')
  (folder / 'notes.txt').write_text('not read')
  found = read_summary(run)
  assert found.studies.keys() == {'kde'} and found.studies['kde'].record['nll'] == 3.0
  np.testing.assert_array_equal(found.studies['kde'].arrays['numbers'], np.arange(3.0))
  assert [os.path.basename(line.partition(':')[0]) for line in found.damage] == [
    f'{name}.json' for name in ('ais', 'folder', 'gmm', 'mine', 'other')
  ]
  assert all(line.endswith('; measure it again, or remove it') for line in found.damage)

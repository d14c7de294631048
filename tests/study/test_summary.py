import os
import shutil

import pytest

from flowgan_tf.errors import UsageError
from flowgan_tf.files import write_record
from flowgan_tf.study.summary import read_studies, summarize
from tests.summaries import evaluated, kde, summary
from tests.tiny import edit_sealed


def copy(workdir, folder, **config):
  """A run that differs in its configuration alone."""
  shutil.copytree(workdir, folder)
  edit_sealed(folder / 'config.json', lambda description: description['config'].update(config))
  return folder


def test_a_run_as_its_files_tell_it(workdir):
  [found] = summarize([workdir])
  assert (found.label, found.objective, found.path, found.image_shape) == (
    'Hybrid λ = 0.1',
    'Hybrid λ = 0.1',
    str(workdir),
    (4, 4, 1),
  )
  assert found.step == 4 and found.seconds > 0
  assert {record['step'] for record in found.records('validation')} == {2, 4}
  assert found.sample_grid == (4, (workdir / 'samples' / 'step_0000004.png').read_bytes())
  assert found.evaluation == [] and found.evaluated('latest') is None


def test_runs_are_in_the_order_of_the_paper_and_told_apart(workdir, tmp_path):
  hybrid = copy(workdir, tmp_path / 'c')
  stronger = copy(workdir, tmp_path / 'b', **{'lambda': 10.0})
  adversarial = copy(workdir, tmp_path / 'a', objective='adversarial')
  again = copy(workdir, tmp_path / 'd', objective='adversarial')
  mle = copy(workdir, tmp_path / 'e', objective='mle', divergence='kl')
  labels = [run.label for run in summarize([stronger, again, hybrid, adversarial, mle])]
  assert labels == ['MLE', 'ADV (a)', 'ADV (d)', 'Hybrid λ = 0.1', 'Hybrid λ = 10']


def test_divergences_and_generators_are_named_where_they_differ(workdir, tmp_path):
  runs = [
    copy(workdir, tmp_path / 'a', objective='adversarial', divergence='jensen_shannon'),
    copy(workdir, tmp_path / 'b', objective='adversarial'),
    copy(workdir, tmp_path / 'c', objective='adversarial', generator='dcgan', dcgan={}),
  ]
  assert [run.label for run in summarize(runs)] == ['ADV jensen_shannon (nice)', 'ADV (nice)', 'ADV (dcgan)']
  assert [run.label for run in summarize(runs[:2])] == ['ADV jensen_shannon', 'ADV']


def test_a_lambda_that_moves_is_named_with_its_end(workdir, tmp_path):
  moving = copy(workdir, tmp_path / 'a', final_lambda=0.001)
  still = copy(workdir, tmp_path / 'b', final_lambda=0.1)
  mle = copy(workdir, tmp_path / 'c', final_lambda=0.001, objective='mle')
  assert sorted(run.label for run in summarize([moving, still, mle])) == [
    'Hybrid λ = 0.1',
    'Hybrid λ = 0.1 to 0.001',
    'MLE',
  ]


def test_a_run_named_twice_is_refused(workdir):
  with pytest.raises(UsageError, match='named twice'):
    summarize([workdir, workdir / '.' / '..' / workdir.name])


def test_units():
  run = summary('mle', evaluation=[evaluated('best_nll', 4, -784.0, 6.0)])
  # -784 nats of 784 pixels are -1 / ln 2 bits each, and a grey level is 2^-8 wide.
  assert run.in_unit(-784.0, 'bits/dim') == pytest.approx(-1.4426950 + 8)
  assert run.error_in_unit(784.0, 'bits/dim') == pytest.approx(1.4426950)
  assert run.in_unit(None, 'bits/dim') is run.error_in_unit(None, 'bits/dim') is None
  assert run.in_unit(-3.0, 'nats') == -3.0
  assert run.evaluated('best_nll')['bits_per_dim_error'] == pytest.approx(1.4426950 * 1.5 / 784)


def test_studies_are_read_by_name(tmp_path):
  assert read_studies(tmp_path) == {}
  write_record(tmp_path / 'analysis' / 'kde.json', kde(3.0, 4.0).record, {})
  assert read_studies(tmp_path)['kde'].record['nll'] == 3.0
  (tmp_path / 'analysis' / 'kde.json').write_text('{}')
  with pytest.raises(UsageError, match=r'kde\.json: damaged'):
    read_studies(tmp_path)


def test_runs_of_one_folder_name_are_told_apart_by_their_paths(workdir, tmp_path):
  paths = [copy(workdir, tmp_path / name / 'run') for name in 'ab']
  assert [run.label for run in summarize(paths)] == [f'Hybrid λ = 0.1 (run) ({path})' for path in paths]


def test_a_damaged_run_is_left_out(workdir, tmp_path):
  whole, damaged, new = (copy(workdir, tmp_path / name) for name in ('whole', 'damaged', 'new'))
  (damaged / 'config.json').write_text('[' * 100_000)
  shutil.rmtree(new / 'checkpoints')
  lines = []
  [found] = summarize([damaged, whole, new], lines.append)
  assert found.path == str(whole)
  assert len(lines) == 2 and lines[0].startswith(f'{damaged}/config.json: damaged (')
  assert lines[1] == f'{new}: has no checkpoint yet'
  with pytest.raises(UsageError, match=r'damaged/config\.json: damaged'):
    summarize([whole, damaged])
  with pytest.raises(UsageError, match=r'damaged/config\.json: damaged'):
    summarize([damaged], lines.append)
  for mistake in ('nowhere', '.'):
    with pytest.raises(UsageError, match=r'no such folder|holds no config'):
      summarize([whole, tmp_path / mistake], lines.append)


def test_labels_are_one_line(workdir, tmp_path):
  """A name may hold a line end, and bytes that are not UTF-8."""
  names = [b'a\nb', b'\xff', b'<b>', '犬'.encode()]
  paths = [copy(workdir, tmp_path / os.fsdecode(name)) for name in names]
  labels = {run.path: run.label for run in summarize(paths)}
  said = [r'a\nb', r'\xff', '<b>', '犬']
  assert labels == {str(path): f'Hybrid λ = 0.1 ({name})' for path, name in zip(paths, said, strict=True)}

import json
import shutil

import numpy as np
import pytest

from flowgan_tf import data
from flowgan_tf.runs.run import load_run
from flowgan_tf.runs.seeds import Purpose
from tests.programs.conftest import assert_one_line, call
from tests.tiny import edit_record


@pytest.fixture
def workdir(finished, tmp_path):
  return shutil.copytree(finished[0], tmp_path / 'run')


def test_what_is_reported_and_kept(workdir):
  outcome = call('evaluate', workdir, '--split=validation', '--samples=40')
  assert outcome.status == 0, outcome
  records = json.loads((workdir / 'evaluation.json').read_text())['records']
  assert [r['split'] for r in records] == ['validation'] * 3 + ['test'] * 3  # Those of the training stay.
  records = records[:3]
  assert [record['checkpoint'] for record in records] == ['latest', 'best_nll', 'best_score']
  dataset = data.load('digits')
  x = data.dequantize(dataset.validation.images, 17, Purpose.EVALUATION)
  for record in records:
    run = load_run(workdir, record['checkpoint'])
    assert record['step'] == run.step
    assert record['nll'] == pytest.approx(-run.generator.log_prob(x).numpy().mean(), rel=1e-4)
    expected = {'split': 'validation', 'n': 180, 'score_samples': 40, 'score_splits': 10}
    assert record | expected == record
    assert record['scorer'] == 'classifier' and len(record['scorer_hash']) == 16
    assert record['fid'] > 0 and record['reference_images'] == 1437
    assert 0 <= record['classifier_accuracy'] <= 1
    assert 0 < record['round_trip_error'] < 1e-4
    assert 1 <= record['inception_score'] <= 10
  header, _, *rows, real, scores, _, path = outcome.out.splitlines()
  assert 'validation NLL (nats)' in header and 'MODE' in header
  assert len(rows) == len({record['step'] for record in records})
  row_of = {name: row for row in rows for name in row.split('   ')[0].split(', ')}
  for record in records:
    assert f'{record["bits_per_dim"]:.3f}' in row_of[record['checkpoint']]
  assert real.startswith('real test images') and f'{records[0]["real_fid"]:.2f}' in real
  assert records[0]['real_score_samples'] == 40
  assert f'classifier {records[0]["scorer_hash"]}' in scores
  assert path == f'{workdir}/evaluation.json'
  # Nothing is random: the same numbers again.
  again = call('evaluate', workdir, '--split=validation', '--samples=40')
  assert again.out == outcome.out


def test_one_checkpoint(workdir):
  before = json.loads((workdir / 'evaluation.json').read_text())['records']
  outcome = call('evaluate', workdir, '--checkpoint=best_score', '--samples=20')
  [record, *others] = json.loads((workdir / 'evaluation.json').read_text())['records']
  assert others == [other for other in before if other['checkpoint'] != 'best_score']
  assert (record['checkpoint'], record['split'], record['n']) == ('best_score', 'test', 180)
  assert len(outcome.out.splitlines()) == 7  # One row for the checkpoint, and one for real images.


def test_the_likelihood_alone(workdir):
  outcome = call('evaluate', workdir, '--checkpoint=latest', '--samples=0')
  assert outcome.status == 0 and 'NLL' in outcome.out and 'FID' not in outcome.out
  [record, *_] = json.loads((workdir / 'evaluation.json').read_text())['records']
  assert 'nll' in record and 'fid' in record  # The scores of before.
  (workdir / 'evaluation.json').unlink()
  assert call('evaluate', workdir, '--checkpoint=latest', '--samples=0').status == 0
  [record] = json.loads((workdir / 'evaluation.json').read_text())['records']
  assert 'nll' in record and 'fid' not in record


def test_data_that_changed_are_refused(workdir, monkeypatch):
  monkeypatch.setattr('flowgan_tf.runs.run.run_identity', lambda *_: {})  # The checkpoint is refused otherwise.
  edit_record(workdir / 'config.json', lambda description: description['data'].update(fingerprint='0' * 64))
  assert_one_line(call('evaluate', workdir), 'evaluate', str(workdir), 'other data')


@pytest.mark.parametrize('program', ['evaluate', 'sample', 'export', 'analyze', 'report'])
@pytest.mark.parametrize('argument', ['', 'x' * 5000, 'a\0b', 'a/' * 3000])
def test_what_is_no_path_ends_in_one_line(program, argument):
  assert_one_line(call(program, argument), program, 'arguments must be paths. Got: ')


@pytest.mark.parametrize('program', ['evaluate', 'sample', 'export'])
def test_what_is_no_run_ends_in_one_line(workdir, tmp_path, program):
  assert_one_line(call(program), program, 'expected one run folder', 'got 0')
  assert_one_line(call(program, workdir, workdir), program, 'expected one run folder', 'got 2')
  assert_one_line(call(program, tmp_path / 'missing'), program, f'{tmp_path}/missing', 'no such folder')
  assert_one_line(call(program, workdir / 'config.json'), program, 'config.json', 'no such folder')
  assert_one_line(call(program, tmp_path), program, str(tmp_path), 'no config.json')
  assert_one_line(call(program, workdir, '--checkpoint=newest'), program, 'checkpoint', 'newest')
  assert_one_line(call(program, workdir, '--nosuch=1'), program, 'nosuch')
  newest = next((workdir / 'checkpoints' / 'best_nll').glob('*.index'))
  content = newest.read_bytes()
  newest.write_bytes(content[:50])
  flags = ['--checkpoint=best_nll', *(['--samples=20'] if program == 'evaluate' else [])]
  assert_one_line(call(program, workdir, *flags), program, str(newest.with_suffix('')), 'damaged')
  shutil.rmtree(workdir / 'checkpoints' / 'best_nll')
  assert_one_line(call(program, workdir, *flags), program, "'best_nll'", 'it has: latest, best_score')
  config = (workdir / 'config.json').read_text()
  for damaged in (config[: len(config) // 2], '[]', config.replace('"nice"', '"glow"')):
    (workdir / 'config.json').write_text(damaged)
    assert_one_line(call(program, workdir), program, f'{workdir}/config.json', 'damaged')
  (workdir / 'config.json').write_text(config)
  shutil.rmtree(workdir / 'checkpoints')
  assert_one_line(call(program, workdir), program, str(workdir), 'no checkpoint yet')


@pytest.mark.parametrize('flags', [['--samples=9'], ['--samples=1000000000000'], ['--split=all'], ['--samples=many']])
def test_bad_values(workdir, flags):
  before = np.frombuffer((workdir / 'evaluation.json').read_bytes(), np.uint8)
  assert_one_line(call('evaluate', workdir, *flags), 'evaluate', flags[0].partition('=')[2])
  np.testing.assert_array_equal(np.frombuffer((workdir / 'evaluation.json').read_bytes(), np.uint8), before)

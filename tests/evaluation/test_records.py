import json

import pytest

from flowgan_tf.errors import UsageError
from flowgan_tf.evaluation.records import merge_records, read_evaluation, write_evaluation


def record(checkpoint, split='test', step=4, **more):
  return {'checkpoint': checkpoint, 'split': split, 'step': step, **more}


def test_other_checkpoints_and_splits_stay():
  old = [record('latest', nll=1.0), record('latest', 'validation', nll=2.0), record('best_nll', nll=3.0)]
  assert merge_records(old, [record('latest', nll=9.0)]) == [record('latest', nll=9.0), *old[1:]]


def test_what_another_step_of_the_checkpoint_measured_goes():
  old = [record('latest', 'validation', step=2, nll=2.0)]
  assert merge_records(old, [record('latest', nll=9.0)]) == [record('latest', nll=9.0)]


def test_scores_stay_until_there_are_new_ones():
  old = [record('latest', nll=1.0, nll_float64=1.5, scorer='inception_v3', scorer_hash='a', fid=3.0)]
  [merged] = merge_records(old, [record('latest', nll=2.0)])
  assert (merged['nll'], merged['fid'], merged['nll_float64']) == (2.0, 3.0, 1.5)
  [merged] = merge_records(old, [record('latest', nll=2.0, scorer='classifier', scorer_hash='b', mode_score=1.0)])
  assert merged == record('latest', nll=2.0, nll_float64=1.5, scorer='classifier', scorer_hash='b', mode_score=1.0)


def test_no_file_holds_no_records(tmp_path):
  assert read_evaluation(tmp_path) == []


def test_what_is_written_is_read(tmp_path):
  """The standard error of a single image is NaN, which JSON does not have."""
  write_evaluation(tmp_path, [record('latest', nll=1.5, standard_error=float('nan'))])
  assert read_evaluation(tmp_path) == [record('latest', nll=1.5, standard_error=None)]
  assert 'NaN' not in (tmp_path / 'evaluation.json').read_text()


def test_a_list_without_a_seal_is_of_an_older_version(tmp_path):
  (tmp_path / 'evaluation.json').write_text(json.dumps([record('latest', nll=1.5)]))
  assert read_evaluation(tmp_path) == [record('latest', nll=1.5)]


def test_a_number_that_was_edited_is_damage(tmp_path):
  write_evaluation(tmp_path, [record('latest', nll=1.5)])
  path = tmp_path / 'evaluation.json'
  path.write_text(path.read_text().replace('1.5', '1.4'))
  with pytest.raises(UsageError) as caught:
    read_evaluation(tmp_path)
  assert str(caught.value) == f'{path}: damaged (ValueError); remove it, and run bin/evaluate {tmp_path} again'


def test_a_file_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / 'evaluation.json').mkdir()
  with pytest.raises(UsageError, match=rf'^{tmp_path}/evaluation\.json: cannot be written \(Is a directory\)$'):
    write_evaluation(tmp_path, [record('latest')])


@pytest.mark.parametrize(
  'content',
  [
    '',
    '5',
    '[5]',
    '[{"checkpoint": "latest"}]',
    json.dumps([record('latest', step='four')]),
    json.dumps([record('latest', nll='low')]),
    json.dumps([record('latest', nll=[1.5])]),
    json.dumps({'records': [record('latest', nll=1.5)]}),
    '[' * 200_000,
    json.dumps([record('latest', scorer='classifier', scorer_hash=5)]),
  ],
)
def test_a_damaged_file_is_named(tmp_path, content):
  (tmp_path / 'evaluation.json').write_text(content)
  with pytest.raises(UsageError, match=rf'^{tmp_path}/evaluation\.json: damaged'):
    read_evaluation(tmp_path)

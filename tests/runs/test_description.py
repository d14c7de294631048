import json

import pytest

from flowgan_tf.errors import UsageError
from flowgan_tf.flows import GENERATORS
from flowgan_tf.runs.config import settings, used
from flowgan_tf.runs.description import describe_data, read_description, write_description
from flowgan_tf.runs.run import load_run
from flowgan_tf.runs.workdir import open_workdir
from tests.tiny import edit_sealed, make_config


@pytest.mark.parametrize('generator', GENERATORS)
def test_what_is_written_is_read(tmp_path, dataset, generator):
  more = {'real_nvp.batch_norm_between': True, 'dcgan.channels': (5, 3), 'gradient_penalty': 2.5}
  config = make_config(more, generator=generator)
  write_description(tmp_path, config, describe_data(dataset))
  read, facts = read_description(tmp_path)
  assert settings(used(read)) == settings(used(config))
  assert facts == describe_data(dataset)
  written = json.loads((tmp_path / 'config.json').read_text())
  assert written['version'] == 3
  assert GENERATORS.keys() & written['config'].keys() == {generator}


def test_no_file_is_no_description(tmp_path):
  assert read_description(tmp_path) is None


@pytest.mark.parametrize('version', [4, 0, '2', None, True, 2.0])
def test_other_versions_are_refused(run, version):
  path = run[0] / 'config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | {'version': version}))
  with pytest.raises(UsageError) as caught:
    read_description(run[0])
  assert str(caught.value) == f'{path}: has version {version!r}, but this flowgan_tf reads only versions 1 to 3'


def as_version_2(path):
  """The same file as it was before it had a seal."""
  description = json.loads(path.read_text()) | {'version': 2}
  del description['sha256']
  path.write_text(json.dumps(description, indent=2) + '\n')


@pytest.mark.parametrize('generator', ['nice', 'real_nvp'])
@pytest.mark.parametrize(('version', 'normalization'), [(2, 'scalar_batch_1e-3'), (3, 'scalar_batch')])
def test_scalar_batch_of_older_versions_is_another_norm(tmp_path, dataset, generator, version, normalization):
  """Its epsilon and momentum have changed: under the old name, old weights would have another density."""
  config = make_config({f'{generator}.normalization': 'scalar_batch'}, generator=generator)
  write_description(tmp_path, config, describe_data(dataset))
  if version == 2:
    as_version_2(tmp_path / 'config.json')
  read, _ = read_description(tmp_path)
  assert read[generator].normalization == normalization


def test_version_2_is_read_and_becomes_version_3(run, config, dataset):
  path = run[0] / 'config.json'
  before = read_description(run[0])
  as_version_2(path)
  read = read_description(run[0])
  assert (settings(read[0]), read[1]) == (settings(before[0]), before[1])
  open_workdir(run[0], config, dataset)
  assert json.loads(path.read_text())['version'] == 3


@pytest.mark.parametrize('change', [{'version': 2}, {'version': 1}, {'version': 2, 'sha256': None}, {'more': 1}])
def test_a_version_without_a_seal_must_not_have_one(run, change):
  """Or a digit of the version that was damaged would remove the seal."""
  path = run[0] / 'config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  with pytest.raises(UsageError, match=r'config\.json: damaged \(ValueError: version \d has other keys\)'):
    read_description(run[0])


def test_a_number_that_was_edited_is_damage(run):
  path = run[0] / 'config.json'
  path.write_text(path.read_text().replace('"alpha": 1e-07', '"alpha": 1e-05'))
  with pytest.raises(UsageError) as caught:
    read_description(run[0])
  assert str(caught.value) == f'{path}: damaged (ValueError: not what was written)'


@pytest.mark.parametrize(
  'edit',
  [
    lambda text: text[: len(text) // 2],
    lambda text: '',
    lambda text: '[1, 2]',
    lambda text: '[' * 200_000,
    lambda text: '{"config": 3, "data": {}}',
    lambda text: '{"config": {}, "data": []}',
    lambda text: text.replace('"steps"', '"stops"'),
    lambda text: text.replace('"batch_size": 8', '"batch_size": "eight"'),
    lambda text: text.replace('"batch_size": 8', '"batch_size": null'),
    lambda text: text.replace('"couplings": 2', '"couplings": "two"'),
    lambda text: text.replace('"nice"', '"glow"'),
  ],
)
@pytest.mark.parametrize('with_seal', [True, False])
def test_damaged_config(run, config, dataset, edit, with_seal):
  workdir, _ = run
  path = workdir / 'config.json'
  if not with_seal:
    as_version_2(path)
  path.write_text(edit(path.read_text()))
  for read in (lambda: load_run(workdir, 'latest'), lambda: open_workdir(workdir, config, dataset)):
    with pytest.raises(UsageError) as caught:
      read()
    assert str(caught.value).startswith(f'{path}: damaged (')
    assert '\n' not in str(caught.value)


def test_config_that_is_no_text(run):
  workdir, _ = run
  (workdir / 'config.json').write_bytes(b'\xff\xfe\x00garbage')
  with pytest.raises(UsageError, match=r'config\.json: damaged'):
    load_run(workdir, 'latest')


@pytest.mark.parametrize(
  ('part', 'change'),
  [
    ('config', {'objective': 'foo'}),
    ('config', {'lambda': None}),
    ('config', {'generator': 'real_nvp'}),  # whose settings are not there
    ('data', {'name': 3}),
    ('data', {'levels': 0}),
    ('data', {'levels': None}),
    ('data', {'image_shape': None}),
  ],
)
def test_a_description_that_is_not_one_is_damaged_though_sealed(tmp_path, dataset, part, change):
  write_description(tmp_path, make_config(), describe_data(dataset))
  edit_sealed(tmp_path / 'config.json', lambda description: description[part].update(change))
  with pytest.raises(UsageError, match=r'config\.json: damaged'):
    read_description(tmp_path)


def test_a_run_from_before_ema_every_averages_each_step(run, config, dataset):
  edit_sealed(run[0] / 'config.json', lambda record: record['config'].pop('ema_every'))
  assert read_description(run[0])[0].ema_every == 1
  with pytest.raises(UsageError, match=r'holds a run with another configuration \(ema_every 1 -> 10\)'):
    open_workdir(run[0], config, dataset)
  config.ema_every = 1
  open_workdir(run[0], config, dataset)

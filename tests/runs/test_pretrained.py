"""Flows that come with the package: they are packed, unpacked and rejected."""

import hashlib
import pathlib
import re
import zipfile
import zlib

import numpy as np
import pytest

import flowgan_tf as fg
from flowgan_tf.base.errors import UsageError
from flowgan_tf.runs import pretrained
from flowgan_tf.runs.checkpoints import Checkpoints
from flowgan_tf.runs.config import run_identity
from flowgan_tf.runs.folder import open_workdir, read_description
from flowgan_tf.runs.run import load_run
from tests.tiny import edit_record, make_state

FILE = pathlib.Path(pretrained.__file__).parent.parent / 'pretrained' / 'mnist.zip'


@pytest.fixture
def packed(run, tmp_path, monkeypatch):
  """A tiny run in the place of the pretrained flows, and the folder `runs` in an empty folder."""
  sha256 = fg.export.pack(run[0], tmp_path / 'tiny.zip')
  monkeypatch.setattr(pretrained, '_FOLDER', tmp_path)
  monkeypatch.setattr(pretrained, 'PRETRAINED', {'tiny': sha256})
  monkeypatch.setattr(pretrained, '_UNPACKED', {'tiny': pretrained.hashes(tmp_path / 'tiny.zip')})
  (tmp_path / 'empty').mkdir()
  monkeypatch.chdir(tmp_path / 'empty')
  return run[1].ema


def save(workdir, state):
  """Saves a checkpoint that fits the run's `config.json`."""
  config, facts, *_ = read_description(workdir)
  Checkpoints(workdir, state.checkpoint(), run_identity(config, facts['fingerprint'])).save('best_nll')


def test_a_packed_run_has_the_rounded_weights_of_the_run(packed):
  """Vectors are in half precision, and the numbers of a matrix are multiples of a power of two."""
  flow, unpacked = fg.load_pretrained('tiny'), load_run('pretrained:tiny')
  assert (unpacked.workdir, unpacked.step) == (pathlib.Path('runs/pretrained-tiny'), 6)
  assert [path.name for path in pathlib.Path('runs').iterdir()] == ['pretrained-tiny']
  for old, new, also in zip(packed.variables, flow.variables, unpacked.generator.variables, strict=True):
    size = np.sqrt(np.mean(old.numpy() ** 2))
    if old.shape.rank > 1 and size and old.trainable:
      step = 2.0 ** round(np.log2(size / 48))
      assert 0 < np.abs(new - old).max() <= step / 2
      np.testing.assert_array_equal(new.numpy() % step, 0)
    else:
      np.testing.assert_array_equal(new.numpy(), old.numpy().astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(also.numpy(), new.numpy())


def test_the_numbers_of_a_prior_are_packed_in_half_precision(config, dataset, tmp_path):
  config.nice.components = 3
  workdir, state = open_workdir(tmp_path / 'run', config, dataset), make_state(config, dataset.image_shape)
  prior = state.ema.distribution
  prior.prototypes.assign(np.random.default_rng(0).uniform(size=prior.prototypes.shape))
  save(workdir, state)
  fg.export.pack(workdir, tmp_path / 'mixture.zip')
  zipfile.ZipFile(tmp_path / 'mixture.zip').extractall(tmp_path / 'packed')
  packed = load_run(tmp_path / 'packed').generator.distribution
  for old, new in ((prior.means, packed.means), (prior.prototypes, packed.prototypes)):
    np.testing.assert_array_equal(new, old.numpy().astype(np.float16).astype(np.float32))


def test_what_was_unpacked_is_not_touched_again(packed):
  load_run('pretrained:tiny')
  note = pathlib.Path('runs/pretrained-tiny/note')
  note.touch()
  load_run('pretrained:tiny')
  assert note.exists()


def test_what_another_version_unpacked_is_rejected(packed):
  load_run('pretrained:tiny')
  [path] = pathlib.Path('runs/pretrained-tiny').rglob('ckpt-6.data*')
  path.write_bytes(path.read_bytes()[::-1])
  with pytest.raises(UsageError, match=r'^runs/pretrained-tiny/.*: differs from .* pretrained:tiny, .* move runs/pret'):
    load_run('pretrained:tiny')
  path.unlink()
  with pytest.raises(UsageError, match='differs from'):
    load_run('pretrained:tiny')


def with_crc(content: bytes, crc: int) -> bytes:
  """Changes the last four bytes so that the CRC-32 of the content is `crc`.

  The CRC is linear in the bits of the content, apart from a constant, so that Gauss's elimination finds the bits.
  """
  fixed = content[:-4]
  wanted, rows = zlib.crc32(fixed + bytes(4)) ^ crc, []
  for bit in range(32):
    change, bits = zlib.crc32(fixed + (1 << bit).to_bytes(4, 'little')) ^ zlib.crc32(fixed + bytes(4)), 1 << bit
    for top, other, others in rows:
      if change & top:
        change, bits = change ^ other, bits ^ others
    rows.append((1 << change.bit_length() - 1, change, bits))
  end = 0
  for top, change, bits in sorted(rows, reverse=True):
    if wanted & top:
      wanted, end = wanted ^ change, end ^ bits
  return fixed + end.to_bytes(4, 'little')


def test_a_forged_file_with_the_same_crc_is_rejected(packed):
  load_run('pretrained:tiny')
  [path] = pathlib.Path('runs/pretrained-tiny').rglob('ckpt-6.data*')
  whole = path.read_bytes()
  forged = with_crc(bytes([whole[0] ^ 1]) + whole[1:], zlib.crc32(whole))
  assert zlib.crc32(forged) == zlib.crc32(whole) and len(forged) == len(whole) and forged != whole
  path.write_bytes(forged)
  with pytest.raises(UsageError, match=rf'^{path}: differs from the one of pretrained:tiny, '):
    load_run('pretrained:tiny')


def test_a_checkpoint_that_is_not_in_the_file_is_rejected(packed):
  """Other programs write beside the checkpoints, but not among them."""
  load_run('pretrained:tiny')
  folder = pathlib.Path('runs/pretrained-tiny')
  (folder / 'checkpoints' / 'latest').mkdir(exist_ok=True)
  for name in ('evaluation.json', 'samples/grid.png', 'report.html'):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).touch()
  pretrained.find_folder('pretrained:tiny')
  for name in ('best_score/checkpoint', 'best_nll/ckpt-7.index', '.hidden'):
    path = folder / 'checkpoints' / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    with pytest.raises(UsageError, match=rf'^{path}: is not in pretrained:tiny; move {folder} away$'):
      pretrained.find_folder('pretrained:tiny')
    path.unlink()
  pretrained.find_folder('pretrained:tiny')


def test_a_run_is_packed_into_the_same_bytes_each_time(run, tmp_path):
  """Even if the process has made other layers before, which count in the names of variables."""
  first, second = (fg.export.pack(run[0], tmp_path / f'{name}.zip') for name in ('first', 'second'))
  assert first == second == hashlib.sha256((tmp_path / 'second.zip').read_bytes()).hexdigest()
  with zipfile.ZipFile(tmp_path / 'second.zip') as archive:
    found = {(file.date_time, file.external_attr, file.compress_type) for file in archive.infolist()}
    [listing] = [archive.read(name).decode() for name in archive.namelist() if name.endswith('/checkpoint')]
  assert found == {((1980, 1, 1, 0, 0, 0), 0o644 << 16, zipfile.ZIP_BZIP2)}
  assert listing == 'model_checkpoint_path: "ckpt-6"\nall_model_checkpoint_paths: "ckpt-6"\n'


def test_a_packed_run_names_no_paths(packed, tmp_path):
  with zipfile.ZipFile(tmp_path / 'tiny.zip') as archive:
    contents = b''.join(archive.read(name) for name in archive.namelist())
  assert b'"steps"' in contents
  assert str(tmp_path.parent).encode() not in contents


def test_a_packed_run_names_where_its_training_started(run, tmp_path):
  state = {
    'run': '/home/me/runs/first',
    'step': 3,
    'config': {'data_dir': '/data', 'dataset': 'emnist/letters', 'init_from': ''},
  }
  edit_record(run[0] / 'config.json', lambda record: record.update(init=state))
  edit_record(run[0] / 'config.json', lambda record: record['config'].update(init_from='/home/me/runs/first'))
  save(*run)
  fg.export.pack(run[0], tmp_path / 'tiny.zip')
  zipfile.ZipFile(tmp_path / 'tiny.zip').extractall(tmp_path / 'packed')
  found = read_description(tmp_path / 'packed')
  assert found.config.init_from == found.init['run'] == 'runs/first'
  settings = {'data_dir': '', 'dataset': 'emnist/letters', 'init_from': '', 'cache_dir': '', 'inception_weights': ''}
  assert found.init['config'] == settings


@pytest.mark.parametrize('checkpoint', ['latest', 'best_nll'])
def test_the_checkpoint_that_is_packed_is_the_named_one(run, tmp_path, checkpoint):
  save(*run)
  fg.export.pack(run[0], tmp_path / 'tiny.zip', checkpoint)
  zipfile.ZipFile(tmp_path / 'tiny.zip').extractall(tmp_path / 'packed')
  assert load_run(tmp_path / 'packed').checkpoint == checkpoint


def test_a_packed_run_does_not_say_where_its_plugins_and_data_were(run, tmp_path):
  edit_record(run[0] / 'config.json', lambda record: record.update(plugins={'tests.tiny': '/home/me/parts'}))
  edit_record(run[0] / 'config.json', lambda record: record.update(commands=[['--data_dir=/home/me/data']]))
  fg.runs.trust(run[0])
  fg.export.pack(run[0], tmp_path / 'tiny.zip')
  zipfile.ZipFile(tmp_path / 'tiny.zip').extractall(tmp_path / 'packed')
  assert read_description(run[0]).plugins and read_description(tmp_path / 'packed').plugins is None
  assert read_description(run[0]).commands and read_description(tmp_path / 'packed').commands is None


def test_a_weight_that_is_too_large_is_rejected(run, tmp_path):
  workdir, state = run
  weights = next(variable for variable in state.ema.trainable_variables if variable.shape.rank == 1)
  before = weights.numpy()
  weights.assign(before + 1e5)
  save(workdir, state)
  weights.assign(before)
  with pytest.raises(UsageError, match=r'run: a value of .* is not finite or too large for float16$'):
    fg.export.pack(workdir, tmp_path / 'tiny.zip')


def test_unknown_and_damaged_flows_are_rejected(packed, tmp_path):
  for name, said in (('tinny', 'did you mean pretrained:tiny?'), ('other', 'expected pretrained:tiny')):
    with pytest.raises(UsageError, match=f'^pretrained:{name}: no such flow; {re.escape(said)}$'):
      load_run(f'pretrained:{name}')
  content = bytearray((tmp_path / 'tiny.zip').read_bytes())
  content[len(content) // 2] ^= 1
  (tmp_path / 'tiny.zip').write_bytes(content)
  with pytest.raises(UsageError, match=r'tiny\.zip: is missing or damaged; install flowgan_tf again'):
    fg.load_pretrained('tiny')
  with pytest.raises(UsageError, match=r'tiny\.zip: is missing or damaged'):
    load_run('pretrained:tiny')
  assert not pathlib.Path('runs').exists()


def test_the_file_of_each_flow_is_small_and_has_the_hash():
  for name, sha256 in pretrained.PRETRAINED.items():
    content = FILE.with_name(f'{name}.zip').read_bytes()
    assert len(content) < 6e6 and hashlib.sha256(content).hexdigest() == sha256


def test_each_flow_knows_the_statistics_of_held_out_images():
  """Their mean log p is that of all test images in docs/results, to within four standard errors."""
  for name, log_prob in (('mnist-best', 3827.84), ('mnist', 3635.21)):
    found = pretrained.held_out_of(f'pretrained:{name}')
    assert found.shape == (1000, 2) and found.min() > 0
    assert abs(found[:, 0].mean() - log_prob) < 4 * found[:, 0].std() / 1000**0.5
  assert pretrained.held_out_of('runs/mnist-best') is None


@pytest.mark.slow
def test_the_hashes_of_the_unpacked_files_are_those_of_the_packed_ones():
  for name in pretrained.PRETRAINED:
    assert pretrained.hashes(FILE.with_name(f'{name}.zip')) == pretrained._UNPACKED[name]


@pytest.mark.slow
def test_the_flow_of_mnist_draws_what_it_is_asked_for():
  flow = fg.load_pretrained('mnist')
  labels = np.repeat(np.arange(10), 10)
  samples = flow.sample(100, seed=(0, 1), condition=labels)
  assert samples.shape == (100, 28, 28, 1)
  named = np.argmax(flow.class_log_probs(samples), axis=-1)
  assert np.mean(named == labels) > 0.9

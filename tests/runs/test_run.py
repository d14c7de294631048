import dataclasses

import numpy as np
import pytest

from flowgan_tf.errors import UsageError
from flowgan_tf.runs.run import load_data, load_run
from tests.tiny import edit_sealed


def test_load_run(run, config, dataset):
  workdir, state = run
  loaded = load_run(str(workdir), 'latest')
  assert (loaded.step, loaded.checkpoint, loaded.workdir) == (6, 'latest', workdir)
  assert (loaded.image_shape, loaded.fingerprint) == ((4, 4, 1), dataset.fingerprint)
  assert loaded.config.to_json() == config.to_json()
  for a, b in zip(loaded.generator.variables, state.ema.variables, strict=True):
    np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_load_data(run, dataset, images):
  loaded = load_run(run[0], 'latest')
  assert load_data(loaded).fingerprint == dataset.fingerprint
  with pytest.raises(UsageError, match=f'{run[0]}: was trained on other data than {images} holds now'):
    load_data(dataclasses.replace(loaded, fingerprint='0' * 64))


def test_what_is_no_run(tmp_path, run):
  with pytest.raises(UsageError, match='no such folder'):
    load_run(tmp_path / 'missing', 'latest')
  (tmp_path / 'empty').mkdir()
  with pytest.raises(UsageError, match=r'holds no config\.json'):
    load_run(tmp_path / 'empty', 'latest')
  with pytest.raises(UsageError, match=r"no checkpoint 'best_nll' in this run; it has: latest"):
    load_run(run[0], 'best_nll')
  with pytest.raises(UsageError, match=r"`checkpoint` must be one of latest, best_nll, best_score\. Got: '\.\./c"):
    load_run(run[0], '../checkpoints/latest')


def test_an_argument_out_of_range_is_that_of_the_file(run):
  path = run[0] / 'config.json'
  edit_sealed(path, lambda description: description['config']['nice'].update(couplings=1))
  with pytest.raises(UsageError) as caught:
    load_run(run[0])
  assert str(caught.value) == f'{path}: `nice.couplings` must be an integer from 2 to 256. Got: 1.'

import numpy as np
import tensorflow as tf

from flowgan_tf.runs.run import load_run
from tests.programs.conftest import assert_one_line, call


def test_the_folder_is_printed_and_holds_the_checkpoint(finished, tmp_path):
  workdir, _ = finished
  out = tmp_path / 'a' / 'model'
  outcome = call('export', workdir, '--checkpoint=latest', f'--out={out}')
  assert outcome.status == 0, outcome
  assert outcome.out == f'{out}  (checkpoint latest, step 20)\n'
  images = np.random.default_rng(0).uniform(0.1, 0.9, (3, 8, 8, 1)).astype(np.float32)
  model = tf.saved_model.load(str(out))
  np.testing.assert_allclose(model.log_prob(images), load_run(workdir, 'latest').generator.log_prob(images), atol=1e-3)


def test_a_path_that_cannot_be_written(finished, tmp_path):
  (tmp_path / 'file').write_text('precious')
  for out in (tmp_path / 'file', tmp_path / 'file' / 'model'):
    assert_one_line(call('export', finished[0], f'--out={out}'), 'export', str(out), 'cannot be written')
  assert (tmp_path / 'file').read_text() == 'precious'
  for out in ('', 'x' * 5000, 'a\0b'):
    assert_one_line(call('export', finished[0], f'--out={out}'), 'export', '--out', 'must be a path')

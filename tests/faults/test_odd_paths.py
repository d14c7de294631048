"""No path is ever a pattern: a run works in a folder of any name."""

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.evaluation.evaluate import evaluate_run
from flowgan_tf.evaluation.results import read_evaluation
from flowgan_tf.export import write_saved_model
from flowgan_tf.runs.log import read_metrics
from flowgan_tf.runs.run import load_run
from flowgan_tf.training.loop import train
from tests.tiny import IMAGE_SHAPE, make_config, write_images

# The first is all of them at once.
NAMES = ('*[!a]?\\[b] %\'"é{}$x#\n~', '[a]', 'a\\b', 'a*', '*', '?', 'a[', ']', 'a b', "a'b", 'a"b', 'é', '%s', '-a')


@pytest.mark.slow
def test_a_run_in_a_folder_with_odd_characters(tmp_path, faults):
  images = np.full((1, *IMAGE_SHAPE), 0.3, np.float32)
  for trial in faults.trials('a run in a folder with odd characters in its path', long=len(NAMES)):
    folder = tmp_path / f'{trial}{NAMES[trial]}'
    folder.mkdir()
    dataset, workdir = write_images(folder / 'images.npz'), folder / 'run'
    for steps in (2, 4):
      config = make_config(objective='mle', dataset=dataset, steps=steps, cache_dir=str(folder))
      assert train(config, workdir)
    assert [r['step'] for r in read_metrics(workdir) if r['kind'] == 'train'] == [1, 2, 3, 4]
    evaluate_run(workdir, ['latest', 'best_nll'], 'test', 0)
    assert {record['step'] for record in read_evaluation(workdir)} == {4}
    flow = load_run(workdir, 'latest').generator
    write_saved_model(flow, workdir / 'export')
    # TensorFlow's own reader of SavedModels cannot be helped.
    model = tf.saved_model.load((workdir / 'export').rename(tmp_path / f'export {trial}'))
    np.testing.assert_allclose(model.log_prob(images), flow.log_prob(images), rtol=1e-5, atol=1e-5)

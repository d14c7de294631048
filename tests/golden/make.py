"""Writes what this version makes of a tiny flow, and its numbers: `python -m tests.golden.make`, in a checkout.

The folder has the name of the version. Each release adds its own, and every later version must load all of them, which
`tests/runs/test_golden.py` checks. A folder of a release never changes.
"""

import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

import numpy as np

import flowgan_tf as fg

FOLDER = pathlib.Path(__file__).parent / fg.__version__
CHECKOUT = FOLDER.parent.parent.parent

COMMANDS = (
  """bin/train --dataset=digits --condition=label --objective=mle --nojit --batch_size=50 --steps=6 --evaluate=false
    --config.log_every=2 --config.eval_every=3 --config.score_samples=0 --config.nice.hidden_units=8
    --config.nice.hidden_layers=1 --config.nice.couplings=2 --config.nice.components=10 --workdir""",
  'bin/evaluate --samples=0',
  'bin/analyze --what=kde,jacobian --samples=50 --noise_vectors=2',
)


def main() -> None:
  """Trains the flow, and keeps all that a user may have kept of it."""
  shutil.rmtree(FOLDER, ignore_errors=True)
  with tempfile.TemporaryDirectory() as name:
    run = pathlib.Path(name, 'run')
    for command in COMMANDS:
      subprocess.run([sys.executable, *shlex.split(command), run], cwd=CHECKOUT, check=True)
    FOLDER.mkdir()
    # Its graphs repeat each other at distances that a zip file does not see.
    shutil.make_archive(str(FOLDER / 'saved_model'), 'xztar', run / 'export')
    unused = shutil.ignore_patterns('export', 'samples', 'tensorboard', 'ckpt-3.*', '*.svg')
    shutil.copytree(run, FOLDER / 'run', ignore=unused)
  flow = fg.runs.load_run(FOLDER / 'run').generator
  fg.keras.FlowModel(flow).save(FOLDER / 'flow.keras')
  fg.export.pack(FOLDER / 'run', FOLDER / 'packed.zip')
  write_numbers(flow)


def write_numbers(flow: fg.flows.Flow) -> None:
  """Writes images, and what the flow and its packed form make of them."""
  with tempfile.TemporaryDirectory() as name:
    shutil.unpack_archive(FOLDER / 'packed.zip', name)
    packed = fg.runs.load_run(name).generator
  test = fg.data.load('digits').test
  images, labels = fg.data.dequantize(test.images[:4], levels=17, seed=0), test.labels[:4]
  np.savez_compressed(
    FOLDER / 'numbers.npz',
    images=images,
    labels=labels,
    log_prob=flow.log_prob(images),
    given_log_prob=flow.log_prob(images, condition=labels),
    class_log_probs=flow.class_log_probs(images),
    noise=flow.encode(images, condition=labels),
    packed_log_prob=packed.log_prob(images),
  )


if __name__ == '__main__':
  main()

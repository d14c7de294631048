"""Likelihood of flows of vectors on two moons and a Swiss roll, beside Zuko's, and a picture of our flow.

  python -m benchmarks.tables
  python -m benchmarks.tables --peers=RealNVP,NSF --picture=docs/images/moons.png

The data are scikit-learn's: two moons in 2 columns and a Swiss roll in 3, of different scales. All flows see the same
16,000 points in batches of 256, by Adam with a learning rate that falls from 2e-3 to 0 as a cosine. Their networks
have two hidden layers of 128 units. The NLL is the mean over 2,000 other points after the last step. Zuko runs in an
environment of its own, as the peers of `make bench` do.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import tempfile
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from absl import app, flags
from sklearn.datasets import make_moons, make_swiss_roll

import flowgan_tf as fg

PEERS = flags.DEFINE_list('peers', ['RealNVP', 'NSF'], 'Flows of Zuko: RealNVP, NSF.')
STEPS = flags.DEFINE_integer('train_steps', 1000, 'Steps of each training.', lower_bound=1)
PEER_PYTHON = flags.DEFINE_string('peer_python', '.venv-bench/bin/python', 'Interpreter of the peers.')
PICTURE = flags.DEFINE_string('picture', '', 'PNG file for samples and density of our flow of two moons.')

BATCH, LEARNING_RATE = 256, 2e-3
DATA = {
  'moons': lambda n: make_moons(n, noise=0.08, random_state=0)[0],
  'roll': lambda n: make_swiss_roll(n, noise=0.5, random_state=0)[0],
}


def train(rows: np.ndarray, coupling: str) -> fg.flows.Flow:
  """Returns our flow with a kind of couplings, trained."""
  keras.utils.set_random_seed(0)
  flow = fg.flows.vectors(rows.shape[1], coupling=coupling)
  fg.flows.standardize(flow, rows)
  model = fg.keras.FlowModel(flow)
  model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, STEPS.value)))
  batches = tf.data.Dataset.from_tensor_slices(rows).shuffle(len(rows), seed=0).repeat().batch(BATCH)
  model.fit(batches, steps_per_epoch=STEPS.value, verbose=0)
  return flow


def show(name: str, parameters: int, nll: np.ndarray, seconds: float) -> None:
  error = nll.std() / np.sqrt(len(nll))
  print(
    f'{name:22s}{parameters:10,d} parameters   NLL {nll.mean():.3f} +- {error:.3f} nats {seconds:8.0f} s', flush=True
  )


def draw(flow: fg.flows.Flow, rows: np.ndarray, path: str) -> None:
  """Draws points of the data, samples, and the density."""
  figure, panels = plt.subplots(1, 3, figsize=(9, 2.6), sharex=True, sharey=True, layout='constrained')
  for panel, title, points in (
    (panels[0], 'training points', rows[:2000]),
    (panels[1], 'samples', flow.sample(2000, seed=(0, 1)).numpy()),
  ):
    panel.scatter(*points.T, s=2, color='#1b6ca8', linewidths=0)
    panel.set_title(title)
  x, y = np.linspace(-1.6, 2.6, 421, dtype='float32'), np.linspace(-1.0, 1.5, 251, dtype='float32')
  density = flow.prob(np.stack(np.meshgrid(x, y), axis=-1)).numpy()
  panels[2].imshow(density, extent=(x[0], x[-1], y[0], y[-1]), origin='lower', cmap='Blues', aspect='auto')
  panels[2].set_title('density')
  figure.savefig(path, dpi=150)


def main(argv: list[str]) -> None:
  del argv
  for name, make in DATA.items():
    points = make(18_000).astype('float32')
    rows, test = points[:16_000], points[16_000:]
    print(f'{name}: {len(rows):,} training rows, {len(test):,} test rows, {rows.shape[1]} columns')
    for coupling in ('affine', 'spline'):
      began = time.perf_counter()
      flow = train(rows, coupling)
      parameters = sum(v.shape.num_elements() for v in flow.trainable_variables)
      show(f'flowgan_tf, {coupling}', parameters, -flow.log_prob(test).numpy(), time.perf_counter() - began)
      if PICTURE.value and name == 'moons' and coupling == 'affine':
        draw(flow, rows, PICTURE.value)
    with tempfile.TemporaryDirectory() as folder:
      data = pathlib.Path(folder, 'rows.npz')
      np.savez(data, rows=rows, test=test)
      for peer in PEERS.value:
        task = {'flow': peer, 'data': str(data), 'steps': STEPS.value, 'batch': BATCH, 'learning_rate': LEARNING_RATE}
        command = [PEER_PYTHON.value, '-m', 'benchmarks.peers.zuko_rows', json.dumps(task)]
        answer = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
        show(f'zuko {peer}', answer['parameters'], np.array(answer['nll']), answer['seconds'])


if __name__ == '__main__':
  app.run(main)

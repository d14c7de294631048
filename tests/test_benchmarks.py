"""The benchmarks as a user starts them, on a model so small that its size can be worked out by hand."""

import math
import os
import pathlib
import re
import subprocess
import sys

import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent

TINY_NICE = (
  '--config=flowgan_tf/configs/digits.py',
  '--image_shape=4,4,1',
  '--config.steps=1000',
  '--config.batch_size=100',
  '--config.jit=False',
  '--config.nice.couplings=2',
  '--config.nice.hidden_layers=1',
  '--config.nice.hidden_units=8',
  '--config.nice.normalization=none',
)


def test_size():
  command = [sys.executable, '-m', 'benchmarks.size', '--objectives=mle', '--batch_size=2', *TINY_NICE]
  result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
  assert (result.returncode, result.stderr) == (0, '')  # Errors are seen, and nothing else.
  sizes, flops, runs = (table.splitlines() for table in result.stdout.split('\n\n'))
  # Per coupling two layers of 8 x 8 with bias; 16 log-scales.
  one_pass = 2 * 2 * 2 * 8 * 8
  assert sizes[2].split() == ['generator', str(2 * 2 * (64 + 8) + 16), f'{one_pass / 1e9:.4g}']
  # Forward and twice that for the gradient, but none for the pixels that the first layer sees.
  step = 3 * one_pass - 2 * 8 * 8
  assert 'TFLOP, batch 100   PFLOP, 1,000 steps' in flops[0]
  assert flops[2].split() == ['mle', *(f'{x:.4g}' for x in (step / 1e9, 100 * step / 1e12, 1e5 * step / 1e15))]
  name, loss, build_seconds, step_seconds, peak_gib = runs[2].split()
  assert name == 'mle'
  assert math.isfinite(float(loss))
  assert min(float(build_seconds), float(step_seconds), float(peak_gib)) > 0


@pytest.mark.skipif(not os.path.exists('/proc/self/statm'), reason='memory is read from /proc')
@pytest.mark.parametrize(('images', 'steps'), [(1000, 10), pytest.param(200_000, 200, marks=pytest.mark.slow)])
def test_training_from_a_file_takes_no_more_memory(images, steps, tmp_path):
  command = [sys.executable, '-m', 'benchmarks.data', f'--images={images}', f'--steps={steps}', f'--folder={tmp_path}']
  result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
  size, memory, _, *times = result.stdout.splitlines()
  assert size == f'{images:,} images, {images * 64 * 64 * 3 / 1e9:.2f} GB of file'
  growth = float(re.search(r'growth (\S+)%$', memory)[1])
  assert growth < 5
  assert [line.split()[0] for line in times] == ['file', 'memory']
  assert not list(tmp_path.iterdir())

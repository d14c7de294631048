"""The benchmarks as a user starts them, on models so small that their sizes can be worked out by hand."""

import collections
import json
import math
import os
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import batch_statistics, compare, front, recipe
from benchmarks.peers import work
from flowgan_tf import flows
from flowgan_tf.bijectors import AffineCoupling

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent

TINY_NICE = shlex.split("""--config=flowgan_tf/configs/digits.py --image_shape=4,4,1 --config.steps=1000
  --config.batch_size=100 --config.jit=False --config.nice.components=1 --config.nice.couplings=2
  --config.nice.hidden_layers=1 --config.nice.hidden_units=8 --config.nice.normalization=none""")


def execute(*arguments):
  return subprocess.run([sys.executable, *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=False)


def run(module, *arguments):
  return execute('-m', f'benchmarks.{module}', *arguments)


@pytest.mark.slow
def test_size():
  result = run('size', '--objectives=mle', '--batch_size=2', *TINY_NICE)
  # Errors are seen, and nothing else but progress on a slow machine.
  errors = [line for line in result.stderr.splitlines() if not line.startswith('loading TensorFlow: ')]
  assert (result.returncode, errors) == (0, [])
  sizes, flops, runs = (table.splitlines() for table in result.stdout.split('\n\n'))
  # Per coupling two layers of 8 x 8 with bias; 16 log-scales.
  one_pass = 2 * 2 * 2 * 8 * 8
  assert sizes[2].split() == ['generator', str(2 * 2 * (64 + 8) + 16), f'{one_pass / 1e9:.4g}']
  # Forward and twice that for the gradient, but none for the pixels that the first layer sees.
  step = 3 * one_pass - 2 * 8 * 8
  assert 'TFLOP, batch 100   PFLOP, 1,000 steps' in flops[0]
  assert flops[2].split() == ['mle', *(f'{x:.4g}' for x in (step / 1e9, 100 * step / 1e12, 1e5 * step / 1e15))]
  loss, *others = map(float, runs[2].removeprefix('mle').split())
  assert math.isfinite(loss) and len(others) == 3 and min(others) > 0


# Steps take 2 ms without labels and 3 ms with them, by the clock of the benchmark; once, other load adds to the latter.
CLOCK = """
import itertools, sys, types
from absl import app
from benchmarks import labels

waits = [0.1, 0.002, 0.1, 0.003] * 6 + [0.1, 0.002, 0.1, 0.030]
clock = itertools.accumulate(itertools.cycle(waits))
labels.time = types.SimpleNamespace(perf_counter=lambda: next(clock))
app.run(labels.main)
"""


@pytest.mark.slow
def test_what_labels_cost():
  result = execute('-c', CLOCK, '--tiny_flow', '--rounds=7', '--nojit', '--most=1.4')
  assert result.returncode == 1
  assert [line for line in result.stderr.splitlines() if ' 7 of 7 ' in line] == [
    f'{name}: 7 of 7 steps with labels take more than 1.4 of a step without.' for name in ('nice', 'jet')
  ]
  measured = '2.0 ms without labels 3.0 ms with labels ratio 1.500'
  assert [' '.join(line.split()) for line in result.stdout.splitlines()] == [
    f'{name} float32 graph {measured}' for name in ('nice', 'jet')
  ]


@pytest.mark.slow
def test_what_parts_gain():
  result = run('parts', '--tiny_flow', '--rounds=1', '--flows=jet', '--dtypes=float32')
  assert result.returncode == 0, result.stderr
  lines = [line.split() for line in result.stdout.splitlines()]
  assert float(lines[1][11]) > 0 and lines[1][12:] == ['ms', 'with', 'XLA']
  assert [line[:3] for line in lines] == [['jet', 'float32', name] for name in ('step', 'density')]
  for line in lines:
    whole, parts, ratio = (float(line[i]) for i in (3, 5, 10))
    assert (parts - 0.05) / (whole + 0.05) - 0.01 < ratio < (parts + 0.05) / (whole - 0.05) + 0.01  # They are rounded.


@pytest.mark.slow
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_profile(dtype):
  result = run('profile', '--tiny_flow', '--calls=2', f'--dtype={dtype}')
  assert result.returncode == 0, result.stderr
  *table, last = result.stdout.splitlines()
  # On some processors oneDNN multiplies bfloat16, under the name _MklMatMul.
  products = sum(float(ms) for name, ms, *_ in map(str.split, table[2:]) if name.endswith('MatMul'))
  assert 0.0 < products < float(re.search(r'in a call of (\S+) ms$', last)[1])


@pytest.mark.skipif(not os.path.exists('/proc/self/statm'), reason='memory is read from /proc')
@pytest.mark.slow
def test_training_from_a_file_takes_no_more_memory(tmp_path):
  result = run('data', '--images=200000', '--steps=200', f'--folder={tmp_path}')
  assert result.returncode == 0, result.stderr
  size, memory, _, *times = result.stdout.splitlines()
  assert size == '200,000 images, 2.46 GB of file'
  # Loaded cores have had 10 %. Read whole, the file would at least double the memory.
  assert float(re.search(r'growth (\S+)%$', memory)[1]) < 50
  assert [line.split()[0] for line in times] == ['file', 'memory']
  assert not list(tmp_path.iterdir())


def run_compare(folder, *arguments):
  """Runs the comparison on tiny flows. Returns the finished process, and the records by task, peer and dtype."""
  path = folder / 'bench.json'
  result = run('compare', '--tiny', '--seconds=0', f'--json={path}', *arguments)
  assert path.exists(), result.stderr
  records = json.loads(path.read_text())['results']
  return result, {(r['task'], r['peer'], r['dtype']): r for r in records}


@pytest.mark.slow
def test_peers_that_are_missing_are_left_out_and_a_share_that_is_too_small_fails(tmp_path):
  arguments = '--tasks=nice_sample', '--rounds=3', '--least_share=1.5', f'--peer_python={tmp_path}/python'
  result, records = run_compare(tmp_path, '--peers=jax', *arguments)
  assert result.returncode == 1
  assert f'jax is left out: No such file or directory: {tmp_path}/python' in result.stderr
  assert list(records) == [('nice_sample', 'flowgan_tf', dtype) for dtype in ('float32', 'bfloat16')]
  for (task, _, dtype), record in records.items():
    assert f'{task} in {dtype} runs at ' in result.stderr
    # 4 samples, 2 couplings with layers of 32 x 16 and 16 x 32.
    assert record['gflop'] == pytest.approx(4 * 2 * 2 * 2 * 32 * 16 / 1e9)
    assert record['ms'] == sorted(record['ms_of_rounds'])[1]
    assert record['share'] == pytest.approx(record['gflop'] / (record['ms'] / 1e3) / record['peak_gflops'])


@pytest.mark.slow
def test_training_is_that_of_stock_tfp_and_keras_and_a_saved_model_computes_the_same(tmp_path):
  # Three steps: density, gradients, Adam and averaged weights, by parts that are not ours.
  arguments = '--peers=tfp,saved_model', '--tasks=nice_train,nice_sample', '--dtypes=float32', '--rounds=1'
  result, records = run_compare(tmp_path, *arguments)
  assert result.returncode == 0, result.stderr
  for key in (('nice_train', 'tfp', 'float32'), ('nice_sample', 'saved_model', 'float32')):
    assert records[key]['difference'] < 1e-3
  assert ('nice_train', 'saved_model', 'float32') not in records
  step = records['nice_train', 'flowgan_tf', 'float32']
  assert 1e3 * step['first_seconds'] > 10 * step['ms']  # The first step is compiled.


@pytest.mark.slow
@pytest.mark.parametrize('peer', ['pytorch', 'jax', 'normflows'])
def test_peers_compute_the_same(peer, tmp_path):
  python = CHECKOUT / '.venv-bench/bin/python'
  if not python.exists():
    pytest.skip('the peers are not installed: `make bench` installs them')
  tasks = 'nice_train,nice_hybrid,real_nvp_log_prob' + ('' if peer == 'normflows' else ',jet_log_prob')
  result, records = run_compare(tmp_path, f'--peers={peer}', f'--tasks={tasks}', '--dtypes=float32', '--rounds=1')
  assert result.returncode == 0, result.stderr
  assert len({task for task, found, _ in records if found == peer}) == len(tasks.split(','))


def test_wrong_results_are_noticed(tmp_path):
  def differences(log_prob, log_prob_after):
    for name, values in (('flowgan_tf-float32-default', ([-100.0, 200.0],) * 2), ('jax', (log_prob, log_prob_after))):
      before, after = map(np.array, values)
      np.savez(tmp_path / f'{name}.npz', log_prob=before, log_prob_after=after, critic=np.ones(2))
    return compare.differences('nice_train', 'jax', 'float32', tmp_path)

  # After a step, single images may differ, but their mean may not.
  assert differences([-100.0, 200.0], [-99.0, 199.0]) == {'difference': 0, 'relative_difference': 0}
  found = differences([-100.0, 200.6], [-100.0, 200.0])
  assert found == {'difference': pytest.approx(0.6), 'relative_difference': pytest.approx(0.003)}
  record = {'task': 'nice_train', 'dtype': 'float32', 'peer': 'jax', 'variant': 'jit', 'share': 0.5} | found
  [said] = compare.find_faults([record])
  assert said == 'nice_train in float32: jax jit differs from flowgan_tf by 0.003 of it'
  assert not list(compare.find_faults([record | {'relative_difference': 1e-4}]))
  assert list(compare.find_faults([record | {'relative_difference': math.nan}]))


@pytest.mark.slow
@pytest.mark.parametrize('name', ['real_nvp_train', 'jet_train'])
def test_masks_of_the_peers_are_those_of_the_flows(name):
  task = work.TINY[name]
  flow = getattr(flows, task.flow)(task.image_shape, **task.sizes)
  found = work.coupling_masks(task)
  for module in flow.bijector.submodules:
    if isinstance(module, AffineCoupling) and 'channel' not in module.name:
      kept, _ = module.mask.split(tf.ones(module.mask.event_shape))
      np.testing.assert_array_equal(kept, found.pop(module.name))
  assert not found


def test_every_result_on_mnist_is_drawn():
  text = (CHECKOUT / 'docs/results.md').read_text(encoding='utf-8')
  found = front.rows(text)
  table = text.partition('| model | training |')[2].partition('\n\n')[0]
  drawn = r"^\| \[(?:NICE|Jet|the paper's recipe).* \| (?:\*\*)?-.* \|$"
  assert len(found) == len(re.findall(drawn, table, re.MULTILINE)) > 8
  assert found[0] == ("NICE, the paper's prior", 'maximum likelihood', -3353, 71)
  [axes] = front.draw(found).axes
  assert [len(line.get_xdata()) for line in axes.lines] == list(collections.Counter(row[0] for row in found).values())


def test_the_curves_of_the_papers_recipe_are_those_of_its_page():
  found, best = recipe.curves((CHECKOUT / 'docs/results/paper.md').read_text(encoding='utf-8'))
  assert best == {'MLE': 7.42, 'Hybrid': 9.37, 'ADV': 9.24}
  assert found['MLE'][0] == (5000, 5.34, 125)
  assert found['Hybrid'][:2] == [(5000, 7.68, 46), (10_000, 8.06, 31)]
  assert found['ADV'][5] == (30_000, 8.92, 13)
  of_mode, of_fid = recipe.draw(found, best).axes
  assert [len(line.get_xdata()) for line in of_fid.lines] == [len(curve) for curve in found.values()]
  assert {line.get_ydata()[0] for line in of_mode.lines if line.get_linestyle() == ':'} == set(best.values())


@pytest.mark.slow
def test_a_cpu_agrees_with_itself_in_the_check_of_a_gpu():
  result = run('gpu_check', '--device=CPU:0', '--tiny_flow', '--flows=nice', '--steps=1')
  assert result.returncode == 0, result.stderr
  rows = [line for line in result.stdout.splitlines() if line.startswith('nice, ')]
  assert [row.partition('  ')[0].strip() for row in rows][:6] == [
    f'nice, {precision}{mode}' for precision in ('float32', 'mixed_bfloat16', 'mixed_float16') for mode in ('', ', XLA')
  ]
  # The reference itself: the same numbers, bit for bit.
  assert rows[0].split()[2:6] == ['0', '0', '0', 'yes']


def test_the_passes_of_a_step_move_running_statistics_in_turn():
  flow = flows.nice((4, 4, 1), hidden_units=8, hidden_layers=1, normalization='scalar_batch', initial_weights='paper')
  images = tf.random.stateless_uniform((5, 4, 4, 1), (0, 1))
  running = flow.non_trainable_variables
  start = [variable.numpy() for variable in running]

  def after(passes):
    for variable, value in zip(running, start, strict=True):
      variable.assign(value)
    batch_statistics.mix(flow, lambda step: images, passes, steps=1, batch=5)
    return [variable.numpy() for variable in running]

  of_images, of_samples = after('i'), after('s')
  assert not all(np.allclose(*pair, rtol=1e-3) for pair in zip(of_images, of_samples, strict=True))
  for a, i, s, both in zip(start, of_images, of_samples, after('si'), strict=True):
    np.testing.assert_allclose(both, 0.9 * s + (i - 0.9 * a), rtol=1e-4, atol=1e-6)

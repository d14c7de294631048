"""The notebooks run in silence, and their numbers hold. The likelihood in NumPy is the likelihood of the flow."""

import ast
import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import nbclient
import nbformat
import numpy as np
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

import flowgan_tf as fg
from flowgan_tf.base.files import save_arrays
from flowgan_tf.export.weights import named_weights
from tests.programs.conftest import untouched

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((CHECKOUT / 'examples').glob('*.ipynb'))

# For each notebook, what must hold of its variables after the last cell.
CLAIMS = {
  'bijectors_in_tfp': (
    'min(log_likelihoods.values()) > np.mean(gaussian.log_prob(test)) + 0.5',
    'all(each.sound for each in reports.values())',
    'not report.sound and "The fault is in maf_0 and maf_1." in str(report)',
    'np.mean(cheat.log_prob(test)) > 3',
  ),
  'classify_and_generate': (
    'accuracy["all labels"] > 0.95 and accuracy["50 labels"] > accuracy["50 labels, logistic regression"]',
    'error < 0.1',
    'areas["upside down"] > 0.7 and min(areas["shuffled"], areas["noise"]) > 0.99',
  ),
  'own_photos': (
    'accuracy > 0.9 and bits.mean() < 4',
    'difference < 1e-2',
    'again.shape == (12, 16, 16, 3)',
  ),
  'posterior_of_a_simulator': (
    'np.all(np.abs(drawn.mean(axis=0) - exact_mean) < 0.3 * exact_std)',
    'np.all(np.abs(drawn.std(axis=0) / exact_std - 1) < 0.2)',
    'min(p_values) > 1e-4',
    'report.sound and information > 3',
  ),
  'flow_gan_on_digits': (
    # The uniform density over the unit cube costs what 17 grey levels cost, the flow's a good deal less.
    'abs(bits_per_dim(0.0) - np.log2(17)) < 1e-6',
    'abs(bits["digits"].mean() - (np.log2(17) - np.mean(log_prob) / (64 * np.log(2)))) < 1e-4',
    'bits["digits"].mean() < 2.6',
    'min(bits["shuffled pixels"].mean(), bits["uniform noise"].mean()) > np.log2(17)',
    'np.array_equal(np.sort(shuffled.reshape(-1, 64)), np.sort(test.reshape(-1, 64)))',
    'np.max(np.abs(round_trip - test)) < 1e-4',
    # The way between two images begins and ends at them.
    'np.max(np.abs(flow.decode(way[:, 0]) - test[:4])) < 1e-4',
    'np.max(np.abs(flow.decode(way[:, -1]) - test[4:8])) < 1e-4',
    'np.max(np.abs(spectrum.log_det - spectrum.flow_log_det)) < 1e-2',
    'np.max(np.abs(by_hand - flow.log_prob(flow.decode(noise)))) < 1e-2',
    # The mean log-likelihood of the best Gaussian is minus its entropy; the moons are far from one.
    'np.mean(moons.log_prob(points)) > 0.5 - 0.5 * np.linalg.slogdet(2 * np.pi * np.e * np.cov(points.T))[1]',
    'abs(integral - 1) < 0.02',
    'accuracy > 0.99 and np.max(np.abs(of_each - 0.5)) < 0.02',
    'after < before - 1',
  ),
  'the_paper_on_digits': (
    'abs(nll["hybrid, λ = 0.1"] - nll["mle"]) < 2 and score["hybrid, λ = 0.1"] > score["mle"] + 0.3',
    'min(score["adversarial"], score["hybrid, λ = 0.01"]) > score["mle"] + 0.5',
    'nll["mle"] + 2 < nll["hybrid, λ = 0.01"] < nll["adversarial"] - 20',
    'condition["adversarial"] > 3 * condition["mle"]',
  ),
}


def execute(notebook, folder, monkeypatch):
  """Runs all cells in place, in a kernel of this interpreter that sees nothing of the user's Jupyter."""
  for variable in ('IPYTHONDIR', 'JUPYTER_RUNTIME_DIR', 'TMPDIR'):
    (folder / variable).mkdir()
    monkeypatch.setenv(variable, str(folder / variable))
  monkeypatch.setenv('PYTHONPATH', str(CHECKOUT), prepend=os.pathsep)
  importlib.import_module('matplotlib.font_manager')  # It builds its cache, of which the kernel would speak.
  # With it the kernel would not show what libraries write to the file descriptor 2.
  environment = {name: value for name, value in os.environ.items() if name != 'PYTEST_CURRENT_TEST'}
  # No folder to look for kernels leaves ipykernel's own.
  kernel = AsyncKernelManager(kernel_name='python3', kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
  client = nbclient.NotebookClient(notebook, km=kernel, timeout=None, resources={'metadata': {'path': str(folder)}})
  client.execute(env=environment, cleanup_kc=True)


def test_committed_notebooks_are_valid_and_have_no_outputs():
  for path in NOTEBOOKS:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get('outputs') or cell.get('execution_count') for cell in notebook.cells)


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_cell_installs_a_wheel_where_the_package_is_missing(path, tmp_path, monkeypatch):
  first = next(cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == 'code')
  called = []
  monkeypatch.setattr(subprocess, 'run', lambda command, check: called.append(command[1:]))
  monkeypatch.chdir(tmp_path)
  pathlib.Path('flowgan_tf-1.0.0-py3-none-any.whl').touch()
  exec(first.source, {})
  assert called == []
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  exec(first.source, {})
  assert called == [['-m', 'pip', 'install', '-q', 'flowgan_tf-1.0.0-py3-none-any.whl']]


@pytest.mark.slow
@pytest.mark.timeout(2400)  # The longest takes eight minutes on idle cores.
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_in_silence_and_its_numbers_hold(path, tmp_path, monkeypatch):
  notebook = nbformat.read(path, as_version=4)
  notebook.cells += [nbformat.v4.new_code_cell(f'assert {claim}') for claim in CLAIMS[path.stem]]
  execute(notebook, tmp_path, monkeypatch)
  outputs = [output for cell in notebook.cells if cell.cell_type == 'code' for output in cell.outputs]
  assert ''.join(output.text for output in outputs if output.output_type == 'stream' and output.name == 'stderr') == ''
  assert any('image/png' in output.get('data', {}) for output in outputs)


def test_the_likelihood_in_numpy_is_the_likelihood_of_the_flow(tmp_path):
  rng = np.random.default_rng(0)
  # One coupling more than there are masks, and networks of histograms with patches of two sizes.
  flow = fg.flows.jet(
    (8, 8, 1),
    couplings=9,
    width=4,
    hidden_units=8,
    histogram_bins=256,
    histogram_networks=4,
    histogram_channels=4,
    histogram_blocks=1,
    dtype='float64',
  )
  grey = rng.integers(0, 256, (20, 8, 8, 1)).astype(np.uint8) * rng.integers(0, 2, (20, 8, 8, 1), np.uint8)
  images = fg.data.dequantize(grey, levels=256, seed=0).astype(np.float64)
  fg.flows.fit_histograms(flow, images)
  for variable in flow.trainable_variables:
    variable.assign_add(rng.normal(0, 0.1, variable.shape))
  save_arrays(tmp_path / 'weights.npz', named_weights(flow))
  edges = np.array([0, 1, -1e-8, 1 + 1e-8, -0.1, 1.1, np.inf, -np.inf])
  images[-len(edges) :, 3, 5, 0] = edges
  ours = flow.log_prob(images).numpy()
  assert np.isneginf(ours).tolist() == [False] * 16 + [True] * 4
  np.savez(tmp_path / 'images.npz', images=images, ours=ours, others=ours + 2)
  program = CHECKOUT / 'examples' / 'likelihood_in_numpy.py'
  command = [sys.executable, program, tmp_path / 'weights.npz', tmp_path / 'images.npz']
  printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout
  differences = dict(re.findall(r'^(.*): .*differs by up to (\S+)$', printed, re.MULTILINE))
  assert float(differences.pop('others')) > 1
  assert len(differences) == 3 and max(map(float, differences.values())) < 1e-7
  assert 'mean -inf nats' in printed.splitlines()[0]


def test_the_slant_of_ink_and_the_units_of_its_data(tmp_path, monkeypatch):
  """A line of two columns per row has the slant 2; conditions have mean 0 and deviation 1 on training images."""
  monkeypatch.syspath_prepend(CHECKOUT / 'examples')
  with untouched():
    slant = importlib.import_module('slant')
  image = np.zeros((1, 5, 9, 1))
  image[0, np.arange(5), 2 * np.arange(5)] = 0.9
  np.testing.assert_allclose(slant.measure(image), [[0.1, 2.0]], rtol=1e-6)
  rng, splits = np.random.default_rng(0), []
  for n, brightest in ((50, 100), (20, 200), (20, 200)):
    splits.append(fg.data.Split(rng.integers(0, brightest, (n, 6, 6, 1)).astype(np.uint8), np.zeros(n, int)))
  monkeypatch.setattr(fg.data, 'load', lambda *_: fg.data.Dataset('toy', 256, *splits, 1))
  slant.write(tmp_path / 'slant.npz', None)
  train, test = (np.load(tmp_path / 'slant.npz')[name] for name in ('c_train', 'c_test'))
  np.testing.assert_allclose([train.mean(axis=0), train.std(axis=0)], [[0, 0], [1, 1]], atol=1e-5)
  levels = [split.images.mean(axis=(1, 2, 3)) for split in splits]
  np.testing.assert_allclose(test[:, 0], (levels[2] - levels[0].mean()) / levels[0].std(), rtol=1e-4)


def test_the_likelihood_in_numpy_imports_nothing_of_ours():
  tree = ast.parse((CHECKOUT / 'examples' / 'likelihood_in_numpy.py').read_text())
  assert not any(isinstance(node, ast.ImportFrom) for node in ast.walk(tree))
  imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
  assert imported == {'itertools', 'sys', 'numpy'}

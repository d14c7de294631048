import os
import pathlib
import subprocess
import sys
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import flowgan_tf as fg
from flowgan_tf import flows
from flowgan_tf.base.errors import UsageError
from flowgan_tf.export import saved_model
from flowgan_tf.export.saved_model import _checked_labels, _trace, write_saved_model

# What a process without this package, and without TensorFlow Probability, makes of a SavedModel.
ELSEWHERE = """
import sys

for name in ('flowgan_tf', 'tensorflow_probability', 'tf_keras'):
  sys.modules[name] = None  # An import of it fails.
import numpy as np
import tensorflow as tf

folder, given, result = sys.argv[1:]
images = np.load(given)
model = tf.saved_model.load(folder)
serving = model.signatures['log_prob']
np.savez(
  result,
  log_prob=model.log_prob(images),
  encode=model.encode(images),
  sample=model.sample(n=5, seed=7, temperature=0.7),
  serving=next(iter(serving(**{serving.structured_input_signature[1].popitem()[0]: images}).values())),
)
"""


def make_flow(name, **arguments):
  keras.utils.set_random_seed(0)
  if name == 'nice':
    small = {'couplings': 2, 'hidden_units': 8, 'hidden_layers': 1, 'normalization': 'none'}
    flow = flows.nice((4, 4, 1), **small | arguments)
  elif name == 'jet':
    small = {'couplings': 4, 'patch_size': 2, 'width': 4, 'hidden_units': 4}
    flow = flows.jet((4, 4, 1), conditioner='transformer', **small, **arguments)
  else:
    flow = flows.real_nvp((4, 4, 3), scales=1, channels=4, blocks=1, batch_norm_between=True)
  rng = np.random.default_rng(0)
  for variable in flow.variables:
    # Running variances stay positive.
    variable.assign_add(np.abs(rng.normal(0, 0.1, variable.shape)).astype(np.float32))
  if flow.classes:
    flow.class_probs.assign(np.arange(1, flow.classes + 1) / sum(range(flow.classes + 1)))
  return flow


def make_images(flow, n):
  return np.random.default_rng(0).uniform(0.05, 0.95, (n, *flow.event_shape)).astype(np.float32)


@pytest.fixture(
  scope='module', params=['nice', *(pytest.param(name, marks=pytest.mark.slow) for name in ('real_nvp', 'jet'))]
)
def exported(request, tmp_path_factory):
  flow = make_flow(request.param)
  folder = tmp_path_factory.mktemp(request.param) / 'export'
  write_saved_model(flow, folder)
  return flow, folder, tf.saved_model.load(str(folder))


def graph_log_prob(flow, images):
  # Outside of a graph the sums are rounded in another order: the terms are far larger than a log-density near 0.
  return tf.function(flow.log_prob)(images).numpy()


def test_densities_are_those_of_the_flow_and_mappings_are_inverse(exported):
  flow, _, model = exported
  images = make_images(flow, 7)
  expected = graph_log_prob(flow, images)
  for n in (1, 7):
    np.testing.assert_allclose(model.log_prob(images[:n]), expected[:n], rtol=1e-6, atol=5e-6)
  noise = model.encode(images)
  np.testing.assert_allclose(noise, flow.encode(images), atol=1e-5)
  np.testing.assert_allclose(model.decode(tf.identity(noise)), images, atol=1e-5)
  # Four times the noise is what a flow of four times the scale would sample: many pixels lie where float32 ends.
  samples = model.sample(n=200, seed=3, temperature=4.0)
  assert np.mean((samples <= 0) | (samples >= 1)) > 0.01
  assert np.all(np.isfinite(model.log_prob(samples)))
  images[:3, 1, 2, 0] = [-0.01, 1.01, np.inf]
  assert np.all(np.isneginf(model.log_prob(images[:3]))) and np.all(np.isfinite(model.encode(images)))


def test_samples_follow_the_seed_and_the_temperature(exported):
  flow, _, model = exported
  samples, noise = model.sample(n=20, seed=3, temperature=1.0), flow.distribution.sample(20, seed=[3, 0])
  assert np.all(samples.numpy() != model.sample(n=20, seed=4, temperature=1.0).numpy())
  np.testing.assert_allclose(samples, flow.decode(noise), atol=1e-5)
  np.testing.assert_allclose(model.sample(n=20, seed=3, temperature=0.5), flow.decode(0.5 * noise), atol=1e-5)
  # An int stands for a pair. Our Python takes the pair, too.
  for seed in ((3, 0), [3, 0], tf.constant([3, 0]), np.array([3, 0], np.int32)):
    np.testing.assert_array_equal(model.sample(20, seed), samples)
  np.testing.assert_allclose(model.sample(20, (3, 4)), flow.sample(20, seed=(3, 4)), atol=1e-5)
  np.testing.assert_array_equal(model.sample(2), model.sample(n=2, seed=0, temperature=1.0))
  for wrong in (-1.0, np.nan, 1e38):
    with pytest.raises(tf.errors.InvalidArgumentError, match='`temperature`'):
      model.sample(2, 0, wrong)
  with pytest.raises(tf.errors.InvalidArgumentError, match='`n`'):
    model.sample(-1)
  assert set(model.signatures) == {'sample', 'log_prob', 'encode', 'decode'}
  arguments = {'n': tf.constant(20), 'seed': tf.constant(3), 'temperature': tf.constant(1.0)}
  np.testing.assert_allclose(*model.signatures['sample'](**arguments).values(), samples, atol=1e-6)


def assert_same_functions(model, flow, images, given, condition):
  np.testing.assert_allclose(model.log_prob(images, given), flow.log_prob(images, condition=condition), atol=1e-4)
  samples = flow.sample(len(images), seed=(3, 0), condition=condition)
  np.testing.assert_allclose(model.sample(len(images), given, 3), samples, atol=1e-5)
  noise = model.encode(images, given)
  np.testing.assert_allclose(noise, flow.encode(images, condition=condition), atol=1e-4)
  np.testing.assert_allclose(model.decode(noise, given), images, atol=1e-4)


def assert_counts_are_checked(model, name, images, given):
  """Calls the functions with `images`, which look like noise, too, and with 0 to 2 more of `given` than images."""
  n, said = len(images), rf'`{name}`.*\[{{}}\].*\[{{}}\]'
  for function in (model.sample, model.decode, model.encode, model.log_prob):
    first = n if function is model.sample else images
    for count in (0, n - 2, n + 2):
      with pytest.raises(tf.errors.InvalidArgumentError, match=said.format(count, n)):
        function(first, given[:count])
    assert len(function(first, given[:n])) == len(function(first, given[:1])) == n
  for count in (0, 1):
    assert len(model.sample(0, given[:count])) == 0
  for wrong in [(-1, given[:1]), (-1, given), *([(-1,)] if name == 'label' else [])]:
    with pytest.raises(tf.errors.InvalidArgumentError, match=r'`n`.*\[-1\]'):
      model.sample(*wrong)


@pytest.mark.parametrize('dtype', [tf.int32, tf.int64])
def test_only_labels_of_classes_are_accepted(dtype):
  check = tf.function(_checked_labels, autograph=False)
  found = check(tf.constant([0, 2, 1], dtype), 3)
  assert found.dtype == tf.int32 and found.numpy().tolist() == [0, 2, 1]
  for wrong in (3, -1):
    with pytest.raises(tf.errors.InvalidArgumentError, match='`label`'):
      check(tf.constant([1, wrong], dtype), 3)
  # TensorFlow would speak of conditions that it does not optimise, in the process of the user.
  graph = check.get_concrete_function(tf.TensorSpec([None], dtype), 3).graph
  assert not {'If', 'StatelessIf', 'Switch', 'Merge'} & {operation.type for operation in graph.get_operations()}


def test_labels_choose_components_and_images_without_one_have_the_mixture():
  """Of what is saved; a new flow of alpha 0.05 maps logits to pixels, and the means of each class lie far apart."""
  flow = flows.nice((2, 2, 1), couplings=2, hidden_units=4, hidden_layers=1, alpha=0.05, components=4, classes=2)
  means = np.reshape([-40.0, -20.0, 20.0, 40.0], (4, 1, 1, 1)) * np.ones((4, 2, 2, 1))
  flow.distribution.means.assign(means)
  flow.class_probs.assign([0.25, 0.75])
  model, _ = _trace(flow)
  for label in (0, 1):
    samples = model.sample(20, label, 0)
    assert np.all(samples < 0.5 if label == 0 else samples > 0.5)
  images = np.linspace(0.1, 0.9, 20, dtype=np.float32).reshape(5, 2, 2, 1)
  flow.distribution.means.assign(means / 40)
  of_classes = np.stack([flow.log_prob(images, condition=label) for label in (0, 1)], axis=-1)
  joint = of_classes + np.log([0.25, 0.75])
  np.testing.assert_allclose(model.class_log_probs(images), joint, atol=1e-4)
  np.testing.assert_allclose(model.log_prob(images), np.logaddexp(*joint.T), atol=1e-4)
  assert_counts_are_checked(model, 'label', images, np.arange(7) % 2)


@pytest.mark.slow
@pytest.mark.parametrize('arguments', [{}, {'components': 6, 'condition_networks': False}])
def test_labels_are_one_for_all_or_one_for_each(arguments, tmp_path):
  flow = make_flow('nice', classes=3, **arguments)
  flow.class_names = ('a', 'b', 'ç')
  write_saved_model(flow, tmp_path / 'export')
  model, images = tf.saved_model.load(tmp_path / 'export'), make_images(flow, 5)
  each = np.arange(5) % 3
  for label in (2, each, tf.constant([0])):
    assert_same_functions(model, flow, images, label, label)
  assert [name.decode() for name in model.class_names.numpy()] == ['a', 'b', 'ç']
  # Without a label they mean the mixture of the classes.
  joint = np.stack([model.log_prob(images, y) for y in range(3)], axis=-1) + np.log(np.arange(1, 4) / 6)
  np.testing.assert_allclose(model.class_log_probs(images), joint, atol=1e-4)
  np.testing.assert_allclose(model.log_prob(images), np.log(np.sum(np.exp(joint), axis=-1)), atol=1e-4)
  np.testing.assert_allclose(model.sample(5, seed=(3, 4)), flow.sample(5, seed=(3, 4)), atol=1e-5)
  assert len(model.sample(1, each)) == 5
  assert_counts_are_checked(model, 'label', images, np.arange(7) % 3)
  noise = flow.sample_noise(5, (0, 0), 0.5, condition=each)
  np.testing.assert_allclose(model.sample(5, each, temperature=0.5), flow.decode(noise, condition=each), atol=1e-5)
  with pytest.raises(tf.errors.InvalidArgumentError, match='`temperature`'):
    model.sample(5, each, temperature=-1.0)
  for wrong in (3, -1, each + 1, np.int64(2**32)):
    with pytest.raises(tf.errors.InvalidArgumentError, match='`label`'):
      model.log_prob(images, wrong)
  assert set(model.signatures) == {'sample', 'log_prob', 'encode', 'decode', 'class_log_probs'}
  (served,) = model.signatures['encode'](images=tf.constant(images), label=tf.constant([1])).values()
  np.testing.assert_allclose(served, model.encode(images, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('shape', [(2,), (4, 4, 1)])
def test_conditions_are_one_for_all_or_one_for_each(shape, tmp_path):
  flow = make_flow('nice', condition_shape=shape)
  write_saved_model(flow, tmp_path / 'export')
  model, images = tf.saved_model.load(tmp_path / 'export'), make_images(flow, 5)
  each = np.random.default_rng(1).normal(size=(5, *shape)).astype(np.float32)
  for condition in (each, each[0]):
    assert_same_functions(model, flow, images, condition, condition)
  assert_counts_are_checked(model, 'condition', images, np.tile(each[:1], (7, *[1] * len(shape))))
  assert np.max(np.abs(model.log_prob(images, each) - model.log_prob(images, each[0]))) > 1e-2
  assert set(model.signatures) == {'sample', 'log_prob', 'encode', 'decode'}
  with pytest.raises(ValueError, match='Could not find matching concrete function'):
    model.sample(5, each[:, :1])


@pytest.mark.slow
def test_noise_may_have_another_shape_than_images(tmp_path):
  """As in TFP's Glow, which needs help with batches of unknown size."""
  prior = tfp.distributions.Sample(tfp.distributions.Normal(0.0, 1.0), 16)
  glow = tfp.bijectors.Glow((4, 4, 1), 1, 1, coupling_bijector_fn=tfp.bijectors.GlowDefaultNetwork, use_actnorm=False)
  flow = flows.Flow(prior, tfp.bijectors.Chain([tfp.bijectors.Sigmoid(), glow]))
  write_saved_model(flow, tmp_path / 'export')
  model, images = tf.saved_model.load(tmp_path / 'export'), make_images(flow, 3)
  np.testing.assert_allclose(model.log_prob(images), flow.log_prob(images), rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(model.decode(model.encode(images)), images, atol=1e-4)


@pytest.mark.slow
def test_a_generator_without_a_likelihood_takes_labels(tmp_path):
  keras.utils.set_random_seed(0)
  generator = flows.dcgan((4, 4, 1), channels=(2,), classes=3)
  write_saved_model(generator, tmp_path / 'export')
  model = tf.saved_model.load(tmp_path / 'export')
  assert set(model.signatures) == {'sample', 'decode'}
  for label in (None, 2, np.arange(5) % 3):
    np.testing.assert_allclose(model.sample(5, label, 3), generator.sample(5, (3, 0), condition=label), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('exported', ['nice'], indirect=True)
def test_a_process_without_the_package(exported, tmp_path):
  flow, folder, model = exported
  images = make_images(flow, 6)
  np.save(tmp_path / 'given.npy', images)
  environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
  command = [sys.executable, '-c', ELSEWHERE, folder, tmp_path / 'given.npy', tmp_path / 'result.npz']
  done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  result = np.load(tmp_path / 'result.npz')
  for name in ('log_prob', 'serving'):
    np.testing.assert_allclose(result[name], graph_log_prob(flow, images), rtol=1e-6, atol=5e-6)
  np.testing.assert_allclose(result['encode'], flow.encode(images), atol=1e-5)
  np.testing.assert_allclose(result['sample'], model.sample(n=5, seed=7, temperature=0.7), atol=1e-6)


@pytest.mark.slow
def test_an_export_that_fails_leaves_the_older_one(tmp_path, monkeypatch):
  flow = make_flow('nice')
  write_saved_model(flow, tmp_path / 'export')
  (tmp_path / 'link').symlink_to('export')
  for variable in flow.trainable_variables:
    variable.assign_add(0.1 * tf.ones_like(variable))
  write_saved_model(flow, tmp_path / 'link')  # It replaces the first one.
  older, images = tf.saved_model.load(tmp_path / 'link'), make_images(flow, 3)
  np.testing.assert_allclose(older.log_prob(images), graph_log_prob(flow, images), rtol=1e-6, atol=5e-6)
  save = tf.saved_model.save

  def full_disk(module, path, **arguments):
    save(module, path, **arguments)
    raise tf.errors.ResourceExhaustedError(None, None, 'No space left on device')

  rename = pathlib.Path.rename

  def failing(path, target):
    if path.suffix == '.new':
      raise OSError('No space left')
    return rename(path, target)

  for owner, name, replacement in ((tf.saved_model, 'save', full_disk), (pathlib.Path, 'rename', failing)):
    with monkeypatch.context() as patch, pytest.raises(UsageError, match='No space left'):
      patch.setattr(owner, name, replacement)
      write_saved_model(flow, tmp_path / 'export')
  assert {path.name for path in tmp_path.iterdir()} == {'export', 'link'}
  found = tf.saved_model.load(tmp_path / 'export')
  np.testing.assert_array_equal(found.log_prob(images), older.log_prob(images))


def test_what_a_killed_export_has_left_is_removed(tmp_path, monkeypatch):
  gone = subprocess.Popen([sys.executable, '-c', ''])
  gone.wait()
  removed = {f'export.{gone.pid}.new', f'export.{gone.pid}.old'}
  kept = {f'export.{os.getppid()}.new', f'export-2.{gone.pid}.new'}
  for name in removed | kept:
    (tmp_path / name).mkdir()
    os.utime(tmp_path / name, times=(0, 0))
  monkeypatch.setattr(saved_model, '_trace', lambda generator: (None, None))
  monkeypatch.setattr(tf.saved_model, 'save', lambda module, path, signatures: os.mkdir(path))
  write_saved_model(mock.Mock(spec=flows.Flow), tmp_path / 'export')
  assert {path.name for path in tmp_path.iterdir()} == kept | {'export'}
  young = tmp_path / f'export.{gone.pid}.new'  # Its process may run on another machine.
  young.mkdir()
  write_saved_model(mock.Mock(spec=flows.Flow), tmp_path / 'export')
  assert young.exists()


def test_the_older_export_is_back_if_the_new_one_cannot_take_its_name(tmp_path, monkeypatch):
  folder, rename = tmp_path / 'export', pathlib.Path.rename
  (folder / 'variables').mkdir(parents=True)

  def failing(path, target):
    if path.suffix == '.new':
      raise OSError('No space left')
    return rename(path, target)

  monkeypatch.setattr(saved_model, '_trace', lambda generator: (None, None))
  monkeypatch.setattr(tf.saved_model, 'save', lambda module, path, signatures: os.mkdir(path))
  monkeypatch.setattr(pathlib.Path, 'rename', failing)
  with pytest.raises(UsageError, match='No space left'):
    write_saved_model(mock.Mock(spec=flows.Flow), folder)
  assert [path.name for path in tmp_path.iterdir()] == ['export'] and (folder / 'variables').exists()


@pytest.mark.slow
def test_a_folder_with_other_files_or_that_cannot_be_written_is_named(tmp_path):
  flow, notes = make_flow('nice'), tmp_path / 'notes.txt'
  write_saved_model(flow, tmp_path)
  notes.write_text('precious')
  for folder, message in ((tmp_path, r'notes\.txt'), (notes / 'export', f'^{notes}')):
    with pytest.raises(UsageError, match=message):
      write_saved_model(flow, folder)
  assert notes.read_text() == 'precious'


@pytest.mark.slow
def test_a_path_that_tensorflow_takes_for_a_pattern_is_named(tmp_path, caplog):
  flow, image = make_flow('nice'), np.full((1, 4, 4, 1), 0.3, np.float32)
  for name, loads in (('*?', True), ('[a]', False)):
    caplog.clear()
    write_saved_model(flow, tmp_path / name)
    model = tf.saved_model.load(tmp_path / name if loads else (tmp_path / name).rename(tmp_path / 'moved'))
    np.testing.assert_allclose(model.log_prob(image), flow.log_prob(image), rtol=1e-5, atol=1e-5)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith('flowgan_tf')]
    assert [message.partition(': ')[0] for message in ours] == [f'{tmp_path}/{name}'] * (not loads)


def test_what_is_not_a_generator_is_rejected(tmp_path):
  flow = flows.nice((2, 2, 1), classes=2, couplings=2, hidden_units=2, hidden_layers=1)
  for wrong in (flow.given(1), fg.keras.FlowModel(flow)):
    with pytest.raises(UsageError, match='`generator`'):
      write_saved_model(wrong, tmp_path / 'export')

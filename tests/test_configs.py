"""Every configuration that ships is valid, builds its flow, and has the paper's settings where it says so."""

import importlib
import pathlib
import re

import keras
import numpy as np
import pytest

from flowgan_tf.base.errors import UsageError
from flowgan_tf.configs import cifar10, fashion_mnist, mnist
from flowgan_tf.runs.config import default_config, settings, validate
from flowgan_tf.runs.run import make_critic, make_generator

CONFIGS = pathlib.Path(__file__).resolve().parent.parent / 'flowgan_tf' / 'configs'
NAMES = sorted(path.stem for path in CONFIGS.glob('*.py') if path.stem != '__init__')


@pytest.mark.parametrize('name', NAMES)
def test_config_is_valid_and_adds_no_setting(name):
  module = importlib.import_module(f'flowgan_tf.configs.{name}')
  assert (CONFIGS.parent.parent / 'configs' / f'{name}.py').resolve() == CONFIGS / f'{name}.py'
  assert 'bin/train' in module.__doc__
  for variant in getattr(module, 'VARIANTS', [None]):
    config = module.get_config(variant) if variant else module.get_config()
    validate(config)
    assert pathlib.Path(config.dataset).stem == name
    assert set(config.keys()) == set(default_config().keys())
    if config.init_from and name != 'fashion_mnist':
      assert re.search(rf'{config.init_from}\b(?!-)', module.__doc__)  # It says how to train that run.
  if hasattr(module, 'VARIANTS'):
    expected = rf'{name}\.py:large: no such variant; expected one of {", ".join(module.VARIANTS)}'
    with pytest.raises(UsageError, match=expected):
      module.get_config('large')


# The paper's Real-NVP: one size, critic and optimizer for all variants.
PAPER = {
  'batch_size': 64,
  'steps': 200_000,
  'flip': True,
  'scorer': 'inception',
  'generator': 'real_nvp',
  'real_nvp.prior': 'normal',
  'real_nvp.alpha': 1e-7,
  'real_nvp.architecture': 'preactivation',
  'real_nvp.normalization': 'batch',
  'real_nvp.scales': 2,
  'real_nvp.channels': 64,
  'real_nvp.blocks': 8,
  'real_nvp.batch_norm_between': False,
  'dcgan.channels': [512, 256, 128],
  'dcgan_critic.channels': [64, 128, 256, 512],
  'dcgan_critic.dense_units': 0,
  'dcgan_critic.layer_norm': True,
  'critic_steps': 5,
  'divergence': 'wasserstein',
  'critic_optimizer.learning_rate': 1e-4,
  'critic_optimizer.beta_1': 0.5,
  'critic_optimizer.beta_2': 0.9,
  'critic_optimizer.schedule': 'constant',
  'optimizer.beta_2': 0.9,
  'optimizer.schedule': 'exponential',
}


def trained(objective, learning_rate, beta_1, decay_rate):
  names = 'objective', 'optimizer.learning_rate', 'optimizer.beta_1', 'optimizer.decay_rate'
  return dict(zip(names, (objective, learning_rate, beta_1, decay_rate), strict=True))


LIKELIHOOD, ADVERSARIAL = trained('mle', 1e-3, 0.9, 0.999995), trained('adversarial', 1e-4, 0.5, 1.0)
VARIANTS = {
  'mle': LIKELIHOOD,
  'adversarial': ADVERSARIAL,
  'hybrid': trained('hybrid', 1e-3, 0.5, 0.99999) | {'lambda': 1.0},
  'dcgan': ADVERSARIAL | {'generator': 'dcgan'},
  'dinh': LIKELIHOOD | {'real_nvp.alpha': 0.05, 'real_nvp.scales': 3, 'real_nvp.batch_norm_between': True},
  'paper': LIKELIHOOD | {'real_nvp.architecture': 'paper', 'steps': 300 * 703, 'ema_decay': 0.0},
}


def test_settings_of_the_variants_of_cifar10():
  for variant, settings_of_its_own in VARIANTS.items():
    found, expected = settings(cifar10.get_config(variant)), PAPER | settings_of_its_own
    assert {name: found[name] for name in expected} == expected, variant


@pytest.mark.parametrize('variant', ['dcgan', 'dinh', 'paper', 'jet'])
def test_the_generators_of_the_variants_of_cifar10_can_be_built(variant):
  """With few channels, blocks and couplings; all else as it ships."""
  config = cifar10.get_config(variant)
  small = {'real_nvp.channels': 2, 'real_nvp.blocks': 1, 'dcgan.channels': (4, 3, 2), 'jet.couplings': 2}
  config.update_from_flattened_dict(small)
  generator = make_generator(config, (32, 32, 3))
  assert any('running_mean' in v.name for v in generator.variables) == (variant == 'dinh')
  assert generator.has_density == (variant != 'dcgan')
  if generator.has_density:
    images, log_prob = generator.experimental_sample_and_log_prob(2, seed=(0, 0))
    assert log_prob.shape == (2,)
  else:
    images = generator.sample(2, seed=(0, 0))
  assert images.shape == (2, 32, 32, 3)


@pytest.mark.slow
def test_the_papers_flow_for_cifar10_has_as_many_parameters_as_that_of_its_code():
  """Of the network for c channels: 1x1 convolution, norm; 8 blocks of two 3x3 convolutions and a norm; 1x1 convolution.

  With the direction, gain and bias of each convolution, and scale and offset of the log-scale. The first convolution
  of a coupling between halves of the channels sees all channels.
  """
  generator = make_generator(cifar10.get_config('paper'), (32, 32, 3))
  expected = 0
  for channels, couplings in ((3, 3), (12, 3), (6, 4)):
    first = channels * 64 + 2 * 64 + 2 * 64
    block = 2 * (9 * 64 * 64 + 2 * 64) + 2 * 64
    last = 64 * 2 * channels + 2 * 2 * channels
    expected += couplings * (first + 8 * block + last + 2)
  assert expected == 5_945_064
  assert sum(v.shape.num_elements() for v in generator.trainable_variables) == expected


def test_fashion_mnist_has_the_variants_of_mnist_with_runs_of_their_own():
  for variant in mnist.VARIANTS:
    expected, found = settings(mnist.get_config(variant)), settings(fashion_mnist.get_config(variant))
    start = expected['init_from'].replace('mnist', 'fashion_mnist')
    assert found == expected | {'dataset': 'fashion_mnist', 'init_from': start}
    assert bool(start) == variant.endswith(('hybrid', '_low', 'jet_one', '_long'))


def test_the_papers_settings_for_mnist():
  """As the README and the source of the paper's code have them: 500 epochs of 500 batches."""
  expected = {
    'dataset': 'mnist',
    'batch_size': 100,
    'steps': 250_000,
    'generator': 'nice',
    'nice.couplings': 4,
    'nice.hidden_units': 1000,
    'nice.hidden_layers': 6,
    'nice.normalization': 'scalar_batch',
    'nice.initial_weights': 'paper',
    'nice.prior': 'logistic',
    'nice.components': 1,
    'nice.alpha': 1e-7,
    'dcgan_critic.channels': [1, 64],
    'dcgan_critic.dense_units': 1024,
    'critic_steps': 5,
    'reuse_batch': True,
    'mixed_statistics': True,
    'divergence': 'wasserstein',
    'gradient_penalty': None,
    'ema_decay': 0.0,
    'lambda': 0.02,  # Like the paper's 0.1; see docs/paper.md.
  }
  for name in ('optimizer', 'critic_optimizer'):
    adam = {'learning_rate': 1e-4, 'beta_1': 0.5, 'beta_2': 0.9, 'schedule': 'constant', 'clip_norm': 0.0}
    expected |= {f'{name}.{key}': value for key, value in adam.items()}
  found = settings(mnist.get_config('paper'))
  assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
  ('module', 'variant', 'expected'),
  [
    (mnist, 'hybrid', {'nice.components': 100, 'lambda': 0.02}),
    (mnist, 'one_hybrid', {'nice.components': 1, 'lambda': 0.002}),
    (mnist, 'one_low', {'nice.components': 1, 'lambda': 0.0004}),
    (mnist, 'jet_hybrid', {'jet.components': 300, 'pseudo_labels': True, 'lambda': 0.02}),
    (mnist, 'jet_label_hybrid', {'jet.components': 300, 'condition': 'label', 'lambda': 0.005}),
    (mnist, 'jet_one_hybrid', {'jet.components': 1, 'jet.histogram_networks': 6, 'lambda': 0.005, 'steps': 300}),
    (mnist, 'jet_one_long', {'jet.components': 1, 'jet.histogram_networks': 6, 'lambda': 0.002, 'steps': 1500}),
    (mnist, 'larger_hybrid', {'condition': 'low_resolution:4', 'lambda': 0.01, 'consistency_weight': 2000.0}),
    (cifar10, 'jet_hybrid', {'condition': 'label', 'lambda': 0.002}),
  ],
)
def test_what_docs_results_says_of_the_variants(module, variant, expected):
  found = settings(module.get_config(variant))
  assert {name: found[name] for name in expected} == expected


def test_the_papers_critic_for_mnist_sees_196_linear_features():
  """Its first convolution has stride 2 and one channel, so that an image has 588 directions that change nothing."""
  keras.utils.set_random_seed(0)
  critic = make_critic(mnist.get_config('paper'), (28, 28, 1))
  expected = (25 + 1) + (25 * 64 + 64) + (7 * 7 * 64 * 1024 + 1024) + (1024 + 1)
  assert sum(v.shape.num_elements() for v in critic.trainable_variables) == expected
  first, images = critic.layers[0], np.eye(784, dtype=np.float32).reshape(784, 28, 28, 1)
  columns = (first(images) - first(0.0 * images)).numpy().reshape(784, -1)  # features of each pixel
  assert columns.shape == (784, 196)
  _, values, directions = np.linalg.svd(columns.T)
  assert values[-1] > 1e-4 * values[0]
  directions = directions.reshape(784, 1, 28, 28, 1)
  image = np.random.default_rng(0).uniform(size=(1, 28, 28, 1)).astype(np.float32)
  seen, unseen = (np.abs(critic(image + 100 * directions[i]) - critic(image)) for i in (0, -1))
  assert seen > 0.05 and unseen < 1e-3


def test_the_variants_for_cpus_differ_in_what_their_names_say():
  found = {name: settings(cifar10.get_config(name)) for name in cifar10.VARIANTS if name.startswith(('small', 'jet'))}
  assert len(found) == 7
  for name, of_variant in found.items():
    size, _, kind = name.partition('_')
    assert of_variant['objective'] == {'': 'mle', 'hybrid': 'hybrid'}.get(kind, 'adversarial')
    assert of_variant['generator'] == {'jet': 'jet', 'small_dcgan': 'dcgan'}.get(
      name if kind == 'dcgan' else size, 'real_nvp'
    )
    assert of_variant['init_from'] == (f'runs/cifar10-{size}' if kind == 'hybrid' else '')
    assert of_variant['condition'] == ('label' if size == 'jet' else '')
    assert of_variant['scorer'] == 'resnet' and not of_variant['jit']

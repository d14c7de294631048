import math

import pytest

from flowgan_tf.configs import cifar10, digits, fashion_mnist, mnist
from flowgan_tf.errors import UsageError
from flowgan_tf.runs.config import default_config, make_critic, make_generator, make_objective, settings, used, validate
from tests.tiny import IMAGE_SHAPE, make_config


@pytest.mark.parametrize(
  'get_config', [default_config, *(m.get_config for m in (cifar10, digits, fashion_mnist, mnist))]
)
def test_shipped_configurations_hold(get_config):
  validate(get_config())


@pytest.mark.parametrize(
  ('key', 'value', 'expected'),
  [
    ('generator', 'glow', 'nice, real_nvp, dcgan'),
    ('critic', 'resnet', 'dcgan_critic'),
    ('scorer', 'vgg', 'classifier, inception'),
    ('on_nan', 'retry', 'stop, rollback'),
    ('precision', 'float8', 'float32, mixed_bfloat16, mixed_float16'),
    ('batch_size', 0, 'at least 1'),
    ('steps', 0, 'at least 1'),
    ('critic_steps', 0, 'at least 1'),
    ('log_every', 0, 'at least 1'),
    ('eval_every', 0, 'at least 1'),
    ('score_samples', 9, 'at least 10'),
    ('score_samples', -1, 'at least 10'),
    ('ema_decay', 1.0, 'below 1'),
    ('ema_decay', math.nan, 'below 1'),
    ('seed', -1, 'from 0'),
    ('seed', 2**31, 'from 0'),
    ('optimizer.schedule', 'linear', 'constant, cosine, exponential'),
    ('optimizer.learning_rate', 0.0, 'positive'),
    ('optimizer.learning_rate', math.nan, 'positive'),
    ('critic_optimizer.learning_rate', -1.0, 'positive'),
    ('critic_optimizer.decay_rate', 1.5, 'at most 1'),
    ('optimizer.clip_norm', -1.0, 'at least 0'),
    ('optimizer.beta_1', 1.0, 'below 1'),
    ('critic_optimizer.beta_2', -0.1, 'below 1'),
  ],
)
def test_a_bad_value_is_one_line_that_names_it(key, value, expected):
  config = default_config()
  config.update_from_flattened_dict({key: value})
  with pytest.raises(UsageError) as caught:
    validate(config)
  message = str(caught.value)
  assert '\n' not in message
  assert message.startswith(f'`{key}` must be ') and message.endswith(f' Got: {value!r}.')
  assert expected in message


@pytest.mark.parametrize(
  ('key', 'value', 'expected'),
  [
    ('objective', 'foo', 'one of mle, adversarial, hybrid'),
    ('divergence', 'foo', 'one of wasserstein, jensen_shannon'),
    ('lambda', -1.0, 'a finite number of at least 0'),
    ('lambda', math.nan, 'a finite number of at least 0'),
    ('lambda', math.inf, 'a finite number of at least 0'),
    ('gradient_penalty', -1.0, 'a finite number of at least 0'),
  ],
)
def test_arguments_of_the_objective_are_named_as_settings(key, value, expected):
  config = default_config()
  config.update_from_flattened_dict({key: value})
  with pytest.raises(UsageError) as caught:
    make_objective(config)
  message = str(caught.value)
  assert message.startswith(f'`{key}` must be {expected}') and message.endswith(f' Got: {value!r}.')


def test_arguments_of_builders_are_named_as_settings():
  config = make_config({'nice.couplings': 1, 'dcgan_critic.channels': ()})
  with pytest.raises(UsageError, match=r'^`nice\.couplings` must be an integer of at least 2\. Got: 1\.$'):
    make_generator(config, IMAGE_SHAPE)
  with pytest.raises(UsageError, match=r'^`dcgan_critic\.channels` must be one or more integers .*Got: \(\)\.$'):
    make_critic(config, IMAGE_SHAPE)
  with pytest.raises(UsageError, match=r"^`generator` 'real_nvp' does not fit: `image_shape` must .*\(7, 7, 1\)\.$"):
    make_generator(make_config(generator='real_nvp'), (7, 7, 1))


def test_blocks_are_the_builders_arguments():
  config = default_config()
  assert config.real_nvp.to_dict() == {
    'scales': 2,
    'channels': 64,
    'blocks': 8,
    'architecture': 'preactivation',
    'normalization': 'batch',
    'batch_norm_between': False,
    'log_scale_bound': 2.0,
    'prior': 'normal',
    'alpha': 1e-7,
  }
  assert config.dcgan.to_dict() == {'channels': (256, 128, 64), 'prior': 'normal'}
  # The paper's critic for MNIST.
  assert config.dcgan_critic.to_dict() == {'channels': (1, 64), 'dense_units': 1024, 'layer_norm': False}


def test_only_the_blocks_that_are_used_count():
  config = make_config(generator='real_nvp')
  names = settings(used(config))
  assert 'real_nvp.scales' in names and 'dcgan_critic.channels' in names and 'optimizer.beta_1' in names
  assert not [name for name in names if name.startswith(('nice.', 'dcgan.'))]
  assert names.keys() < settings(config).keys()


@pytest.mark.parametrize(
  ('key', 'value'),
  [('lambda', 0.0), ('ema_decay', 0.0), ('score_samples', 0), ('score_samples', 10), ('seed', 2**31 - 1)],
)
def test_values_at_the_border_hold(key, value):
  config = default_config()
  config.update_from_flattened_dict({key: value})
  validate(config)

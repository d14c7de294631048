import math

import pytest

from flowgan_tf.configs import cifar10, digits, fashion_mnist, mnist
from flowgan_tf.errors import UsageError
from flowgan_tf.runs.config import default_config, validate


@pytest.mark.parametrize(
  'get_config', [default_config, *(m.get_config for m in (cifar10, digits, fashion_mnist, mnist))]
)
def test_shipped_configurations_hold(get_config):
  validate(get_config())


@pytest.mark.parametrize(
  ('key', 'value', 'expected'),
  [
    ('objective', 'foo', 'mle, adversarial, hybrid'),
    ('divergence', 'foo', 'wasserstein'),
    ('lambda', -1.0, '>= 0'),
    ('lambda', math.nan, '>= 0'),
    ('lambda', math.inf, '>= 0'),
    ('gradient_penalty', -1.0, '>= 0'),
    ('generator.name', 'glow', 'nice, real_nvp'),
    ('generator.prior', 'cauchy', 'logistic, normal'),
    ('generator.normalization', 'foo', 'layer'),
    ('generator.couplings', 1, 'at least 2'),
    ('generator.hidden_units', 0, 'at least 1'),
    ('generator.hidden_layers', 0, 'at least 1'),
    ('generator.channels', 0, 'at least 1'),
    ('generator.blocks', 0, 'at least 1'),
    ('generator.scales', 0, 'at least 1'),
    ('generator.alpha', 0.5, 'below 0.5'),
    ('generator.alpha', -0.1, 'below 0.5'),
    ('generator.log_scale_bound', 0.0, 'positive'),
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
  assert message.startswith(f'{key}: got {value!r}') or message.startswith(f'{key}_weight: got {value!r}')
  assert expected in message


@pytest.mark.parametrize(
  ('key', 'value'),
  [('lambda', 0.0), ('ema_decay', 0.0), ('score_samples', 0), ('score_samples', 10), ('seed', 2**31 - 1)],
)
def test_values_at_the_border_hold(key, value):
  config = default_config()
  config.update_from_flattened_dict({key: value})
  validate(config)

"""What a flow refuses, and how it says so."""

import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf import bijectors, flows

tfb = tfp.bijectors

SHAPE = (4, 4, 1)


def test_a_flow_with_nothing_to_learn_is_refused():
  prior = tfp.distributions.Sample(tfp.distributions.Normal(0.0, 1.0), (2, 2, 1))
  for bijector in (tfb.Sigmoid(), tfb.Invert(tfb.Chain([bijectors.Squeeze(), bijectors.AlphaLogit()]))):
    with pytest.raises(ValueError, match=r'`bijector` must be trainable, but has no trainable variables.*Got: '):
      flows.Flow(prior, bijector, name='empty')


@pytest.mark.parametrize(
  'build, argument',
  [
    (lambda: flows.nice(SHAPE, couplings=1), 'couplings'),
    (lambda: flows.nice(SHAPE, normalization='group'), 'normalization'),
    (lambda: flows.nice(SHAPE, hidden_units=4, hidden_layers=1, prior_name='cauchy'), 'prior'),
    (lambda: flows.nice(SHAPE, alpha=0.5), 'alpha'),
    (lambda: flows.real_nvp((5, 4, 1)), 'image_shape'),
    (lambda: flows.real_nvp((4, 5, 1)), 'image_shape'),
    (lambda: flows.real_nvp((6, 6, 1), scales=3), 'image_shape'),
    (lambda: flows.real_nvp((4, 4, 1), scales=3), 'image_shape'),
    (lambda: flows.real_nvp((1, 1, 3), scales=1), 'image_shape'),
    (lambda: flows.real_nvp(SHAPE, scales=0), 'scales'),
    (lambda: flows.real_nvp(SHAPE, normalization='group'), 'normalization'),
    (lambda: flows.real_nvp((1, 2, 1), scales=1, channels=2, blocks=0, prior_name='cauchy'), 'prior'),
    (lambda: flows.real_nvp(SHAPE, log_scale_bound=0.0), 'log_scale_bound'),
    (lambda: flows.real_nvp(SHAPE, alpha=-0.1), 'alpha'),
  ],
)
def test_arguments_out_of_range_are_refused(build, argument):
  with pytest.raises(ValueError, match=rf'`{argument}`.*Got: '):
    build()


def test_a_misspelt_keyword_is_refused():
  flow = flows.nice(SHAPE, hidden_units=6, hidden_layers=1)
  with pytest.raises(TypeError, match='trainig'):
    flow.log_prob(tf.fill((2, *SHAPE), 0.5), trainig=True)

"""NICE: couplings with dense networks, additive ones in the paper, and a diagonal scaling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from flowgan_tf import bijectors
from flowgan_tf.base.errors import check, check_memory
from flowgan_tf.base.lazy import lazy_import, tf, tfp
from flowgan_tf.base.settings import Setting
from flowgan_tf.flows import settings
from flowgan_tf.flows.builder import builder, network_condition
from flowgan_tf.flows.couplings import choose_coupling
from flowgan_tf.flows.histograms import make_logit
from flowgan_tf.flows.make_flow import make_flow

if TYPE_CHECKING:
  from flowgan_tf.flows.flow import Flow

networks = lazy_import('flowgan_tf.networks')


@builder(
  computed_whole=True,
  paper='mnist',
  components=lambda arguments: arguments.components,
  sees_condition=lambda arguments: arguments.condition_networks,
  has_batch_norm=lambda arguments: 'batch' in arguments.normalization,
  has_histograms=lambda arguments: arguments.histogram_bins > 0,
)
def nice(
  image_shape: Sequence[int],
  *,
  couplings: settings.Couplings = 4,
  coupling: settings.CouplingName = 'additive',
  hidden_units: settings.HiddenUnits = 1000,
  hidden_layers: settings.HiddenLayers = 6,
  normalization: Annotated[
    str,
    Setting(
      "Norm before each dense layer, in the paper 'scalar_batch'; see `dense_conditioner`.",
      choices=settings.NORMALIZATION_NAMES,
    ),
  ] = 'layer',
  initial_weights: Annotated[
    str,
    Setting(
      "With 'zero_output' no coupling shifts anything until it is trained; see `dense_conditioner`.",
      choices=('zero_output', 'paper'),
    ),
  ] = 'zero_output',
  log_scale_bound: settings.LogScaleBound = 2.0,
  spline_bins: settings.SplineBins = 8,
  spline_bound: settings.SplineBound = 4.0,
  prior: settings.Prior = 'logistic',
  components: settings.Components = 1,
  alpha: settings.Alpha = 1e-7,
  histogram_bins: settings.HistogramBins = 0,
  condition_networks: settings.ConditionNetworks = True,
  classes: int | None = None,
  condition_shape: Sequence[int] | None = None,
  dtype: str = 'float32',
  name: str = 'nice',
) -> Flow:
  """Builds NICE over images in [0, 1]. The defaults have the layers of the paper's MNIST generator, but another norm.

  From image to noise: alpha-logit, flatten, couplings that leave the even and the odd pixels unchanged in turn,
  diagonal scaling.

  With `normalization='scalar_batch'` and `initial_weights='paper'` it is the flow of the paper's code, with two
  exceptions. The log-scales of the diagonal scaling are bounded by 10. Its couplings subtract on the way from image to
  noise, where the paper's add; the sign of a network's last layer makes up for that. The defaults differ because with
  layer norm an image has the same density in training and in evaluation, and because a flow that shifts nothing starts
  near its prior.

  Args:
    image_shape: `(height, width, channels)`.
    classes: Number of classes, for a flow p(x | y) of images given labels.
    condition_shape: Shape of a condition, for a flow p(x | c) given vectors `(d,)` or images `(height, width,
      channels)`. None, like `classes`, for a flow without conditions.
    dtype: Name of a Keras dtype policy. Densities are float64 for 'float64' and otherwise float32: mixed policies
      affect only the networks.

  Returns:
    A distribution over images `[..., height, width, channels]`, with log densities in nats with respect to the unit
    cube. Its noise has the shape of the images.

  Raises:
    ValueError: If an argument is out of range.

  #### References

  [1]: Laurent Dinh, David Krueger, Yoshua Bengio. NICE: Non-linear Independent Components Estimation. 2014.
  [2]: Aditya Grover, Manik Dhar, Stefano Ermon. Flow-GAN. AAAI 2018.
  [3]: Pavel Izmailov, Polina Kirichenko, Marc Finzi, Andrew Gordon Wilson. Semi-Supervised Learning with Normalizing
       Flows. ICML 2020.
  """
  pixels = math.prod(image_shape)
  check('image_shape', tuple(image_shape), 'of more than one pixel', pixels > 1)
  choice = choose_coupling(
    coupling, log_scale_bound=log_scale_bound, spline_bins=spline_bins, spline_bound=spline_bound
  )
  outer = pixels * (1 + choice.outputs) * hidden_units // 2
  check_memory('weights', 4 * couplings * (outer + (hidden_layers - 1) * hidden_units**2))
  seen = network_condition(classes, condition_shape, condition_networks, components)
  density_dtype = tf.float64 if dtype == 'float64' else tf.float32
  to_noise: list[tfp.bijectors.Bijector] = [
    make_logit(image_shape, alpha, histogram_bins, density_dtype),
    tfp.bijectors.Reshape((pixels,), tuple(image_shape)),
  ]
  for i in range(couplings):
    mask = bijectors.masks.even_odd(pixels, swap=i % 2 == 1)
    outputs = choice.outputs * mask.changed_shape[-1]
    network = networks.dense_conditioner(
      outputs, hidden_units, hidden_layers, normalization, dtype, initial_weights, seen is not None
    )
    part = choice.make(network, mask, name=f'coupling_{i}', condition_shape=seen)
    to_noise.append(tfp.bijectors.Invert(part, name=f'inverse_coupling_{i}'))
  to_noise.append(bijectors.DiagonalScaling((pixels,), dtype=density_dtype))
  to_noise.append(tfp.bijectors.Reshape(tuple(image_shape), (pixels,), name='to_image'))
  to_image = tfp.bijectors.Invert(tfp.bijectors.Chain(to_noise[::-1]), name=f'{name}_generator')
  return make_flow(to_image, image_shape, density_dtype, name, prior, components, classes, condition_shape)

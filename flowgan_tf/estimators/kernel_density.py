"""The Parzen window estimate of a generator's likelihood, which needs nothing of it but samples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowgan_tf.estimators.parzen import BandwidthCurve, bandwidth_curve, choose_bandwidth

__all__ = ['KdeEstimate', 'kde_estimate']


class KdeEstimate(NamedTuple):
  """A Parzen window estimate of the negative log-likelihood.

  Attributes:
    nll: Mean over test images of the negative log density of the samples' mixture, nats per image.
    standard_error: Of `nll`, over test images; that of the samples is not in it.
    bandwidth: Of the Gaussians, chosen on validation images.
    n_samples: Number of samples, one Gaussian each.
    n_validation: Number of validation images.
    n_test: Number of test images.
    curve: The search for the bandwidth.
  """

  nll: float
  standard_error: float
  bandwidth: float
  n_samples: int
  n_validation: int
  n_test: int
  curve: BandwidthCurve


def kde_estimate(samples: np.ndarray, validation: np.ndarray, test: np.ndarray) -> KdeEstimate:
  """Estimates the likelihood of a generator from its samples s_j, with a Gaussian on each.

  ```
  NLL = -mean_x log (1/n) sum_j N(x; s_j, h^2 I),  h the best for the validation images
  ```

  It is the exact likelihood of another model, the mixture, and says little of the generator's own. Theis et al. show
  that even for patches of 6 x 6 pixels and very many samples it is far from the true likelihood; that it does not rank
  models as their likelihoods do, and puts k-means centroids above samples of the true distribution; and conclude that
  it should be avoided. The paper finds the same of flows, whose likelihood is known (Table 3). It is here to make that
  comparison, and for generators that have no other.

  Args:
    samples: Samples of the generator, floats `[n, ...]`, finite.
    validation: Dequantised images, floats `[m, ...]`, finite; they choose the bandwidth, see `choose_bandwidth`.
    test: Dequantised images, floats `[t, ...]`, finite; they give the estimate.

  Returns:
    The `KdeEstimate`.

  Raises:
    ValueError: if an array is not of floats, not finite, empty, or the shapes differ; the message calls the
      samples `centers`.

  #### References

  Breuleux, Bengio, Vincent. Unlearning for better mixing. Technical report 1349, Université de Montréal, 2009.
  Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville, Bengio. Generative adversarial nets. NIPS 2014,
  section 5.
  Grover, Dhar, Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in Generative Models. AAAI 2018,
  section 5.
  Theis, van den Oord, Bethge. A note on the evaluation of generative models. ICLR 2016, section 3.
  """
  choice = choose_bandwidth(validation, samples)
  tested = bandwidth_curve(test, samples, [choice.bandwidth])
  return KdeEstimate(
    nll=float(-tested.mean_log_densities[0]),
    standard_error=float(tested.standard_errors[0]),
    bandwidth=choice.bandwidth,
    n_samples=len(samples),
    n_validation=choice.n,
    n_test=tested.n,
    curve=choice.curve,
  )

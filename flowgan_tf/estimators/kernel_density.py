"""The Parzen window estimate of a generator's likelihood, which needs only its samples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowgan_tf.estimators.parzen import BandwidthCurve, bandwidth_curve, choose_bandwidth

__all__ = ['KdeEstimate', 'kde_estimate']


class KdeEstimate(NamedTuple):
  """A Parzen window estimate of the negative log-likelihood.

  Attributes:
    nll: Negative log density of the mixture, averaged over test images, in nats per image.
    standard_error: Standard error of `nll` over test images. The randomness of the samples is not included.
    bandwidth: Standard deviation of the Gaussians, chosen on validation images.
    n_samples: Number of samples, each the centre of one Gaussian.
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
  """Estimates the likelihood of a generator by a mixture of Gaussians, one on each of its samples s_j.

  ```
  NLL = -mean_x log (1/n) sum_j N(x; s_j, h^2 I),  where h is the best bandwidth for the validation images
  ```

  This is the exact likelihood of another model, the mixture, and says little about that of the generator. Theis et al.
  show that it is far from the true likelihood even for patches of 6 x 6 pixels and a very large number of samples. They
  also show that it does not rank models as their likelihoods do, and that it prefers k-means centroids to samples from
  the true distribution. They conclude that it should be avoided. The paper finds the same for flows, whose likelihood
  is known (Table 3). The estimate is provided for that comparison, and for generators that have no other.

  Args:
    samples: Samples of the generator, finite floats `[n, ...]`.
    validation: Dequantised images that choose the bandwidth, finite floats `[m, ...]`. See `choose_bandwidth`.
    test: Dequantised images that the estimate is for, finite floats `[t, ...]`.

  Returns:
    The `KdeEstimate`.

  Raises:
    ValueError: If an array is empty or does not hold finite floats, or if the shapes differ. The message calls the
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

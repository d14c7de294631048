"""The analysis `kde`: an estimate of the likelihood by a Parzen window."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from flowgan_tf.display.tables import Column
from flowgan_tf.study.analysis import Analysis, Settings, setting

if TYPE_CHECKING:
  from flowgan_tf.study.subject import Subject

__all__ = ['Kde']


@dataclasses.dataclass(frozen=True, kw_only=True)
class KdeSettings(Settings):
  """Settings of `Kde`."""

  samples: int = setting(5000, 'Samples of the generator, and of each mixture.', minimum=10, maximum=10**6)


class Kde(Analysis):
  """NLL of test images under a Parzen window of samples, beside the exact NLL (the paper's Table 3).

  ```
  NLL = -mean_x log (1/n) sum_j N(x; s_j, h^2 I),  where h is the best bandwidth for the validation images
  ```

  This is the exact likelihood of another model, a mixture of Gaussians with one on each sample s_j, and says little
  about that of the generator. Theis et al. show that it is far from the true likelihood even for patches of 6 x 6
  pixels and a very large number of samples. They also show that it does not rank models as their likelihoods do, and
  that it prefers k-means centroids to samples from the true distribution. They conclude that it should be avoided. The
  paper finds the same for flows, whose likelihood is known. The estimate is provided for that comparison, and for
  generators that have no other. Its standard error does not include the randomness of the samples.

  #### References

  Breuleux, Bengio, Vincent. Unlearning for better mixing. Technical report 1349, Université de Montréal, 2009.
  Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville, Bengio. Generative adversarial nets. NIPS 2014,
  section 5.
  Grover, Dhar, Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in Generative Models. AAAI 2018,
  section 5.
  Theis, van den Oord, Bethge. A note on the evaluation of generative models. ICLR 2016, section 3.
  """

  name = 'kde'
  title = 'Estimates of the likelihood'
  description = 'NLL by a Parzen window of samples, with the bandwidth chosen on validation images'
  paper = 'Table 3'
  caption = 'NLL in nats per image, exact and estimated from the generator alone'
  Settings = KdeSettings
  columns = (
    Column('exact', 'exact_nll', ',.2f', 'exact_standard_error'),
    Column('KDE', 'nll', ',.2f', 'standard_error'),
    Column('the paper: exact', 'exact', ',.2f', source='paper'),
    Column('the paper: KDE', 'kde', ',.2f', source='paper'),
  )
  details = (
    Column('KDE: test images', 'n_test', ','),
    Column('KDE: samples', 'n_samples', ','),
    Column('KDE: bandwidth', 'bandwidth', '.4f'),
  )
  ranked = ('exact_nll', 'nll')
  published: ClassVar = {
    'mnist': {
      'MLE': {'exact': -3287.69, 'kde': -167.10},
      'ADV': {'exact': 26350.30, 'kde': -3.03},
      'Hybrid λ = 0.1': {'exact': -3121.53, 'kde': -205.69},
    }
  }

  def measure(self, subject: Subject, settings: KdeSettings) -> tuple[dict, dict[str, np.ndarray]]:
    from flowgan_tf.estimators.parzen import choose_bandwidth, log_density
    from flowgan_tf.metrics.arrays import standard_error

    samples, test = subject.samples(settings.samples, settings.seed), subject.images('test')
    choice = choose_bandwidth(subject.images('validation'), samples)
    log_densities = log_density(test, samples, [choice.bandwidth])[0]
    numbers = {
      'nll': -log_densities.mean(),
      'standard_error': standard_error(log_densities),
      'bandwidth': choice.bandwidth,
      'n_samples': len(samples),
      'n_validation': choice.n,
      'n_test': len(test),
    }
    return numbers | subject.exact(test), {}

"""Flow-GAN: generators with exact likelihoods, trained by maximum likelihood, adversarially, or by both.

Aditya Grover, Manik Dhar, Stefano Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in Generative
Models. AAAI 2018.
"""

from flowgan_tf import bijectors, flows, networks, objectives
from flowgan_tf.version import __version__

__all__ = ['__version__', 'bijectors', 'flows', 'networks', 'objectives']

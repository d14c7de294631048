"""Generators: normalizing flows of images in [0, 1] and of vectors, the DCGAN, and the registry of all of them."""

from collections.abc import Callable

from flowgan_tf.flows.builder import builder
from flowgan_tf.flows.clusters import initialize_prior
from flowgan_tf.flows.dcgan import ImplicitGenerator, dcgan
from flowgan_tf.flows.flow import Flow
from flowgan_tf.flows.generator import Generator
from flowgan_tf.flows.given import Given
from flowgan_tf.flows.histograms import fit_histograms
from flowgan_tf.flows.jet import jet
from flowgan_tf.flows.nice import nice
from flowgan_tf.flows.prior import PRIORS, MixturePrior
from flowgan_tf.flows.real_nvp import real_nvp
from flowgan_tf.flows.vectors import standardize, vectors

__all__ = [
  'GENERATORS',
  'PRIORS',
  'Flow',
  'Generator',
  'Given',
  'ImplicitGenerator',
  'MixturePrior',
  'builder',
  'dcgan',
  'fit_histograms',
  'initialize_prior',
  'jet',
  'nice',
  'real_nvp',
  'standardize',
  'vectors',
]

# The choices of the setting `generator`. Each has a block of settings, named like the builder's arguments.
GENERATORS: dict[str, Callable[..., Generator]] = {
  'nice': nice,
  'real_nvp': real_nvp,
  'jet': jet,
  'vectors': vectors,
  'dcgan': dcgan,
}

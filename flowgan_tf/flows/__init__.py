"""Generators: normalizing flows of images in [0, 1] and of vectors, the DCGAN, and the registry of all of them."""

from typing import TYPE_CHECKING

from flowgan_tf.base.lazy import lazy_exports
from flowgan_tf.base.settings import Setting
from flowgan_tf.flows.builder import builder
from flowgan_tf.flows.registry import GENERATORS, dcgan, jet, nice, real_nvp, vectors
from flowgan_tf.flows.traits import Traits

__all__ = [
  'GENERATORS',
  'PRIORS',
  'Flow',
  'Generator',
  'Given',
  'ImplicitGenerator',
  'MixturePrior',
  'Setting',
  'Traits',
  'builder',
  'dcgan',
  'fit_bijectors',
  'fit_histograms',
  'initialize_prior',
  'jet',
  'nice',
  'real_nvp',
  'standardize',
  'vectors',
]

if TYPE_CHECKING:
  from flowgan_tf.flows.clusters import initialize_prior
  from flowgan_tf.flows.flow import Flow
  from flowgan_tf.flows.generator import Generator
  from flowgan_tf.flows.given import Given
  from flowgan_tf.flows.histograms import fit_histograms
  from flowgan_tf.flows.implicit import ImplicitGenerator
  from flowgan_tf.flows.initialization import fit_bijectors
  from flowgan_tf.flows.prior import PRIORS, MixturePrior
  from flowgan_tf.flows.vectors import standardize
else:
  _MODULES = {
    'clusters': ['initialize_prior'],
    'flow': ['Flow'],
    'generator': ['Generator'],
    'given': ['Given'],
    'histograms': ['fit_histograms'],
    'implicit': ['ImplicitGenerator'],
    'prior': ['PRIORS', 'MixturePrior'],
    'initialization': ['fit_bijectors'],
    'vectors': ['standardize'],
  }
  __getattr__, __dir__ = lazy_exports(__name__, _MODULES)

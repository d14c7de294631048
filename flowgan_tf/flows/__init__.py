"""Normalizing flows over images in [0, 1]."""

from flowgan_tf.flows.clusters import initialize_prior
from flowgan_tf.flows.flow import Flow
from flowgan_tf.flows.jet_flow import jet
from flowgan_tf.flows.nice_flow import nice
from flowgan_tf.flows.prior import PRIORS, MixturePrior
from flowgan_tf.flows.real_nvp_flow import real_nvp

__all__ = ['PRIORS', 'Flow', 'MixturePrior', 'initialize_prior', 'jet', 'nice', 'real_nvp']

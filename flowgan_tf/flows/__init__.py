"""Normalizing flows over images in [0, 1]."""

from flowgan_tf.flows.flow import PRIORS, Flow
from flowgan_tf.flows.jet_flow import jet
from flowgan_tf.flows.nice_flow import nice
from flowgan_tf.flows.real_nvp_flow import real_nvp

__all__ = ['PRIORS', 'Flow', 'jet', 'nice', 'real_nvp']

"""The settings that several builders of flows share: a keyword says `alpha: Alpha = 1e-7`."""

from typing import Annotated

from flowgan_tf.base.settings import (
  ALPHAS,
  LOG_SCALE_BOUNDS,
  MOST_BINS,
  MOST_LAYERS,
  MOST_UNITS,
  SPLINE_BINS,
  SPLINE_BOUNDS,
  Setting,
)
from flowgan_tf.flows.couplings import COUPLINGS

# The names stand here for the programs, which check them before TensorFlow is loaded.
PRIOR_NAMES = ('logistic', 'normal')
NORMALIZATION_NAMES = ('batch', 'layer', 'scalar_batch', 'none')

# A single coupling would leave half of the pixels unchanged.
Couplings = Annotated[int, Setting('Number of couplings.', 2, MOST_LAYERS)]
CouplingName = Annotated[
  str,
  Setting(
    'Kind of the couplings; see `AdditiveCoupling` (as in NICE), `AffineCoupling` and `SplineCoupling`.',
    choices=COUPLINGS,
  ),
]
HiddenUnits = Annotated[int, Setting("Units of each hidden layer of a coupling's network.", 1, MOST_UNITS)]
HiddenLayers = Annotated[int, Setting("Hidden layers of a coupling's network.", 1, MOST_LAYERS)]
LogScaleBound = Annotated[
  float, Setting('Largest absolute log-scale of an affine coupling, in nats.', *LOG_SCALE_BOUNDS)
]
SplineBins = Annotated[int, Setting('Bins of each spline of a spline coupling.', *SPLINE_BINS)]
SplineBound = Annotated[float, Setting('Where these splines end on both sides of 0.', *SPLINE_BOUNDS)]
Prior = Annotated[str, Setting('Distribution of the noise.', choices=PRIOR_NAMES)]
Components = Annotated[
  int,
  Setting(
    'Components of the prior. With several, its means are trained; call `initialize_prior` first.',
    1,
    1000,
  ),
]
Alpha = Annotated[float, Setting('Alpha of the alpha-logit; 0.05 in Dinh et al. 2017.', *ALPHAS)]
HistogramBins = Annotated[
  int,
  Setting(
    "Bins of a histogram of each pixel's values, such as the number of grey levels, or 0 for the alpha-logit; call "
    '`fit_histograms` first.',
    must=(f'0 or an integer from 2 to {MOST_BINS}', lambda v: v == 0 or 2 <= v <= MOST_BINS),
  ),
]
ConditionNetworks = Annotated[
  bool,
  Setting(
    'Whether the networks of the couplings see the condition. If not, a label only chooses among the components of the '
    'prior.'
  ),
]

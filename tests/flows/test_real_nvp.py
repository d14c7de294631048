"""The architecture of Real-NVP; what holds for all flows is in test_all_flows.py."""

import collections

import numpy as np
import pytest

from flowgan_tf import bijectors, flows
from tests.flows import reference
from tests.flows.test_all_flows import kept

TWO_SCALES = {(0, 'checkerboard'): 3, (0, 'channel'): 3, (1, 'checkerboard'): 4}
THREE_SCALES = TWO_SCALES | {(1, 'checkerboard'): 3, (1, 'channel'): 3, (2, 'checkerboard'): 4}


@pytest.mark.parametrize(
  'settings, expected',
  [
    ({'blocks': 0}, TWO_SCALES),
    ({'blocks': 1, 'architecture': 'paper'}, TWO_SCALES),
    ({'blocks': 0, 'scales': 3, 'batch_norm_between': True}, THREE_SCALES),
  ],
)
def test_couplings_by_scale_and_kind(settings, expected):
  """Paper, section 5.2: 3 checkerboard and 3 channel couplings, then 4 checkerboard ones at the last scale."""
  flow = flows.real_nvp((8, 8, 3), channels=2, **settings)
  counts = {kind: collections.Counter() for kind in (bijectors.AffineCoupling, bijectors.BatchNormalization)}
  for module in flow.submodules:
    if type(module) in counts:
      _, scale, mask, *_ = module.name.split('_')
      counts[type(module)][int(scale), mask] += 1
      # Each halving of the image leaves a quarter of the positions; half of the channels go with it.
      shape = module.mask.event_shape if isinstance(module, bijectors.AffineCoupling) else module._event_shape
      halvings = int(scale) + (mask == 'channel')
      assert shape == (8 >> halvings, 8 >> halvings, (3 << int(scale)) * (4 if mask == 'channel' else 1))
  assert counts[bijectors.AffineCoupling] == expected
  assert counts[bijectors.BatchNormalization] == (expected if 'scales' in settings else {})


def couplings_of(flow):
  return {m.name: m for m in flow.submodules if isinstance(m, bijectors.AffineCoupling)}


def scale_and_offset(coupling):
  """The learned scalars of the log-scale."""
  scalars = {v.name.removesuffix(':0').split('/')[-1]: v for v in coupling.trainable_variables if v.shape.rank == 0}
  return scalars['scale'], scalars['offset']


def test_it_has_the_numbers_of_the_papers_code():
  numbers = reference.load('real_nvp')
  flow = flows.real_nvp((4, 4, 3), channels=4, blocks=1, architecture='paper', dtype='float64')
  couplings = couplings_of(flow)
  assert len(couplings) == 10
  statistics = {}
  for name, coupling in couplings.items():
    network = coupling.conditioner.layer
    convolutions, norms = network._convolutions, network._norms
    (of_input, first), *hidden = zip(norms[::2], norms[1::2], strict=True)
    order = [of_input, convolutions[0], first]
    for i, (inside, last) in enumerate(hidden):
      order += [convolutions[2 * i + 1], inside, convolutions[2 * i + 2], last]
    order.append(convolutions[-1])
    weights = [v.value for layer in order for v in layer.trainable_variables]
    reference.assign([*weights, *scale_and_offset(coupling)], numbers[f'weights/{name}'])
    statistics[name] = [v.value for norm in norms for v in norm.non_trainable_variables]
  reference.check(flow, numbers, statistics)


def test_a_new_flow_of_the_paper():
  """Checkerboard couplings start without a scale; networks start with random gains of weight normalisation."""
  flow = flows.real_nvp((4, 4, 3), channels=48, blocks=1, architecture='paper')
  couplings = couplings_of(flow)
  for coupling in couplings.values():
    scale, offset = scale_and_offset(coupling)
    assert (scale.numpy(), offset.numpy()) == (0.0 if 'checkerboard' in coupling.name else 1.0, 0.0)
    # Uniform between -a and a with a variance of 1 / channels.
    gain = coupling.conditioner.layer._convolutions[0].gain.numpy() * np.sqrt(48)
    assert np.abs(gain).max() < np.sqrt(3) and 0.5 < gain.var() < 1.5 and np.abs(gain.mean()) < 0.6
    assert coupling.mask.kept_shape == coupling.mask.changed_shape == coupling.mask.event_shape
  for i in range(3):
    np.testing.assert_array_equal(kept(couplings[f'scale_0_channel_{i}'])[0, 0], [1 - i % 2] * 6 + [i % 2] * 6)

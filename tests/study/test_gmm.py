import numpy as np
import pytest
from sklearn.neighbors import KernelDensity

from flowgan_tf.study.gmm import Gmm
from tests.summaries import gmm, summary


@pytest.fixture(scope='module')
def measured(subject):
  return Gmm().measure(subject, Gmm.Settings(samples=40))


def test_likelihoods_are_those_of_a_kernel_density_on_the_training_images(subject, measured):
  numbers, _ = measured
  train, validation, test = (x.reshape(len(x), -1) for x in map(subject.images, ('train', 'validation', 'test')))

  def nll(bandwidth, images):
    density = KernelDensity(bandwidth=bandwidth, leaf_size=len(train)).fit(train)
    return -density.score_samples(images).mean()

  np.testing.assert_allclose(numbers['test_nll'], nll(numbers['best_bandwidth'], test), rtol=1e-5)
  np.testing.assert_allclose(numbers['best_nll'], nll(numbers['best_bandwidth'], validation), rtol=1e-5)
  for record in numbers['bandwidths'][::8]:
    np.testing.assert_allclose(record['nll'], nll(record['bandwidth'], validation), rtol=1e-5)
  assert numbers['best_nll'] <= min(record['nll'] for record in numbers['bandwidths'])


def test_mixture_and_model_are_scored_alike(measured):
  numbers, arrays = measured
  keys = ('scorer', 'scorer_hash', 'score_samples')
  assert [numbers['model'][key] for key in keys] == [numbers['bandwidths'][0][key] for key in keys]
  assert numbers['selection'] == 'mode_score' and numbers['centers'] == 160
  assert arrays['samples'].shape == (64, 4, 4, 1) and 0 <= arrays['samples'].min() <= arrays['samples'].max() <= 1


def test_models_scored_by_other_networks_are_not_drawn_beside_it():
  alike, other = gmm(-50.0, 2.0), gmm(-60.0, 3.0)
  other.record['model']['scorer_hash'] = 'another'
  runs = [summary('mle', studies={'gmm': alike}), summary('hybrid', studies={'gmm': other})]
  curve = Gmm().figures(runs)['gmm']
  assert 'horizontal lines for MLE.' in curve.alt
  assert 'Shaded: bandwidths from 0.14 to 0.28' in curve.caption


def test_without_a_scorer_there_is_no_curve_but_a_grid():
  study = gmm(-50.0, 2.0)
  study.record['selection'] = None
  assert list(Gmm().figures([summary('mle', studies={'gmm': study})])) == ['gmm_samples']
  assert 'winning' not in Gmm().records(study.record)['']

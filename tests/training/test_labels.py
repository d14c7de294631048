"""Losses with labels: few of them, and a weight on log p(y | x), against what the flow itself returns."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax

from flowgan_tf import data
from flowgan_tf.base.errors import UsageError
from flowgan_tf.objectives.objective import make_objective
from flowgan_tf.runs.config import default_config, validate
from flowgan_tf.runs.run import data_of
from flowgan_tf.training.initialization import TrainingImages, initialize_from_data
from flowgan_tf.training.state import TrainState
from flowgan_tf.training.step import TrainStep


def of(labelled=0, class_weight=0.0, pseudo_labels=False, condition_networks=True):
  config = default_config()
  config.condition, config.labelled, config.class_weight = 'label', labelled, class_weight
  config.class_temperature = 4.0 if class_weight else 1.0
  config.pseudo_labels, config.nice.condition_networks = pseudo_labels, condition_networks
  config.nice.update({'couplings': 2, 'hidden_units': 4, 'hidden_layers': 1, 'components': 20, 'normalization': 'none'})
  config.batch_size, config.jit = 12, False
  dataset = data_of(config)
  state = TrainState(config, dataset.image_shape, make_objective(config), None, dataset.condition)
  initialize_from_data(state, TrainingImages(config, dataset, dataset.train))
  for i, variable in enumerate(state.generator.trainable_variables):
    variable.assign_add(0.1 * tf.random.stateless_normal(variable.shape, (0, i)))
  images = data.dequantize(dataset.train.images[:12], dataset.levels, 0)
  labels = dataset.train.labels[:12].astype(np.int32)
  return state, TrainStep(state, make_objective(config), config), images, labels


@pytest.mark.parametrize(
  ('condition_networks', 'pseudo_labels'),
  [
    (False, True),
    *(pytest.param(*pair, marks=pytest.mark.slow) for pair in ((True, True), (True, False), (False, False))),
  ],
)
def test_loss_of_labelled_and_unlabelled_images(condition_networks, pseudo_labels):
  state, step, images, labels = of(10, 3.0, pseudo_labels, condition_networks)
  labels[5:] = -1
  flow, known = state.generator, labels >= 0
  joint = np.stack([flow.log_prob(images, condition=label) + np.log(flow.class_probs[label]) for label in range(10)], 1)
  marginal = np.logaddexp.reduce(joint, axis=1)
  keywords = {'condition': labels[known]}
  if pseudo_labels:
    keywords['component'] = flow.distribution.nearest_prototype(images[known], labels[known])
  log_prob = np.concatenate([flow.log_prob(images[known], **keywords), marginal[~known]])
  surprise = -np.log(softmax(joint / 4, axis=1)[known, labels[known]]).mean()
  metrics = step(data.Batch(images, labels))
  np.testing.assert_allclose(metrics['nll'], -log_prob.mean(), rtol=1e-5)
  np.testing.assert_allclose(metrics['class_loss'], surprise, rtol=1e-3)
  np.testing.assert_allclose(metrics['loss'], -log_prob.mean() + 3.0 * surprise, rtol=1e-5)


def test_hidden_labels_are_balanced_and_the_same_each_time():
  split = data.load('digits').train
  first, second = (data.hide_labels(split, 105, 10).labels for _ in range(2))
  np.testing.assert_array_equal(first, second)
  np.testing.assert_array_equal(np.bincount(first[first >= 0]), [11] * 5 + [10] * 5)
  np.testing.assert_array_equal(first[first >= 0], split.labels[first >= 0])


def test_probabilities_of_classes_are_shares_of_the_labels_that_are_given():
  config = default_config(condition='label')
  config.nice.components, config.nice.hidden_units, config.nice.couplings = 1, 4, 2
  dataset = data_of(config)
  state = TrainState(config, dataset.image_shape, make_objective(config), condition=dataset.condition)
  given = np.repeat([*range(10), -1], 5)
  few = data.Split(dataset.train.images[: len(given)], given)
  initialize_from_data(state, TrainingImages(config, dataset, few))
  np.testing.assert_allclose(state.generator.class_probs, np.full(10, 0.1), rtol=1e-6)
  initialize_from_data(state, TrainingImages(config, dataset, dataset.train))
  np.testing.assert_allclose(state.ema.class_probs, np.bincount(dataset.train.labels) / 1437, rtol=1e-6)


@pytest.mark.parametrize(
  ('settings', 'words'),
  [
    ({'labelled': 100}, '`labelled` must be 0'),
    ({'class_weight': 1.0}, '`class_weight` must be 0'),
    ({'class_temperature': 2.0, 'condition': 'label'}, '`class_temperature` must be 1 without `class_weight`'),
    ({'class_temperature': 0.0, 'class_weight': 1.0, 'condition': 'label'}, '`class_temperature` must be a positive'),
    ({'class_weight': -1.0, 'condition': 'label'}, '`class_weight` must be a finite number of at least 0'),
    ({'labelled': 100, 'condition': 'label', 'objective': 'hybrid'}, '`labelled` must be 0'),
    ({'class_weight': 1.0, 'condition': 'label', 'objective': 'adversarial'}, '`class_weight` must be 0'),
    (
      {'pseudo_labels': True, 'condition': 'vector', 'nice.components': 20},
      '`pseudo_labels` must be False unless `condition` is',
    ),
    (
      {'consistency_weight': 1.0, 'condition': 'label'},
      '`consistency_weight` must be 0 unless `condition` is computed',
    ),
    ({'condition': 'lable'}, '`condition` must be'),
    ({'labelled': 100, 'condition': 'label', 'nice.normalization': 'batch'}, '`labelled` must be 0 with batch norms'),
  ],
)
def test_rejects_settings_without_a_meaning(settings, words):
  config = default_config()
  config.update_from_flattened_dict(settings)
  with pytest.raises(UsageError, match=words):
    validate(config)


def test_rejects_more_labels_than_a_class_has():
  split = data.load('digits').train
  with pytest.raises(UsageError, match='class 0 has'):
    data.hide_labels(split, 5000, 10)
  with pytest.raises(UsageError, match='at least 10'):
    data.hide_labels(split, 9, 10)


def test_hidden_labels_do_not_keep_bijectors_from_their_data():
  config = default_config(condition='label', labelled=100)
  config.nice.update({'couplings': 2, 'hidden_units': 4, 'hidden_layers': 1, 'histogram_bins': 17})
  dataset = data_of(config)
  hidden = data.hide_labels(dataset.train, 100, 10)
  state = TrainState(config, dataset.image_shape, make_objective(config), condition=dataset.condition)
  initialize_from_data(state, TrainingImages(config, dataset, hidden))
  assert not any(part.is_new for part in state.ema.submodules if hasattr(part, 'is_new'))

"""Names of classes, and which text means which class."""

import copy
import re

import numpy as np
import pytest

from flowgan_tf import flows
from flowgan_tf.base.errors import UsageError
from flowgan_tf.flows.classes import as_class_names, as_label, class_name

SHAPES = ('circle', 'square', 'triangle')


@pytest.mark.parametrize(
  ('label', 'names', 'expected'),
  [
    ('square', SHAPES, 1),
    ('2', SHAPES, 2),
    (np.int64(2), SHAPES, 2),
    ('2', None, 2),
    ('5', ('2', '5', '7'), 1),
    (2, ('2', '5', '7'), 2),
  ],
)
def test_a_class_is_its_name_or_its_number(label, names, expected):
  assert as_label(label, 3, names) == expected and type(as_label(label, 3, names)) is int


@pytest.mark.parametrize(
  ('label', 'names', 'said'),
  [
    ('sqare', SHAPES, 'one of circle, square, triangle, or an integer from 0 to 2. Got: sqare; did you mean square?'),
    ('', SHAPES, 'one of circle, square, triangle, or an integer from 0 to 2. Got: .'),
    ('3', SHAPES, 'one of circle, square, triangle, or an integer from 0 to 2. Got: 3.'),
    (-1, SHAPES, 'one of circle, square, triangle, or an integer from 0 to 2. Got: -1.'),
    # The number could be meant for the class called 2, or for the class called 7.
    ('1', ('2', '5', '7'), 'one of 2, 5, 7. Got: 1.'),
    ('square', None, 'an integer from 0 to 2. Got: square.'),
    ('9' * 5000, None, 'an integer from 0 to 2. Got: 999'),
    (True, None, 'an integer from 0 to 2. Got: True.'),
  ],
)
def test_what_is_no_class_is_rejected_with_the_names(label, names, said):
  with pytest.raises(UsageError, match=f'^{re.escape(f"`label` must be {said}")}'):
    as_label(label, 3, names)


def test_many_names_are_cut_short():
  names = [f'n{i}' for i in range(21)]
  with pytest.raises(UsageError, match=r'one of n0, n1, .*, n19 \.\.\., or an integer from 0 to 20\. Got: x\.$'):
    as_label('x', 21, names)


def test_names_are_one_for_each_class_and_more_than_numbers():
  assert as_class_names('x', np.array(SHAPES), 3) == SHAPES
  assert as_class_names('x', ['0', '1', '2'], 3) is as_class_names('x', None, 3) is None
  wrong = ((SHAPES, 4), (('a', 'a'), 2), (('a', 1), 2), (SHAPES, None), ('ab', 2), (np.array('a'), 1), (5, 2))
  for names, classes in wrong:
    with pytest.raises(UsageError, match=r'^`x` must be (\d different strings, a name for each class|None without c)'):
      as_class_names('x', names, classes)
  assert [class_name(1, names) for names in (SHAPES, None, ())] == ['square', '1', '1']


def test_a_flow_keeps_its_names_and_takes_them_as_conditions():
  flow = flows.nice((2, 2, 1), couplings=2, hidden_units=4, classes=3, normalization='none')
  for variable in flow.trainable_variables:
    variable.assign_add(np.random.default_rng(0).normal(0, 0.3, variable.shape))
  count, noise = len(flow.variables), flow.sample_noise(2, (0, 1), condition=1)
  assert flow.class_names is None and flow.label_of('1') == 1
  flow.class_names = list(SHAPES)
  for other in (flow, flow.with_dtype('float64'), flow.copy(name='other'), copy.deepcopy(flow)):
    assert other.class_names == SHAPES
  assert len(flow.variables) == count
  np.testing.assert_array_equal(flow.decode(noise, condition='square'), flow.decode(noise, condition=1))
  assert np.any(flow.decode(noise, condition='circle') != flow.decode(noise, condition=1))
  np.testing.assert_array_equal(
    flow.decode(noise, condition=['square', 'circle']), flow.decode(noise, condition=[1, 0])
  )
  with pytest.raises(UsageError, match='did you mean circle'):
    flow.given('circel')


def test_a_mixture_divided_among_classes_takes_names():
  flow = flows.nice((2, 2, 1), couplings=2, hidden_units=4, classes=3, components=6, normalization='none')
  flow.class_names, rng = SHAPES, np.random.default_rng(0)
  images = rng.uniform(size=(12, 2, 2, 1)).astype(np.float32)
  flows.initialize_prior(flow, images, 0, np.arange(12) % 3)
  by_name, by_number = (flow.sample_noise(2, (0, 1), condition=c) for c in (['square', 'circle'], [1, 0]))
  np.testing.assert_array_equal(by_name, by_number)
  nearest = flow.nearest_component(images, condition='square')
  assert set(nearest.numpy() // 2) == {1}
  np.testing.assert_array_equal(nearest, flow.nearest_component(images, condition=1))

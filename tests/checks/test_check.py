"""`fg.check`: sound flows pass, and for each way to be wrong there is a flow that has it, whose fault is named."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import flowgan_tf as fg
from flowgan_tf.checks.bounds import bounds
from flowgan_tf.checks.grids import Grid
from flowgan_tf.checks.images import check_values
from flowgan_tf.checks.target import Target

tfb, tfd = tfp.bijectors, tfp.distributions

SHAPE = (2, 2, 1)


@pytest.fixture
def without_integrals(monkeypatch):
  """Leaves out what takes most of the time, in tests of other checks."""
  monkeypatch.setattr('flowgan_tf.checks.densities.check_total', lambda *_: [])


def images(count=6, shape=SHAPE):
  return np.random.default_rng(0).uniform(0.05, 0.95, (count, *shape)).astype(np.float32)


def shaken(flow, scale=0.5):
  """A new flow does nothing, so its weights become random."""
  for i, variable in enumerate(flow.trainable_variables):
    variable.assign_add(scale * tf.random.stateless_normal(variable.shape, (0, i), dtype=variable.dtype))
  return flow


def dense(*units, event=1):
  layers = [keras.layers.Dense(n, 'tanh' if n != units[-1] else None) for n in units]
  return fg.networks.KerasModule(keras.Sequential(layers), (event,))


def coupling(name, swap=False):
  keras.utils.set_random_seed(len(name) + swap)
  mask = fg.bijectors.masks.even_odd(2, swap=swap)
  return fg.bijectors.AffineCoupling(dense(8, 2 * mask.changed_shape[-1]), mask, name=name)


def of_two(*parts, prior=None):
  """A plain distribution of TFP over vectors of two numbers."""
  return tfd.TransformedDistribution(prior or tfd.Sample(tfd.Normal(0.0, 1.0), 2), tfb.Chain(parts, name='chain'))


class WrongSign(tfb.Bijector):
  """Doubles, and claims to halve."""

  def __init__(self, factor=-1.0, name='culprit'):
    self._factor = factor
    super().__init__(forward_min_event_ndims=0, name=name)

  def _forward(self, x):
    return 2 * x

  def _inverse(self, y):
    return y / 2

  def _forward_log_det_jacobian(self, x):
    return tf.fill(tf.shape(x), self._factor * np.log(2).astype(np.float32))


class WrongInverse(WrongSign):
  """Its inverse forgets the shift."""

  def __init__(self):
    super().__init__(1.0)

  def _forward(self, x):
    return 2 * x + 0.1


class Coarse(WrongSign):
  """Its inverse computes in bfloat16."""

  def __init__(self):
    super().__init__(1.0)

  def _inverse(self, y):
    return tf.cast(tf.cast(y, tf.bfloat16) / 2, y.dtype)


class NotFinite(WrongSign):
  """Its inverse is NaN, which reaches all other parts."""

  def __init__(self):
    super().__init__(1.0)

  def _inverse(self, y):
    return np.nan * y


class TooHeavy(tfd.Normal):
  """Its densities have the integral 1.2."""

  def _log_prob(self, x):
    return super()._log_prob(x) + np.log(1.2).astype(np.float32)


def unmasked():
  """An autoregressive flow whose network also sees the number that it transforms, and later ones."""
  keras.utils.set_random_seed(1)
  layers = [keras.layers.Dense(8, 'tanh'), keras.layers.Dense(4), keras.layers.Reshape((2, 2))]
  network = fg.networks.KerasModule(keras.Sequential(layers), (2,))
  return tfb.MaskedAutoregressiveFlow(network, name='culprit')


def moved_batch_norm():
  layer = tfb.BatchNormalization(training=True, name='culprit')
  layer.inverse(tf.constant([[1.0, 2.0], [3.0, 5.0]]))
  return layer


BROKEN = {
  'wrong sign': (WrongSign, 'log-determinant, Jacobian'),
  'dropped term': (lambda: WrongSign(0.0), 'log-determinant, Jacobian'),
  'unmasked': (unmasked, 'log-determinant, Jacobian'),
  'bfloat16 inverse': (Coarse, 'image, noise, image in float32'),
  'batch norm in training': (moved_batch_norm, 'alone and in a batch'),
  'wrong inverse': (WrongInverse, 'image, noise, image in float32'),
  'NaN': (NotFinite, 'image, noise, image in float32'),
}


@pytest.mark.parametrize('inverted', [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize('fault', BROKEN)
def test_the_bijector_that_is_wrong_is_named(fault, inverted):
  make, check = BROKEN[fault]
  culprit = make()
  if inverted:
    culprit = tfb.Invert(tfb.Chain([tfb.Invert(culprit)]), name='outer')
  chain = tfb.Chain([coupling('first'), culprit, coupling('second', swap=True)])
  report = fg.check(chain, np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32))
  assert not report.sound and report.parts == ['culprit']
  assert check in [finding.check for finding in report.wrong]
  assert 'NOT SOUND' in str(report) and 'The fault is in culprit.' in str(report)


class TwoMinds(WrongSign):
  """Its log-determinants of the two ways do not agree."""

  def __init__(self):
    super().__init__(0.0)

  def _inverse_log_det_jacobian(self, y):
    return tf.fill(tf.shape(y), -np.log(2).astype(np.float32))


class OfTheBatch(WrongSign):
  """Its log-determinant depends on the other images."""

  def _forward_log_det_jacobian(self, x):
    return np.log(2).astype(np.float32) + 0.1 * tf.math.reduce_std(x) * tf.ones_like(x)


class Infinite(tfd.Normal):
  def _log_prob(self, x):
    return tf.where(x > 1.5, np.float32(np.inf), super()._log_prob(x))


class Leaks(fg.flows.Flow):
  def sample(self, *arguments, **keywords):
    return super().sample(*arguments, **keywords) + 0.2


class NoEdge(fg.flows.Flow):
  def log_prob(self, value, *arguments, **keywords):
    return super().log_prob(tf.clip_by_value(value, 0.001, 0.999), *arguments, **keywords)


def test_log_determinants_that_disagree_or_look_at_other_images():
  vectors = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
  assert 'log-determinants, both ways' in [f.check for f in fg.check(tfb.Chain([TwoMinds()]), vectors).wrong]
  assert 'alone and in a batch' in [f.check for f in fg.check(tfb.Chain([OfTheBatch()]), vectors).wrong]


@pytest.mark.usefixtures('without_integrals')
def test_log_densities_that_are_not_finite_are_counted():
  report = fg.check(tfd.Sample(Infinite(0.0, 1.0), 2), np.array([[0.0, 0.0], [2.0, 0.0]], np.float32))
  [found] = [finding for finding in report.wrong if finding.check == 'log densities that are not finite']
  assert (found.found, found.image) == (1, 1)


@pytest.mark.parametrize(
  ('kind', 'check'), [(Leaks, 'samples outside of [0, 1]'), (NoEdge, 'log_prob just outside, less inside')]
)
@pytest.mark.usefixtures('without_integrals')
def test_samples_and_densities_outside_of_the_unit_cube(kind, check):
  logit = tfb.Invert(fg.bijectors.AlphaLogit(1e-7))
  chain = tfb.Chain([logit, tfb.Reshape(SHAPE, [4]), tfb.Scale(tf.Variable([0.5, 1.0, 1.0, 1.0]))])
  assert check in [f.check for f in fg.check(kind(tfd.Sample(tfd.Logistic(0.0, 1.0), 4), chain), images()).wrong]


class Unsummed(WrongSign):
  """It returns a log-determinant for each number, though its events are vectors."""

  def __init__(self):
    tfb.Bijector.__init__(self, forward_min_event_ndims=1, name='culprit')
    self._factor = 1.0


@pytest.mark.parametrize('n', [2, 8])
def test_a_log_determinant_of_the_wrong_shape_is_named(n):
  """With two values of two numbers, it would be broadcast without an error."""
  chain = tfb.Chain([coupling('first'), Unsummed(), coupling('second', swap=True)])
  report = fg.check(chain, np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32))
  assert report.parts == ['culprit'] and f'shape [{n}, 2] for {n} values' in str(report)


@pytest.mark.parametrize('culprit', [WrongSign, pytest.param(unmasked, marks=pytest.mark.slow)])
def test_the_integral_shows_a_wrong_log_determinant(culprit):
  report = fg.check(of_two(coupling('first'), culprit()))
  assert 'integral of the density, less 1' in [finding.check for finding in report.wrong]
  assert report.parts == ['culprit']


def test_a_prior_that_is_not_normalised_is_named():
  report = fg.check(of_two(coupling('first'), prior=tfd.Sample(TooHeavy(0.0, 1.0, name='culprit'), 2)))
  found = {finding.check: finding.found for finding in report.wrong}
  assert found == {
    'integral of the density, less 1': pytest.approx(1.2**2 - 1, abs=0.01),
    'integral of the prior, less 1': pytest.approx(0.2, abs=0.01),
  }
  assert report.parts == ['culprit']


def weighted(factor):
  """A logistic distribution whose densities have the integral `factor`."""

  class Weighted(tfd.Logistic):
    def _log_prob(self, x):
      return super()._log_prob(x) + np.log(factor)

  return Weighted(np.float64(0), np.float64(1))


def bounds_in(note):
  return map(float, re.match(r'it is between ([\d.]*\d) and ([\d.]*\d)', note).groups())


@pytest.mark.parametrize(('factor', 'said'), [(1.0, 'samples are right'), (1.1, 'too large'), (0.9, 'too small')])
def test_the_integral_in_ten_dimensions_has_bounds(factor, said):
  """Both bounds are within a tenth of the truth, 1, 2.6 or 0.35."""
  finding = bounds('integral', Target(tfd.Sample(weighted(factor), 10)), 0)
  lower, upper = bounds_in(finding.note)
  assert lower == pytest.approx(factor**10, rel=0.1) and upper == pytest.approx(factor**10, rel=0.1)
  assert finding.sound == (factor == 1) and said in finding.note


@pytest.mark.slow
def test_the_integral_of_a_flow_of_images_has_bounds():
  flow = fg.flows.nice((3, 3, 1), couplings=3, hidden_units=8, hidden_layers=1, components=3, dtype='float64')
  rng = np.random.default_rng(0)
  for variable in flow.trainable_variables:
    variable.assign_add(rng.normal(0, 0.3, variable.shape))
  finding = bounds('integral', Target(flow), 0)
  lower, upper = bounds_in(finding.note)
  # Over seeds of the weights, either is a tenth off.
  assert finding.sound and 0.6 < lower < 1.5 and 0.6 < upper < 1.5


def test_a_log_prob_that_is_not_that_of_its_bijector():
  class Dropped(fg.flows.Flow):
    def log_prob(self, value, *args, **kwargs):
      return super().log_prob(value, *args, **kwargs) + 0.5

  chain = tfb.Chain([tfb.Sigmoid(), tfb.Reshape(SHAPE, [4]), tfb.Shift(tf.Variable(tf.zeros(4)))])
  report = fg.check(Dropped(tfd.Sample(tfd.Logistic(0.0, 1.0), 4), chain), images())
  # exp(0.5) is 1.65, which the bounds see, too.
  wrong = ['log_prob, prior and bijector', 'integral of the density, by chains']
  assert [finding.check for finding in report.wrong] == wrong


def whitening_jet():
  """In float64, rounding of its covariances to float32 would show."""
  flow = fg.flows.jet((4, 4, 2), patch_size=2, couplings=2, width=8, blocks=1, whitening=True)
  grey = np.random.default_rng(0).uniform(0.1, 0.8, (50, 4, 4, 1))
  fg.flows.fit_bijectors(flow, np.concatenate([grey, grey**2 + 0.1], axis=-1).astype('float32'))
  return flow


BUILDERS = {
  'nice': lambda: fg.flows.nice(SHAPE, hidden_units=8, hidden_layers=1),
  'nice given labels': lambda: fg.flows.nice(SHAPE, hidden_units=8, hidden_layers=1, classes=2),
  'real_nvp': lambda: fg.flows.real_nvp((4, 4, 1), scales=2, channels=2, blocks=1, batch_norm_between=True),
  'jet': lambda: fg.flows.jet((4, 4, 1), patch_size=2, couplings=2, width=8, blocks=1),
  'jet that whitens': whitening_jet,
  'vectors': lambda: fg.flows.vectors(2, hidden_units=8),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', BUILDERS)
def test_our_flows_are_sound(name):
  keras.utils.set_random_seed(0)
  flow = shaken(BUILDERS[name](), 0.2)
  x = images(shape=tuple(flow.event_shape))
  report = fg.check(flow, x, **({} if name == 'vectors' else {'levels': 17}))
  assert report.sound, report
  assert {finding.check for finding in report.findings} >= {'log-determinant, Jacobian', 'rank among samples'}


def test_bijectors_and_distributions_of_tfp_and_given_flows_are_sound():
  network = tfb.AutoregressiveNetwork(2, event_shape=2, hidden_units=[8], activation='tanh')
  given = fg.flows.vectors(2, couplings=2, hidden_units=8, condition_shape=(1,)).given([0.5])
  for flow in (of_two(tfb.MaskedAutoregressiveFlow(network), coupling('first')), tfd.Gamma(3.0, 2.0), given):
    report = fg.check(flow)
    assert report.sound, report
    assert any('integral' in finding.check and finding.sound for finding in report.findings)


def test_narrow_modes_are_not_called_wrong():
  """They lie between the points of a grid that reaches from one to the other."""
  modes = tfd.MultivariateNormalDiag([[-1.0] * 3, [1.0] * 3], scale_diag=[[0.01] * 3] * 2)
  report = fg.check(tfd.MixtureSameFamily(tfd.Categorical(probs=[0.5, 0.5]), modes))
  assert report.sound and 'samples in cells, integral: the grid is too coarse' in str(report)
  # This check says nothing, so it does not count.
  passed = str(report).count('passed')
  assert passed > 1 and f': no mistake found by {passed} checks.\nNot checked: ' in str(report)


@pytest.mark.parametrize('factor', [1.0, 1.05, 0.95])
def test_a_funnel_has_a_neck_between_the_points_of_the_grid(factor):
  """Of Neal's funnel in three dimensions, the grid sees 0.91 to 0.93."""

  def widths(x, units):
    return tf.zeros_like(x) * tf.ones([units]), x * tf.ones([units])

  funnel = tfd.TransformedDistribution(
    tfd.Sample(tfd.Normal(0.0, 1.0), 3), tfb.RealNVP(1, shift_and_log_scale_fn=widths)
  )
  grid = Grid(
    'integral',
    lambda x: funnel.log_prob(tf.cast(x, tf.float32)) + np.log(factor),
    np.asarray(funnel.sample(2000, seed=(0, 0)), np.float64),
  )
  found = grid.integral()
  assert found.sound == (factor == 1.0) and found.found == pytest.approx(factor - 1, abs=0.02)


def test_a_density_outside_of_the_support_is_wrong_although_no_draw_is_near():
  periodic = tfd.Sample(tfd.VonMises(0.0, 1.0), 2)
  draws = np.asarray(periodic.sample(2000, seed=(0, 0)), np.float32)
  found = Grid('integral', periodic.log_prob, draws).integral()
  assert not found.sound and found.found > 1000


def of_logits():
  """A flow over images: uniform but for its first pixel."""
  scale = tf.Variable([0.5, 1.0, 1.0, 1.0])
  chain = tfb.Chain([tfb.Invert(fg.bijectors.AlphaLogit(1e-7)), tfb.Reshape(SHAPE, [4]), tfb.Scale(scale)])
  return fg.flows.Flow(tfd.Sample(tfd.Logistic(0.0, 1.0), 4), chain)


@pytest.mark.usefixtures('without_integrals')
def test_images_that_cannot_be_judged_are_named():
  flow, x = of_logits(), images()
  x[2], x[4] = 0.5, [[[51 / 255], [1]], [[0], [2 / 3]]]
  x[3] *= 255
  report = fg.check(flow, x)
  assert report.images == [2, 3] and 'image 3 has values from' in str(report) and '-inf' in str(report)
  places = {finding.check: finding.where for finding in report.findings}
  assert (places['images outside of [0, 1]'], places['images that are not dequantised']) == ('image 3', 'image 2')
  with pytest.warns(UserWarning, match='fg.data.dequantize') as caught:
    assert not fg.check(flow, x[[2, 4]]).sound
  assert len(caught) == 1
  assert fg.check(flow, np.full((2, *SHAPE), 9), levels=17).sound


def test_values_of_exactly_0_and_1_are_not_outside():
  x = images()
  x[1, 0, 0], x[2, 0, 0], x[3, 0, 0], x[5, 0, 0] = 0, 1, np.nextafter(np.float32(1), 2), -1e-30
  outside, _ = check_values(x, levels=None)
  assert (outside.found, outside.image) == (2, 3)


@pytest.mark.usefixtures('without_integrals')
def test_the_noise_of_dequantisation_tightens_the_bound():
  """Against the probability of grey levels in closed form: uniform over [0, 1]^4 but for one logistic pixel."""
  grey = np.random.default_rng(0).integers(0, 4, (4, *SHAPE))
  found = {finding.check: finding.found for finding in fg.check(of_logits(), grey, levels=4).findings}
  edges = np.arange(5) / 4
  logits = np.log(np.maximum(edges, 1e-30)) - np.log(np.maximum(1 - edges, 1e-30))
  mass = np.diff(1 / (1 + np.exp(-2 * logits)))
  exact = -(np.log2(mass[grey[:, 0, 0, 0]]) - 3 * 2).mean() / 4
  bits = [found[f'bits/dim with {name}'] for name in ('1 draw', '8 draws', '64 draws')]
  assert bits[0] > bits[1] > bits[2] and bits[2] == pytest.approx(exact, abs=0.01)


def test_nothing_is_left_changed():
  layer = moved_batch_norm()
  before = [variable.numpy() for variable in layer.variables]
  fg.check(layer, np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32))
  for old, variable in zip(before, layer.variables, strict=True):
    np.testing.assert_array_equal(old, variable)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (('nice',), '`flow` must be a distribution or a bijector'),
    ((tfb.Exp(),), '`images` must be given'),
    ((tfd.JointDistributionSequential([tfd.Normal(0.0, 1.0)]),), '`flow` must be a distribution of floats'),
    ((tfd.Normal([0.0, 1.0], 1.0),), '`flow` must be a distribution with batch shape'),
    ((tfd.Poisson(1.0), np.ones((2, 3), np.float32)), '`images` must be'),
    ((tfb.Exp(), np.array([1, 2])), '`images` must be floats'),
  ],
)
def test_mistakes(arguments, message):
  with pytest.raises(fg.UsageError, match=message):
    fg.check(*arguments)


def test_one_image_is_enough():
  assert fg.check(tfd.Normal(0.0, 1.0), np.zeros(1, np.float32)).sound
  with pytest.raises(fg.UsageError, match='`images` must be one or more'):
    fg.check(tfd.Normal(0.0, 1.0), np.zeros(0, np.float32))


@pytest.mark.parametrize('levels', [0, 1, 2.5])
def test_levels_are_whole(levels):
  with pytest.raises(fg.UsageError, match='`levels` must be'):
    fg.check(tfd.Normal(0.0, 1.0), levels=levels)


def test_a_flow_over_feature_maps_has_the_whole_line():
  layers = [fg.networks.KerasModule(keras.Sequential([keras.layers.Dense(2)]), SHAPE) for _ in range(2)]
  mask = fg.bijectors.masks.checkerboard(SHAPE)
  parts = [fg.bijectors.AffineCoupling(layers[0], mask, name='one')]
  parts.append(fg.bijectors.AffineCoupling(layers[1], ~mask, name='two'))
  flow = shaken(fg.flows.Flow(tfd.Sample(tfd.Normal(0.0, 1.0), SHAPE), tfb.Chain(parts)), 0.2)
  report = fg.check(flow)
  assert report.sound, report
  assert not any('[0, 1]' in finding.check for finding in report.findings)


@pytest.mark.parametrize(
  ('shape', 'bins'), [((1, 2, 1), 0), pytest.param(SHAPE, 0, marks=pytest.mark.slow), ((1, 2, 1), 4)]
)
def test_an_alpha_that_leaves_room_outside_of_the_unit_interval(shape, bins):
  settings = {'couplings': 2, 'hidden_units': 4, 'hidden_layers': 1, 'histogram_bins': bins}
  flow = shaken(fg.flows.nice(shape, alpha=0.05, **settings), 0.2)
  report = fg.check(flow, images(shape=shape))
  assert report.sound, report
  found = {finding.check: finding.found for finding in report.findings}
  assert 0.001 < found['samples outside of [0, 1]'] <= 0.05 / 0.9 + 1e-3


def test_a_sigmoid_within_a_flow_does_not_bound_it():
  scale = tfp.util.TransformedVariable(0.7 * tf.ones((1, 2, 1)), tfb.Sigmoid())
  flow = fg.flows.Flow(tfd.Sample(tfd.Normal(0.0, 1.0), (1, 2, 1)), tfb.Chain([tfb.Scale(scale)]))
  report = fg.check(flow)
  assert report.sound, report
  # Who names levels, or gives ints, has images.
  grey = np.random.default_rng(0).integers(0, 256, (4, 1, 2, 1))
  with pytest.warns(UserWarning, match='fg.data.dequantize'):
    assert not fg.check(flow, (grey / 255).astype(np.float32), levels=256).sound
  assert fg.check(flow, grey).sound


@pytest.mark.usefixtures('without_integrals')
def test_arguments_as_the_flow_takes_them():
  named = fg.flows.nice((1, 2, 1), classes=2, couplings=2, hidden_units=2, hidden_layers=1)
  named.class_names = ('cat', 'dog')
  assert fg.check(named, images(2, (1, 2, 1)), condition=['cat', 'dog']).sound


def found_of(report, check):
  return next(finding for finding in report.findings if finding.check == check)


@pytest.mark.usefixtures('without_integrals')
def test_the_rank_is_the_share_of_samples_that_are_less_likely():
  """Of a normal distribution in the plane, exp(-r^2 / 2) of all samples are farther out than r."""
  report = fg.check(tfd.Sample(tfd.Normal(0.0, 1.0), 2), np.array([[1.0, 0.0], [0.0, 3.0]], np.float32))
  found = found_of(report, 'rank among samples')
  assert found.found == pytest.approx((np.exp(-0.5) + np.exp(-4.5)) / 2, abs=0.07) and found.where == 'image 1'


class OfTheOthers(tfd.Normal):
  """Its densities depend on the other values of a batch."""

  def _log_prob(self, x):
    return super()._log_prob(x) + 0.1 * tf.math.reduce_std(x)


@pytest.mark.usefixtures('without_integrals')
def test_a_density_without_a_bijector_that_depends_on_its_batch():
  vectors = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
  report = fg.check(tfd.Sample(OfTheOthers(0.0, 1.0), 2), vectors)
  assert 'log_prob alone and in a batch' in [finding.check for finding in report.wrong]


class OneTypeIsWrong(fg.flows.Flow):
  def log_prob(self, value, *arguments, **keywords):
    found = super().log_prob(value, *arguments, **keywords)
    return found + 0.5 if self.dtype == tf.float32 else found


@fg.flows.builder
def of_one_type(image_shape, *, dtype='float32', name='of_one_type'):
  zero = tf.zeros([], dtype)
  chain = tfb.Chain([tfb.Sigmoid(), tfb.Reshape(image_shape, [4]), tfb.Shift(tf.Variable(tf.zeros(4, dtype)))])
  return OneTypeIsWrong(tfd.Sample(tfd.Logistic(zero, zero + 1), 4), chain, name)


@pytest.mark.usefixtures('without_integrals')
def test_densities_of_both_types_are_compared():
  report = fg.check(of_one_type(SHAPE), images())
  assert 'log_prob, float32 and float64' in [finding.check for finding in report.wrong]


@pytest.mark.usefixtures('without_integrals')
def test_the_spread_over_seeds_is_that_of_the_noise():
  """Of the mean over 4 images, of which a logistic pixel alone matters; of 4 seeds, the deviation varies a lot."""
  grey = np.random.default_rng(0).integers(0, 4, (4, *SHAPE))
  found = found_of(fg.check(of_logits(), grey, levels=4), 'spread over seeds').found
  draws = (grey[:, 0, 0, 0] + np.random.default_rng(1).random((10_000, 4))) / 4
  z = 2 * (np.log(draws) - np.log1p(-draws))
  log_prob = np.log(2) + z - 2 * np.logaddexp(0, z) - np.log(draws) - np.log1p(-draws)
  assert 0.2 < found / log_prob.mean(axis=1).std() < 2.2

"""Divergences between data P and model Q that a critic estimates from samples alone.

A critic `v` maps an image to one unbounded real number. An f-divergence has the variational form

```none
D_f(P || Q) = int q(x) f(p(x) / q(x)) dx = max_v V(v),    V(v) = E_P[g(v(x))] - E_Q[f*(g(v(x)))]
```

with the convex conjugate `f*` and an output activation `g` onto the domain of `f*`. P is always the data and Q the
model, so `kl` is KL(P || Q), which maximum likelihood minimises too, and `reverse_kl` is KL(Q || P).

| name              | g(v)          | f*(g(v))    | maximum of `value`                          | optimal v         |
|-------------------|---------------|-------------|---------------------------------------------|-------------------|
| `wasserstein`     | v             | v           | W1(P, Q), over 1-Lipschitz v                | Kantorovich's     |
| `jensen_shannon`  | -softplus(-v) | softplus(v) | 2 JS(P, Q), once log 4 is added             | log(p / q)        |
| `kl`              | v             | exp(v - 1)  | KL(P, Q) = E_P[log(p / q)]                  | 1 + log(p / q)    |
| `reverse_kl`      | -exp(-v)      | v - 1       | KL(Q, P) = E_Q[log(q / p)]                  | log(p / q)        |
| `hellinger`       | 1 - exp(-v)   | exp(v) - 1  | int (sqrt(p) - sqrt(q))^2 dx, at most 2     | log(p / q) / 2    |
| `total_variation` | tanh(v) / 2   | tanh(v) / 2 | int abs(p - q) dx / 2, at most 1            | inf sign(p - q)   |
| `least_squares`   | not of this form            || int (p - q)^2 / (p + q) dx / 8, at most 1/4 | p / (p + q)       |
| `relativistic`    | not of this form            || JS(P x Q, Q x P), at most log 2             | log(p / q)        |

The relativistic critic compares each image `x` of the data with each sample `y`, rather than with a fixed threshold:
V(v) = log 2 - E_P,Q[softplus(v(y) - v(x))]. It tells which of the two is the image, so that its maximum is the
Jensen-Shannon divergence between the pair and the pair swapped. A constant that is added to `v` changes nothing. Papers
compare the i-th image with the i-th sample; the mean over all pairs has the same expectation and a smaller variance.

Wasserstein is not an f-divergence but has the same form. Its critic needs a gradient penalty, which makes `value` an
estimate rather than a bound. All other values are lower bounds in expectation, whatever the critic.

All functions take critic outputs of shape `[n, ...]` (real and fake may differ in `n`) of any float dtype, and return a
float32 scalar: differences of means lose too much in half precision. A critic with several outputs for each image, such
as one for each patch, is several critics that share layers, and the result is the mean of theirs.

#### References

[1]: S. Nowozin, B. Cseke, R. Tomioka. f-GAN: Training Generative Neural Samplers using Variational Divergence
     Minimization. NIPS 2016, Tables 1 and 2 and section 2.4. https://arxiv.org/abs/1606.00709
[2]: I. Goodfellow et al. Generative Adversarial Nets. NIPS 2014, section 3. https://arxiv.org/abs/1406.2661
[3]: M. Arjovsky, S. Chintala, L. Bottou. Wasserstein GAN. ICML 2017. https://arxiv.org/abs/1701.07875
[4]: X. Mao et al. Least Squares Generative Adversarial Networks. ICCV 2017, eq. 9. https://arxiv.org/abs/1611.04076
[5]: A. Grover, M. Dhar, S. Ermon. Flow-GAN. AAAI 2018, section 2.2. https://arxiv.org/abs/1705.08868
[6]: A. Jolicoeur-Martineau. The relativistic discriminator: a key element missing from standard GAN. ICLR 2019.
     https://arxiv.org/abs/1807.00734
[7]: N. Huang, A. Gokaslan, V. Kuleshov, J. Tompkin. The GAN is dead; long live the GAN! A Modern GAN Baseline. NeurIPS
     2024. https://arxiv.org/abs/2501.05441
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from flowgan_tf import devices
from flowgan_tf.base.lazy import tf
from flowgan_tf.base.plugins import Registry


@dataclasses.dataclass(frozen=True)
class Divergence:
  """One divergence, as losses on critic outputs."""

  name: str  #: Its key in `DIVERGENCES`.
  #: Maps `(real, fake)` to the float32 scalar that the critic minimises: `-value`, up to a constant for
  #: `jensen_shannon`, `least_squares` and `relativistic`.
  critic_loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
  #: Maps `(real, fake)` to the float32 scalar that the generator minimises: the part of `value` that depends on the
  #: model, except for `jensen_shannon`, `least_squares` and `relativistic`. Only `relativistic` uses `real`.
  generator_loss: Callable[[tf.Tensor | None, tf.Tensor], tf.Tensor]
  #: Maps `(real, fake)` to this critic's estimate of the divergence, a float32 scalar that is logged as `critic_gap`.
  #: If P = Q, the value of the best critic is 0.
  value: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
  default_gradient_penalty: float = 0.0  #: Weight of the gradient penalty unless the user sets one.
  default_penalty: str = 'one_centered'  #: Kind of the gradient penalty unless the user sets one: a key of `PENALTIES`.
  relativistic: bool = False  #: Whether the generator's loss needs the outputs on real images.


_Function = Callable[['tf.Tensor'], 'tf.Tensor']


def _mean(function: _Function, outputs: tf.Tensor) -> tf.Tensor:
  # AutoGraph has nothing to do here, and warns that it cannot tell two lambdas on one line apart.
  function = tf.autograph.experimental.do_not_convert(function)
  return tf.reduce_mean(function(tf.cast(outputs, tf.float32)))


def _minimax(
  name: str, activation: _Function, conjugate: _Function, default_gradient_penalty: float = 0.0
) -> Divergence:
  """Makes a divergence in which the critic maximises the V that the generator minimises.

  `conjugate` is f* after `activation`, as one stable function of v. The generator loss is the fake term of V. The
  paper's code uses -E_Q[g(v)] for `kl` and `hellinger` instead. That heuristic against vanishing gradients ([1],
  section 3.2) does not minimise the named divergence.
  """

  def value(real: tf.Tensor, fake: tf.Tensor) -> tf.Tensor:
    return _mean(activation, real) - _mean(conjugate, fake)

  return Divergence(
    name=name,
    critic_loss=lambda real, fake: -value(real, fake),
    generator_loss=lambda real, fake: -_mean(conjugate, fake),
    value=value,
    default_gradient_penalty=default_gradient_penalty,
  )


def _non_saturating(name: str, real_loss: _Function, fake_loss: _Function, chance_loss: float) -> Divergence:
  """The critic classifies; the generator minimises the loss that its samples would have if they were labelled real.

  `chance_loss` is the critic's optimal loss for P = Q, so that `chance_loss - critic_loss` bounds a divergence.
  """

  def critic_loss(real: tf.Tensor, fake: tf.Tensor) -> tf.Tensor:
    return _mean(real_loss, real) + _mean(fake_loss, fake)

  return Divergence(
    name=name,
    critic_loss=critic_loss,
    generator_loss=lambda real, fake: _mean(real_loss, fake),
    value=lambda real, fake: chance_loss - critic_loss(real, fake),
  )


def _relativistic() -> Divergence:
  """The critic and the generator minimise mirror images of one loss, over all pairs of a real and a fake image."""

  def loss(winner: tf.Tensor, loser: tf.Tensor) -> tf.Tensor:
    # Replicas share the images, but not the pairs.
    winner, loser = (devices.gather(tf.cast(outputs, tf.float32)) for outputs in (winner, loser))
    return tf.reduce_mean(tf.nn.softplus(loser[tf.newaxis] - winner[:, tf.newaxis]))

  return Divergence(
    name='relativistic',
    critic_loss=loss,
    generator_loss=lambda real, fake: loss(fake, real),
    value=lambda real, fake: math.log(2.0) - loss(real, fake),
    default_gradient_penalty=1.0,
    default_penalty='zero_centered',
    relativistic=True,
  )


_ALL = (
  _minimax('wasserstein', activation=lambda v: v, conjugate=lambda v: v, default_gradient_penalty=10.0),
  # With D = sigmoid(v): E_P[log D] + E_Q[log(1 - D)] = 2 JS(P, Q) - log 4 at the optimum [2]. The generator minimises
  # -E_Q[log D], because the minimax term has no gradient where the critic wins [2].
  _non_saturating(
    'jensen_shannon',
    real_loss=lambda v: tf.nn.softplus(-v),
    fake_loss=lambda v: tf.nn.softplus(v),
    chance_loss=math.log(4.0),
  ),
  _minimax('kl', activation=lambda v: v, conjugate=lambda v: tf.exp(v - 1.0)),
  _minimax('reverse_kl', activation=lambda v: -tf.exp(-v), conjugate=lambda v: v - 1.0),
  # expm1 keeps the digits that 1 - exp(-v) loses near v = 0.
  _minimax('hellinger', activation=lambda v: -tf.math.expm1(-v), conjugate=lambda v: tf.math.expm1(v)),
  _minimax('total_variation', activation=lambda v: 0.5 * tf.math.tanh(v), conjugate=lambda v: 0.5 * tf.math.tanh(v)),
  # Labels 1 for real and 0 for fake; the generator aims at 1 ([4], eq. 9, the choice of the paper's code).
  _non_saturating(
    'least_squares',
    real_loss=lambda v: 0.5 * tf.square(v - 1.0),
    fake_loss=lambda v: 0.5 * tf.square(v),
    chance_loss=0.25,
  ),
  _relativistic(),
)

DIVERGENCES: Registry[Divergence] = Registry(
  'divergence',
  'a `flowgan_tf.objectives.Divergence`',
  lambda part: isinstance(part, Divergence),
  {divergence.name: divergence for divergence in _ALL},
)

"""Lossless compression of images by a flow.

A flow says how probable an image is. So it says how few bits suffice for the image: -log2 p(x) for an image with noise
in place of its grey levels. The noise costs nothing, because the coder takes it from the bits of earlier images, and
the decoder gives these bits back:

  1. Each grey level owns an interval of the logits y. Pop a number of this interval, on a grid of width g. This
     takes -log2 q(y) bits from the stack.
  2. Bring y through the couplings and the diagonal scaling, to the noise z. Where a coupling squeezes numbers together,
     the stack takes what would be lost: log2|det dy/dz| bits. Where it spreads them, the stack gives the bits for it.
  3. Push z by its probability under the prior, -log2(p(z) g^d) bits.

Together these are -log2(p(y) g^d / q(y)) bits, on average the promised number. The decoder undoes one step after the
other, in reverse order. All numbers are integers, in units of g, so every step is exact. A network computes
the same for the coder and for the decoder, because both give it the same integers in batches of the same size. Another
machine may round differently, so both must run on the same one.

Sources: James Townsend, Tom Bird, David Barber. Practical lossless compression with latent variables using bits back
coding. ICLR 2019. Jonathan Ho, Evan Lohn, Pieter Abbeel. Compression with flows via local bits-back coding. NeurIPS
2019. Shifeng Zhang, Ning Kang, Tom Ryder, Zhenguo Li. iFlow: numerically invertible flows for efficient lossless
compression via a uniform coder. NeurIPS 2021.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from scipy.special import logit
from stack import GRID, Stack

import flowgan_tf as fg
from flowgan_tf.base.errors import check
from flowgan_tf.bijectors import AdditiveCoupling, AffineCoupling, AlphaLogit, DiagonalScaling, HistogramLogit

_FAR = 2**29  # Noise is from -512 to 512.
_TOGETHER = 100  # images that pass through the networks at once, at most
_DEBT = 32  # bits that a pixel takes before it gives some: 20 of the grid, and fewer than 12 of its noise and a product


class Codec:
  """Compresses images by a flow, and their labels if the flow has classes."""

  def __init__(self, flow: fg.flows.Flow, levels: int):
    """Takes a flow of images with so many grey levels apart.

    Raises:
      UsageError: If the flow is not a NICE or Jet with additive or affine couplings and logistic noise, has conditions
        that are not classes, or has histograms of another number of levels. If there are more than 256 levels.
    """
    expected = 'a NICE or Jet with additive or affine couplings, without conditions or with classes'
    check('flow', getattr(flow, 'name', flow), expected, isinstance(flow, fg.flows.Flow))
    check('levels', levels, 'from 2 to 256', 2 <= levels <= 256)
    chain = getattr(flow.bijector, 'bijector', flow.bijector)  # from an image to noise
    self._logit, *parts = getattr(chain, 'bijectors', [chain])[::-1]
    # Nothing needs to be reshaped, because each part says which shape it takes.
    self._parts = [getattr(part, 'bijector', part) for part in parts if not isinstance(part, tfp.bijectors.Reshape)]
    known = isinstance(self._logit, AlphaLogit | HistogramLogit) and all(
      isinstance(part, AdditiveCoupling | AffineCoupling | DiagonalScaling) for part in self._parts
    )
    check('flow', flow.name, expected, known and flow.condition_shape is None)
    prior = flow.distribution
    means = getattr(prior, 'means', np.zeros(prior.event_shape))
    of_one = prior.parameters.get('distribution')
    standard = isinstance(of_one, tfp.distributions.Logistic) and (float(of_one.loc), float(of_one.scale)) == (0, 1)
    noise = prior.parameters.get('standard', 'logistic' if standard else prior.name)
    check('prior', noise, 'logistic, of mean 0 and scale 1', noise == 'logistic')
    if isinstance(self._logit, HistogramLogit):
      bins = self._logit.histograms.shape[-1]
      check('levels', levels, f'{bins}, as the histograms of the flow have', levels == bins)
    self._flow, self._levels, self._size = flow, levels, flow.event_shape.num_elements()
    self._means = np.reshape(means, (getattr(prior, 'classes', None) or 1, -1, self._size)).astype(np.float64)

  @property
  def start(self) -> np.ndarray:
    """The words with which the stack begins: random bits, for the noise of the first image."""
    return np.random.default_rng(0).integers(1, 2**32, self._size * _DEBT // 32, np.uint32)

  def compress(self, images: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
    """Turns grey levels `[n, height, width, channels]`, and labels `[n]` if the flow has classes, into 32-bit words.

    Raises:
      UsageError: If the images are not integers from 0 to `levels` - 1 of the flow's shape, there are none, or there is
        not a label for each of them if, and only if, the flow has classes.
    """
    kind = f'integers from 0 to {self._levels - 1} of shape (n, {", ".join(map(str, self._flow.event_shape))})'
    held = np.issubdtype(images.dtype, np.integer) and images.shape[1:] == tuple(self._flow.event_shape)
    held = held and len(images) > 0 and images.min() >= 0 and images.max() < self._levels
    check('images', f'{images.dtype} of shape {images.shape}', kind, held)
    classes = self._flow.classes
    found = None if labels is None else f'{len(labels)} from {np.min(labels)} to {np.max(labels)}'
    if classes is None:
      check('labels', found, 'None, as the flow has no classes', labels is None)
    else:
      held = labels is not None and len(labels) == len(images) and np.min(labels) >= 0 and np.max(labels) < classes
      check('labels', found, f'{len(images)} ints from 0 to {classes - 1}', held)
    stack, first = Stack(self.start), 0
    stack.push(0, _TOGETHER + 1)  # Here the decoder stops.
    while first < len(images):
      n = min(len(images) - first, self._together(stack))
      batch = slice(first, first + n)
      self._push(stack, images[batch], None if labels is None else labels[batch])
      stack.push(n, _TOGETHER + 1)
      first += n
    return stack.words

  def decompress(self, words: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the images and labels of which `compress` has made the words.

    Raises:
      UsageError: If these are not words of `compress` with the same flow on the same machine.
    """
    words, batches = np.asarray(words), []
    _check_words(words.dtype == np.uint32 and words.ndim == 1 and words.size > 0 and words[-1] > 0)
    stack = Stack(words)
    while n := int(stack.pop(_TOGETHER + 1)):
      batches.append(self._pop(stack, n))
      # Only the last batch of `compress` may be smaller. Other words could go on forever: an empty stack gives noise.
      _check_words(n == self._together(stack) or (n < self._together(stack) and len(batches) == 1))
    _check_words(batches and np.array_equal(stack.words, self.start))
    images, labels = zip(*batches[::-1], strict=True)
    return np.concatenate(images), None if self._flow.classes is None else np.concatenate(labels)

  def _together(self, stack):
    """Returns how many images pass at once: at first few, because their noise comes from the bits that are there."""
    return min(_TOGETHER, max(stack.bits // (self._size * _DEBT), 1))

  def _push(self, stack, images, labels):
    levels = images.reshape(-1, self._size).astype(np.int64)
    y = np.empty_like(levels)
    for pixels, edges in self._turns(levels, labels):
      y[:, pixels] = stack.pop_logistic(*_interval(edges, levels[:, pixels]), 0.0)
    z = self._through(stack, y, labels, to_noise=True)
    check('images', np.abs(z).max() * GRID, 'images whose noise is below 512', np.abs(z).max() < _FAR)
    component = stack.pop_choice(self._component_probs(z, labels))
    stack.push_logistic(z, np.full_like(z, -_FAR), np.full_like(z, _FAR), self._mean(component, labels))
    stack.push_choice(component, np.full((len(z), self._means.shape[1]), 1 / self._means.shape[1]))
    if labels is not None:
      stack.push_choice(labels, np.tile(self._flow.class_probs, (len(z), 1)))

  def _pop(self, stack, n):
    labels = stack.pop_choice(np.tile(self._flow.class_probs, (n, 1))) if self._flow.classes else None
    component = stack.pop_choice(np.full((n, self._means.shape[1]), 1 / self._means.shape[1]))
    ends = np.full((n, self._size), -_FAR), np.full((n, self._size), _FAR)
    z = stack.pop_logistic(*ends, self._mean(component, labels))
    stack.push_choice(component, self._component_probs(z, labels))
    y = self._through(stack, z, labels, to_noise=False)
    levels, turns = np.zeros_like(y), []
    for pixels, edges in self._turns(levels, labels):
      levels[:, pixels] = np.sum(edges <= y[:, pixels, np.newaxis], axis=-1) - 1
      _check_words(np.all((levels >= 0) & (levels < self._levels)))
      turns.append((pixels, *_interval(edges, levels[:, pixels])))
    for pixels, low, high in reversed(turns):
      stack.push_logistic(y[:, pixels], low, high, 0.0)
    return levels.reshape(n, *self._flow.event_shape).astype(np.uint8), labels

  def _turns(self, levels, labels) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields pixels and the edges of their levels, `[n, pixels, levels + 1]`, given the levels of pixels before."""
    if isinstance(self._logit, AlphaLogit):
      yield np.arange(self._size), self._edges(np.full((1, 1, self._levels), 1 / self._levels))
      return
    for turn in range(self._logit.turns):
      middles = (levels.reshape(-1, *self._flow.event_shape) + 0.5) / self._levels
      pixels, probs = self._logit.bin_probs(self._float(middles), turn, **self._condition(self._logit, labels))
      yield pixels, self._edges(probs.numpy().astype(np.float64))

  def _edges(self, probs):
    """Returns where on the grid the levels of these probabilities begin, and where the last one ends."""
    cumulative = np.cumsum(np.insert(probs + GRID / 2, 0, 0.0, axis=-1), axis=-1)  # No interval is empty.
    cumulative /= cumulative[..., -1:]
    alpha = self._logit.alpha
    return np.rint(logit(alpha + (1 - 2 * alpha) * cumulative) / GRID).astype(np.int64)

  def _through(self, stack, values, labels, to_noise):
    """Brings integers `[n, size]` from logits to noise, or back."""
    for part in self._parts if to_noise else reversed(self._parts):
      if isinstance(part, DiagonalScaling):
        log_scale = np.broadcast_to(np.reshape(part.log_scale(), -1), values.shape)
        values = _scale(stack, values, log_scale if to_noise else -log_scale)
      else:
        values = self._couple(stack, part, values, labels, to_noise)
    return values

  def _couple(self, stack, part, values, labels, to_noise):
    """Computes x = (y - t) exp(-s) on the way to noise, and y = x exp(s) + t on the way back."""
    kept, changed = part.mask.split(tf.reshape(values, (-1, *part.mask.event_shape)))
    bijector = part.inner_bijector(self._float(kept) * GRID, **self._condition(part, labels))
    zeros = tf.zeros_like(self._float(changed))
    shift, log_scale = bijector.forward(zeros), bijector.forward_log_det_jacobian(zeros, event_ndims=0)  # t and s
    own = part.mask.restrict(tf.ones(changed.shape[1:])).numpy() > 0  # The changed part may be as large as the event.
    shift = np.rint(shift.numpy()[:, own] / GRID).astype(np.int64)
    log_scale = np.broadcast_to(log_scale, changed.shape)[:, own]
    result = np.zeros(changed.shape, np.int64)
    if to_noise:
      result[:, own] = _scale(stack, changed.numpy()[:, own] - shift, -log_scale)
    else:
      result[:, own] = _scale(stack, changed.numpy()[:, own], log_scale) + shift
    return part.mask.merge(kept, result).numpy().reshape(-1, self._size)

  def _float(self, values):
    return tf.cast(values, self._flow.dtype)

  def _condition(self, part, labels):
    return {'condition': self._flow.seen_by_networks(labels)} if part.accepts_condition else {}

  def _class(self, labels):
    """Returns the class whose components an image may have, if the prior divides them among classes; otherwise 0."""
    return labels if len(self._means) > 1 else 0

  def _mean(self, component, labels):
    return self._means[self._class(labels), component]

  def _component_probs(self, z, labels):
    """Returns p(k | z, label), `[n, k]`."""
    classes, k, _ = self._means.shape
    if classes * k == 1:
      return np.ones((len(z), 1))
    probs = self._flow.distribution.component_probs(self._float(z.reshape(-1, *self._flow.event_shape)) * GRID)
    probs = probs.numpy().reshape(-1, classes, k)[np.arange(len(z)), self._class(labels)] + 1e-30
    return probs / probs.sum(axis=-1, keepdims=True)


def _check_words(hold):
  check('words', 'others', 'made by this flow on this machine', hold)


def _interval(edges, levels):
  """Returns the edges of the levels `[n, pixels]` of an image."""
  return tuple(np.take_along_axis(edges, levels[..., np.newaxis] + i, axis=-1)[..., 0] for i in (0, 1))


def _scale(stack, values, log_scale):
  """Multiplies integers j by exp(s), as a fraction m / n that is right to one part in 1,448 for s from -15 to 15.

  ```none
  v = m j + r,   r popped from 0, ..., m - 1        j' = floor(v / n),   v - n j' pushed, from 0, ..., n - 1
  ```

  The stack loses log2 m bits and gains log2 n. With -s, which has the fraction n / m, this undoes itself. Beyond 15, s
  counts as 15: the image still comes back, but takes more bits than promised.
  """
  if not np.any(log_scale):
    return values
  size = np.minimum(np.abs(log_scale).astype(np.float64), 15.0)
  n = 2 ** np.clip(10 - np.rint(size / np.log(2)), 1, 10).astype(np.int64)
  m = np.rint(n * np.exp(size)).astype(np.int64)
  m, n = np.where(log_scale > 0, m, n), np.where(log_scale > 0, n, m)
  values = m * values + stack.pop(m)
  stack.push(values % n, n)
  return values // n

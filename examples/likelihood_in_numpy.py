"""The log-likelihood of images under a Jet with histograms, written again in NumPy alone, to be read.

python examples/likelihood_in_numpy.py WEIGHTS.npz IMAGES.npz

WEIGHTS.npz comes from `bin/export RUN --format=npz`; RUN is a training with the variant `jet_one` of configs/mnist.py.
IMAGES.npz holds `images`, floats [n, 28, 28, 1]: x = (k + u) / 256 with grey levels k from 0 to 255 and noise u in
[0, 1). The log-likelihoods are compared with all further arrays of this file, [n]. docs/check.md shows how to write it.

A flow maps an image x to noise z of the same size, which has a known density p:

  log p(x) = log p(z) + log |det dz/dx|

n is the number of images, and H and W are their height and width. All numbers are float64.
"""

import itertools
import sys

import numpy as np

# What the weights do not tell.
ALPHA = 1e-7  # keeps logits finite
SCALE_BOUND = 2.0  # of the log-scales of couplings
DIAGONAL_BOUND = 10.0  # of the log-scales of the last step
EPSILON = 1e-3  # of all norms
LEAST_SHARE = 1e-3  # of its own probability, which a network leaves to a group of bins
BINS = 256
# The first bin of each group, and BINS: 6 groups of one bin, one of 2 bins, 60 of 4, one of 2, and 6 of one.
EDGES = np.array([*range(6), 6, *range(8, 248, 4), 248, *range(250, 257)])
GROUP = np.repeat(np.arange(len(EDGES) - 1), np.diff(EDGES))  # of each bin


def parts(weights, kind):
  """Returns the weights of the parts kind_0, kind_1 and so on, under their names within the part."""
  count = len({name.split('/')[0] for name in weights if name.startswith(f'{kind}_')})
  starts = [f'{kind}_{i}/' for i in range(count)]
  return [{name.removeprefix(start): weights[name] for name in weights if name.startswith(start)} for start in starts]


def log_prior(z):
  """log p(z), [n]. All numbers of the noise have a logistic distribution: sum of -z - 2 log(1 + exp(-z))."""
  return np.sum(-z - 2 * np.logaddexp(0, -z), axis=(1, 2))


def encode(x, weights):
  """Maps images to noise, [n, H, W], and returns log |det dz/dx|, [n], too. Steps: logits, couplings, factors."""
  y, log_det = to_logits(x, weights)
  for kept, part in couplings(weights):
    # Other pixels become (y - t) exp(-s). As t and s depend on the kept pixels alone, the Jacobian is triangular.
    shift, log_scale = shift_and_log_scale(kept * y, part)
    y = kept * y + (1 - kept) * (y - shift) * np.exp(-log_scale)
    log_det -= np.sum((1 - kept) * log_scale, axis=(1, 2))
  log_scale = log_factors(weights)
  return y * np.exp(log_scale), log_det + np.sum(log_scale)


def decode(z, weights):
  """Maps noise to images, [n, H, W]: the inverse of each step of `encode`, in reverse order."""
  y = z * np.exp(-log_factors(weights))
  for kept, part in reversed(couplings(weights)):
    shift, log_scale = shift_and_log_scale(kept * y, part)
    y = kept * y + (1 - kept) * (y * np.exp(log_scale) + shift)
  return from_logits(y, weights)


def log_factors(weights):
  """Logarithms of the factors of the last step, [H, W]: s = b tanh(v / b)."""
  return DIAGONAL_BOUND * np.tanh(weights['diagonal_scaling_0/log_scale'][..., 0] / DIAGONAL_BOUND)


# --- Couplings: a network sees some pixels, and shifts and scales the others. ---


def couplings(weights):
  """Returns for each coupling its mask [H, W], 1 for the pixels that it keeps and 0 for the others, and its weights.

  The complement of each mask follows, and after the fourth mask and its complement they begin again.
  """
  found = parts(weights, 'coupling')
  row, column = np.indices(weights['histogram_logit_0/histograms'].shape[:2])
  p = round(len(found[0]['mixer_conditioner_0/dense_0/kernel']) ** 0.5)  # the height and width of a patch
  masks = [(row + column) % 2, row % 2, (row // p + column // p) % 2, column % 2]  # two checkerboards, rows, columns
  masks = [mask for first in masks for mask in (first, 1 - first)]
  return list(zip(itertools.cycle(masks), found, strict=False))


def shift_and_log_scale(kept, w):
  """Returns t and s, [n, H, W]: t, h = mixer(kept),   s = b tanh((a tanh(h) + d) / b)."""
  shift, h = np.moveaxis(mixer(kept, *parts(w, 'mixer_conditioner')), -1, 0)
  return shift, SCALE_BOUND * np.tanh((w['scale'] * np.tanh(h) + w['offset']) / SCALE_BOUND)


def mixer(x, w):
  """An MLP-Mixer over patches of p x p pixels, of which there are P: images [n, H, W] to [n, H, W, 2].

  h = patches(x / 4) E + positions                                           [P, n, width]
  h = h + V' gelu(U' norm(h)),   h = h + gelu(norm(h) U) V   in each block; V' and U' mix patches, U and V features
  y = images(norm(h) F)                                                      each product also adds a bias
  """
  first, last = parts(w, 'dense')  # the kernel of the first one has the shape [p p, width]
  (n, height, width), p = x.shape, round(len(first['kernel']) ** 0.5)
  patches = x.reshape(n, height // p, p, width // p, p).transpose(1, 3, 0, 2, 4).reshape(-1, n, p * p)
  h = dense(patches / 4, first) + w['positions']
  for block in parts(w, 'mixer_block'):
    norms, (up, down) = parts(block, 'last_axis_normalization'), parts(block, 'dense')
    y = np.tensordot(block['patch_kernel_1'], norm(h, norms[0]), 1) + block['patch_bias_1'][..., np.newaxis]
    h = h + np.tensordot(block['patch_kernel_2'], gelu(y), 1) + block['patch_bias_2'][..., np.newaxis]
    h = h + dense(gelu(dense(norm(h, norms[1]), up)), down)
  y = dense(norm(h, parts(w, 'last_axis_normalization')[0]), last)  # [P, n, p p 2]
  return y.reshape(height // p, width // p, n, p, p, 2).transpose(2, 0, 3, 1, 4, 5).reshape(n, height, width, 2)


def dense(x, w):
  """x A + a over the last axis."""
  return x @ w['kernel'] + w['bias']


def norm(x, w):
  """Layer norm over the last axis: g (x - mean) / sqrt(variance + epsilon) + b."""
  x = x - x.mean(axis=-1, keepdims=True)
  return w['gamma'] * x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + EPSILON) + w['beta']


def gelu(x):
  """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2."""
  return x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2


# --- Logits: each pixel has a histogram P over 256 bins, and F is the integral of its density. ---
#   y = log f - log(1 - f),   f = alpha + (1 - 2 alpha) F(x)
#   log dy/dx = log(256 P_k) + log(1 - 2 alpha) - log f - log(1 - f),   where x is in bin k
# F goes on with slope 1 below 0 and above 1, so that each logit belongs to a pixel. A pixel further out, where f is not
# between 0 and 1, has no logit and the density 0. The histogram of a pixel depends on those pixels whose turn comes
# earlier. So the Jacobian is triangular again.


def to_logits(x, weights):
  """Returns the logits of images, [n, H, W], and the sums of log dy/dx, [n]; an image without one has the sum -inf."""
  inside = np.clip(x, 0, 1)
  k = np.minimum(np.floor(BINS * inside), BINS - 1).astype(int)
  probs = np.empty((*x.shape, BINS))
  for own, seen, network in turns(weights):
    probs[:, own] = histograms(k, own, seen, network, weights)
  prob, end = of_bin(probs, k), of_bin(np.cumsum(probs, axis=-1), k)
  f = ALPHA + (1 - 2 * ALPHA) * (end + prob * (BINS * inside - k - 1) + (x - inside))
  log_density = np.where(x == inside, np.log(BINS * prob), 0)
  has_logit = (f > 0) & (f < 1)
  f = np.where(has_logit, f, 0.5)
  log_slope = np.where(has_logit, log_density + np.log(1 - 2 * ALPHA) - np.log(f) - np.log(1 - f), -np.inf)
  return np.log(f) - np.log(1 - f), np.sum(log_slope, axis=(1, 2))


def from_logits(y, weights):
  """Returns the images [n, H, W] of logits. The pixels of each turn are found given the pixels before."""
  integral = (1 / (1 + np.exp(-y)) - ALPHA) / (1 - 2 * ALPHA)  # F
  inside = np.clip(integral, 0, 1)
  k, part = np.zeros(y.shape, int), np.empty(y.shape)
  for own, seen, network in turns(weights):
    probs = histograms(k, own, seen, network, weights)
    ends = np.cumsum(probs, axis=-1)
    k[:, own] = np.minimum(np.sum(ends <= inside[:, own][..., np.newaxis], axis=-1), BINS - 1)
    part[:, own] = 1 + (inside[:, own] - of_bin(ends, k[:, own])) / of_bin(probs, k[:, own])
  return (k + np.clip(part, 0, 1)) / BINS + (integral - inside)


def of_bin(values, k):
  """Returns the value of bin k: [..., BINS], [...] to [...]."""
  return np.take_along_axis(values, k[..., np.newaxis], axis=-1)[..., 0]


def turns(weights):
  """Returns the order of the pixels: for each turn the pixels `own` and `seen`, boolean [H, W], and its network.

  . 0 3 0    the number of the network of each pixel, of six. First come the pixels without a number, which have no
  1 2 1 2    network, then the last network and so on to network 0. A network sees the pixels of all earlier turns.
  4 0 5 0
  1 2 1 2
  """
  [w] = parts(weights, 'histogram_logit')
  left, found = np.ones(w['histograms'].shape[:2], bool), []
  for i, network in enumerate(parts(w, 'residual_conditioner')):
    (row, column), distance = ((0, 1), (1, 0), (1, 1))[i % 3], 2 ** (i // 3)
    own = np.zeros_like(left)
    own[row * distance :: 2 * distance, column * distance :: 2 * distance] = True
    left = left & ~own
    found.append((own, left, network))
  return [(left, None, None), *reversed(found)]


def histograms(k, own, seen, network, weights):
  """Returns the histograms of the `own` pixels, [n, pixels, BINS], given the bins k [n, H, W] of the `seen` ones.

  A pixel has a histogram h of its own. The network shares out the mass among groups of bins; Q_g is the sum of h there:

  P_g = (1 - e) softmax_g(log Q_g + network_g) + e Q_g,   P_b = h_b P_g / Q_g for the bins b of group g
  """
  h = weights['histogram_logit_0/histograms'][:, :, 0][own]  # [pixels, BINS]
  h = h / h.sum(axis=-1, keepdims=True)
  if network is None:
    return np.broadcast_to(h, (len(k), *h.shape))
  level = (k + 0.5) / BINS
  inputs = np.stack([4 * level - 2, np.log(level / (1 - level)) / 2], axis=-1) * seen[..., np.newaxis]
  q = np.add.reduceat(h, EDGES[:-1], axis=-1)  # [pixels, groups]
  odds = q * np.exp(residual_network(inputs, network)[:, own])
  p = (1 - LEAST_SHARE) * odds / odds.sum(axis=-1, keepdims=True) + LEAST_SHARE * q
  return h * (p / q)[..., GROUP]


def residual_network(x, w):
  """Convolutions over patches of p x p pixels, which become channels: [n, H, W, 2] to [n, H, W, groups].

  h = conv(patches(x)),   h = h + conv(relu(norm(conv(relu(norm(h)))))) in each block,   y = conv(relu(norm(h)))
  """
  [first], sequences = parts(w, 'weight_norm_conv2d'), parts(w, 'conditional_sequential')
  (n, height, width, _), p = x.shape, round((first['direction'].shape[2] / 2) ** 0.5)
  h = x.reshape(n, height // p, p, width // p, p, 2).transpose(0, 1, 3, 2, 4, 5)
  h = convolution(h.reshape(n, height // p, width // p, p * p * 2), first)
  for i, sequence in enumerate(sequences):
    y, norms, kernels = h, parts(sequence, 'last_axis_normalization'), parts(sequence, 'weight_norm_conv2d')
    for before, kernel in zip(norms, kernels, strict=True):
      y = convolution(np.maximum(norm(y, before), 0), kernel)
    h = h + y if i < len(sequences) - 1 else y
  return h.reshape(n, height // p, width // p, p, p, -1).transpose(0, 1, 3, 2, 4, 5).reshape(n, height, width, -1)


def convolution(x, w):
  """[n, H, W, c] to [n, H, W, d], with zeros around x. The kernel is g v / |v|, v [m, m, c, d], one norm for each d."""
  kernel = w['gain'] * w['direction'] / np.sqrt(np.sum(w['direction'] ** 2, axis=(0, 1, 2)) + 1e-12)
  (_, height, width, _), m = x.shape, len(kernel)
  x = np.pad(x, ((0, 0), (m // 2, m // 2), (m // 2, m // 2), (0, 0)))
  return w['bias'] + sum(x[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(m) for j in range(m))


def largest_difference(first, second):
  """Two infinities of one sign do not differ."""
  differ = first != second
  return np.max(np.abs(first[differ] - second[differ]), initial=0)


def main(weights_file, images_file):
  """Prints log-likelihoods, how far the other arrays of the file are from them, and the errors of both round trips."""
  weights = {name: array.astype(np.float64) for name, array in np.load(weights_file).items()}
  others = dict(np.load(images_file))
  x = others.pop('images')[..., 0].astype(np.float64)
  z, log_det = encode(x, weights)
  nats = log_prior(z) + log_det
  bits = np.log2(BINS) - nats.mean() / (x[0].size * np.log(2))
  print(f'log p(x) of {len(x)} images: mean {nats.mean():.4f} nats, {bits:.5f} bits/dim')
  for name, theirs in others.items():
    print(f'{name}: mean {theirs.mean():.4f} nats, differs by up to {largest_difference(theirs, nats):.1e}')
  inside = nats > -np.inf
  print(f'image, noise, image: differs by up to {largest_difference(decode(z[inside], weights), x[inside]):.1e}')
  noise = np.random.default_rng(0).logistic(size=(10, *x.shape[1:]))
  back, _ = encode(decode(noise, weights), weights)
  print(f'noise, image, noise: differs by up to {largest_difference(back, noise):.1e}')


if __name__ == '__main__':
  main(*sys.argv[1:])

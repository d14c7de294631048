"""A critic that judges frozen features of a classifier, and pixels: a plug-in for `bin/train`.

python examples/projected_critic.py features.npz --dataset=cifar10 --flip
bin/train --config=configs/cifar10.py:jet --workdir=runs/cifar10-jet
PYTHONPATH=examples bin/train --config=configs/cifar10.py:jet_hybrid --divergence=projected_critic:HINGE \
  --config.critic=projected_critic:projected_critic --config.projected_critic.features=$PWD/features.npz \
  --config.gradient_penalty=0 --workdir=runs/cifar10-projected

The first command trains the classifier, which sees the labels. It must not be the one that scores the samples. A run
needs its file again when it resumes. `docs/results/cifar-10.md` shows what the critic does to a hybrid.

It follows Projected GAN [1]. Frozen random convolutions mix the features of three scales, and each scale has a head
with an output of its own; a fourth head sees the pixels. Unlike there, the features come from a small classifier of the
same data, the heads have layer norms, and the hinge loss is the mean over heads instead of the sum. Spectral norms [2]
take the place of a gradient penalty. All heads see images that are changed in a way that does not tell images from
samples, after DiffAugment [3].

[1]: Axel Sauer, Kashyap Chitta, Jens Müller, Andreas Geiger. Projected GANs Converge Faster. NeurIPS 2021.
[2]: Takeru Miyato, Toshiki Kataoka, Masanori Koyama, Yuichi Yoshida. Spectral Normalization for Generative Adversarial
     Networks. ICLR 2018.
[3]: Shengyu Zhao, Zhijian Liu, Ji Lin, Jun-Yan Zhu, Song Han. Differentiable Augmentation for Data-Efficient GAN
     Training. NeurIPS 2020.
"""

import pathlib

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import flowgan_tf as fg
from flowgan_tf import networks
from flowgan_tf.base.errors import UsageError, check


def _hinge_loss(real, fake):
  real, fake = tf.cast(real, tf.float32), tf.cast(fake, tf.float32)
  return tf.reduce_mean(tf.nn.relu(1 - real)) + tf.reduce_mean(tf.nn.relu(1 + fake))


#: Its value is the total variation between data and model, times two, for the best critic.
HINGE = fg.objectives.Divergence(
  name='hinge',
  critic_loss=_hinge_loss,
  generator_loss=lambda real, fake: -tf.reduce_mean(tf.cast(fake, tf.float32)),
  value=lambda real, fake: 2 - _hinge_loss(real, fake),
)


class SpectralConv2D(keras.layers.Conv2D):
  """A convolution whose kernel, as a matrix with a row for each input, has a largest singular value of about 1."""

  def convolution_op(self, inputs, kernel):
    matrix = tf.reshape(tf.cast(kernel, tf.float32), (-1, self.filters))
    gram = tf.stop_gradient(tf.matmul(matrix, matrix, transpose_a=True))
    # The power method finds the singular vector anew each time, so that the layer has no state.
    vector = tf.constant(np.random.default_rng(0).normal(size=(self.filters, 1)), tf.float32)
    for _ in range(8):
      vector = tf.math.l2_normalize(gram @ vector)
    normed = tf.reshape(matrix / tf.norm(matrix @ vector), kernel.shape)
    return super().convolution_op(inputs, tf.cast(normed, kernel.dtype))


class Augment(keras.layers.Layer):
  """Changes the brightness, saturation and contrast of each image in [0, 1], shifts it, and puts a hole into it.

  A hash of its pixels chooses the changes. So the critic's output for an image does not depend on the other images of
  its batch, and a training that is resumed repeats itself.
  """

  def call(self, images):
    x = tf.cast(images, tf.float32)
    pixels = tf.stop_gradient(tf.cast(tf.reshape(x, (-1, np.prod(x.shape[1:]))), tf.float64))
    # In float32, the rounding of a product depends on the size of the batch.
    directions = tf.constant(np.random.default_rng(0).normal(size=(pixels.shape[-1], 7)))
    chosen = tf.cast(tf.math.floormod(100 * (pixels @ directions), 1.0), tf.float32)
    colours, places = tf.split(chosen[:, tf.newaxis, tf.newaxis, :], (3, 4), axis=-1)
    x = recoloured(x, *tf.split(colours, 3, axis=-1))
    places = tf.split(places[:, 0, 0, :], 4, axis=-1)
    return with_hole(shifted(x, *places[:2]), *places[2:])


def recoloured(x, brightness, saturation, contrast):
  """Changes colours by numbers in [0, 1], `[n, 1, 1, 1]`, of which 0.5 means no change."""
  x += (brightness - 0.5) / 2
  grey = tf.reduce_mean(x, axis=3, keepdims=True)
  x = grey + 2 * saturation * (x - grey)
  mean = tf.reduce_mean(x, axis=(1, 2, 3), keepdims=True)
  return mean + (contrast + 0.5) * (x - mean)


def shifted(x, down, right):
  """Shifts each image by up to an eighth of its size, by numbers in [0, 1], `[n, 1]`; zeros come in."""
  for axis, place in ((1, down), (2, right)):
    most = x.shape[axis] // 8
    padding = [(0, 0)] * 4
    padding[axis] = (most, most)
    # The place of an image that is not finite is no number.
    first = tf.clip_by_value(tf.cast(place * (2 * most + 1), tf.int32), 0, 2 * most)
    x = tf.gather(tf.pad(x, padding), first + tf.range(x.shape[axis]), axis=axis, batch_dims=1)
  return x


def with_hole(x, row, column):
  """Sets a square, about a third of an image wide, to zero, at places in [0, 1], `[n, 1]`."""
  inside = []
  for axis, place in ((1, row), (2, column)):
    size = x.shape[axis]
    inside.append(tf.abs(tf.range(size, dtype=tf.float32) - tf.floor(place * size)) < 3 * size / 16)
  hole = inside[0][:, :, tf.newaxis, tf.newaxis] & inside[1][:, tf.newaxis, :, tf.newaxis]
  return tf.where(hole, 0.0, x)


def classifier(image_shape, classes, dtype='float32'):
  """A convolutional classifier; the layers `fine`, `middle` and `coarse` have the features."""

  def convolution(x, filters, name=None):
    x = keras.layers.Conv2D(filters, 3, padding='same', use_bias=False, kernel_initializer='he_normal', dtype=dtype)(x)
    x = keras.layers.BatchNormalization(momentum=0.9, dtype=dtype)(x)
    return keras.layers.LeakyReLU(0.1, name=name, dtype=dtype)(x)

  def halve(x):
    return keras.layers.AveragePooling2D(2, dtype=dtype)(x)

  images = keras.Input(image_shape, dtype='float32')
  x = keras.layers.Rescaling(4.0, -2.0, dtype=dtype)(images)
  x = convolution(halve(convolution(convolution(x, 32), 48)), 96, 'fine')
  x = convolution(halve(convolution(x, 96)), 160, 'middle')
  x = convolution(halve(convolution(x, 160)), 256, 'coarse')
  x = keras.layers.GlobalAveragePooling2D(dtype=dtype)(x)
  return keras.Model(images, keras.layers.Dense(classes, dtype='float32')(x))


def frozen_features(path, image_shape, dtype):
  """Returns a model of images that gives the features of three scales.

  Raises:
    UsageError: If there is no such file, or if it is for other images.
  """
  try:
    with np.load(path) as file:
      shape, *weights = file.values()
  except Exception:  # What a damaged file raises depends on where the damage is.
    shape, weights = (), []
  expected = f'a file that projected_critic.py wrote for images of shape {tuple(image_shape)}'
  check('features', path, expected, np.array_equal(shape, image_shape))
  model = classifier(image_shape, len(weights[-1]), dtype)
  model.set_weights(weights)
  model.trainable = False
  return keras.Model(model.inputs, [model.get_layer(name).output for name in ('fine', 'middle', 'coarse')])


def output(x, conditions, dtype):
  """One number for each image: the mean over places, and a projection of the condition if there is one."""
  layers = keras.layers
  pool = layers.GlobalAveragePooling2D(dtype='float32')
  numbers = [pool(SpectralConv2D(1, 3, padding='same', dtype=dtype)(x))]
  for condition in conditions:
    initializer = keras.initializers.RandomNormal(stddev=0.02)
    embedded = layers.Dense(x.shape[-1], use_bias=False, kernel_initializer=initializer, dtype='float32')(condition)
    numbers.append(layers.Dot(axes=-1, dtype='float32')([pool(x), embedded]))
  return layers.Add(dtype='float32')(numbers) if conditions else numbers[0]


def projected_critic(
  image_shape, *, features='features.npz', augment=True, width=64, condition_shape=None, dtype='float32'
):
  """Builds the critic: it maps images, or images and conditions, to four numbers for each image.

  Args:
    image_shape: `(height, width, channels)`, at least 8 x 8 pixels.
    features: File that this script wrote.
    augment: Whether the critic sees changed images.
    width: Channels of the first convolution of pixels; the heads of features have twice as many.
    condition_shape: `(d,)`, such as of one-hot labels, which each head sees by a projection, or None.
    dtype: Name of a Keras dtype policy.

  Raises:
    UsageError: If the file of features does not fit, or a condition is an image.
  """
  check('condition', condition_shape, 'labels or vectors for this critic', len(condition_shape or ()) < 2)
  layers = keras.layers
  images, inputs = keras.Input(image_shape, dtype='float32'), []
  if condition_shape is not None:
    inputs = [keras.Input(condition_shape, dtype='float32')]
  seen = Augment(dtype='float32')(images) if augment else images
  fine, middle, coarse = frozen_features(features, image_shape, dtype)(seen, training=False)
  seeds = iter(range(1, 7))

  def mix(x, filters, size):
    initializer = keras.initializers.HeNormal(next(seeds))
    kind = {'padding': 'same', 'use_bias': False, 'trainable': False, 'dtype': dtype}
    return layers.Conv2D(filters, size, kernel_initializer=initializer, **kind)(x)

  def add(x, y):
    return layers.Add(dtype=dtype)([x, layers.Resizing(*x.shape[1:3], interpolation='bilinear', dtype=dtype)(y)])

  def norm(x):
    return networks.ImageNormalization(dtype=dtype)(x)

  def rectify(x):
    return layers.LeakyReLU(0.2, dtype=dtype)(x)

  def convolve(x, filters, size, strides=1):
    return SpectralConv2D(filters, size, strides=strides, padding='same', dtype=dtype)(x)

  def head(x):
    x = norm(x)
    while x.shape[1] > 4:
      x = rectify(norm(convolve(x, 2 * width, 4, strides=2)))
    return output(rectify(norm(convolve(x, 2 * width, 3))), inputs, dtype)

  coarse = mix(coarse, 128, 1)
  middle = mix(add(mix(middle, 128, 1), coarse), 128, 3)
  fine = mix(add(mix(fine, 64, 1), mix(middle, 64, 1)), 64, 3)
  pixels = rectify(convolve(seen, width, 5, strides=2))
  for filters in (2 * width, 4 * width):
    pixels = rectify(norm(convolve(pixels, filters, 5, strides=2)))
  outputs = layers.Concatenate(dtype='float32')([*map(head, (fine, middle, coarse)), output(pixels, inputs, dtype)])
  return keras.Model([images, *inputs] if inputs else images, outputs, name='projected_critic')


def train_classifier(dataset, n, flip):
  """Trains the classifier on n images, which are moved by up to an eighth of their size; returns the model."""
  condition = fg.data.make_condition('label', dataset)
  shape, classes, steps = dataset.train.images.shape[1:], dataset.num_classes, n // 1280 * 10
  keras.utils.set_random_seed(101)
  model = classifier(shape, classes, 'mixed_bfloat16')
  rate = keras.optimizers.schedules.CosineDecay(1e-4, steps - steps // 5, warmup_target=3e-3, warmup_steps=steps // 5)
  optimizer = keras.optimizers.AdamW(rate, weight_decay=0.02, beta_2=0.99)
  loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
  model.compile(optimizer, loss, metrics=['accuracy'])
  batches = fg.data.training_batches(
    dataset.train, dataset.levels, batch_size=128, seed=7, flip=flip, condition=condition, shift=shape[0] // 8
  )
  batches = batches.map(lambda batch: (batch.images, tf.one_hot(batch.condition, classes)))
  model.fit(batches, epochs=10, steps_per_epoch=steps // 10, verbose=2)
  return model


def main(argv):
  """Writes the shape of an image and the weights of a classifier, and prints its accuracy."""
  if len(argv) != 2 or not pathlib.Path(argv[1]).resolve().parent.is_dir():
    raise app.UsageError('projected_critic.py FEATURES.npz --dataset=NAME, in a folder that exists')
  try:
    dataset = fg.data.load(FLAGS.dataset, FLAGS.data_dir)
    model = train_classifier(dataset, FLAGS.images, FLAGS.flip)
  except UsageError as error:
    raise app.UsageError(str(error)) from error
  images = np.concatenate(list(fg.data.dequantized_chunks(dataset.test.images, dataset.levels, 0, 500)))
  accuracy = np.mean(model.predict(images, batch_size=500, verbose=0).argmax(axis=1) == dataset.test.labels)
  with open(argv[1], 'wb') as file:
    np.savez(file, dataset.train.images.shape[1:], *model.get_weights())
  print(f'{argv[1]}: {accuracy:.1%} of {len(images):,} test images have the right label.')


if __name__ == '__main__':  # As a plug-in it has no flags.
  FLAGS = flags.FLAGS
  flags.DEFINE_string('dataset', 'cifar10', 'Name of the data set.')
  flags.DEFINE_string('data_dir', None, 'Folder of prepared TFDS data sets.')
  flags.DEFINE_bool('flip', False, 'Whether to mirror images at random.')
  flags.DEFINE_integer('images', 250_000, 'Number of images that the classifier sees.', lower_bound=1280)
  app.run(main)

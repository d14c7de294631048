"""A critic with one output for each patch of an image: a plug-in for `bin/train`.

PYTHONPATH=examples bin/train --config=configs/mnist.py:jet_one_long --config.critic=patch_critic:patch_critic

Its residual blocks follow R3GAN [1], without groups: they have no norms, and the last kernel of each starts at zero.
The numbers of all patches [2] are outputs of an image, beside one number for the whole of
it; a loss takes the mean over them. The critic sees images that are changed as by DiffAugment [3], real ones as well as
samples.

[1]: Yiwen Huang, Aaron Gokaslan, Volodymyr Kuleshov, James Tompkin. The GAN is dead; long live the GAN! A Modern
     Baseline GAN. NeurIPS 2024.
[2]: Phillip Isola, Jun-Yan Zhu, Tinghui Zhou, Alexei Efros. Image-to-Image Translation with Conditional Adversarial
     Networks. CVPR 2017.
[3]: Shengyu Zhao, Zhijian Liu, Ji Lin, Jun-Yan Zhu, Song Han. Differentiable Augmentation for Data-Efficient GAN
     Training. NeurIPS 2020.
"""

import keras
from projected_critic import Augment


def patch_critic(image_shape, *, augment=True, widths=(64, 128, 256), blocks=1, condition_shape=None, dtype='float32'):
  """Builds the critic: it maps images `[n, height, width, channels]` to `[n, patches + 1]` numbers.

  Args:
    image_shape: `(height, width, channels)`.
    augment: Whether the critic sees changed images.
    widths: Channels at each resolution; each is half of the one before.
    blocks: Residual blocks at each resolution.
    condition_shape: Must be None.
    dtype: Name of a Keras dtype policy.

  Raises:
    ValueError: If there is a condition.
  """
  if condition_shape is not None:
    raise ValueError('patch_critic takes no conditions')
  layers = keras.layers

  def convolve(x, filters, size, first='he_normal'):
    return layers.Conv2D(filters, size, padding='same', kernel_initializer=first, dtype=dtype)(x)

  def rectify(x):
    return layers.LeakyReLU(0.2, dtype=dtype)(x)

  def block(x):
    y = rectify(convolve(rectify(x), x.shape[-1], 3))
    return layers.Add(dtype=dtype)([x, convolve(y, x.shape[-1], 3, first='zeros')])

  images = keras.Input(image_shape, dtype='float32')
  x = Augment(dtype='float32')(images) if augment else images
  x = convolve(layers.Rescaling(4.0, -2.0, dtype='float32')(x), widths[0], 3)
  for n, width in enumerate(widths):
    if n:
      x = convolve(layers.AveragePooling2D(2, dtype=dtype)(x), width, 1)
    for _ in range(blocks):
      x = block(x)
  x = rectify(x)
  patches = layers.Flatten(dtype='float32')(convolve(x, 1, 1))
  whole = layers.Dense(1, dtype='float32')(layers.Flatten(dtype='float32')(convolve(x, 16, 1)))
  return keras.Model(images, layers.Concatenate(dtype='float32')([patches, whole]), name='patch_critic')

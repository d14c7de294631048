"""What must hold for every Keras layer and model of `networks`: Keras knows it, and saves and loads it."""

import functools
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf import networks
from flowgan_tf.networks import KerasModule, dense_conditioner
from flowgan_tf.objectives import dcgan_critic

PATCHES = {'output_channels': 5, 'patch_size': 2, 'width': 6, 'blocks': 2}

# Every argument of each layer's constructor but `dtype`, with a value that is not the default.
LAYERS = {
  networks.GuardedBatchNormalization: {'momentum': 0.9, 'epsilon': 0.2},
  networks.ImageNormalization: {'epsilon': 0.2},
  networks.LastAxisNormalization: {'epsilon': 0.2},
  networks.ScalarBatchNormalization: {'momentum': 0.8, 'epsilon': 0.2},
  networks.PaperConditioner: {'output_channels': 6, 'channels': 4, 'blocks': 2},
  networks.WeightNormConv2D: {
    'filters': 5,
    'kernel_size': 3,
    'gain_initializer': keras.initializers.Constant(0.5),
    'direction_initializer': 'glorot_uniform',
  },
  networks.ResidualConditioner: {
    'output_channels': 5,
    'channels': 4,
    'blocks': 2,
    'normalization': 'scalar_batch',
    'patch_size': 2,
  },
  networks.MixerConditioner: PATCHES | {'patch_units': 3, 'hidden_units': 5},
  networks.TransformerConditioner: PATCHES | {'heads': 3, 'hidden_units': 5},
}
HALF = 'mixed_bfloat16'

# name: (function that makes a model, shape of its input).
MODELS = {
  'dense': (lambda: dense_conditioner(3, 8, 2, 'batch', HALF), (6,)),
  'critic': (lambda: dcgan_critic((8, 8, 2), channels=(3,), dense_units=5, layer_norm=True, dtype=HALF), (8, 8, 2)),
}


def of_layer(kind):
  return keras.Sequential([kind(**LAYERS[kind], dtype=HALF), keras.layers.Flatten(dtype=HALF)])


MODELS |= {kind.__name__: (functools.partial(of_layer, kind), (4, 4, 3)) for kind in LAYERS}


@pytest.mark.parametrize('name', MODELS)
def test_each_model_and_a_model_with_each_layer_is_saved_and_loaded(name, tmp_path):
  build, shape = MODELS[name]
  model, rng = build(), np.random.default_rng(0)
  # A conditioner learns the shape of its input from the coupling that holds it.
  KerasModule(model, shape)
  for variable in model.variables:
    variable.assign(variable.numpy() + rng.uniform(0.1, 0.5, variable.shape))
  model.save(tmp_path / 'model.keras')
  with warnings.catch_warnings():
    # Keras says of some weights that it could not restore only in a warning.
    warnings.simplefilter('error', UserWarning)
    loaded = keras.saving.load_model(tmp_path / 'model.keras')
  assert loaded.built and loaded.input_shape == model.input_shape == (None, *shape)
  x = rng.normal(size=(5, *shape)).astype(np.float32)
  for training in (False, True):
    expected = model(x, training=training)
    assert expected.dtype == loaded(x, training=training).dtype
    assert np.std(tf.cast(expected, tf.float32)) > 1e-3
    # That call has moved the statistics of both.
    for a, b in zip(loaded.variables, model.variables, strict=True):
      np.testing.assert_array_equal(a.numpy(), b.numpy())
    np.testing.assert_array_equal(loaded(x), model(x))

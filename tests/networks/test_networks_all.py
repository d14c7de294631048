"""What must hold for every Keras layer and model of `networks`: Keras knows it, and saves and loads it."""

import importlib
import inspect
import pkgutil
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf import networks
from flowgan_tf.networks import KerasModule, dcgan_critic, dense_conditioner
from flowgan_tf.networks.mixer import MixerBlock, MixerConditioner
from flowgan_tf.networks.normalization import (
  GuardedBatchNormalization,
  ImageNormalization,
  LastAxisNormalization,
  ScalarBatchNormalization,
)
from flowgan_tf.networks.resnet import PaperConditioner, ResidualConditioner, WeightNormConv2D
from flowgan_tf.networks.transformer import TransformerBlock, TransformerConditioner

IMAGE = (4, 4, 3)

PATCHES = {'output_channels': 5, 'patch_size': 2, 'width': 6, 'blocks': 2}

# Every argument of each layer's constructor but `dtype`, with a value that is not the default.
LAYERS = {
  GuardedBatchNormalization: {'momentum': 0.9, 'epsilon': 0.2},
  ImageNormalization: {'epsilon': 0.2},
  LastAxisNormalization: {'epsilon': 0.2},
  ScalarBatchNormalization: {'momentum': 0.8, 'epsilon': 0.2},
  PaperConditioner: {'output_channels': 6, 'channels': 4, 'blocks': 2},
  WeightNormConv2D: {
    'filters': 5,
    'kernel_size': 3,
    'gain_initializer': keras.initializers.Constant(0.5),
    'direction_initializer': 'glorot_uniform',
  },
  ResidualConditioner: {'output_channels': 5, 'channels': 4, 'blocks': 2, 'normalization': 'scalar_batch'},
  MixerBlock: {'patch_units': 3, 'hidden_units': 5},
  MixerConditioner: PATCHES | {'patch_units': 3, 'hidden_units': 5},
  TransformerBlock: {'heads': 3, 'hidden_units': 5},
  TransformerConditioner: PATCHES | {'heads': 3, 'hidden_units': 5},
}
BASES = 'PatchConditioner', '_WithEpsilon'
# Layers of images. The others take `[patches, batch, width]` and are saved inside of these.
OUTER = [layer_class for layer_class in LAYERS if layer_class not in (MixerBlock, TransformerBlock)]

# name: (function from dtype to a model, shape of its input).
MODELS = {
  'dense': (lambda dtype: dense_conditioner(3, 8, 2, 'batch', dtype), (6,)),
  'critic': (
    lambda dtype: dcgan_critic((8, 8, 2), channels=(3, 4), dense_units=5, layer_norm=True, dtype=dtype),
    (8, 8, 2),
  ),
}


def test_every_layer_of_the_package_is_tested_here():
  modules = [importlib.import_module(f'{networks.__name__}.{m.name}') for m in pkgutil.iter_modules(networks.__path__)]
  layers = {
    member
    for module in modules
    for name, member in inspect.getmembers(module, inspect.isclass)
    if issubclass(member, keras.Layer) and member.__module__ == module.__name__ and name not in BASES
  }
  assert layers == set(LAYERS)


@pytest.mark.parametrize('layer_class', LAYERS, ids=lambda layer_class: layer_class.__name__)
def test_the_configuration_is_complete_and_survives(layer_class):
  assert keras.saving.get_registered_name(layer_class) == f'flowgan_tf>{layer_class.__name__}'
  layer = layer_class(**LAYERS[layer_class], dtype='mixed_bfloat16')
  config = layer.get_config()
  copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
  assert type(copy) is layer_class and copy.dtype_policy.name == 'mixed_bfloat16'
  assert copy.get_config() == config

  # A lost value is noticed above only if it is not the default.
  parameters = inspect.signature(layer_class.__init__).parameters
  if '__init__' in vars(layer_class):
    assert {*parameters} - {'self', 'kwargs', 'dtype'} == {*LAYERS[layer_class]}
  required = {
    key: value for key, value in LAYERS[layer_class].items() if parameters[key].default is inspect.Parameter.empty
  }
  default = layer_class(**required).get_config()
  for key in {*LAYERS[layer_class]} - {*required}:
    assert config[key] != default[key]


def randomised(model):
  """A model with no weight and no statistic left at its initial value."""
  rng = np.random.default_rng(0)
  for variable in model.variables:
    variable.assign(variable.numpy() + rng.uniform(0.1, 0.5, variable.shape))
  return model


def saved_and_loaded(model, path):
  model.save(path)
  with warnings.catch_warnings():
    # Keras says of some weights that it could not restore only in a warning.
    warnings.simplefilter('error', UserWarning)
    return keras.saving.load_model(path)


def assert_same(loaded, model, inputs):
  assert type(loaded) is type(model)
  assert loaded.built and loaded.input_shape == model.input_shape == (None, *inputs.shape[1:])
  assert [v.name for v in loaded.variables] == [v.name for v in model.variables]
  for training in (False, True):
    expected = model(inputs, training=training)
    assert expected.dtype == loaded(inputs, training=training).dtype
    assert np.std(tf.cast(expected, tf.float32)) > 1e-3
    # That call has moved the statistics of both.
    for a, b in zip(loaded.variables, model.variables, strict=True):
      np.testing.assert_array_equal(a.numpy(), b.numpy())
    np.testing.assert_array_equal(loaded(inputs), model(inputs))


@pytest.mark.parametrize('layer_class', OUTER, ids=lambda layer_class: layer_class.__name__)
def test_a_model_with_the_layer_is_saved_and_loaded(layer_class, tmp_path):
  x = np.random.default_rng(1).normal(size=(5, *IMAGE)).astype(np.float32)
  layer = layer_class(**LAYERS[layer_class], dtype='mixed_bfloat16')
  model = keras.Sequential([keras.layers.Input(IMAGE), layer, keras.layers.Flatten(dtype='mixed_bfloat16')])
  loaded = saved_and_loaded(randomised(model), tmp_path / 'model.keras')
  assert type(loaded.layers[0]) is layer_class
  assert_same(loaded, model, x)


@pytest.mark.parametrize('name', MODELS)
def test_each_model_is_saved_and_loaded(name, tmp_path):
  build, shape = MODELS[name]
  model = build('mixed_bfloat16')
  # A conditioner learns the shape of its input from the coupling that holds it.
  KerasModule(model, shape)
  x = np.random.default_rng(1).normal(size=(5, *shape)).astype(np.float32)
  assert_same(saved_and_loaded(randomised(model), tmp_path / 'model.keras'), model, x)

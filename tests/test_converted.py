"""A SavedModel that was converted for another runtime computes there what the flow computes."""

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.export import write_saved_model
from tests.export.test_saved_model import make_flow, make_images

pytestmark = pytest.mark.slow


def litert(folder, name):
  runtime = pytest.importorskip('ai_edge_litert.interpreter')
  converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=[name])
  runner = runtime.Interpreter(model_content=converter.convert()).get_signature_runner(name)
  return lambda **inputs: next(iter(runner(**inputs).values()))


def onnx(folder, name):
  runtime = pytest.importorskip('onnxruntime')
  pytest.importorskip('tf2onnx')
  from examples.to_onnx import to_onnx

  to_onnx(folder, name, folder / f'{name}.onnx')
  session = runtime.InferenceSession(folder / f'{name}.onnx')
  return lambda **inputs: session.run(None, inputs)[0]


FLOWS = {
  'nice': ('nice', {'normalization': 'layer'}),
  'labels': ('nice', {'classes': 3, 'components': 6}),
  'histograms': ('nice', {'histogram_bins': 5}),
  'networks': (
    'jet',
    {'histogram_bins': 5, 'histogram_networks': 2, 'histogram_channels': 4, 'histogram_blocks': 1},
  ),
  'jet': ('jet', {}),
  'real_nvp': ('real_nvp', {}),
}


@pytest.fixture(scope='module', params=FLOWS)
def exported(request, tmp_path_factory):
  name, arguments = FLOWS[request.param]
  flow, folder = make_flow(name, **arguments), tmp_path_factory.mktemp(request.param)
  write_saved_model(flow, folder)
  return flow, folder


@pytest.mark.parametrize('convert', [litert, onnx])
def test_another_runtime_computes_what_the_flow_computes(convert, exported):
  flow, folder = exported
  log_prob, decode = convert(folder, 'log_prob'), convert(folder, 'decode')
  for n in (1, 3):
    images, condition, given = make_images(flow, n), None, {}
    if flow.classes is not None:
      condition = np.arange(n, dtype=np.int32) % flow.classes
      given = {'label': condition}
    expected = flow.log_prob(images, condition=condition)
    np.testing.assert_allclose(log_prob(images=images, **given), expected, atol=1e-4)
    noise = np.random.default_rng(n).normal(size=images.shape).astype(np.float32)
    np.testing.assert_allclose(decode(noise=noise, **given), flow.decode(noise, condition=condition), atol=1e-4)


@pytest.mark.parametrize('convert', [litert, onnx])
@pytest.mark.parametrize('exported', ['nice'], indirect=True)
def test_no_runtime_has_the_random_numbers_of_tensorflow(convert, exported):
  """Once this fails, docs/serving.md can drop what it says of `sample`."""
  with pytest.raises(Exception, match='StatelessRandomGetKeyCounter'):
    convert(exported[1], 'sample')

import dataclasses
import gc
import json
import shutil
import weakref

import numpy as np
import pytest

from flowgan_tf.errors import UsageError
from flowgan_tf.runs.run import load_run
from flowgan_tf.study import apply as module
from flowgan_tf.study.analyses import ANALYSES
from flowgan_tf.study.summary import read_studies

FEW = {'kde': {'samples': 20}, 'jacobian': {'noise_vectors': 2}, 'outliers': {'images': 10}}


@pytest.fixture
def run(workdir, tmp_path):
  return shutil.copytree(workdir, tmp_path / 'run')


@pytest.mark.parametrize('what', ['kde', 'jacobian', 'outliers'])  # tests of `analyze` look at the others, too
def test_what_is_found_is_kept(run, what):
  study = module.analyze(run, what, checkpoint='latest', seed=3, **FEW[what])
  kept = read_studies(run)[what]
  assert kept.record == study.record == json.loads(json.dumps(study.record))
  assert kept.arrays.keys() == study.arrays.keys()
  for name in kept.arrays:
    np.testing.assert_array_equal(kept.arrays[name], study.arrays[name])
  assert (kept.record['what'], kept.record['checkpoint'], kept.record['step']) == (what, 'latest', 4)
  assert kept.record['settings'] == dataclasses.asdict(ANALYSES[what].Settings(seed=3, **FEW[what]))
  assert kept.record['seconds'] >= 0


def test_a_run_is_loaded_once_for_several_analyses(run, monkeypatch):
  loaded = []
  monkeypatch.setattr(module, 'load_run', lambda *arguments: loaded.append(load_run(*arguments)) or loaded[-1])
  with module.studying(run) as apply:
    for what in ('kde', 'jacobian'):
      # By default the best by score, as in the paper's Table 3.
      assert apply(what, **FEW[what]).record['checkpoint'] == 'best_score'
  assert len(loaded) == 1


def test_a_studied_run_leaves_no_generator_behind(run, monkeypatch):
  """TFP's caches would keep it, and the graphs in which it was called."""
  kept = []

  def load(*arguments):
    loaded = load_run(*arguments)
    kept.append([weakref.ref(variable) for variable in loaded.generator.variables])
    return loaded

  monkeypatch.setattr(module, 'load_run', load)
  for what in FEW:
    module.analyze(run, what, **FEW[what])
  gc.collect()
  assert len(kept) == len(FEW)
  assert [w for w, variables in zip(FEW, kept, strict=True) if any(v() is not None for v in variables)] == []


def test_mistakes_leave_no_file(run, workdir):
  with pytest.raises(UsageError, match=r"`what` must be one of kde, ais, .*\. Got: 'guess'"):
    module.analyze(run, 'guess')
  with pytest.raises(UsageError, match='`samples` must be'):
    module.analyze(run, 'kde', samples=3)
  with pytest.raises(
    UsageError, match=r'^`noise_vectors` must be left out, as kde has only the settings seed, samples\. Got: 3\.$'
  ):
    module.analyze(run, 'kde', noise_vectors=3)
  with pytest.raises(UsageError, match='no such folder'):
    module.analyze(run / 'missing', 'kde')
  assert not (run / 'analysis').exists()


def test_a_folder_that_cannot_be_written_is_found_before_the_work(run, monkeypatch):
  (run / 'analysis').write_text('a file')
  monkeypatch.setattr(type(ANALYSES['kde']), 'measure', lambda *_: pytest.fail('measured in vain'))
  with pytest.raises(UsageError, match='analysis: cannot be written'):
    module.analyze(run, 'kde', **FEW['kde'])


def test_an_estimators_own_complaint_names_the_run_and_no_flag(run, monkeypatch):
  def measure(*_):
    raise ValueError('`images` must be finite.')

  monkeypatch.setattr(type(ANALYSES['kde']), 'measure', measure)
  with pytest.raises(UsageError, match=r'run: kde: images must be finite\.$'):
    module.analyze(run, 'kde', **FEW['kde'])

"""Analyses applied to a run, and the run with its data as the analyses see it."""

import dataclasses
import gc
import json
import shutil
import weakref
from unittest import mock

import numpy as np
import pytest

from flowgan_tf import data, flows
from flowgan_tf.base.errors import UsageError
from flowgan_tf.runs.run import load_run
from flowgan_tf.study import ANALYSES, Subject, analyze, read_summary, studying
from flowgan_tf.study import analysis as module
from flowgan_tf.study.apply import _apply

FEW = {'kde': {'samples': 20}, 'outliers': {'images': 10}}


@pytest.fixture
def run(workdir, tmp_path):
  return shutil.copytree(workdir, tmp_path / 'run')


def test_what_is_found_is_kept(run, monkeypatch):
  """The run is loaded once for several analyses, and leaves no generator behind: TFP's caches would keep it."""
  loaded, variables = [], []

  def load(workdir, checkpoint):
    found = load_run(workdir, 'latest')
    loaded.append((workdir, checkpoint))
    variables.extend(weakref.ref(variable) for variable in found.generator.variables)
    return found

  monkeypatch.setattr('flowgan_tf.runs.run.load_run', load)
  with studying(run) as apply:
    studies = {what: apply(what, seed=3, **settings) for what, settings in FEW.items()}
  assert loaded == [(run, None)]
  del apply
  gc.collect()
  assert variables and not any(variable() is not None for variable in variables)
  found = read_summary(run).studies
  assert found.keys() == studies.keys()
  for what, kept in found.items():
    assert kept.record == studies[what].record == json.loads(json.dumps(kept.record))
    np.testing.assert_equal(kept.arrays, studies[what].arrays)
    assert (kept.record['what'], kept.record['checkpoint'], kept.record['step']) == (what, 'latest', 2)
    assert kept.record['settings'] == dataclasses.asdict(ANALYSES[what].Settings(seed=3, **FEW[what]))
    assert kept.record['seconds'] >= 0


@pytest.fixture
def measure(monkeypatch):
  """Puts a function in the place of the analysis `kde`, whose settings take no time to fulfil."""
  return lambda function: monkeypatch.setattr(type(ANALYSES['kde']), 'measure', function)


def test_mistakes_are_found_before_the_work_and_leave_no_file(run, measure):
  measure(lambda *_: pytest.fail('measured in vain'))
  with studying(run, 'latest') as apply:
    for what, settings, said in (
      ('guess', {}, r"`what` must be one of kde, .*'guess'"),
      ('kde', {'samples': 3}, '`samples`'),
    ):
      with pytest.raises(UsageError, match=said):
        apply(what, **settings)
    assert not (run / 'analysis').exists()
    (run / 'analysis').write_text('a file')
    with pytest.raises(UsageError, match='analysis: cannot be written'):
      apply('kde')


@pytest.mark.parametrize(
  ('error', 'said'),
  [
    (UsageError('`images` must be finite.', 'images'), r'run: kde: images must be finite\.$'),
    (UsageError('`samples` must be fewer.', 'samples'), r'^`samples` must be fewer\.$'),
    (UsageError('no memory'), r'^no memory$'),
  ],
)
def test_an_estimators_own_complaint_names_the_run_and_no_flag(run, measure, error, said):
  measure(mock.Mock(side_effect=error))
  with pytest.raises(UsageError, match=said):
    analyze(run, 'kde')


def test_a_generator_without_a_density_is_rejected_where_one_is_needed(subject):
  subject = Subject(dataclasses.replace(subject.run, generator=flows.dcgan((4, 4, 1), channels=(2,))))
  with pytest.raises(UsageError, match='outliers needs a likelihood, which generator nice does not have'):
    _apply(subject, 'outliers')
  assert subject.exact(subject.images('test')) == {}


def test_samples_are_drawn_once_and_must_be_finite(subject, monkeypatch):
  first = subject.samples(30, 0)
  assert first.shape == (30, 4, 4, 1) and subject.samples(30, 0) is first
  assert not np.array_equal(subject.samples(30, 1), first)
  monkeypatch.setattr(type(subject.evaluator), 'sample', lambda *_, **__: np.full((7, 4, 4, 1), np.nan))
  for _ in range(2):  # The second analysis lacks them, too.
    with pytest.raises(UsageError, match='7 of 7 samples are not finite; try another `checkpoint`'):
      subject.samples(7, 0)
  monkeypatch.setattr('flowgan_tf.evaluation.scorer.make_scorer', lambda *arguments: arguments)
  assert Subject(subject.run).scorer == (subject.run.config, mock.ANY)


def test_some_images_are_drawn_at_random_in_order(subject):
  every, some, levels = subject.images('test'), subject.images('test', 5), subject.dataset.levels
  np.testing.assert_array_equal(np.floor(every * levels).astype(np.uint8), subject.dataset.test.images)
  same = (np.floor(some * levels)[:, np.newaxis] == subject.dataset.test.images).all(axis=(2, 3, 4))
  positions = same.argmax(axis=1)
  assert same.any(axis=1).all() and len(some) == 5 and (np.diff(positions) > 0).all() and positions[-1] != 4
  assert not np.array_equal(subject.split('test', 5, seed=1).images, subject.split('test', 5, seed=0).images)
  assert np.array_equal(subject.images('test', 10**6), every)
  assert subject.images('test', 3, dataset=data.load('digits')).shape == (3, 8, 8, 1)


def test_training_and_test_images_have_noise_of_their_own(subject):
  dataset = dataclasses.replace(subject.dataset, train=subject.dataset.test)
  noise = [subject.images(name, dataset=dataset) * dataset.levels % 1 for name in ('train', 'test')]
  assert np.abs(np.corrcoef(*map(np.ravel, noise))[0, 1]) < 0.3


def test_of_images_in_files_no_more_are_loaded_than_memory_may_hold(subject, tmp_path, monkeypatch, caplog):
  test = subject.dataset.test
  np.save(tmp_path / 'test.npy', test.images)
  split = data.Split(data.StoredImages(tmp_path / 'test.npy'), np.arange(len(test)))
  stored = dataclasses.replace(subject.dataset, test=split)
  np.testing.assert_array_equal(subject.images('test', dataset=stored), subject.images('test'))
  assert not caplog.messages
  monkeypatch.setattr(module, '_MOST_VALUES', 7 * 16)
  with caplog.at_level('INFO', logger='flowgan_tf'):
    some = subject.split('test', dataset=stored)
  assert caplog.messages == [f'images: 7 of its {len(test)} test images are used, drawn at random.']
  np.testing.assert_array_equal(some.images, subject.split('test', 7).images)
  np.testing.assert_array_equal(test.images[some.labels], some.images)
  assert len(subject.images('test', 5, dataset=stored)) == 5
  assert len(subject.images('test')) == len(test)  # In memory they are anyway.

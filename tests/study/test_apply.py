"""Analyses applied to a run, and the run with its data as the analyses see it."""

import dataclasses
import gc
import json
import shutil
import weakref
from unittest import mock

import numpy as np
import pytest

from flowgan_tf import data
from flowgan_tf.errors import UsageError
from flowgan_tf.runs.run import load_run
from flowgan_tf.study import ANALYSES, Subject, analyze, read_summary, studying
from flowgan_tf.study import apply as module
from flowgan_tf.study import subject as subject_module

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
  monkeypatch.setattr('flowgan_tf.runs.checkpoints.available', lambda workdir: ['best_nll', 'best_score', 'latest'])
  with studying(run) as apply:
    studies = {what: apply(what, seed=3, **settings) for what, settings in FEW.items()}
  assert loaded == [(run, 'best_score')]  # as in the paper's Table 3
  del apply
  gc.collect()
  assert variables and not any(variable() is not None for variable in variables)
  for what, kept in read_summary(run).studies.items():
    study = studies.pop(what)
    assert kept.record == study.record == json.loads(json.dumps(study.record))
    assert kept.arrays.keys() == study.arrays.keys()
    for name in kept.arrays:
      np.testing.assert_array_equal(kept.arrays[name], study.arrays[name])
    assert (kept.record['what'], kept.record['checkpoint'], kept.record['step']) == (what, 'latest', 2)
    assert kept.record['settings'] == dataclasses.asdict(ANALYSES[what].Settings(seed=3, **FEW[what]))
    assert kept.record['seconds'] >= 0
  assert studies == {}


def test_mistakes_leave_no_file(run):
  with studying(run, 'latest') as apply:
    with pytest.raises(UsageError, match=r"`what` must be one of kde, ais, .*\. Got: 'guess'"):
      apply('guess')
    with pytest.raises(UsageError, match='`samples` must be'):
      apply('kde', samples=3)
    with pytest.raises(TypeError, match='noise_vectors'):
      apply('kde', noise_vectors=3)
  with pytest.raises(UsageError, match='no such folder'):
    analyze(run / 'missing', 'kde')
  assert not (run / 'analysis').exists()


@pytest.fixture
def measure(monkeypatch):
  """Puts a function in the place of the analysis `kde`, whose settings take no time to fulfil."""
  return lambda function: monkeypatch.setattr(type(ANALYSES['kde']), 'measure', function)


def test_a_folder_that_cannot_be_written_is_found_before_the_work(run, measure):
  (run / 'analysis').write_text('a file')
  measure(lambda *_: pytest.fail('measured in vain'))
  with pytest.raises(UsageError, match='analysis: cannot be written'):
    analyze(run, 'kde')


@pytest.mark.parametrize(
  ('error', 'said'),
  [
    (ValueError('`images` must be finite.'), r'run: kde: images must be finite\.$'),
    (UsageError('`images` must be finite.', 'images'), r'run: kde: images must be finite\.$'),
    (UsageError('`samples` must be fewer.', 'samples'), r'^`samples` must be fewer\.$'),
    (UsageError('no memory'), r'^no memory$'),
  ],
)
def test_an_estimators_own_complaint_names_the_run_and_no_flag(run, measure, error, said):
  measure(mock.Mock(side_effect=error))
  with pytest.raises(UsageError, match=said):
    analyze(run, 'kde')


def test_a_generator_without_a_density_is_refused_where_one_is_needed(subject, monkeypatch):
  monkeypatch.setattr(type(subject.run.generator), 'has_density', False)
  with pytest.raises(UsageError, match='outliers needs a likelihood, which generator nice does not have'):
    module._apply(subject, 'outliers', ANALYSES['outliers'].Settings())
  assert subject.exact(subject.images('test')) == {}


def test_log_densities_of_any_number_of_images(subject):
  images = subject.images('train')[:130]
  expected = subject.run.generator.log_prob(images).numpy()
  np.testing.assert_allclose(subject.log_prob(images), expected, rtol=1e-5, atol=1e-4)
  np.testing.assert_allclose(subject.log_prob(images[:1]), expected[:1], rtol=1e-5, atol=1e-4)
  assert subject.log_prob(images).dtype == np.float64


def test_samples_are_scored_as_in_an_evaluation(subject, monkeypatch):
  monkeypatch.setattr('flowgan_tf.metrics.make_scorer', lambda *arguments: arguments)
  assert Subject(subject.run).scorer == (subject.run.config, mock.ANY)


def test_samples_are_drawn_once(subject):
  first = subject.samples(30, 0)
  assert first.shape == (30, 4, 4, 1) and subject.samples(30, 0) is first
  assert not np.array_equal(subject.samples(30, 1), first)


def test_samples_that_are_not_finite_are_refused(subject, monkeypatch):
  monkeypatch.setattr(type(subject.evaluator), 'sample', lambda *_, **__: np.full((7, 4, 4, 1), np.nan))
  with pytest.raises(UsageError, match='7 of 7 samples are not finite; try another `checkpoint`'):
    subject.samples(7, 0)


def test_some_images_are_drawn_at_random_in_order(subject):
  every, some, levels = subject.images('test'), subject.images('test', 5), subject.dataset.levels
  np.testing.assert_array_equal(np.floor(every * levels).astype(np.uint8), subject.dataset.test.images)
  positions = [
    next(i for i, image in enumerate(subject.dataset.test.images) if (image == np.floor(s * levels)).all())
    for s in some
  ]
  assert len(some) == 5 and positions == sorted(positions) and positions != [0, 1, 2, 3, 4]
  assert not np.array_equal(subject.grey_levels('test', 5, seed=1), subject.grey_levels('test', 5, seed=0))
  assert np.array_equal(subject.images('test', 10**6), every)
  assert subject.images('test', 3, dataset=data.load('digits')).shape == (3, 8, 8, 1)


def test_of_images_in_files_no_more_are_loaded_than_memory_may_hold(subject, tmp_path, monkeypatch, caplog):
  dataset = subject.dataset
  np.save(tmp_path / 'test.npy', dataset.test.images)
  stored = dataclasses.replace(dataset, test=data.Split(data.StoredImages(tmp_path / 'test.npy'), np.arange(20)))
  np.testing.assert_array_equal(subject.images('test', dataset=stored), subject.images('test'))
  assert not caplog.messages
  monkeypatch.setattr(subject_module, '_MOST_VALUES', 7 * 16)
  with caplog.at_level('INFO', logger='flowgan_tf'):
    some = subject.images('test', dataset=stored)
  assert caplog.messages == [f'images: 7 of its {len(dataset.test)} test images are used, drawn at random.']
  np.testing.assert_array_equal(some, subject.images('test', 7))
  assert len(subject.images('test', 5, dataset=stored)) == 5
  assert len(subject.images('test')) == len(dataset.test)  # In memory they are anyway.
  monkeypatch.setattr(subject, 'dataset', stored)
  np.testing.assert_array_equal(dataset.test.images[subject.labels('test')], subject.grey_levels('test'))

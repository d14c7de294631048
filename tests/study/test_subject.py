import dataclasses

import numpy as np
import pytest

from flowgan_tf import data
from flowgan_tf.errors import UsageError
from flowgan_tf.study import subject as subject_module


def test_log_densities_of_any_number_of_images(subject):
  images = subject.images('train')[:130]
  expected = subject.run.generator.log_prob(images).numpy()
  np.testing.assert_allclose(subject.log_prob(images), expected, rtol=1e-5, atol=1e-4)
  np.testing.assert_allclose(subject.log_prob(images[:1]), expected[:1], rtol=1e-5, atol=1e-4)
  assert subject.log_prob(images).dtype == np.float64


def test_samples_are_drawn_once(subject):
  first = subject.samples(30, 0)
  assert first.shape == (30, 4, 4, 1) and subject.samples(30, 0) is first
  assert not np.array_equal(subject.samples(30, 1), first)


def test_samples_that_are_not_finite_are_refused(subject, monkeypatch):
  monkeypatch.setattr('flowgan_tf.study.subject.Evaluator.sample', lambda *_, **__: np.full((7, 4, 4, 1), np.nan))
  with pytest.raises(UsageError, match='7 of 7 samples are not finite; try another `checkpoint`'):
    subject.samples(7, 0)


def test_images_are_a_subset_of_the_split(subject):
  levels = subject.dataset.levels
  every, some = subject.images('test'), subject.images('test', 5, seed=2)
  grey = {np.floor(image * levels).astype(int).tobytes() for image in every}
  assert len(every) == len(subject.dataset.test) and len(some) == 5
  assert all(np.floor(image * levels).astype(int).tobytes() in grey for image in some)
  assert np.array_equal(subject.images('test', 10**6), every)


def test_of_images_in_files_no_more_are_loaded_than_memory_may_hold(subject, tmp_path, monkeypatch, caplog):
  dataset = subject.dataset
  np.save(tmp_path / 'test.npy', dataset.test.images)
  stored = dataclasses.replace(dataset, test=data.Split(data.StoredImages(tmp_path / 'test.npy'), None))
  np.testing.assert_array_equal(subject.images('test', dataset=stored), subject.images('test'))
  assert not caplog.messages
  monkeypatch.setattr(subject_module, '_MOST_VALUES', 7 * 16)
  with caplog.at_level('INFO', logger='flowgan_tf'):
    some = subject.images('test', dataset=stored)
  assert caplog.messages == [f'images: 7 of its {len(dataset.test)} test images are used, drawn at random.']
  np.testing.assert_array_equal(some, subject.images('test', 7))
  assert len(subject.images('test', 5, dataset=stored)) == 5
  monkeypatch.setattr(
    subject, 'dataset', dataclasses.replace(stored, test=data.Split(stored.test.images, np.arange(20)))
  )
  np.testing.assert_array_equal(dataset.test.images[subject.labels('test')], subject.grey_levels('test'))
  monkeypatch.undo()
  np.testing.assert_array_equal(subject.labels('test'), dataset.test.labels)
  assert len(subject.images('test')) == len(dataset.test)  # In memory they are anyway.


def test_images_of_other_data(subject):
  assert subject.images('test', 3, dataset=data.load('digits')).shape == (3, 8, 8, 1)

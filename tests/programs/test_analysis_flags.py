"""An analysis of one file is all that it takes: its flags, its table and its part of the page follow."""

import dataclasses
import shutil

import numpy as np
import pytest

from flowgan_tf.display.figure import Figure
from flowgan_tf.display.tables import Column
from flowgan_tf.study import ANALYSES, Analysis, Settings, read_summary, setting
from tests.programs.conftest import assert_one_line, call


@dataclasses.dataclass(frozen=True, kw_only=True)
class BrightnessSettings(Settings):
  shades: int = setting(7, 'Shades of grey.', minimum=2)
  samples: int = setting(5000, 'A flag of other analyses, too.', minimum=10)


class Brightness(Analysis):
  name = 'brightness'
  title = 'Brightness of samples'
  description = 'mean grey level of samples'
  caption = 'Mean grey level of samples'
  Settings = BrightnessSettings
  columns = (Column('mean grey level', 'mean', '.3f', 'standard_error'),)
  details = (Column('shades', 'shades'), Column('samples', 'n', ','))

  def measure(self, subject, settings):
    means = subject.samples(settings.samples, settings.seed).mean(axis=(1, 2, 3))
    numbers = {'mean': means.mean(), 'standard_error': means.std() / 10, 'n': len(means), 'shades': settings.shades}
    return numbers, {'means': means}

  def figures(self, runs):
    pixels = np.full((8, 8, 1), 100, np.uint8)
    return {self.name: Figure.of_pixels(pixels, 'A grey square.', f'{len(runs)} run.')}


@pytest.fixture
def registered(monkeypatch):
  monkeypatch.setitem(ANALYSES, 'brightness', Brightness())


def test_an_analysis_of_one_file_has_flags_a_table_and_a_section(registered, finished, tmp_path):
  run = shutil.copytree(finished[0], tmp_path / 'run')
  outcome = call('analyze', run, '--what=brightness,kde', '--shades=5', '--samples=100')
  assert outcome.status == 0, outcome
  study = read_summary(run).studies['brightness']
  assert study.record['settings'] == {'seed': 0, 'samples': 100, 'shades': 5}
  assert study.record['mean'] == pytest.approx(study.arrays['means'].mean())
  _, caption, header, _, row, json_file, picture, *_ = outcome.out.splitlines()
  assert caption.strip() == 'Mean grey level of samples'
  assert [cell.strip() for cell in header.split('   ') if cell.strip()] == ['mean grey level', 'shades', 'samples']
  assert row.startswith(f'  {study.record["mean"]:.3f} +- ') and row.split()[-2:] == ['5', '100']
  assert (json_file.strip(), picture.strip()) == (f'{run}/analysis/brightness.json', f'{run}/analysis/brightness.png')
  assert call('report', run).status == 0
  page = (run / 'report.html').read_text()
  for text in ('Brightness of samples', 'mean grey level', 'A grey square.', f'{study.record["mean"]:.3f}'):
    assert text in page
  assert f'bin/analyze {run} --what=brightness --checkpoint=best_score --seed=0 --shades=5 --samples=100' in page


def test_the_help_describes_it(registered):
  said = call('analyze', '--helpshort')
  for text in (
    'mean grey level of samples',
    '--shades: brightness: Shades of grey.',
    '--samples: kde, gmm, temperature, classifiers, brightness:',
  ):
    assert text in ' '.join(said.out.split())


def test_a_value_out_of_range_is_found_before_any_work(registered, finished, tmp_path):
  run = shutil.copytree(finished[0], tmp_path / 'run')
  outcome = call('analyze', run, '--what=kde,brightness', '--shades=1')
  assert_one_line(outcome, 'analyze', '--shades must be an integer from 2 to 10000000. Got: 1.')
  assert not (run / 'analysis').exists()

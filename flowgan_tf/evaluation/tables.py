"""Tables of evaluations: their columns, which the terminal and the page share, and the notes below them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from flowgan_tf.data.conditions import kind_of
from flowgan_tf.display.tables import Column, Row, Table
from flowgan_tf.flows.classes import class_name

_GIVEN = 'given c'
GIVEN_NOTE = '-log p(x | c), which cannot be compared with -log p(x)'
_LIKELIHOODS = ('nll', 'bits_per_dim', 'nll_float64', 'bits_per_dim_float64')
CHECKPOINT = Column('checkpoint', 'checkpoints')
STEP = Column('iteration', 'step', ',')


def is_given(record: Mapping[str, Any]) -> bool:
  """Whether the NLL in a record of an evaluation is the mean of -log p(x | c), which cannot be compared with -log p(x).

  With labels, the NLL is the mean of -log p(x), the sum over all labels.
  """
  return not kind_of(record.get('condition', '')).has_marginal


def by_source(record: Mapping[str, Any], source: str = '') -> dict[str, Mapping[str, Any]]:
  """The records of a row: the NLL of p(x | c) has a source, and so a column, of its own."""
  if not is_given(record):
    return {source: record}
  likelihood = {name for name in record if name in _LIKELIHOODS or name.startswith('standard_error')}
  return {source: {n: v for n, v in record.items() if n not in likelihood}, f'{source} {_GIVEN}': record}


def with_given(columns: Sequence[Column]) -> tuple[Column, ...]:
  """Puts a column for p(x | c) behind each column of a likelihood."""
  both = ((c, dataclasses.replace(c, header=f'{c.header}, {_GIVEN}', source=f'{c.source} {_GIVEN}')) for c in columns)
  return tuple(column for pair in both for column in pair[: 1 + (pair[0].key in _LIKELIHOODS)])


def likelihood_columns(split: str) -> tuple[Column, ...]:
  """The columns of what is measured on the images of a split."""
  return with_given(
    (
      Column(f'{split} NLL (nats)', 'nll', ',.2f', 'standard_error'),
      Column('bits/dim', 'bits_per_dim', '.3f', 'bits_per_dim_error'),
      Column('round trip', 'round_trip_error', '.1e'),
      Column('NLL float64', 'nll_float64', ',.2f', 'standard_error_float64'),
      Column('bits/dim float64', 'bits_per_dim_float64', '.3f'),
      Column('round trip float64', 'round_trip_error_float64', '.1e'),
      Column(f'{split} images', 'n', ','),
    )
  )


SCORE_COLUMNS = (
  Column('MODE', 'mode_score', '.2f', 'mode_score_std'),
  Column('Inception', 'inception_score', '.2f', 'inception_score_std'),
  Column('FID', 'fid', '.2f'),
  Column('KID', 'kid', '.4f', 'kid_std'),
  Column('samples', 'score_samples', ','),
)
VARIETY_COLUMNS = (
  Column('precision', 'precision', '.3f'),
  Column('recall', 'recall', '.3f'),
  Column('density', 'density', '.3f'),
  Column('coverage', 'coverage', '.3f'),
  Column('near copies', 'near_copies', '.1%', 'near_copies_error'),
)
CONDITIONAL_COLUMNS = (
  STEP,
  Column('class accuracy', 'class_accuracy', '.1%', 'class_accuracy_error'),
  Column('calibration error', 'calibration_error', '.3f'),
  Column('NLL given the label', 'conditional_nll', ',.2f'),
  Column('label as asked', 'label_share', '.1%', 'label_share_error'),
  Column('worst class (label)', 'worst_share'),
  Column('FID within classes', 'class_fid', '.2f'),
  Column('worst class (FID)', 'worst_fid'),
  Column('PSNR (dB)', 'psnr', '.2f'),
  Column('SSIM', 'ssim', '.3f'),
  Column('consistency (dB)', 'consistency', '.2f'),
  Column('spread', 'spread', '.4f'),
)


def with_worst(record: Mapping[str, Any]) -> dict[str, Any]:
  """Adds the worst class by the share of its samples that the classifier assigns to it, and the worst by FID."""
  record, names = dict(record), record.get('class_names')
  if 'worst_label' in record:
    record['worst_share'] = f'{record["worst_label_share"]:.1%}, class {class_name(record["worst_label"], names)}'
  if 'worst_fid_label' in record:
    record['worst_fid'] = f'{record["worst_class_fid"]:.2f}, class {class_name(record["worst_fid_label"], names)}'
  return record


def evaluation_table(records: Sequence[dict]) -> str:
  """Formats what `evaluation.evaluate_run` returned for the terminal: tables, and the basis of their numbers."""
  split, all_records = records[0]['split'], [*by_step(records), *of_real_images(records)]
  rows, parts = [Row(by_source(record)) for record in all_records], []
  for columns in ((STEP, *likelihood_columns(split)), SCORE_COLUMNS, VARIETY_COLUMNS):
    if filled := with_numbers(rows, columns):
      parts.append(str(Table('', (CHECKPOINT, *columns), filled)))
  lines = ['\n\n'.join(parts), *variety_notes(records)]
  if 'condition' in records[0]:
    rows = [Row({'': with_worst(record)}) for record in all_records]
    table = Table('', (CHECKPOINT, *CONDITIONAL_COLUMNS), rows)
    lines += ['', f'given {records[0]["condition"]}:', str(table), *conditional_notes(records)]
  if is_given(records[0]):
    lines.append(f'NLL, {_GIVEN}: mean of {GIVEN_NOTE}')
  if 'nll' not in records[0]:
    lines.append('no likelihood: the generator is not invertible')
  scored = next((record for record in records if 'scorer' in record), None)
  if scored:
    network = f'{scored["scorer"]} {scored["scorer_hash"]}'
    if 'classifier_accuracy' in scored:
      network += f' with {scored["classifier_accuracy"]:.1%} test accuracy'
    lines.append(
      f'scores: {scored["score_splits"]} splits, {network}; '
      f'FID against {scored["reference_images"]:,} training images, KID against at most 10,000 of them'
    )
  return '\n'.join(lines)


def variety_notes(records: Sequence[Mapping[str, Any]]) -> list[str]:
  """Says what precision, recall, density, coverage and near copies are, in a line for each kind of number."""
  notes = []
  if numbers := sorted({record['prdc_images'] for record in records if 'prdc_images' in record}):
    n = ' or '.join(f'{number:,}' for number in numbers)
    notes.append(
      f'precision, density: how real samples look; recall, coverage: whether all kinds are there ({n} images)'
    )
  if found := [record for record in records if 'near_copies' in record]:
    test, training = (f'{min(r[name] for r in found):,}' for name in ('held_out_images', 'copied_from'))
    notes.append(
      f'near copies: nearer to one of {training} training images than 99% of {test} test images; 1% is as expected'
    )
  return notes


def conditional_notes(records: Sequence[Mapping[str, Any]]) -> list[str]:
  """Says what the numbers of conditional runs mean and how many images are behind them, in a line for each kind."""

  def numbers(name, choose=min):
    return choose(record[name] for record in records if name in record)

  notes, found = [], {name for record in records for name, value in record.items() if value}
  if 'class_accuracy' in found:
    notes.append('class accuracy: share of images whose label has the largest p(y | x)')
  if 'label_share' in found:
    notes.append('label as asked: share of samples that a classifier assigns to the class they were drawn for')
    if 'labeller_accuracy' in found:
      notes[-1] += f'; it assigns {numbers("labeller_accuracy"):.1%} of the test images to their own class'
  if 'class_fid' in found:
    least = f'{numbers("class_fid_samples"):,} samples and {numbers("class_fid_references"):,} training images'
    notes.append(f'FID within classes (intra-FID): each class has at least {least}; fewer samples give a higher FID')
  if 'class_fid_left_out' in found:
    left_out = numbers('class_fid_left_out', max)
    which = 'class, which has' if left_out == 1 else 'classes, which have'
    notes.append(f'FID within classes (intra-FID): the mean leaves out {left_out:,} {which} too few images')
  if 'psnr' in found:
    notes.append('PSNR and SSIM: samples against the images that their conditions come from')
    notes.append('consistency: PSNR of samples, reduced again, against their conditions')
  if 'spread' in found:
    of = f'{numbers("spread_samples")} samples for each of {numbers("spread_conditions"):,} conditions'
    notes.append(f'spread: standard deviation of {of}, averaged over pixels')
  return notes


def with_numbers(rows: Sequence[Row], columns: Sequence[Column]) -> list[Row]:
  """Returns the rows that show something in one of these columns."""
  return [row for row in rows if any(column.text(row) for column in columns)]


def by_step(records: Sequence[dict]) -> list[dict]:
  """One record for each step, with the names of all its checkpoints, which hold the same generator."""
  steps: dict[int, list[dict]] = {}
  for record in records:
    steps.setdefault(record['step'], []).append(record)
  return [same[0] | {'checkpoints': ', '.join(r['checkpoint'] for r in same)} for same in steps.values()]


def of_real_images(records: Sequence[dict]) -> list[dict]:
  """The row of the test images' own scores; empty if no record has them."""
  real = next((record for record in records if 'real_score_samples' in record), {})
  scores = {name.removeprefix('real_'): value for name, value in real.items() if name.startswith('real_')}
  return [scores | {'checkpoints': 'real test images', 'class_names': real.get('class_names')}] if scores else []

"""Sentences about the numbers of a set of runs, which claim no more than the errors of the numbers allow."""

import math
from collections.abc import Callable, Sequence

from flowgan_tf.display.tables import SCORE_NAMES, listed
from flowgan_tf.evaluation.tables import is_given
from flowgan_tf.study.analysis import scored_alike
from flowgan_tf.study.summary import Summary

#: Scores of fewer images are not compared.
FEWEST_SAMPLES = 1000

_MOST_LISTED = 4  # runs whose FID a sentence names
_NOISE = 2.0  # A MODE or Inception score below it tells less than two classes apart; 1 is chance.
_FEWEST_EVALUATIONS = 3  # during a training, which show whether it was long enough
_LAST_PART = 0.2  # of the steps, in which a training that goes on to improve
_STILL_IMPROVING = 0.1  # gains this share of the whole improvement since the first evaluation

_Found = tuple[str, float, float]  # name of a run, its number and the number's error


def findings(runs: Sequence[Summary], unit: str) -> list[str]:
  """Returns sentences about the likelihood and the sample score of runs on one data set.

  A difference counts if it is larger than two standard errors of the difference. The likelihood is the likelihood of
  the checkpoint where it is best, and `shown_record` chooses the checkpoint whose samples are scored.
  """
  likelihoods = [
    (run.label, run.in_unit(record['nll'], unit), run.error_in_unit(record['standard_error'], unit))
    for run in runs
    if (record := run.evaluated('best_nll') or shown_record(run)) and record.get('standard_error')
    if not is_given(record)
  ]
  smallest = min((error for *_, error in likelihoods), default=1.0)
  places = max(1, 1 - math.floor(math.log10(smallest))) if unit == 'nats' else 3  # Two digits of the smallest error.
  likelihood = _sentence(
    likelihoods, -1, 'the best likelihood', f'a test NLL of {{}} {unit}', f'{{:,.{places}f}}'.format
  )
  scores = _about_scores([r | {'label': run.label} for run in runs if (r := shown_record(run))])
  accuracies = [
    f'{r["class_accuracy"]:.1%} for {run.label}'
    for run in runs
    if (r := shown_record(run)) and r.get('class_accuracy') is not None
  ]
  if 0 < len(accuracies) <= _MOST_LISTED:
    scores.append(f'The class accuracy is {listed(accuracies)}.')
  unseen = [run.label for run in runs if not run.tested()]
  if 0 < len(unseen) < len(runs):
    have = 'has' if len(unseen) == 1 else 'have'
    scores.append(f'{listed(unseen)} {have} not been evaluated on the test images.')
  return [*likelihood, *scores]


def about_length(runs: Sequence[Summary]) -> list[str]:
  """Returns sentences about trainings that were too short, or may have been."""
  seldom, improving = [], []
  for run in runs:
    points = [(r['step'], r['nll']) for r in run.records('validation') if r['step'] and r.get('nll') is not None]
    if 0 < len(points) < _FEWEST_EVALUATIONS:
      seldom.append(run.label)
    elif points and run.weight != 0:
      (last, best), first = points[-1], points[0][1]
      before = [nll for step, nll in points if step <= (1 - _LAST_PART) * last] or [first]
      if best == min(nll for _, nll in points) and before[-1] - best > _STILL_IMPROVING * (first - best):
        improving.append(run.label)
  found = []
  if improving:
    found.append(f'{listed(improving)} still improved at the end of training: more steps may help.')
  if seldom:
    found.append(f'The evaluations of {listed(seldom)} are too few to show whether more steps would help.')
  return found


def shown_record(run: Summary) -> dict | None:
  """Returns the test record of the checkpoint with the best score, or else the best NLL; None without any."""
  return run.evaluated('best_score') or run.evaluated('best_nll') or next(iter(run.tested()), None)


def as_good(ranked: Sequence[_Found], parts: int = 1) -> list[_Found]:
  """Returns those whose number is within two standard errors of the first one's.

  Each number is the mean of as many `parts`, and its error the deviation of these.
  """
  _, value, error = ranked[0]
  factor = 2 / math.sqrt(max(parts - 1, 1))
  return [run for run in ranked if abs(run[1] - value) <= factor * math.hypot(run[2], error)]


def _about_scores(records: Sequence[dict]) -> list[str]:
  """Compares the scores, if they come from one network and equally many samples."""
  name = next((n for n in ('mode_score', 'inception_score') if records and all(r.get(f'{n}_std') for r in records)), '')
  if not name or any(record['score_samples'] < FEWEST_SAMPLES for record in records):
    return []
  if not all(scored_alike(record, records[0]) for record in records):
    return ['The sample scores come from different networks or numbers of samples, and cannot be compared.']
  noise = [record['label'] for record in records if record[name] < _NOISE]
  title, scores = SCORE_NAMES[name], [(record['label'], record[name], record[f'{name}_std']) for record in records]
  measure = '{}' if len(scores) > 1 else f'{"an" if title[0] in "AEIO" else "a"} {title} of {{}}'
  # What stands beside a score is the deviation over splits, whose mean the score is.
  sentences = _sentence(scores, 1, f'the best {title}', measure, '{:.2f}'.format, records[0]['score_splits'])
  if noise:
    sentences.insert(0, f'The samples of {listed(noise)} are noise to the network behind the scores.')
  if real := next((record for record in records if record.get(f'real_{name}_std')), None):
    sentences.append(f'Real test images score {real[f"real_{name}"]:.2f} ± {real[f"real_{name}_std"]:.2f}.')
  fids = [f'{record["fid"]:.1f} for {record["label"]}' for record in records if record.get('fid') is not None]
  if 0 < len(fids) <= _MOST_LISTED:
    sentences.append(f'The FID is {listed(fids)}.')
  return sentences


def _sentence(
  found: Sequence[_Found], sign: int, what: str, measure: str, number: Callable[[float], str], parts: int = 1
) -> list[str]:
  """Says which run has the largest number, or the smallest if `sign` is -1, and which runs may be as good.

  Each number is the mean of as many `parts`, and its error the deviation of these.
  """
  if not found:
    return []
  ranked = sorted(found, key=lambda run: -sign * run[1])
  name, value, error = ranked[0]
  shown = measure.format(f'{number(value)} ± {number(error)}').replace('-', '−')
  if len(found) == 1:
    return [f'{name} has {shown}.']
  equal = as_good(ranked, parts)
  if len(equal) == 1:
    _, next_value, _ = ranked[1]
    ahead = f'{number(abs(next_value - value))} {"below" if sign < 0 else "above"} {ranked[1][0]}'
    return [f'{name} has {what}: {shown}, {ahead}.']
  if len(equal) == len(found):
    return [f'No run has {what}: all are within two standard errors of {name}, which has {shown}.']
  return [f'{listed(run[0] for run in equal)} have {what}, within two standard errors of {shown}.']

"""Which evaluations of a training become its checkpoints `best_nll` and `best_score`."""

import math
from collections.abc import Sequence

from flowgan_tf.training.state import TrainState


def update_best(state: TrainState, record: dict, earlier: Sequence[dict], selection: str | None) -> list[str]:
  """Notes the best values in the state, and returns the names of the checkpoints that an evaluation improves.

  A score within one standard error of the highest so far becomes `best_score` if its likelihood is better, or if the
  old `best_score` is no longer within that range.

  Args:
    state: The state, with the best NLL and the highest score before this evaluation.
    record: The record of the evaluation.
    earlier: The records of the evaluations before it.
    selection: Name of the score that counts; None without scores.
  """
  improved = []
  nll, score = record.get('nll'), record.get(selection)
  if nll is not None and nll < float(state.best_nll):
    state.best_nll.assign(nll)
    improved.append('best_nll')
  if score is not None:
    if _choose([*earlier, record], selection, float(state.best_score)) is record:
      improved.append('best_score')
    state.best_score.assign(max(score, float(state.best_score)))
  return improved


def _choose(records, selection, highest):
  """Goes through the records in order, and returns the last that became the checkpoint `best_score`, or None.

  `highest` is the best score before the last record. If no record has it, its log is lost, and its likelihood unknown.
  """
  scored = [record for record in records if record.get(selection) is not None]
  known = any(math.isclose(record[selection], highest, rel_tol=1e-6) for record in scored)  # `highest` is a float32.
  chosen, best = None, -math.inf if known else highest
  chosen_score, chosen_nll = best, math.inf if known else -math.inf
  for record in scored:
    score, nll = record[selection], record.get('nll')
    nll = math.inf if nll is None or math.isnan(nll) else nll
    best = max(best, score)
    lowest = best - (record.get(f'{selection}_std') or 0.0)
    if score >= lowest and (chosen_score < lowest or (nll, -score) < (chosen_nll, -chosen_score)):
      chosen, chosen_score, chosen_nll = record, score, nll
  return chosen

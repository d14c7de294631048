"""The analyses by name, and functions that apply them to a run and save the results in its folder `analysis`."""

import contextlib
import dataclasses
import functools
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flowgan_tf import bijectors, runs
from flowgan_tf.base.errors import UsageError, check, check_choice
from flowgan_tf.base.files import as_json, make_writable, write_record
from flowgan_tf.base.plugins import Registry, is_plugin
from flowgan_tf.display.tables import Column
from flowgan_tf.flows.classes import class_name
from flowgan_tf.study.ais import Ais
from flowgan_tf.study.analysis import Analysis, Subject
from flowgan_tf.study.classifiers import Classifiers
from flowgan_tf.study.critic import Critic
from flowgan_tf.study.gmm import Gmm
from flowgan_tf.study.independent_critic import IndependentCritic
from flowgan_tf.study.jacobian import Jacobian
from flowgan_tf.study.kde import Kde
from flowgan_tf.study.outliers import Outliers
from flowgan_tf.study.summary import Study, Summary
from flowgan_tf.study.temperature import Temperature

_LOG = logging.getLogger(__name__)
# Names that the record of a study has, and a plug-in's numbers must not have.
_OF_RECORDS = {'what', 'plugin', 'checkpoint', 'step', 'label', 'settings', 'seconds', 'arrays', 'sha256'}
# The page shows them in this order.
_ALL = (Kde(), Ais(), Gmm(), Jacobian(), Temperature(), Classifiers(), Outliers(), IndependentCritic(), Critic())

ANALYSES: Registry[Analysis] = Registry(
  'what',
  'an instance of a subclass of `flowgan_tf.study.Analysis`',
  lambda part: isinstance(part, Analysis),
  {analysis.name: analysis for analysis in _ALL},
)
"""Every analysis by its name."""


def analyses_of(runs: Sequence[Summary]) -> list[Analysis]:
  """Returns the analyses of the package, and for each from outside of it that runs have, one that shows its numbers."""
  studies = [study for run in runs for study in run.studies.values()]
  names = dict.fromkeys(study.record['what'] for study in studies)
  return [*ANALYSES.values(), *(_unknown(name, studies) for name in names if not ANALYSES.get(name))]


def _unknown(name: str, studies: Sequence[Study]) -> Analysis:
  """Returns an analysis that shows the numbers of one from outside of the package, which is not imported."""
  records = [study.record for study in studies if study.record['what'] == name]
  keys = {key: None for record in records for key, value in record.items() if isinstance(value, int | float)}

  class Unknown(Analysis):
    """Numbers as they were saved."""

    columns = tuple(Column(key, key, ',.6g') for key in keys if key not in _OF_RECORDS)

    def measure(self, subject, settings):
      raise NotImplementedError

  Unknown.name = Unknown.title = name
  Unknown.description = Unknown.caption = f'Numbers of {records[0].get("plugin", name)}'
  return Unknown()


@contextlib.contextmanager
def studying(
  workdir: str | os.PathLike, checkpoint: str | None = None, label: int | str | None = None
) -> Iterator[Callable[..., Study]]:
  """Loads a run once for several analyses, and releases it afterwards.

  ```python
  with studying('runs/demo') as apply:
    kde, jacobian = apply('kde', samples=1000), apply('jacobian')
  ```

  Args:
    workdir: Folder of the run.
    checkpoint: Name of a checkpoint. The default is that of `load_run`.
    label: Class whose p(x | y) is studied, with images of that class alone: its name or its number. By default a flow
      with classes is studied as p(x), and a generator that is given something else as p(x | c), where each image has
      its own c.

  Yields:
    A function that takes the name of one of `ANALYSES` and its settings, saves the result in the run's folder
    `analysis`, and returns it. It raises a `UsageError` if there is no such analysis, if a setting is out of range, or
    if the generator has no density, is given what does not suit the analysis, or has samples that are not finite. It
    can then still apply other analyses.

  Raises:
    UsageError: If the run or its data cannot be read, or have no such class.
  """
  subject = Subject(runs.load_run(workdir, checkpoint), label)
  with bijectors.clearing_caches():
    yield functools.partial(_apply, subject)


def analyze(
  workdir: str | os.PathLike,
  what: str,
  checkpoint: str | None = None,
  label: int | str | None = None,
  **settings: int | str,
) -> Study:
  """Applies one analysis to a run, and saves the result in the run's folder `analysis`.

  It takes the arguments, and raises the errors, of `studying` and of the function that it yields.
  """
  with studying(workdir, checkpoint, label) as apply:
    return apply(what, **settings)


def _apply(subject: Subject, what: str, **settings: Any) -> Study:
  check_choice('what', what, ANALYSES)
  run, analysis = subject.run, ANALYSES[what]
  outside = {'plugin': what} if is_plugin(what) else {}
  check(
    'what', what, f'a name other than {analysis.name}, which is ours', not (outside and ANALYSES.get(analysis.name))
  )
  what = analysis.name
  if len(run.image_shape) == 1:
    raise UsageError(f'{run.workdir}: {what} needs images, and this run was trained on a table')
  values = analysis.Settings(**settings)
  chosen = dataclasses.asdict(values)
  if analysis.needs_density and not run.generator.has_density:
    raise UsageError(f'{run.workdir}: {what} needs a likelihood, which generator {run.config.generator} does not have')
  if why := analysis.rejects(given := subject.dataset.condition_kind):
    raise UsageError(f'{run.workdir}: {what} cannot measure a run with condition {given}: {why}')
  folder = run.workdir / 'analysis'
  make_writable(folder if folder.exists() else run.workdir)  # Check first, but leave no folder if the work fails.
  began = time.monotonic()
  try:
    numbers, arrays = analysis.measure(subject, values)
  except ValueError as error:
    if isinstance(error, UsageError) and (error.argument is None or error.argument in {*chosen, 'label'}):
      raise
    # An estimator names its own arguments, which the user does not know.
    raise UsageError(f'{run.workdir}: {what}: {str(error).replace("`", "")}') from error
  record = {
    'what': what,
    **outside,
    'checkpoint': run.checkpoint,
    'step': run.step,
    **({'given': subject.condition.title} if subject.condition else {}),
    **({'label': class_name(subject.label, run.generator.class_names)} if subject.label is not None else {}),
    'settings': chosen,
    'seconds': round(time.monotonic() - began, 1),
  }
  taken = ', '.join(sorted(numbers.keys() & _OF_RECORDS))
  check('what', taken, f'an analysis whose numbers have names of their own, unlike {what}', not taken)
  study = Study(as_json({**record, **numbers}), arrays)
  write_record(folder / f'{what}.json', study.record, study.arrays)
  return study

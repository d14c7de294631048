"""What a check has found, and the table of all findings with one verdict."""

import dataclasses
import math
from collections.abc import Sequence

from flowgan_tf.display.tables import Column, Row, Table, listed

_COLUMNS = (
  Column('check', 'check'),
  Column('found', 'found', '.3g'),
  Column('allowed', 'allowed', '.2g'),
  Column('where', 'where'),
  Column('verdict', 'verdict'),
)
_NOT_CHECKED = 'in more than three dimensions, how much of the mass each of separate modes has; rare NaN'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
  """The result of one check."""

  check: str  #: What was checked.
  found: float | None = None  #: The number that was measured, usually the largest error; None if there is none.
  allowed: float | None = None  #: The largest error that rounding explains; None if no number is too large.
  sound: bool | None = None  #: Whether the number is allowed; None if the check only informs.
  where: str = ''  #: The bijector or image that has this number.
  part: str | None = None  #: Name of the bijector that is wrong; None if none is to blame.
  image: int | None = None  #: Position of the image that is wrong; None if none is to blame.
  note: str = ''  #: What the number means, as a sentence.

  def _record(self):
    """The row of the table, whose columns show numbers only if they are finite."""
    verdict = {True: 'passed', False: 'WRONG', None: ''}[self.sound]
    infinite = self.found is not None and not math.isfinite(self.found)
    return vars(self) | {'verdict': verdict} | ({'found': str(self.found)} if infinite else {})


@dataclasses.dataclass(frozen=True, repr=False)
class Report:
  """All findings about one flow. It prints as a table with a verdict."""

  name: str  #: Name of the flow.
  findings: Sequence[Finding]

  @property
  def sound(self) -> bool:
    """Whether no check failed. Some mistakes are not looked for; docs/check.md lists them."""
    return not self.wrong

  @property
  def wrong(self) -> list[Finding]:
    """The checks that failed."""
    return [finding for finding in self.findings if finding.sound is False]

  @property
  def parts(self) -> list[str]:
    """Names of the bijectors that are wrong."""
    return list(dict.fromkeys(finding.part for finding in self.wrong if finding.part))

  @property
  def images(self) -> list[int]:
    """Positions of the images that are wrong."""
    return sorted({finding.image for finding in self.wrong if finding.image is not None})

  def __str__(self) -> str:
    """The table, a sentence for each finding that has one, and the verdict."""
    rows = [Row({'': finding._record()}) for finding in self.findings]
    notes = [f'{finding.check}: {finding.note}' for finding in self.findings if finding.note]
    judged = sum(finding.sound is not None for finding in self.findings)
    checks = f'{judged} check{"s" * (judged != 1)}'
    verdict = f'{self.name}: no mistake found by {checks}.\nNot checked: {_NOT_CHECKED}. See docs/check.md.'
    if self.wrong:
      verdict = f'{self.name} is NOT SOUND: {listed(dict.fromkeys(f.check for f in self.wrong))}.'
      if self.parts:
        verdict += f' The fault is in {listed(self.parts)}.'
      if self.images:
        verdict += f' See image {listed(map(str, self.images))}.'
    return '\n'.join([str(Table('', _COLUMNS, rows)), '', *notes, *[''] * bool(notes), verdict])

  __repr__ = __str__

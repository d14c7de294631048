"""The paper's study: analyses of a run, kept in its folder."""

from typing import TYPE_CHECKING

from flowgan_tf.lazy import offer
from flowgan_tf.study.analyses import ANALYSES
from flowgan_tf.study.analysis import Analysis, Settings, setting

__all__ = [
  'ANALYSES',
  'Analysis',
  'Settings',
  'Study',
  'Subject',
  'Summary',
  'analyze',
  'read_studies',
  'read_summary',
  'setting',
  'studying',
  'summarize',
]

if TYPE_CHECKING:
  from flowgan_tf.study.apply import analyze, studying
  from flowgan_tf.study.subject import Subject
  from flowgan_tf.study.summary import Study, Summary, read_studies, read_summary, summarize
else:
  __getattr__, __dir__ = offer(
    __name__,
    {
      'apply': ['analyze', 'studying'],
      'subject': ['Subject'],
      'summary': ['Study', 'Summary', 'read_studies', 'read_summary', 'summarize'],
    },
  )

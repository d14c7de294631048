"""The paper's study: analyses of a run, kept in its folder."""

from flowgan_tf.study.analyses import ANALYSES
from flowgan_tf.study.analysis import Analysis, Settings, setting
from flowgan_tf.study.apply import analyze, studying
from flowgan_tf.study.subject import Subject
from flowgan_tf.study.summary import Study, Summary, read_studies, read_summary, summarize

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

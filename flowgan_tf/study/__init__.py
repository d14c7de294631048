"""The paper's study: analyses of a run, kept in its folder."""

from flowgan_tf.study.analyses import ANALYSES, Settings
from flowgan_tf.study.study import Study, analyze, studying

__all__ = ['ANALYSES', 'Settings', 'Study', 'analyze', 'studying']

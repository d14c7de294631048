"""Memory of a training over many steps."""

import os

import pytest

from flowgan_tf.configs import digits
from flowgan_tf.training import loop


def resident_mebibytes():
  with open('/proc/self/statm') as file:
    return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 2**20


@pytest.mark.slow
@pytest.mark.parametrize('objective', ['mle', 'hybrid'])
def test_memory_is_flat(tmp_path, monkeypatch, objective):
  """Over 2,000 steps with 20 evaluations and checkpoints, after the first 200, which trace and allocate."""
  config = digits.get_config()
  config.update({'objective': objective, 'steps': 2200, 'eval_every': 100, 'log_every': 10, 'score_samples': 200})
  config.nice.hidden_units, config.nice.hidden_layers, config.critic_steps = 64, 1, 1
  seen = {}
  original = loop._Loop._evaluate

  def evaluate(self, log, step):
    original(self, log, step)
    seen[step] = resident_mebibytes()

  monkeypatch.setattr(loop._Loop, '_evaluate', evaluate)
  assert loop.train(config, tmp_path)
  assert len(seen) == 23
  # 2,000 steps that each kept a tensor of 10 KiB would add more than that.
  assert max(seen[step] for step in seen if step > 200) < 1.02 * seen[200]

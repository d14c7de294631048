"""The README's Python runs, and what it says of files is true."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / 'README.md').read_text()


def test_the_example_of_flows_and_bijectors_runs():
  code = re.findall(r'```python\n(.*?)```', README, re.DOTALL)[0]
  names = {}
  exec(code, names)  # the README is ours
  assert names['images'].shape == (16, 28, 28, 1)
  assert names['noise'].shape == (16, 28, 28, 1)
  claimed = int(re.search(r'len\(distribution\.trainable_variables\)\s+# (\d+)', code).group(1))
  assert len(names['distribution'].trainable_variables) == claimed
  assert names['distribution'].log_prob(names['distribution'].sample(3, seed=1)).shape == (3,)


def test_linked_files_exist():
  links = [link for link in re.findall(r'\]\(([^)#]+)\)', README) if not link.startswith('http')]
  assert links
  assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_divergence_and_bijector_is_in_a_table():
  from flowgan_tf import bijectors
  from flowgan_tf.objectives import DIVERGENCES

  public = [name for name in bijectors.__all__ if name != 'masks']
  assert [name for name in (*DIVERGENCES, *public) if f'`{name}`' not in README and f'{name}(' not in README] == []

"""The adapters of docs/check.md for flows of other libraries run as they stand, and call these flows sound."""

import pathlib
import re
import sys

import pytest

from tests.processes import run

ROOT = pathlib.Path(__file__).parent.parent.parent
PAGE = (ROOT / 'docs' / 'check.md').read_text(encoding='utf-8')
BLOCKS = re.findall(r'^```py\n(.*?)^```$', PAGE.partition('## Flows of other libraries')[2], re.DOTALL | re.MULTILINE)
INTERPRETERS = [
  path for path in (str(ROOT / '.venv-bench' / 'bin' / 'python'), sys.executable) if pathlib.Path(path).exists()
]


@pytest.mark.slow
@pytest.mark.parametrize('library', ['zuko', 'normflows', 'nflows', 'pyro', 'flowjax', 'distrax'])
def test_adapters_of_the_page_run_as_they_stand(library):
  having = [python for python in INTERPRETERS if run([python, '-c', f'import {library}']).returncode == 0]
  if not having:
    pytest.skip(f'{library} is not installed; `make bench` installs it')
  [adapter] = [code for code in BLOCKS if re.search(rf'^(import|from) {library}\b', code, re.MULTILINE)]
  starts = [code for code in BLOCKS[: BLOCKS.index(adapter)] if 'import flowgan_tf' in code]
  code = starts[-1] + adapter  # the flows of PyTorch share a start, and the flows of JAX another
  code += 'print(report)\nassert report.sound and len(report.findings) > 12\n'
  found = run([having[0], '-c', code], cwd=ROOT)
  assert found.returncode == 0, found.stdout + found.stderr

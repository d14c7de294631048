"""The kinds of conditions, as the setting `condition` names them; '' means no condition."""

import re

EXPECTED = "'label', 'vector', 'low_resolution:N' with an N of at least 2, 'mask:half' or empty"
_KIND = re.compile(r'(label|vector|low_resolution:([2-9]|[1-9]\d{1,3})|mask:half)?')


def is_kind(kind: str) -> bool:
  """Whether there is such a kind."""
  return bool(_KIND.fullmatch(kind))


def has_marginal(kind: str) -> bool:
  """Whether a flow has a density p(x) without the condition: with labels, the sum over all of them."""
  return kind in ('', 'label')


def comes_from_image(kind: str) -> bool:
  """Whether the condition is computed from the image, as for super-resolution and inpainting."""
  return kind not in ('', 'label', 'vector')

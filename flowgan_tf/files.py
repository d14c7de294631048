"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import pathlib

__all__ = ['write_atomically']


def write_atomically(path: pathlib.Path, text: str) -> None:
  """Writes a text file so that a kill or a full disk leaves the old one."""
  temporary = path.with_name(path.name + '.tmp')
  temporary.write_text(text)
  os.replace(temporary, path)

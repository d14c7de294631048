"""A quick check that a host answers, made before calling a library that would wait for minutes."""

from __future__ import annotations

import threading

import requests

__all__ = ['answers']

_TIMEOUT_SECONDS = 5


def answers(url: str) -> bool:
  """Returns, within 5 seconds, whether the host of a file answers and offers the file."""
  answered = threading.Event()

  def ask() -> None:
    try:
      requests.head(url, timeout=_TIMEOUT_SECONDS, allow_redirects=True).raise_for_status()
    except requests.RequestException:
      return
    answered.set()

  # In a thread, because the timeout of `requests` applies to each address of a host in turn, and does not apply to the
  # resolution of its name.
  thread = threading.Thread(target=ask, daemon=True)
  thread.start()
  thread.join(_TIMEOUT_SECONDS)
  return answered.is_set()

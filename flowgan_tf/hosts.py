"""A quick check that a host answers, made before calling a library that would wait for minutes."""

from __future__ import annotations

import threading

import requests

__all__ = ['answers']

_TIMEOUT_SECONDS = 5


def answers(url: str, *, offers_file: bool = True) -> bool:
  """Returns, within 5 seconds, whether the host of a file answers.

  Args:
    url: Address of the file.
    offers_file: Whether the host must offer the file, too.
  """
  answered = threading.Event()

  def ask() -> None:
    try:
      response = requests.head(url, timeout=_TIMEOUT_SECONDS, allow_redirects=True)
      if offers_file:
        response.raise_for_status()
    except requests.RequestException:
      return
    answered.set()

  # In a thread, because the timeout of `requests` applies to each address of a host in turn, and does not apply to the
  # resolution of its name.
  thread = threading.Thread(target=ask, daemon=True)
  thread.start()
  thread.join(_TIMEOUT_SECONDS)
  return answered.is_set()

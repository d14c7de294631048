"""Whether a host on the network answers, before a library waits for it for minutes."""

import threading

import requests

__all__ = ['answers']

_TIMEOUT_SECONDS = 5


def answers(url: str) -> bool:
  """Whether a file can be had from its host, known within 5 seconds."""
  answered = threading.Event()

  def ask() -> None:
    try:
      requests.head(url, timeout=_TIMEOUT_SECONDS, allow_redirects=True).raise_for_status()
    except requests.RequestException:
      return
    answered.set()

  # In a thread because the timeout of requests bounds each address of a host, and name resolution not at all.
  thread = threading.Thread(target=ask, daemon=True)
  thread.start()
  thread.join(_TIMEOUT_SECONDS)
  return answered.is_set()

"""Against servers on this machine."""

import http.server
import socket
import threading
import time

import pytest
import requests

from flowgan_tf import hosts


@pytest.fixture
def server(monkeypatch):
  """Answers requests for `/STATUS` with that status, and keeps what it was asked for."""
  asked = []

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
      asked.append((self.command, self.path))
      self.send_response(int(self.path[1:]))
      if self.path == '/302':
        self.send_header('Location', '/200')
      if self.path == '/301':
        self.send_header('Location', '/404')
      self.end_headers()

    def log_message(self, *args) -> None:
      pass

  monkeypatch.setenv('NO_PROXY', '*')
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as served:
    thread = threading.Thread(target=served.serve_forever, kwargs={'poll_interval': 0.01})
    thread.start()
    yield f'http://127.0.0.1:{served.server_port}', asked
    served.shutdown()
    thread.join()


@pytest.mark.parametrize(
  ('path', 'expected'), [('200', True), ('404', False), ('403', False), ('500', False), ('302', True), ('301', False)]
)
def test_a_host_answers_if_it_has_the_file(server, path, expected):
  address, asked = server
  assert hosts.answers(f'{address}/{path}') is expected
  assert asked[0] == ('HEAD', f'/{path}') and {command for command, _ in asked} == {'HEAD'}  # nothing is downloaded


def test_a_host_that_is_not_there_does_not_answer(monkeypatch):
  monkeypatch.setenv('NO_PROXY', '*')
  with socket.create_server(('127.0.0.1', 0)) as free:
    port = free.getsockname()[1]
  assert not hosts.answers(f'http://127.0.0.1:{port}/file')


def test_a_host_that_accepts_and_stays_silent_is_given_up(monkeypatch):
  monkeypatch.setenv('NO_PROXY', '*')
  monkeypatch.setattr(hosts, '_TIMEOUT_SECONDS', 0.2)
  with socket.create_server(('127.0.0.1', 0)) as silent:
    start = time.monotonic()
    assert not hosts.answers(f'http://127.0.0.1:{silent.getsockname()[1]}/file')
    assert time.monotonic() - start < 2


def test_name_resolution_that_hangs_is_given_up(monkeypatch):
  """The timeout of requests does not apply to it."""
  ended = threading.Event()

  def hang(url, **options):
    ended.wait(10)
    raise requests.ConnectionError('at last')

  monkeypatch.setattr(requests, 'head', hang)
  monkeypatch.setattr(hosts, '_TIMEOUT_SECONDS', 0.1)
  start = time.monotonic()
  assert not hosts.answers('http://nowhere.invalid/file')
  assert time.monotonic() - start < 2
  ended.set()


def test_an_address_that_is_none_does_not_answer():
  assert not hosts.answers('no address')

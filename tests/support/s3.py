"""An S3 API on loopback: moto's own application, its requests written down and held up at will.

moto is imported as a server starts, so that tests that want none run where it is not installed.
"""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import fsspec
import pytest

from shards import storage

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from werkzeug.serving import BaseWSGIServer

BUCKET = "bucket"
_HOLD_S = 60


class S3Server:
    """A server with one bucket, on a free port or the one given.

    `requests` are all so far, as `GET /bucket/store/name?query`.
    """

    def __init__(self, port: int = 0) -> None:
        self.requests: list[str] = []
        self._meet: Callable[[str, WSGIEnvironment], None] | None = None
        self._cuts: dict[str, int] = {}
        self._num_in_work = 0
        self._idle = threading.Condition()
        self._app, self._server = _make_server(port, self._answer)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self._call("PUT", f"/{BUCKET}")

    @property
    def port(self) -> int:
        return int(self._server.port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def forget(self) -> None:
        """Start again with an empty bucket."""
        self._call("POST", "/moto-api/reset")
        self._call("PUT", f"/{BUCKET}")
        self.requests.clear()
        self._cuts.clear()

    def close(self) -> None:
        """Go, as a server does whose machine is switched off."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def downloads(self, ending: str = ".tar") -> list[str]:
        """Names of the objects that were read so far, in order, whose names end like that."""
        paths = (r.removeprefix("GET ") for r in self.requests if r.startswith("GET "))
        return [path.rpartition("/")[2] for path in paths if path.endswith(ending)]

    @contextmanager
    def holding(self, *parts: str) -> Iterator[threading.Event]:
        """Answer no request whose line contains all of `parts` until the block ends; the event
        is set when there is one. Those held have been dealt with when this returns.
        """
        reached, release = threading.Event(), threading.Event()

        def meet(line: str, environ: WSGIEnvironment) -> None:
            if all(part in line for part in parts):
                reached.set()
                release.wait(_HOLD_S)

        self._meet = meet
        try:
            yield reached
        finally:
            self._meet = None
            release.set()
            with self._idle:
                self._idle.wait_for(lambda: not self._num_in_work, timeout=_HOLD_S)

    @contextmanager
    def refusing(self, *parts: str) -> Iterator[None]:
        """Drop the connection on every request whose line contains all of `parts`."""

        def meet(line: str, environ: WSGIEnvironment) -> None:
            if all(part in line for part in parts):
                _hang_up(environ)

        self._meet = meet
        try:
            yield
        finally:
            self._meet = None

    def cut_next_download(self, name: str, after: int) -> None:
        """Drop the connection once, `after` bytes into the object `name`."""
        self._cuts[name] = after

    def _answer(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path, query = environ["PATH_INFO"], environ.get("QUERY_STRING", "")
        line = f"{environ['REQUEST_METHOD']} {path}{'?' * bool(query)}{query}"
        self.requests.append(line)
        with self._working():
            if self._meet is not None:
                self._meet(line, environ)
            answer: Iterable[bytes] = self._app(environ, start)
        name = path.rpartition("/")[2]
        if line.startswith("GET ") and name in self._cuts:
            return _cut(answer, self._cuts.pop(name), environ)
        return answer

    @contextmanager
    def _working(self) -> Iterator[None]:
        with self._idle:
            self._num_in_work += 1
        try:
            yield
        finally:
            with self._idle:
                self._num_in_work -= 1
                self._idle.notify_all()

    def _call(self, method: str, path: str) -> None:
        request = urllib.request.Request(self.url + path, method=method)
        with urllib.request.urlopen(request) as answer:
            answer.read()


def _make_server(port: int, answer: WSGIApplication) -> tuple[WSGIApplication, BaseWSGIServer]:
    """moto's application, and what listens at `port` and has `answer` answer."""
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    class Quiet(MotoRequestHandler):
        def log_request(self, *_: Any) -> None:
            """Say nothing."""

    server = make_server("127.0.0.1", port, answer, threaded=True, request_handler=Quiet)
    return DomainDispatcherApplication(create_backend_app), server


def _cut(answer: Iterable[bytes], after: int, environ: WSGIEnvironment) -> Iterator[bytes]:
    yield b"".join(answer)[:after]
    _hang_up(environ)


def _hang_up(environ: WSGIEnvironment) -> NoReturn:
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError


def use_server(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `s3://` mean `server` here and in processes started from here.

    The driver reads the environment once: call `forget_file_systems` to go on elsewhere. Outages
    are waited for no longer here than at first contact, a second.
    """
    monkeypatch.setattr(storage, "PATIENT_ATTEMPTS", 5)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server.url,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_MAX_ATTEMPTS": "2",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def forget_file_systems() -> None:
    """Let the next use of `s3://` read the environment anew."""
    fsspec.get_filesystem_class("s3").clear_instance_cache()

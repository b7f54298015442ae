"""Flaky S3: a proxy in front of an S3 API, which does what networks and stores do on bad days.

In: the address of a server. Out: another address. Of all requests, a share is disturbed: answered
with 500 or 503, cut off before or behind the server, held up, cut in the middle of the body, or
answered with the listing of before. The same request is disturbed twice in a row at most, as a
client may try again that often and more.

    with FlakyS3("http://127.0.0.1:5000", seed=0) as flaky: flaky.address, flaky.faults
"""

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

SHARE = 0.1  # of requests that are disturbed
MOST_IN_A_ROW = 2
STALL_SECONDS = 1.0
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close without a word
HOP_HEADERS = {"connection", "transfer-encoding", "keep-alive", "content-length"}
KINDS = ("500", "503", "reset_before", "reset_behind", "stall", "cut", "stale")
ERRORS = {"500": "InternalError", "503": "SlowDown"}


class FlakyS3:
    """The proxy; `faults` counts what it has done, by kind."""

    def __init__(self, server: str, seed: int, kinds: tuple[str, ...] = KINDS) -> None:
        self.upstream = urlsplit(server).netloc
        self.faults: Counter[str] = Counter()
        self._rng, self._lock = random.Random(seed), threading.Lock()
        self._kinds = kinds
        self._in_a_row: Counter[str] = Counter()
        self._listings: dict[str, tuple[int, list[tuple[str, str]], bytes]] = {}
        handler = type("Handler", (_Handler,), {"flaky": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True

    @property
    def address(self) -> str:
        """What clients use instead of the server's address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "FlakyS3":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def draw(self, method: str, path: str) -> str:
        """What becomes of a request; empty for most."""
        request = f"{method} {path}"
        with self._lock:
            if self._rng.random() >= SHARE or self._in_a_row[request] >= MOST_IN_A_ROW:
                self._in_a_row[request] = 0
                return ""
            possible = [kind for kind in self._kinds if _is_possible(kind, method, path)]
            # The one that came least often, so that all of them come.
            kind = min(possible, key=lambda kind: self.faults[kind])
            self._in_a_row[request] += 1
            self.faults[kind] += 1
            return kind

    def listing(
        self, path: str, answer: tuple[int, list[tuple[str, str]], bytes], stale: bool
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """The answer to a listing, or the one before."""
        with self._lock:
            before = self._listings.get(path, answer)
            self._listings[path] = answer
        return before if stale else answer


class _Handler(BaseHTTPRequestHandler):
    flaky: FlakyS3
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def answer(self) -> None:
        """Answer one request, disturbed or not."""
        body = self._body()
        kind = self.flaky.draw(self.command, self.path)
        if kind in ERRORS:
            self._send(int(kind), [("Content-Type", "application/xml")], _error(kind))
            return
        if kind == "reset_before":
            self._reset()
            return
        if kind == "stall":
            time.sleep(STALL_SECONDS)
        status, headers, data = self._forward(body)
        if kind == "reset_behind":
            self._reset()
            return
        if _is_listing(self.command, self.path):
            answer = (status, headers, data)
            status, headers, data = self.flaky.listing(self.path, answer, kind == "stale")
        self._send(status, headers, data, cut=kind == "cut")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

    def log_message(self, *_given: Any) -> None:
        """Say nothing."""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.flaky.upstream)
        headers = {
            name: value for name, value in self.headers.items() if name.lower() not in HOP_HEADERS
        }
        if self.headers.get("Expect"):
            headers.pop("Expect")
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        data = response.read()
        found = response.status, response.getheaders(), data
        connection.close()
        return found

    def _send(
        self, status: int, headers: list[tuple[str, str]], data: bytes, cut: bool = False
    ) -> None:
        self.send_response_only(status)
        length = str(len(data))
        for name, value in headers:
            if name.lower() == "content-length" and self.command == "HEAD":
                length = value
            if name.lower() not in HOP_HEADERS:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut and data:
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self._reset()
            return
        self.wfile.write(data)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.connection.close()
        self.close_connection = True


def _is_listing(method: str, path: str) -> bool:
    return method == "GET" and "list-type" in parse_qs(urlsplit(path).query)


def _is_possible(kind: str, method: str, path: str) -> bool:
    if kind == "stale":
        return _is_listing(method, path)
    return kind != "cut" or method == "GET"


def _error(kind: str) -> bytes:
    return f"<Error><Code>{ERRORS[kind]}</Code><Message>a bad day</Message></Error>".encode()

"""File server: files by HTTP on loopback, whole or torn, and what was asked of it.

with serving({"w.pth": b"..."}) as server:
    server.url, server.requests
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """`torn_after` is the bytes after which it closes the connection; None is all."""

    url: str
    files: dict[str, bytes]
    torn_after: int | None = None
    before_answer: Callable[[], object] = lambda: None
    requests: list[str] = field(default_factory=list)


@contextmanager
def serving(files: Mapping[str, bytes]) -> Iterator[FileServer]:
    """A server with these files by name."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            served.requests.append(name)
            served.before_answer()
            if name not in served.files:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            data = served.files[name]
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with suppress(ConnectionError):  # Who has seen enough goes away.
                self.wfile.write(data[: served.torn_after])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing: `requests` has what was asked."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = False  # Its end waits for answers that are under way.
        served = FileServer(f"http://127.0.0.1:{server.server_port}/files", dict(files))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()

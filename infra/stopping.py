"""Stopping: a launched process that is asked to end finishes its step, saves it, and ends in time.

In: SIGTERM, SIGINT, or the end of the launcher. Out: `is_requested`, which the work looks at
between two steps. Work that does not end within the time of grace is ended as it stands.

    stop = StopRequest()
    stop.listen()
    while not stop.is_requested: ...
"""

import os
import signal
import socket
import threading

GRACE_SECONDS = 12.0  # less than the time after which a launcher kills its processes


class StopRequest:
    """Whether this process was asked to end."""

    def __init__(self, grace_seconds: float = GRACE_SECONDS) -> None:
        self._requested = threading.Event()
        self._grace_seconds = grace_seconds

    @property
    def is_requested(self) -> bool:
        """Whether the work should be saved and ended now."""
        return self._requested.is_set()

    def request(self) -> None:
        """Ask for the end of the work; after the time of grace the process ends without it."""
        if self._requested.is_set():
            return
        self._requested.set()
        deadline = threading.Timer(self._grace_seconds, os._exit, (1,))
        deadline.daemon = True
        deadline.start()

    def wait(self, seconds: float) -> bool:
        """Wait for a request, at most so long. Returns whether there is one."""
        return self._requested.wait(seconds)

    def listen(self) -> None:
        """Take SIGTERM and SIGINT for requests; called once, in the main thread."""
        # A handler in Python runs only when the main thread is back from C, where it may hang in a
        # collective whose other side is gone. So a thread is woken by the byte that C writes.
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_given: None)

        def listen() -> None:
            with writer:
                while reader.recv(1):
                    self.request()

        threading.Thread(target=listen, name="stop-request", daemon=True).start()

"""Channel: JSON lines between two processes, over pipes or a socket.

In: what to read from and to write to. Out: messages, each a JSON object, in order. A thread reads
them, so that neither side ever has to wait for the other.

    channel = Channel(process.stdout, process.stdin)
    channel.send({"order": ...})
    channel.receive(timeout_seconds=60)    # a message, or None at the end
"""

import json
import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, Any

Message = dict[str, Any]


class Channel:
    """One side. `hang_up` ends the connection, where closing the writer does not."""

    def __init__(
        self, reader: IO[bytes], writer: IO[bytes], hang_up: Callable[[], None] = lambda: None
    ) -> None:
        self._reader, self._writer, self._hang_up = reader, writer, hang_up
        self.is_ended = False
        self._messages: queue.Queue[Message | None] = queue.Queue()
        self._writing = threading.Lock()
        threading.Thread(target=self._read, name="channel", daemon=True).start()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message. One that the other side can no longer read is dropped."""
        line = json.dumps(message).encode() + b"\n"
        with self._writing, suppress(OSError, ValueError):
            self._writer.write(line)
            self._writer.flush()

    def receive(self, timeout_seconds: float | None = None) -> Message | None:
        """The next message; None when there will be no more. Raises TimeoutError."""
        try:
            message = self._messages.get(timeout=timeout_seconds)
        except queue.Empty:
            raise TimeoutError(f"no message came within {timeout_seconds} s") from None
        if message is None:
            self._messages.put(None)  # for whoever asks again
        return message

    def close(self) -> None:
        """End this side, and with it the other one."""
        with self._writing, suppress(OSError, ValueError):
            self._writer.close()
        self._hang_up()

    def _read(self) -> None:
        with suppress(OSError, ValueError), self._reader:
            for line in self._reader:
                # A shell that greets its user writes lines of its own.
                with suppress(json.JSONDecodeError):
                    message = json.loads(line)
                    if isinstance(message, dict):
                        self._messages.put(message)
        self.is_ended = True
        self._messages.put(None)

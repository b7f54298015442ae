"""Meeting: the nodes of a job meet at a port of the leading one, and stay for all its trainings.

In: the place of this machine in the job. Out: on the leading node, a channel to the agent of each
other one; on these, an agent that serves until the leader ends. Whoever reaches the port of the
leader may join, as at the rendezvous of torchrun: the network of a job belongs to its user.

    with Meeting(place, port) as meeting:        # on the leading node
        channels = meeting.wait()
    join_meeting(place, port)                    # on the others
"""

import logging
import socket
import threading
import time
from contextlib import suppress

from infra.errors import ProtegeError
from infra.nodes.agent import Agent
from infra.nodes.channel import Channel
from infra.nodes.job import JobPlace

MEET_SECONDS = 600.0  # in which all nodes of a job have come up
HELLO_SECONDS = 10.0
RETRY_SECONDS = 1.0
# A machine that is switched off says nothing: after half a minute without an answer it is gone.
KEEP_ALIVE = {
    socket.TCP_KEEPIDLE: 15,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 3,
}
logger = logging.getLogger(__name__)


class Meeting:
    """The leading node's side: agents may join at any time, also again."""

    def __init__(self, place: JobPlace, port: int) -> None:
        self._place = place
        self._joined: dict[int, Channel] = {}
        self._changed = threading.Condition()
        try:
            self._server = socket.create_server(("", port))
        except OSError as error:
            raise ProtegeError(
                f"the nodes of this job cannot meet at port {port} of this machine ({error}): set "
                "PROTEGE_TRAINING__MEETING_PORT to a free one, on all of them"
            ) from error
        threading.Thread(target=self._accept, name="meeting", daemon=True).start()

    def __enter__(self) -> "Meeting":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let all agents end."""
        self._server.close()
        with self._changed:
            for channel in self._joined.values():
                channel.close()

    def wait(self, timeout_seconds: float = MEET_SECONDS) -> dict[int, Channel]:
        """The channels of all other nodes, once all are there. Raises ProtegeError."""
        with self._changed:
            if missing := self._missing():
                logger.info("waiting for the nodes %s of this job", missing)
            self._changed.wait_for(lambda: not self._missing(), timeout_seconds)
            if missing := self._missing():
                raise ProtegeError(
                    f"the nodes {missing} of this job have not come within "
                    f"{timeout_seconds:.0f} s: start the same command on every node, with the same "
                    "PROTEGE_TRAINING__MEETING_PORT, and let them reach this one"
                )
            return dict(self._joined)

    def _missing(self) -> list[int]:
        others = range(1, self._place.num_nodes)
        return [node for node in others if node not in self._joined or self._joined[node].is_ended]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return  # the meeting is over
            channel = _channel(connection)
            if (node := _hello(channel)) is None:
                channel.close()
                continue
            with self._changed:
                self._joined[node] = channel
                self._changed.notify_all()


def _hello(channel: Channel) -> int | None:
    """The number of the node that has come; None for a stranger."""
    try:
        hello = channel.receive(HELLO_SECONDS)
    except TimeoutError:
        return None
    node = hello.get("join") if hello else None
    return node if isinstance(node, int) else None


def join_meeting(place: JobPlace, port: int, timeout_seconds: float = MEET_SECONDS) -> None:
    """Serve the leading node until it ends. Raises ProtegeError when it cannot be reached."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            connection = socket.create_connection((place.leader, port), HELLO_SECONDS)
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise ProtegeError(
                    f"node {place.node} of this job has not reached the leading one at "
                    f"{place.leader}:{port} within {timeout_seconds:.0f} s: {error}"
                ) from error
            time.sleep(RETRY_SECONDS)
    connection.settimeout(None)
    channel = _channel(connection)
    channel.send({"join": place.node})
    Agent(channel).serve()


def _channel(connection: socket.socket) -> Channel:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, seconds in KEEP_ALIVE.items():
        connection.setsockopt(socket.IPPROTO_TCP, option, seconds)

    def hang_up() -> None:
        # To close the files of a socket does not end it while a thread reads from it.
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    return Channel(connection.makefile("rb"), connection.makefile("wb"), hang_up)

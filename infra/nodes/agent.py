"""Agent: runs on a node, and launches there what the leading machine orders.

In: a channel. First comes the leader's environment, which the agent answers with what this machine
offers; then orders, each a job file, a number of processes and the place of this node among all.
Out: the lines of the processes, and how they ended. When the leader says stop, or its channel
ends, the processes are asked to end, too.

    python -m infra.nodes.agent        # with the channel on standard input and output
"""

import hashlib
import importlib.metadata
import os
import queue
import socket
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import infra
from infra.crash import Crashed
from infra.errors import ProtegeError
from infra.launch import NodePlace, job_file, run_processes
from infra.nodes.channel import Channel, Message
from infra.settings import Settings

PACKAGES = ("infra", "models", "tasks")  # whose code decides what a training gives


class Agent:
    """One side of a channel, until the other side ends it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._stop = threading.Event()
        self._orders: queue.Queue[Message | None] = queue.Queue()
        threading.Thread(target=self._listen, name="orders", daemon=True).start()

    def serve(self) -> None:
        """Answer and obey until the channel ends."""
        while (message := self._orders.get()) is not None:
            if "environment" in message:
                os.environ.update(message["environment"])
                self._channel.send(_greeting())
            else:
                self._channel.send({"end": self._obey(message)})
        self._channel.close()

    def _listen(self) -> None:
        # An order comes only when the one before has ended, so a stop is meant for the last one.
        while (message := self._channel.receive()) is not None:
            if "stop" in message:
                self._stop.set()
            else:
                self._stop.clear()
                self._orders.put(message)
        self._stop.set()
        self._orders.put(None)

    def _obey(self, order: Message) -> Message | None:
        """Run the processes of an order. Returns how they failed, if they did."""
        with job_file(order["job"]) as job:
            place = NodePlace(**order["place"])
            messages = run_processes(
                order["module"],
                job,
                order["processes"],
                order["threads"],
                order["what"],
                place,
                self._stop,
            )
            try:
                with closing(messages) as lines:
                    for line in lines:
                        self._channel.send({"line": line})
            except Crashed as error:
                return {
                    "message": str(error),
                    "out_of_memory": error.out_of_memory,
                    "likely_memory": error.likely_memory,
                }
        return None


def _greeting() -> Message:
    """What this machine offers to a training, or why it can offer nothing."""
    try:
        processes = Settings().training_processes()
    except (ProtegeError, ValidationError) as error:
        return {"refused": str(error)}
    return {
        "processes": processes.count,
        "threads": processes.threads,
        "address": _address(),
        "port": _free_port(),
        "software": software(),
    }


def software() -> dict[str, Any]:
    """What must be the same on all nodes: our code and torch, whose results it decides."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((Path(infra.__file__).parents[1] / package).rglob("*.py")):
            digest.update(path.read_bytes())
    # What follows a plus says for which devices torch was built.
    torch = importlib.metadata.version("torch").partition("+")[0]
    return {"protege": digest.hexdigest()[:16], "torch": torch}


def _address() -> str:
    """The address at which the leader has reached this machine, else its name."""
    connection = os.environ.get("SSH_CONNECTION", "").split()
    return connection[2] if len(connection) == 4 else socket.gethostname()


def _free_port() -> int:
    with socket.create_server(("", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def main() -> None:
    """Serve the channel on standard input and output."""
    # Whatever a library prints goes to standard error; the channel has this file for itself.
    writer = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    Agent(Channel(sys.stdin.buffer, writer)).serve()


if __name__ == "__main__":
    main()

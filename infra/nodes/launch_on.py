"""Launch on: runs the processes of one training on several nodes, as `launch` does on one machine.

In: nodes, a module and its job, as text. Out: what the processes write, of all nodes as it comes.
When a node fails, the others are stopped, and the error is that of the node that began it.

    with reach_nodes(settings) as nodes, closing(launch_on(nodes, ...)) as messages:
        for line in take_messages(messages): ...
"""

import dataclasses
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

from infra.crash import Crashed
from infra.launch import GRACE_SECONDS, POLL_SECONDS, Message, NodePlace
from infra.nodes.reach import Node, log_end

BLAME_SECONDS = 3.0  # within which the other nodes have said what they think went wrong


@dataclass(frozen=True)
class NodeFailure:
    """How a node failed; `is_lost` when it is its machine or its agent that is gone."""

    node: str
    message: str
    out_of_memory: bool = False
    likely_memory: bool = False
    is_lost: bool = False

    @property
    def blame(self) -> int:
        """How likely it began with this one: ranks die of the death of another, too."""
        return 2 if self.is_lost else int(self.out_of_memory or self.likely_memory)


def share_out(nodes: Sequence[Node], limit: int) -> list[tuple[Node, int]]:
    """The nodes that are used, with the processes of each: at most `limit` in all."""
    shares: list[tuple[Node, int]] = []
    for node in nodes:
        left = limit - sum(count for _, count in shares)
        if left > 0:
            shares.append((node, min(left, node.processes)))
    return shares


def launch_on(
    shares: Sequence[tuple[Node, int]],
    module: str,
    job: str,
    *,
    address: str,
    threads: int = 0,
    what: str = "the training",
) -> Generator[Message, None, None]:
    """Run `python -m module JOB` on the nodes, and yield what the processes write.

    `address` is where the nodes find the first one. Without `threads`, each process has its share
    of the cores of its node. Raises Crashed.
    """
    first = shares[0][0]
    for rank, (node, processes) in enumerate(shares):
        place = NodePlace(rank, len(shares), address, first.offer["port"])
        node.channel.send(
            {
                "module": module,
                "job": job,
                "processes": processes,
                "threads": threads or node.offer["threads"],
                "what": what,
                "place": dataclasses.asdict(place),
            }
        )
    running = _Running([node for node, _ in shares])
    try:
        yield from running.messages()
    finally:
        running.stop()
    if running.failures:
        failure = max(running.failures, key=lambda found: found.blame)
        raise Crashed(
            f"{failure.node}: {failure.message}",
            out_of_memory=failure.out_of_memory,
            likely_memory=failure.likely_memory,
        )


@dataclass
class _Running:
    """The nodes that are at work, and how others have failed, in that order."""

    nodes: list[Node]
    failures: list[NodeFailure] = field(default_factory=list)

    def messages(self) -> Iterator[Message]:
        """What the processes write, until all have ended, or one has failed."""
        deadline = float("inf")
        while self.nodes and time.monotonic() < deadline:
            for node in list(self.nodes):
                yield from self._take(node)
            if self.failures:
                deadline = min(deadline, time.monotonic() + BLAME_SECONDS)
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Let the processes that are left save and end."""
        for node in self.nodes:
            node.channel.send({"stop": True})
        deadline = time.monotonic() + GRACE_SECONDS
        while self.nodes and time.monotonic() < deadline:
            for node in list(self.nodes):
                for _ in self._take(node):
                    pass  # nobody reads any more
            time.sleep(POLL_SECONDS)

    def _take(self, node: Node) -> Iterator[Message]:
        for message in _waiting(node):
            if message is None:
                lost = f"the connection has ended{log_end(node.log)}"
                self._end(node, NodeFailure(node.name, lost, is_lost=True))
                return
            if "end" in message:
                ended = message["end"]
                self._end(node, NodeFailure(node.name, **ended) if ended else None)
                return
            if "line" in message and not self._follows_from_a_loss(message["line"]):
                yield message["line"]

    def _follows_from_a_loss(self, line: Message) -> bool:
        """Whether it is an error of ranks that end only because those of a lost node do."""
        return "error" in line and any(failure.is_lost for failure in self.failures)

    def _end(self, node: Node, failure: NodeFailure | None) -> None:
        self.nodes.remove(node)
        if failure:
            self.failures.append(failure)


def _waiting(node: Node) -> Iterator[Message | None]:
    """The messages that have come so far."""
    while True:
        try:
            message = node.channel.receive(0)
        except TimeoutError:
            return
        yield message
        if message is None:
            return

"""Lineage: the chain of manifests behind outputs, walked in one way for all who ask.

In: a root and links to outputs, by role, as manifests hold them. Out: a `Node` for each output, the
given ones first, then what they were made from.

    for node in walk(root, {"student": output.link}):
        print("  " * node.depth, node.role, node.stage, node.fingerprint)
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from infra.store import Store

Link = Mapping[str, str]  # stage, fingerprint, digest, and the path of the manifest below the root


@dataclass(frozen=True)
class Node:
    """An output in a chain; `role` is what the output above it calls it."""

    root: Store
    role: str
    link: Link
    depth: int

    @property
    def stage(self) -> str:
        """The stage that made it."""
        return self.link["stage"]

    @property
    def fingerprint(self) -> str:
        """The name of its folder."""
        return self.link["fingerprint"]

    @cached_property
    def manifest(self) -> Mapping[str, Any] | None:
        """Its manifest; None when it was deleted, or lies under another root."""
        try:
            body: dict[str, Any] = json.loads(self.root.read(self.link["manifest"]))
        except FileNotFoundError:
            return None
        return body

    @property
    def inputs(self) -> Mapping[str, Link]:
        """What it was made from, by role."""
        return self.manifest["inputs"] if self.manifest else {}


def walk(root: Store, links: Mapping[str, Link], *, depth_first: bool = False) -> Iterator[Node]:
    """Each output behind these links once; a chain ends where a manifest is no longer there.

    Depth first gives a tree, in which an output follows the one that was made from it. Otherwise
    the outputs that are given come first, in their order.
    """
    pending = [Node(root, role, link, 0) for role, link in links.items()]
    seen: set[str] = set()
    while pending:
        node = pending.pop(0)
        if node.link["manifest"] in seen:
            continue
        seen.add(node.link["manifest"])
        yield node
        below = [Node(root, role, link, node.depth + 1) for role, link in node.inputs.items()]
        pending = [*below, *pending] if depth_first else [*pending, *below]

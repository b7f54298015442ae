"""Manifest: what an output is, where it came from, and which parts belong to it.

The manifest is published last, so an output that has one is complete. `Output` is the reference to
it that stages return and take.
"""

import json
import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from infra.errors import ProtegeError, utc_now
from infra.store import Store, open_store
from tasks import tables
from tasks.contract.identity import digest_of, versions
from tasks.contract.lineage import Node, walk
from tasks.contract.parts import Receipt, part_number, read_part, read_schema, rejects_name

MANIFEST = "manifest.json"
MANIFEST_NAMES = r"manifest(-\w+)?\.json"


@dataclass(frozen=True)
class Output:
    """Reference to a finished output of a stage; small enough to travel anywhere.

    `digest` is the identity of the content: reduce stages hash it into their fingerprints.
    `reused` says that this run found the output already there.
    """

    stage: str
    fingerprint: str
    uri: str
    manifest: str
    digest: str
    rows_in: int
    kept: int
    rejected: int
    seconds: float
    reused: bool = False

    @property
    def store(self) -> Store:
        """The folder of the output."""
        return open_store(self.uri)

    @property
    def root(self) -> Store:
        """The root that holds the outputs of all stages."""
        return open_store(self.uri.removesuffix(f"/{self.stage}/{self.fingerprint}"))

    @property
    def body(self) -> dict[str, Any]:
        """The manifest, as it was published."""
        return _BODIES.get(self.uri, self.manifest, self.digest)

    @property
    def link(self) -> dict[str, str]:
        """How a manifest refers to this output as an input: enough to walk the lineage."""
        return {
            "stage": self.stage,
            "fingerprint": self.fingerprint,
            "digest": self.digest,
            "manifest": f"{self.stage}/{self.fingerprint}/{self.manifest}",
        }

    @property
    def options(self) -> Mapping[str, Any]:
        """The options that it was made with."""
        options: Mapping[str, Any] = self.body["options"]
        return options

    @property
    def classes(self) -> list[str]:
        """The names of the classes, by label. Raises ProtegeError where there are none."""
        if "classes" not in self.body["extra"]:
            raise ProtegeError(f"{self.uri}: an output of {self.stage} has no list of classes")
        classes: list[str] = self.body["extra"]["classes"]
        return classes

    @property
    def weights(self) -> str:
        """The digest of a model's weights: what scores depend on, however the weights came about.

        Raises ProtegeError when it is no output of train.
        """
        if "weights" not in self.body["extra"]:
            raise ProtegeError(f"{self.uri} is an output of {self.stage}, and not a model")
        weights: str = self.body["extra"]["weights"]
        return weights

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of one of its tables (tasks/tables.py), in memory. Raises ProtegeError."""
        if name == tables.table_name(tables.REJECTS):
            return self.rejects(columns)
        schemas = {
            part["name"]: read_schema(self.store, part["name"])
            for part in self.body["parts"]
            if part["name"].endswith(".parquet")
        }
        names = {tables.table_name(schema) for schema in schemas.values()}
        if name not in names:
            known = ", ".join(sorted(names)) or "none"
            raise ProtegeError(f"{self.uri} has no table {name!r}; there are: {known}")
        return pa.concat_tables(
            read_part(self.store, part, schema, columns)
            for part, schema in schemas.items()
            if tables.table_name(schema) == name
        )

    def rejects(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The images that could not be used, with the reason."""
        names = [
            rejects_name(part_number(part["name"]))
            for part in self.body["parts"]
            if part["rejected"]
        ]
        found = [read_part(self.store, name, tables.REJECTS, columns) for name in names]
        empty = tables.REJECTS.empty_table().select(columns or tables.REJECTS.names)
        return pa.concat_tables([empty, *found])

    def lineage(self) -> list[Node]:
        """This output and all that it was made from, each once."""
        return list(walk(self.root, {self.stage: self.link}))


class _Bodies:
    """The manifests that were read last: one of 100,000 parts takes a second to read."""

    def __init__(self, size: int = 8) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str, str], dict[str, Any]] = OrderedDict()

    def keep(self, uri: str, name: str, body: dict[str, Any]) -> None:
        """Keep what was read."""
        with self._lock:
            self._kept[uri, name, body["digest"]] = body
            self._kept.move_to_end((uri, name, body["digest"]))
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)

    def get(self, uri: str, name: str, digest: str) -> dict[str, Any]:
        """The manifest of this digest. Raises ProtegeError when another one is there now."""
        body = self._kept.get((uri, name, digest))
        if body is None:
            body = json.loads(open_store(uri).read(name))
            if body["digest"] != digest:
                raise ProtegeError(
                    f"{uri}/{name} is another output now: what it was made from has changed. Run "
                    "again, so that what was made from it is made anew"
                )
        self.keep(uri, name, body)
        return body


_BODIES = _Bodies()


@dataclass(frozen=True)
class Manifest:
    """What an output is and where it came from; published last."""

    stage: str
    fingerprint: str
    options: Mapping[str, Any]
    inputs: Mapping[str, Mapping[str, str]]
    parts: Sequence[Receipt]
    seconds: float
    extra: Mapping[str, Any] = field(default_factory=dict)
    # Rejects, by reason, with another attempt in a later part, which is what counts.
    rechecked: Mapping[str, int] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Identity of the content: the parts and what they hold, not when or how fast."""
        parts = sorted((part.name, part.digest) for part in self.parts)
        return digest_of([self.stage, self.fingerprint, parts])


def publish(store: Store, manifest: Manifest, name: str = MANIFEST) -> Output:
    """Publish the manifest and return the reference to the output."""
    rechecked = sum(manifest.rechecked.values())
    body = {
        "stage": manifest.stage,
        "fingerprint": manifest.fingerprint,
        "digest": manifest.digest,
        "rows_in": sum(part.rows_in for part in manifest.parts) - rechecked,
        "kept": sum(part.kept for part in manifest.parts),
        "rejected": sum(part.rejected for part in manifest.parts) - rechecked,
        "rechecked": manifest.rechecked,
        "reasons": _total_reasons(manifest.parts),
        "seconds": round(manifest.seconds, 3),
        "work_seconds": _total_seconds(manifest.parts),
        "made_at": utc_now(),
        "options": manifest.options,
        "inputs": manifest.inputs,
        "versions": versions(),
        "extra": manifest.extra,
        "parts": [_part_entry(store, part) for part in manifest.parts],
    }
    store.replace(name, json.dumps(body, indent=1, ensure_ascii=False).encode())
    return _reference(store, name, body, reused=False)


def retract(store: Store, names: Collection[str], listing: Iterable[str]) -> None:
    """Delete the manifests of a listing that speak of these parts, which will be made anew."""
    for manifest in manifest_names(listing) if names else []:
        try:
            parts = json.loads(store.read(manifest))["parts"]
        except FileNotFoundError:
            # Another worker was faster.
            continue
        if not {part["name"] for part in parts}.isdisjoint(names):
            store.delete(manifest)


def manifest_names(listing: Iterable[str]) -> list[str]:
    """The manifests in a listing of an output; there may be one for each snapshot."""
    return [name for name in listing if re.fullmatch(MANIFEST_NAMES, name)]


def find_output(store: Store, name: str = MANIFEST) -> Output | None:
    """The reference to a finished output in this folder.

    None when there is no manifest, or a part that it names is gone: whoever deletes a damaged part
    gets it made again.
    """
    try:
        body = json.loads(store.read(name))
    except FileNotFoundError:
        return None
    listed = store.sizes()
    unlisted = (part["name"] for part in body["parts"] if part["name"] not in listed)
    # Some stores list late what was just written, so that each is asked for.
    if not all(map(store.exists, unlisted)):
        return None
    _BODIES.keep(store.uri, name, body)
    return _reference(store, name, body, reused=True)


def output_of(node: Node) -> Output | None:
    """The output of a node in a lineage, if it is still there."""
    folder, _, name = node.link["manifest"].rpartition("/")
    return find_output(open_store(f"{node.root.uri}/{folder}"), name)


def part_names(output: Output) -> list[str]:
    """The names of the parts of an output, in order."""
    return [part["name"] for part in output.body["parts"]]


def read_rows(
    output: Output, schema: pa.Schema, columns: Sequence[str] | None = None, prefix: str = "part-"
) -> pa.Table:
    """All rows of a small output whose parts begin with `prefix`."""
    names = [name for name in part_names(output) if name.startswith(prefix)]
    tables = [read_part(output.store, name, schema, columns) for name in names]
    return pa.concat_tables(tables) if tables else schema.empty_table()


def _part_entry(store: Store, part: Receipt) -> dict[str, Any]:
    """What a manifest says of a part."""
    # Not by a listing of all: on some stores, what was just written is not in it yet.
    known = part.num_bytes
    return {
        "name": part.name,
        **part.footer,
        "bytes": store.sizes(part.name)[part.name].size if known is None else known,
    }


def _reference(store: Store, name: str, body: Mapping[str, Any], *, reused: bool) -> Output:
    taken = ("stage", "fingerprint", "digest", "rows_in", "kept", "rejected", "seconds")
    return Output(uri=store.uri, manifest=name, reused=reused, **{key: body[key] for key in taken})


def _total_reasons(parts: Iterable[Receipt]) -> dict[str, dict[str, int]]:
    """The rejects of all parts, by reason and ending; those with another attempt are among them."""
    total: dict[str, Counter[str]] = {}
    for part in parts:
        for reason, endings in part.reasons.items():
            total.setdefault(reason, Counter()).update(endings)
    return {reason: dict(sorted(total[reason].items())) for reason in sorted(total)}


def _total_seconds(parts: Iterable[Receipt]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        for kind, seconds in part.seconds.items():
            total[kind] = total.get(kind, 0.0) + seconds
    return {kind: round(seconds, 3) for kind, seconds in total.items()}

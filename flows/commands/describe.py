"""Describe: what lies at an address, for people: `protege show URI`.

In: the address of an output, a table, a manifest, weights or a campaign. Out: text: what it is, its
schema with a note on each column, rows, first lines, and where it came from.
"""

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from flows.commands.rejects import reject_lines
from infra.errors import ProtegeError, describe_error
from infra.store import Store, open_store, split_uri
from tasks.contract import output_at
from tasks.tables import table_name

FIRST_ROWS = 5
CELL_WIDTH = 48


def describe(uri: str) -> Iterator[str]:
    """Lines that say what is at this address. Raises ProtegeError for nothing, and for damage."""
    with readable(uri):
        yield from _describe(uri)


def content(uri: str) -> dict[str, Any]:
    """The same for a program: a manifest, a campaign, or the schema of a table. As `describe`."""
    with readable(uri):
        store, name = split_uri(uri)
        if not store.exists(name):
            return output_at(uri).body
        if name.endswith(".json"):
            return dict(json.loads(store.read(name)))
        if name.endswith(".parquet"):
            with store.open_parquet(name) as parquet:
                fields = {field.name: str(field.type) for field in parquet.schema}
            return {"rows": parquet.metadata.num_rows, "fields": fields}
        return _weights_header(store.read(name))


@contextmanager
def readable(uri: str) -> Iterator[None]:
    """A file that is damaged, or of somebody else, gives one sentence. Raises ProtegeError."""
    try:
        yield
    except (pa.ArrowException, ValueError, LookupError, TypeError, struct.error, OSError) as error:
        raise ProtegeError(
            f"{uri} is damaged, cannot be read, or is no file of protege: {describe_error(error)}. "
            "An output of protege is made again when its file is deleted"
        ) from error


def _describe(uri: str) -> Iterator[str]:
    store, name = split_uri(uri)
    if not store.exists(name):
        yield from _folder(open_store(uri))
        return
    if name.endswith(".parquet"):
        yield from _table(store, name)
    elif name.endswith(".safetensors"):
        yield from _weights(store, name)
    elif name.endswith(".json"):
        yield from _json(json.loads(store.read(name)), store)
    else:
        raise ProtegeError(f"{uri}: show knows tables, weights, manifests and output folders")
    if "manifest.json" in store.sizes() and name != "manifest.json":
        yield ""
        yield from _lineage(json.loads(store.read("manifest.json")), _root(store), 0)


def _folder(store: Store) -> Iterator[str]:
    names = list(store.sizes())
    manifests = [name for name in names if "/" not in name and name.startswith("manifest")]
    if not names:
        raise ProtegeError(f"{store.uri}: there is nothing here")
    if not manifests:
        yield f"{store.uri}: {len(names)} files and no manifest: not an output, or not complete yet"
        yield from (f"  {name}" for name in names[:20])
        return
    for manifest in manifests:
        body = json.loads(store.read(manifest))
        yield from _json(body, store)
        first = next((part["name"] for part in body["parts"] if part["kept"]), None)
        if first is not None and first.endswith(".parquet"):
            yield ""
            yield from _table(store, first)
        if body["rejected"] or body["extra"].get("passed_over"):
            yield ""
            yield from reject_lines(output_at(f"{store.uri}/{manifest}"), shown=FIRST_ROWS)


def _table(store: Store, name: str) -> Iterator[str]:
    with store.open_parquet(name) as parquet:
        schema, rows = parquet.schema, parquet.metadata.num_rows
        head = parquet.head(FIRST_ROWS)
    yield f"{store.uri}/{name}: table {table_name(schema)}, {rows:,} rows"
    for field in schema:
        note = (field.metadata or {}).get(b"note", b"").decode()
        yield f"  {field.name:<14} {field.type!s:<32} {note}"
    for row in head.to_pylist():
        yield "  " + "  ".join(f"{key}={_short(value)}" for key, value in row.items())


def _weights(store: Store, name: str) -> Iterator[str]:
    data = store.read(name)
    header = _weights_header(data)
    metadata = header.pop("__metadata__", {})
    yield f"{store.uri}/{name}: weights, {len(header)} tensors, {len(data):,} bytes"
    for key, value in json.loads(metadata.get("protege", "{}")).items():
        yield f"  {key}: {_short(value)}"
    for tensor, about in list(header.items())[:FIRST_ROWS]:
        yield f"  {tensor}: {about['dtype']} {about['shape']}"


def _weights_header(data: bytes) -> dict[str, Any]:
    (size,) = struct.unpack("<Q", data[:8])
    return dict(json.loads(data[8 : 8 + size]))


def _json(body: dict[str, Any], store: Store) -> Iterator[str]:
    if not (isinstance(body, dict) and "fingerprint" in body):
        yield json.dumps(body, indent=1, ensure_ascii=False)
        return
    yield f"{body['stage']} {body['fingerprint']}, made {body['made_at']} in {body['seconds']} s"
    yield f"  rows in {body['rows_in']:,}, kept {body['kept']:,}, rejected {body['rejected']:,}"
    yield f"  parts {len(body['parts'])}, content {body['digest']}"
    yield f"  options {json.dumps(body['options'])}"
    yield from _lineage(body, _root(store), 0)


def _lineage(body: dict[str, Any], root: Store, depth: int) -> Iterator[str]:
    """The chain of manifests behind an output, as an indented tree."""
    if depth == 0:
        yield f"lineage of {body['stage']} {body['fingerprint']}"
    for role, about in body["inputs"].items():
        yield f"{'  ' * (depth + 1)}{role}: {about['stage']} {about['fingerprint']}"
        if root.exists(about["manifest"]):
            yield from _lineage(json.loads(root.read(about["manifest"])), root, depth + 1)


def _root(store: Store) -> Store:
    """The root above `<root>/<stage>/<fingerprint>`."""
    return open_store(store.uri.rsplit("/", 2)[0])


def _short(value: Any) -> str:
    text = f"<{len(value):,} bytes>" if isinstance(value, bytes) else str(value)
    return text if len(text) <= CELL_WIDTH else text[: CELL_WIDTH - 3] + "..."

"""Sources: folders and tar files of small images, what `shard` makes of them, and its rows."""

import functools
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings

from infra.store import Store, open_store
from tasks import contract, tables
from tasks.contract import Output
from tasks.images import REASONS, encode_png
from tasks.shard import ShardOptions, shard

# Few examples, each in a folder of its own.
CALM = settings(
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@functools.cache
def image(number: int) -> bytes:
    return encode_png(np.full((8, 8, 3), number % 251, np.uint8))


def fill(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(image(number))
    return folder


def run(root: Store, source: Path | str, **options: Any) -> Output:
    return shard(root, ShardOptions(source=str(source), **options))


def rows(output: Output, *columns: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = contract.read_rows(
        output, tables.IMAGES, list(columns) or None
    ).to_pylist()
    return found


def rejects(output: Output) -> dict[str, str]:
    """Reason by key, over all shards."""
    found: dict[str, str] = {}
    for name in output.store.sizes():
        if name.startswith("rejects-"):
            with output.store.open_parquet(name) as parquet:
                for row in parquet.read().to_pylist():
                    assert row["reason"] in REASONS
                    assert row["detail"]
                    found[row["key"]] = row["reason"]
    return found


def files(folder: str) -> dict[str, bytes]:
    store = open_store(folder)
    return {name: store.read(name) for name in store.sizes()}


def tar_of(path: Path, contents: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path

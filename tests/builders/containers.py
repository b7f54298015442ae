"""Containers of every kind for tests, and what is read of them."""

import io
import tarfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.shard.sources import Columns, Member, Reading, read_container


def tar_bytes(contents: Mapping[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, data in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def parquet(path: Path, metadata: dict[bytes, bytes] | None = None, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    return path


def read(
    path: Path,
    *,
    labelled: bool = False,
    image: str = "",
    label: str = "",
    folder: str | None = None,
    passed_over: Counter[str] | None = None,
) -> list[Member]:
    reading = Reading(labelled, Columns(image, label), label=folder, in_place=True)
    return list(
        read_container(str(path), reading, Counter() if passed_over is None else passed_over)
    )

"""Gather: a tenth of a pile, shuffled, against cp and two databases. `make bench-gather`

    python -m tests.bench.gather FOLDER [--shards 2000] [--images 250] [--kib 20]
        [--datasets-python PYTHON]

The images are noise of lognormal sizes, 10 GB of them by default, in shards as the stage `shard`
packs them; one in ten is chosen, without regard to its shard. In each round, two processes gather
them; `cp` copies the files that came out, and `sync` writes them to the disk, as a part is when it
is published; DuckDB joins, orders by a hash and writes Parquet; Hugging Face `datasets` (where
PYTHON can import it, for it wants another fsspec than s3fs) selects, shuffles and saves, from Arrow
files that were made before. Each program reads what the one before has read, so that the files are
in the memory of the operating system, if there is enough.

Prints one JSON line, with medians. `cp_ratio` is the time of `cp` by that of `gather`, `peer_ratio`
that of the best peer by that of `gather`. On a local disk an image is read where it is; the other
figures are of a process that brings it through the exchange, as on S3: `memory_growth` is its peak
memory at all shards by that at a tenth, `requests` are those that an object store would see, also
by source shards and lesson parts together. `billion_hours` is the time of 64 million lessons of
110 KB out of 100,000 shards for 100 such processes, by the measured rate and 30 ms for each request
of the plan.
"""

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa

from infra.executors import Cluster, Executor, Inline
from infra.settings import DaskSettings
from infra.store import open_store
from tasks import contract, tables
from tasks.contract import Manifest, Output, PartWriter, Receipt, RowCounts
from tasks.gather import GatherOptions, gather, spills
from tasks.gather.plan import SPILL_BYTES, TWO_EXCHANGES
from tasks.shard import IMAGE_BYTES
from tasks.tables import ROW_BITS
from tests.bench.counting import Requests, counting
from tests.builders.peak import peak_mib
from tests.builders.shards import images_table

CLASSES = 1_000
CHOSEN_SHARE = 0.1
POOL_BYTES = 64 << 20
GROUP_BYTES = 32 << 20
OPTIONS = GatherOptions(mib_per_part=64)  # so that a tenth of the shards have several parts
REQUEST_SECONDS = 0.03
TOUCHED_BYTES = 6 << 30
ROUNDS = 3

Line = dict[str, Any]
PROCESSES = 100


def write_images(root: Path, num_shards: int, images: int, kib: int) -> Output:
    """An output of `shard` whose images are noise, or the one that is there."""
    store = open_store(f"{root}/shard/{num_shards}-{images}-{kib}")
    if (found := contract.find_output(store, "manifest.json")) is not None:
        return found
    pool = np.random.default_rng(0).bytes(POOL_BYTES)
    receipts = [_write_shard(store.uri, number, images, kib, pool) for number in range(num_shards)]
    return contract.publish(store, Manifest("shard", "noise", {}, {}, receipts, 0.0, {}))


def _write_shard(uri: str, number: int, images: int, kib: int, pool: bytes) -> Receipt:
    rng = np.random.default_rng([1, number])
    sizes = np.maximum(64, rng.lognormal(math.log(kib << 10), 0.5, images)).astype(np.int64)
    firsts = rng.integers(0, POOL_BYTES - sizes)
    data = [pool[first : first + size] for first, size in zip(firsts, sizes, strict=True)]
    table = images_table(
        {
            "image_id": pa.array((number << ROW_BITS) + np.arange(images)),
            "image": pa.array(data, pa.binary()),
            "size": pa.array(sizes),
            "key": pa.array([f"{number}/{row}.jpg" for row in range(images)]),
            "content_hash": pa.array(firsts.astype(np.uint64)),
        }
    )
    writer = PartWriter(uri, contract.PartId(number))
    with writer.draft(tables.IMAGES, tables.IMAGES_LAYOUT) as draft:
        rows = max(1, GROUP_BYTES // (kib << 10))
        for first in range(0, images, rows):
            draft.add(table.slice(first, rows))
        return writer.publish(draft, {IMAGE_BYTES: str(int(sizes.sum()))})


def write_chosen(root: Path, images: Output) -> Output:
    """An output of `topk` with a tenth of the images, drawn at random."""
    store = open_store(f"{root}/topk/{images.digest}")
    if (found := contract.find_output(store, "manifest.json")) is not None:
        return found
    shards = len(images.body["parts"])
    per_shard = images.kept // shards
    rng = np.random.default_rng(2)
    taken = np.sort(rng.choice(images.kept, int(images.kept * CHOSEN_SHARE), replace=False))
    ids = (taken // per_shard << ROW_BITS) + taken % per_shard
    labels = rng.integers(0, CLASSES, len(ids)).astype(np.int32)
    order = np.lexsort((ids, labels))
    count = len(ids)
    table = pa.table(
        {
            "label": pa.array(labels[order]),
            "rank": pa.array(np.arange(count, dtype=np.int32)),
            "image_id": pa.array(ids[order]),
            "log_odds": pa.array(np.ones(count, np.float32)),
            "repeats": pa.array(np.ones(count, np.int32)),
        }
    ).cast(tables.CHOSEN)
    receipt = contract.write_part(store, contract.part_name(0), table, RowCounts(count, count, 0))
    extra = {"classes": [f"class-{label}" for label in range(CLASSES)]}
    return contract.publish(store, Manifest("topk", "chosen", {}, {}, [receipt], 0.0, extra))


def gather_anew(
    root: Path, images: Output, chosen: Output, executor: Executor
) -> tuple[Output, float]:
    """Gather into an empty folder; what came out, and the seconds."""
    shutil.rmtree(root, ignore_errors=True)
    began = time.perf_counter()
    output = gather(open_store(str(root)), images, chosen, OPTIONS, executor=executor)
    return output, time.perf_counter() - began


def touch_memory() -> None:
    """Use the memory that a program is about to need.

    What nobody has used for some seconds comes back slowly on a virtual machine, whose host has
    taken it: of two programs, the first would pay for both.
    """
    np.ones(TOUCHED_BYTES, np.uint8)


def copy_seconds(folder: Path, to: Path) -> float:
    """Seconds in which `cp` copies these files, and `sync` writes them to the disk."""
    shutil.rmtree(to, ignore_errors=True)
    touch_memory()
    began = time.perf_counter()
    subprocess.run(["cp", "-r", str(folder), str(to)], check=True)
    subprocess.run(["sync", *map(str, sorted(to.glob("*.parquet")))], check=True)
    seconds = time.perf_counter() - began
    shutil.rmtree(to)
    return seconds


def duckdb_seconds(images: Output, chosen: Output, to: Path) -> float:
    """Seconds in which DuckDB joins the choice with the images and writes them by a hash."""
    import duckdb

    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    touch_memory()
    began = time.perf_counter()
    with duckdb.connect() as database:
        database.execute("SET threads = 2")
        database.execute(
            f"COPY (SELECT image_id, image, chosen.label FROM '{images.uri}/part-*.parquet' "
            f"JOIN (SELECT image_id, label FROM '{chosen.uri}/part-*.parquet') AS chosen "
            "USING (image_id) "
            f"ORDER BY hash(image_id, chosen.label)) TO '{to}/lessons.parquet' "
            "(FORMAT parquet, COMPRESSION uncompressed, ROW_GROUP_SIZE 2048)"
        )
    subprocess.run(["sync", f"{to}/lessons.parquet"], check=True)
    seconds = time.perf_counter() - began
    shutil.rmtree(to)
    return seconds


DATASETS = f"""
import glob, shutil, sys, time
import datasets, numpy as np, pyarrow.parquet as pq
images, chosen, cache, to, rounds = sys.argv[1:]
files = sorted(glob.glob(images + "/part-*.parquet"))
data = datasets.Dataset.from_parquet(files, columns=["image_id", "image"], cache_dir=cache)
for _ in range(int(rounds)):
    np.ones({TOUCHED_BYTES}, np.uint8)
    began = time.perf_counter()
    ids = np.array(data.data.column("image_id").to_numpy())
    table = pq.read_table(chosen + "/part-00000.parquet", columns=["image_id"])
    places = np.flatnonzero(np.isin(ids, table["image_id"].to_numpy()))
    data.select(places).shuffle(seed=0).save_to_disk(to, num_proc=2)
    print(time.perf_counter() - began)
    shutil.rmtree(to)
"""


def datasets_seconds(python: str, images: Output, chosen: Output, folder: Path) -> list[float]:
    """Seconds in which Hugging Face datasets selects the chosen images, shuffles and saves them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [python, "-c", DATASETS, images.uri, chosen.uri]
    done = subprocess.run(
        [*command, str(folder / "cache"), str(folder / "saved"), str(ROUNDS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    shutil.rmtree(folder)
    return [float(line) for line in done.stdout.splitlines()[-ROUNDS:]]


def measure_one(folder: Path, shards: int, images: int, kib: int) -> Line:
    """Memory, requests and time of one process that brings all images through the exchange."""
    pile = write_images(folder, shards, images, kib)
    chosen = write_chosen(folder, pile)
    requests = Requests()
    with patch.object(spills, "images_stay", lambda _places: False), counting(requests):
        output, seconds = gather_anew(folder / "one", pile, chosen, Inline())
    parts = len(contract.part_names(output))
    figures: Line = {"peak_mib": peak_mib(), "parts": parts, "digest": parts_digest(output)}
    shutil.rmtree(folder / "one")
    return {**figures, "requests": requests.total, "seconds": seconds}


def in_own_process(folder: Path, shards: int, images: int, kib: int) -> Line:
    """The same in a fresh process."""
    given = [str(folder), "--shards", str(shards), "--images", str(images), "--kib", str(kib)]
    command = [sys.executable, "-m", "tests.bench.gather", *given, "--one"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: Line = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(folder: Path, images: Output, chosen: Output, given: argparse.Namespace) -> Line:
    """The figures of the JSON line."""
    times: dict[str, list[float]] = {"gather": [], "cp": [], "duckdb": []}
    with Cluster(DaskSettings(workers=2)) as cluster:
        gather_anew(folder / "warm", *_small(folder), cluster)
        for _ in range(ROUNDS):
            touch_memory()
            output, seconds = gather_anew(folder / "made", images, chosen, cluster)
            times["gather"].append(seconds)
            times["cp"].append(copy_seconds(Path(output.uri), folder / "copied"))
            times["duckdb"].append(duckdb_seconds(images, chosen, folder / "duckdb"))
    if given.datasets_python:
        python = given.datasets_python
        times["datasets"] = datasets_seconds(python, images, chosen, folder / "datasets")
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    seconds, copied = medians.pop("gather"), medians.pop("cp")
    num_bytes = sum(int(part["facts"][IMAGE_BYTES]) for part in output.body["parts"])
    small, large = (
        in_own_process(folder, shards, given.images, given.kib)
        for shards in (given.shards // 10, given.shards)
    )
    assert large["digest"] == parts_digest(output), "another result by another way"
    together = given.shards + large["parts"]
    return {
        "bench": "gather",
        "gigabytes": round(num_bytes / 1e9, 3),
        "lessons": output.kept,
        "seconds": round(seconds, 2),
        "mb_per_second": round(num_bytes / seconds / 1e6, 1),
        "cp_seconds": round(copied, 2),
        "cp_ratio": round(copied / seconds, 3),
        "peer_seconds": {name: round(value, 2) for name, value in medians.items()},
        "peer_ratio": round(min(medians.values()) / seconds, 2),
        "exchange_mb_per_second": round(num_bytes / large["seconds"] / 1e6, 1),
        "peak_mib": [round(small["peak_mib"]), round(large["peak_mib"])],
        "memory_growth": round(large["peak_mib"] / small["peak_mib"], 2),
        "requests": large["requests"],
        "requests_per_shard_and_part": round(large["requests"] / together, 2),
        "billion_hours": round(billion_hours(num_bytes / large["seconds"]), 2),
    }


def billion_hours(bytes_per_second: float) -> float:
    """Hours of the exchange of 64 million lessons of 110 KB, at this rate of a process."""
    shards, lessons, size = 100_000, 64_000_000, 110_000
    parts, spills = (
        lessons * size / (GatherOptions().mib_per_part << 20),
        lessons * size / SPILL_BYTES / TWO_EXCHANGES,
    )
    requests = math.sqrt(parts) * spills + math.sqrt(spills) * parts + 40 * shards
    seconds = 2 * lessons * size / bytes_per_second + requests * REQUEST_SECONDS
    return seconds / PROCESSES / 3_600


def parts_digest(output: Output) -> str:
    """What all parts of an output hold."""
    return contract.digest_of([part["digest"] for part in output.body["parts"]])


def _small(folder: Path) -> tuple[Output, Output]:
    """A small pile, by which every worker has loaded what it needs."""
    images = write_images(folder, 4, 100, 20)
    return images, write_chosen(folder, images)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="Some 15 GB are written here.")
    parser.add_argument("--shards", type=int, default=2_000)
    parser.add_argument("--images", type=int, default=250, help="In each shard.")
    parser.add_argument("--kib", type=int, default=20, help="Median size of an image.")
    parser.add_argument("--datasets-python", default="", help="A Python that imports datasets.")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    folder = given.folder.absolute()
    if given.one:
        print(json.dumps(measure_one(folder, given.shards, given.images, given.kib)))
        return
    images = write_images(folder, given.shards, given.images, given.kib)
    chosen = write_chosen(folder, images)
    print(json.dumps(compare(folder, images, chosen, given)))


if __name__ == "__main__":
    main()

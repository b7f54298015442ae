"""Simulate: what grows with the number of shards, on a store that takes its time. `make simulate`

    python -m tests.bench.simulate FOLDER [--shards 1000,10000] [--workers 16]

Synthetic images without pixels, 20 in a shard, and their scores; the stages themselves run on a
real Dask cluster with processes. In every process, each request to the store takes 30 ms and is
counted as an object store would see it (tests/bench/counting.py). Shards are small here, because it
is their number that matters: the images of a real shard are read in the same requests, and more of
them.

    score    the shards are empty: what a shard costs by itself
    topk     the 100 best of each of 100 classes
    gather   of one image in ten, all through the exchange, as on S3

Prints a table and one JSON line, with figures by stage and number of shards: the seconds, the
requests and the bytes read of each shard, and the peak memory in MiB of the largest worker and of
this process, which has the scheduler in it. `straight` is the time of a shard at the largest number
of shards by that at the smallest.
"""

import argparse
import json
import multiprocessing
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from infra.executors import Cluster
from infra.settings import DaskSettings
from infra.store import open_store
from tasks import contract, tables
from tasks.contract import Manifest, Output, Receipt, RowCounts
from tasks.duplicates.matching import THUMBNAIL_BYTES
from tasks.gather import GatherOptions, gather
from tasks.score import ScoreOptions, score, scores_table
from tasks.shard import IMAGE_BYTES
from tasks.shard.changes import content_hash
from tasks.tables import ROW_BITS
from tasks.topk import TopkOptions, topk
from tests.bench.counting import count_anew, counted
from tests.bench.score import CORES, many_shards, write_teacher
from tests.builders.score_tables import no_tags

REQUEST_SECONDS = 0.03
IMAGES, IMAGE = 20, bytes(1_000)
NUM_CLASSES, TOP_P, K = 100, 3, 100
CLASSES = [f"class-{number}" for number in range(NUM_CLASSES)]

Line = dict[str, Any]


def write_images(folder: Path, shards: int) -> Output:
    """Shards of equal images, which lie in one file."""
    blob = folder / "images.bin"
    blob.write_bytes(IMAGE)
    store = open_store(f"{folder}/root/shard/synthetic-{shards}")
    return _written(store.uri, shards, "shard", partial(_images_part, store.uri, str(blob)), {})


def write_scores(folder: Path, shards: int) -> Output:
    """Scores of these images."""
    store = open_store(f"{folder}/root/score/synthetic-{shards}")
    extra = {"classes": CLASSES, "top_p": TOP_P}
    return _written(store.uri, shards, "score", partial(_scores_part, store.uri), extra)


def _written(
    uri: str, shards: int, stage: str, write: Callable[[int], Receipt], extra: dict[str, Any]
) -> Output:
    store = open_store(uri)
    if (found := contract.find_output(store)) is not None:
        return found
    with ProcessPoolExecutor(CORES, multiprocessing.get_context("spawn")) as pool:
        receipts = list(pool.map(write, range(shards), chunksize=200))
    return contract.publish(store, Manifest(stage, str(shards), {}, {}, receipts, 0.0, extra))


def _images_part(uri: str, blob: str, number: int) -> Receipt:
    place = {"uri": blob, "offset": 0, "size": len(IMAGE), "content_hash": content_hash(IMAGE)}
    rows = [
        {"image_id": (number << ROW_BITS) + row, "key": f"{number}/{row}.jpg", **place}
        for row in range(IMAGES)
    ]
    return contract.write_part(
        open_store(uri),
        contract.part_name(number),
        pa.Table.from_pylist(rows, schema=tables.IMAGES),
        RowCounts(IMAGES, IMAGES, 0),
        facts={IMAGE_BYTES: str(IMAGES * len(IMAGE))},
        layout=tables.IMAGES_LAYOUT,
    )


def _scores_part(uri: str, number: int) -> Receipt:
    rng = np.random.default_rng(number)
    labels_NP = np.argsort(rng.random((IMAGES, NUM_CLASSES)), axis=1)[:, :TOP_P].astype(np.uint16)
    log_odds_NP = -np.sort(-rng.normal(-3, 2, (IMAGES, TOP_P)).astype(np.float32), axis=1)
    ids = (np.int64(number) << ROW_BITS) + np.arange(IMAGES)
    thumbnails = [rng.bytes(THUMBNAIL_BYTES) for _ in range(IMAGES)]
    signatures = [
        pa.array(rng.integers(2**64, size=IMAGES, dtype=np.uint64)),
        pa.array(thumbnails, pa.binary(THUMBNAIL_BYTES)),
    ]
    return contract.write_part(
        open_store(uri),
        contract.part_name(number),
        scores_table(ids, labels_NP, log_odds_NP, no_tags(IMAGES), signatures),
        RowCounts(IMAGES, IMAGES, 0),
        layout=tables.scores_layout(TOP_P),
    )


def measure(cluster: Cluster, shards: int, work: Callable[[], Output]) -> tuple[Line, Output]:
    """What a stage takes, by shard."""
    cluster.client.run(count_anew, REQUEST_SECONDS)
    count_anew(REQUEST_SECONDS)
    began = time.perf_counter()
    output = work()
    seconds = time.perf_counter() - began
    here, workers = counted(), list(cluster.client.run(counted).values())
    requests, num_bytes = (sum(each[place] for each in (here, *workers)) for place in (0, 1))
    line = {
        "seconds": round(seconds, 1),
        "ms_per_shard": round(1000 * seconds / shards, 2),
        "requests_per_shard": round(requests / shards, 2),
        "kb_per_shard": round(num_bytes / shards / 1000, 1),
        "worker_mib": round(max(peak for _, _, peak in workers)),
        "driver_mib": round(here[2]),
    }
    return line, output


def simulate(folder: Path, shards: int, workers: int) -> dict[str, Line]:
    """The figures of each stage at one number of shards."""
    images, scores = write_images(folder, shards), write_scores(folder, shards)
    empty = many_shards(folder, "empty", shards, 0)
    teacher = write_teacher(folder, "mean_colour", 16, CLASSES[:3])
    root = folder / "made"
    shutil.rmtree(root, ignore_errors=True)
    store, found = open_store(str(root)), {}
    options = GatherOptions(lessons_per_part=max(1, shards * IMAGES // 10 // 500))
    with Cluster(DaskSettings(workers=workers)) as cluster:
        warm = many_shards(folder, "warm", 16, 1)
        score(store, warm, teacher, executor=cluster)
        found["score"], _ = measure(
            cluster,
            shards,
            lambda: score(
                store, empty, teacher, ScoreOptions(max_reject_percent=100), executor=cluster
            ),
        )
        k = TopkOptions(k=shards * IMAGES // 10 // NUM_CLASSES, top_p=TOP_P)
        found["topk"], chosen = measure(
            cluster, shards, lambda: topk(store, scores, k, executor=cluster)
        )
        found["gather"], _ = measure(
            cluster, shards, lambda: gather(store, images, chosen, options, executor=cluster)
        )
    shutil.rmtree(root)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the table and the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shards", default="1000,10000", help="Numbers, with commas.")
    parser.add_argument("--workers", type=int, default=16)
    given = parser.parse_args(argv)
    folder = given.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    sizes = [int(number) for number in given.shards.split(",")]
    found = {shards: simulate(folder, shards, given.workers) for shards in sizes}
    stages = list(found[sizes[0]])
    for stage in stages:
        for shards in sizes:
            print(f"{stage:8} {shards:8,} shards  {found[shards][stage]}")
    straight = {
        stage: round(
            found[sizes[-1]][stage]["ms_per_shard"] / found[sizes[0]][stage]["ms_per_shard"], 2
        )
        for stage in stages
    }
    print(
        json.dumps({"bench": "simulate", "workers": given.workers, "straight": straight, **found})
    )


if __name__ == "__main__":
    main()

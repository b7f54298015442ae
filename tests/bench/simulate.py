"""Simulate: what grows with the number of shards, on a store that takes its time. `make simulate`

    python -m tests.bench.simulate FOLDER [--shards 1000,10000] [--stages topk,gather]

Synthetic images without pixels, 20 in a shard, and their scores; the stages themselves run on a
real Dask cluster with processes. In every process, each request to the store takes 30 ms and is
counted as an object store would see it (tests/bench/counting.py). Shards are small here, because it
is their number that matters: the images of a real shard are read in the same requests, and more of
them.

    shard    of tars with two images each, which stay where they are
    score    the shards are empty: what a shard costs by itself
    again    the same, when all of it is there
    topk     one image in ten for the classes
    gather   of these, all through the exchange, as on S3
    samples  2,400 images and names of them, as the report shows, by this process

Prints a table and one JSON line, with figures by stage and number of shards: the seconds, the
requests and the bytes read of each shard, what the requests cost for 100,000 shards at S3's prices,
and the peak memory in MiB of the largest worker and of this process, which has the scheduler in it.
`straight` is the time of a shard at the largest number of shards by that at the smallest.
"""

import argparse
import json
import multiprocessing
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa

from infra.executors import Cluster
from infra.settings import DaskSettings
from infra.store import open_store
from infra.store.local import LocalDraft
from tasks import contract, tables
from tasks.contract import Manifest, Output, Receipt, RowCounts
from tasks.duplicates.matching import THUMBNAIL_BYTES
from tasks.gather import GatherOptions, gather
from tasks.images import encode_png
from tasks.score import ScoreOptions, score, scores_table
from tasks.shard import IMAGE_BYTES, ShardOptions, read_keys, read_many, shard
from tasks.shard.changes import content_hash
from tasks.tables import ROW_BITS
from tasks.topk import TopkOptions, topk
from tests.bench.counting import count_anew, counted
from tests.bench.score import CORES, many_shards, write_teacher
from tests.builders.containers import tar_bytes
from tests.builders.score_tables import no_tags

REQUEST_SECONDS = 0.03
IMAGES, IMAGE = 20, bytes(1_000)
NUM_CLASSES, TOP_P, K = 100, 3, 100
CLASSES = [f"class-{number}" for number in range(NUM_CLASSES)]

SAMPLES = 2_400
# Of S3 in us-east-1, for a million requests; to delete costs nothing.
DOLLARS = {"get": 0.4, "head": 0.4, "put": 5.0, "list": 5.0, "delete": 0.0}
BILLION_SHARDS = 100_000
MOST_LINKS = 50_000  # a file may have 65,000 names on ext4

Line = dict[str, Any]


def write_images(folder: Path, shards: int) -> Output:
    """Shards of equal images, which lie in one file."""
    blob = folder / "images.bin"
    blob.write_bytes(IMAGE)
    store = open_store(f"{folder}/root/shard/synthetic-{shards}")
    return _written(store.uri, shards, "shard", partial(_images_part, store.uri, str(blob)), {})


def write_tars(folder: Path, shards: int) -> Path:
    """A folder of as many tars, which are one file by many names."""
    place = folder / f"tars-{shards}"
    place.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(256, size=(2, 8, 8, 3), dtype=np.uint8)
    data = tar_bytes({f"{row}.png": encode_png(pixels[row]) for row in range(2)})
    for number in range(shards):
        tar = place / f"{number:06d}.tar"
        if tar.exists():
            continue
        if number % MOST_LINKS:
            tar.hardlink_to(place / f"{number - number % MOST_LINKS:06d}.tar")
        else:
            tar.write_bytes(data)
    return place


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
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(CORES, spawn, initializer=_without_syncs) as pool:
        receipts = list(pool.map(write, range(shards), chunksize=200))
    return contract.publish(store, Manifest(stage, str(shards), {}, {}, receipts, 0.0, extra))


def _without_syncs() -> None:
    """These files are not what is measured, and need not outlive the machine."""
    patch.object(LocalDraft, "_sync", lambda draft: draft.file.flush()).start()


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
        layout=tables.scores_layout(tables.scores(TOP_P)),
    )


def measure(cluster: Cluster, shards: int, work: Callable[[], object]) -> Line:
    """What a stage takes, by shard."""
    cluster.client.run(count_anew, REQUEST_SECONDS)
    count_anew(REQUEST_SECONDS)
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    here, workers = counted(), list(cluster.client.run(counted).values())
    requests = sum((counts for counts, _, _ in (here, *workers)), Counter[str]())
    num_bytes = sum(each for _, each, _ in (here, *workers))
    dollars = sum(DOLLARS[kind] / 1e6 * count for kind, count in requests.items())
    return {
        "seconds": round(seconds, 1),
        "ms_per_shard": round(1000 * seconds / shards, 2),
        "requests_per_shard": round(requests.total() / shards, 2),
        "requests": dict(sorted(requests.items())),
        "kb_per_shard": round(num_bytes / shards / 1000, 1),
        "dollars_per_billion": round(dollars * BILLION_SHARDS / shards, 2),
        "worker_mib": round(max(peak for _, _, peak in workers)),
        "driver_mib": round(here[2]),
    }


def read_samples(images: Output, shards: int) -> None:
    """Read scattered images and their names, as the report does."""
    rng = np.random.default_rng(0)
    numbers = rng.integers(shards, size=SAMPLES).astype(np.int64)
    ids = (numbers << ROW_BITS) + rng.integers(IMAGES, size=SAMPLES)
    assert len(list(read_many(images, ids))) == len(np.unique(ids))
    assert len(read_keys(images, ids)) == SAMPLES


@dataclass(frozen=True)
class Inputs:
    """What the stages are given, unless it is there."""

    images: Output
    scores: Output
    empty: Output
    tars: ShardOptions

    @staticmethod
    def write(folder: Path, shards: int) -> "Inputs":
        """Write them, with no seconds for a request."""
        return Inputs(
            write_images(folder, shards),
            write_scores(folder, shards),
            many_shards(folder, "empty", shards, 0),
            ShardOptions(source=str(write_tars(folder, shards)), verify="header"),
        )


def simulate(
    folder: Path, given: Inputs, shards: int, workers: int, stages: Sequence[str]
) -> dict[str, Line]:
    """The figures of these stages at one number of shards."""
    warm = many_shards(folder, "warm", 16, 1)
    teacher = write_teacher(folder, "mean_colour", 16, CLASSES[:3])
    root = folder / "made"
    shutil.rmtree(root, ignore_errors=True)
    store, any_rejects = open_store(str(root)), ScoreOptions(max_reject_percent=100)
    of_ten = TopkOptions(k=shards * IMAGES // 10 // NUM_CLASSES, top_p=TOP_P)
    in_parts = GatherOptions(lessons_per_part=max(1, shards * IMAGES // 10 // 500))
    with Cluster(DaskSettings(workers=workers)) as cluster:

        def run_score() -> Output:
            return score(store, given.empty, teacher, any_rejects, executor=cluster)

        def run_topk() -> Output:
            return topk(store, given.scores, of_ten, executor=cluster)

        work: dict[str, Callable[[], object]] = {
            "shard": lambda: shard(store, given.tars, executor=cluster),
            "score": run_score,
            "again": run_score,
            "topk": run_topk,
            "gather": lambda: gather(store, given.images, run_topk(), in_parts, executor=cluster),
            "samples": lambda: read_samples(given.images, shards),
        }
        score(store, warm, teacher, executor=cluster)
        found = {stage: measure(cluster, shards, work[stage]) for stage in stages or work}
    shutil.rmtree(root)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the table and the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shards", default="1000,10000", help="Numbers, with commas.")
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--stages", default="", help="Some of them, with commas; default: all.")
    given = parser.parse_args(argv)
    folder = given.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    sizes = [int(number) for number in given.shards.split(",")]
    wanted = [stage for stage in given.stages.split(",") if stage]
    inputs = {shards: Inputs.write(folder, shards) for shards in sizes}
    found = {
        shards: simulate(folder, inputs[shards], shards, given.workers, wanted) for shards in sizes
    }
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

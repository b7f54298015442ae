"""Topk: the exact K best of every class, against DuckDB and Polars. `make bench-topk`

`IMAGES` images (10 million by default) with their 10 best of 1,000 skewed classes, in parts of
100,000 as the stage `score` writes them, K = 16,000, two cores. Each program reads the same files
and writes the same table; the results are compared row by row. Each runs in a process of its own,
whose peak memory the kernel reports (VmHWM). Prints a table and one JSON line.

`seconds` and `peak_gb` are those of `topk` with the executor `Threads`. `deduplicated_*`: without
near-duplicates, also of as many labelled images as ImageNet has (3 % of the pile show one of 10,000
pictures). `dask_seconds`: on two worker processes of a Dask cluster that runs already.
`read_seconds`: reading the columns and nothing else. `other_k_seconds`: another K on the same
scores.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.executors import Threads
from infra.store import open_store
from tasks import contract, tables
from tasks.contract import MAX_BATCH, Manifest, Output, Receipt, RowCounts
from tasks.duplicates.matching import THUMBNAIL_BYTES
from tasks.score import scores_table
from tasks.topk import TopkOptions, topk
from tests.builders.score_tables import no_tags

IMAGES = int(os.environ.get("IMAGES", "10000000"))
PART_ROWS = 100_000
CLASSES, TOP_P, K = 1_000, 10, 16_000
REPEATED_PICTURES, REPEATED_SHARE = 10_000, 0.03
LABELLED_IMAGES = 1_281_167
CORES = 2
RESERVED_BYTES = 1_500_000_000  # memory that no program may take
TIMEOUT_SECONDS = 600
BILLION_IMAGES_PARTS = 100_000
CDF = np.cumsum(np.arange(1, CLASSES + 1) ** -0.7)


def write_part(uri: str, number: int) -> Receipt:
    """A part as a teacher leaves it: few classes are common, and only the best may be likely."""
    rng = np.random.default_rng(number)
    # Evenly spaced over the classes' shares, so that those of one image are all different.
    points = (rng.random((PART_ROWS, 1)) + rng.permutation(TOP_P) / TOP_P) % 1
    labels_NP = np.searchsorted(CDF / CDF[-1], points).astype(np.uint16)
    log_odds_NP = rng.normal(-1, 3, (PART_ROWS, TOP_P)).astype(np.float32)
    log_odds_NP[:, 1:] = -np.abs(log_odds_NP[:, 1:])
    log_odds_NP = -np.sort(-log_odds_NP, axis=1)
    ids = (np.int64(number) << 32) + np.arange(PART_ROWS)
    tags_and_signatures = no_tags(PART_ROWS), signatures(rng, PART_ROWS, REPEATED_SHARE)
    table = scores_table(ids, labels_NP, log_odds_NP, *tags_and_signatures)
    counts = RowCounts(PART_ROWS, PART_ROWS, 0)
    name, layout = contract.part_name(number), tables.scores_layout(tables.scores(TOP_P))
    return contract.write_part(open_store(uri), name, table, counts, layout=layout)


def signatures(rng: np.random.Generator, count: int, repeated_share: float) -> list[pa.Array]:
    """Signatures of noise; a share of the images show one of a few pictures."""
    repeated = rng.random(count) < repeated_share
    picture_N = np.where(repeated, rng.integers(REPEATED_PICTURES, size=count), -1)
    phashes = rng.integers(2**64, size=count, dtype=np.uint64)
    thumbnails = rng.integers(256, size=(count, THUMBNAIL_BYTES), dtype=np.uint8)
    rows = np.flatnonzero(picture_N >= 0)
    picture_phashes, picture_thumbnails = repeated_pictures()
    phashes[rows] = picture_phashes[picture_N[rows]]
    thumbnails[rows] = picture_thumbnails[picture_N[rows]]
    column = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(THUMBNAIL_BYTES), count, [None, pa.py_buffer(thumbnails.tobytes())]
    )
    return [pa.array(phashes), column]


def repeated_pictures() -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8]]:
    """Hashes and thumbnails of the pictures that many images show."""
    rng = np.random.default_rng(0)
    phashes = rng.integers(2**64, size=REPEATED_PICTURES, dtype=np.uint64)
    thumbnails = rng.integers(256, size=(REPEATED_PICTURES, THUMBNAIL_BYTES), dtype=np.uint8)
    return phashes, thumbnails


def write_labelled_signatures(folder: Path) -> Output:
    """Signatures of as many labelled images as ImageNet has."""
    store = open_store(str(folder / "signature" / "bench"))
    rng = np.random.default_rng(LABELLED_IMAGES)
    columns = [pa.array(np.arange(LABELLED_IMAGES)), *signatures(rng, LABELLED_IMAGES, 1e-4)]
    table = pa.Table.from_arrays(columns, schema=tables.SIGNATURES)
    counts, name = RowCounts(LABELLED_IMAGES, LABELLED_IMAGES, 0), contract.part_name(0)
    part = contract.write_part(store, name, table, counts, layout=tables.SIGNATURES_LAYOUT)
    return contract.publish(store, Manifest("signature", "bench", {}, {}, [part], 0.0))


def generate(folder: Path) -> Output:
    """The scores of a pile."""
    write_labelled_signatures(folder)
    store = open_store(str(folder / "score" / "bench"))
    numbers = range(-(-IMAGES // PART_ROWS))
    with ProcessPoolExecutor(CORES, get_context("spawn")) as pool:
        receipts = list(pool.map(write_part, [store.uri] * len(numbers), numbers, chunksize=8))
    names = [f"class-{label}" for label in range(CLASSES)]
    extra = {"classes": names, "top_p": TOP_P}
    return contract.publish(store, Manifest("score", "bench", {}, {}, receipts, 0.0, extra))


def output_of(folder: Path, stage: str) -> Output:
    """The output of the stage in this folder."""
    output = contract.find_output(open_store(str(folder / stage / "bench")))
    assert output is not None
    return output


def threads(folder: Path, k: int = K) -> None:
    """With the executor `Threads`."""
    topk(
        open_store(str(folder / "threads")),
        output_of(folder, "score"),
        TopkOptions(k=k, top_p=TOP_P, drop_near_duplicates=False),
        executor=Threads(CORES),
    )


def deduplicated(folder: Path) -> None:
    """The same without near-duplicates of one another and of labelled images."""
    topk(
        open_store(str(folder / "deduplicated")),
        output_of(folder, "score"),
        TopkOptions(k=K, top_p=TOP_P),
        executor=Threads(CORES),
        exclude={"labelled": output_of(folder, "signature")},
    )


def other_k(folder: Path) -> None:
    """Half of K, of the same scores."""
    threads(folder, k=K // 2)


def read(folder: Path) -> None:
    """Only read the columns."""
    columns = [name for rank in range(TOP_P) for name in tables.score_columns(rank)]

    def read_part(path: Path) -> int:
        return int(pq.ParquetFile(path).read(["image_id", *columns], use_threads=False).num_rows)

    with ThreadPoolExecutor(CORES) as pool:
        assert sum(pool.map(read_part, sorted((folder / "score/bench").glob("part-*")))) >= IMAGES


def duckdb(folder: Path) -> None:
    import duckdb

    database = duckdb.connect(config={"threads": CORES})
    labels = ", ".join(tables.score_columns(rank)[0] for rank in range(TOP_P))
    log_odds = ", ".join(tables.score_columns(rank)[1] for rank in range(TOP_P))
    database.execute(f"SET temp_directory = '{folder}/duckdb-spill'")
    ordered = "PARTITION BY label ORDER BY log_odds DESC, image_id"
    database.execute(
        f"""COPY (
            SELECT label::INT AS label, (row_number() OVER ({ordered}) - 1)::INT AS rank, image_id,
                   log_odds
            FROM (SELECT image_id, unnest([{labels}]) AS label, unnest([{log_odds}]) AS log_odds
                  FROM read_parquet('{folder}/score/bench/part-*.parquet'))
            QUALIFY rank < {K} ORDER BY label, rank
        ) TO '{folder}/duckdb.parquet'"""
    )


def polars(folder: Path) -> None:
    import polars as pl

    scan = pl.scan_parquet(folder / "score/bench/part-*.parquet")
    pairs = [
        scan.select("image_id", label=label, log_odds=log_odds)
        for label, log_odds in map(tables.score_columns, range(TOP_P))
    ]
    best = pl.col("image_id", "log_odds").top_k_by(
        ["log_odds", "image_id"], k=K, reverse=[False, True]
    )
    chosen = (
        pl.concat(pairs)
        .group_by("label")
        .agg(best)
        .explode("image_id", "log_odds")
        .sort("label", "log_odds", "image_id", descending=[False, True, False])
        .with_columns(rank=pl.int_range(pl.len()).over("label").cast(pl.Int32))
        .select(pl.col("label").cast(pl.Int32), "rank", "image_id", "log_odds")
    )
    chosen.collect(engine="streaming").write_parquet(folder / "polars.parquet")


def dask(folder: Path) -> float:
    """Seconds on two worker processes of a Dask cluster that has run something before."""
    from infra.executors import Cluster
    from infra.settings import DaskSettings

    with Cluster(DaskSettings(workers=CORES)) as cluster:
        list(cluster.run(contract.part_name, range(4 * CORES)))
        started = time.perf_counter()
        root = open_store(str(folder / "dask"))
        options = TopkOptions(k=K, top_p=TOP_P, drop_near_duplicates=False)
        topk(root, output_of(folder, "score"), options, executor=cluster)
        return time.perf_counter() - started


def count(numbers: range) -> int:
    """A chunk that does no work."""
    return len(numbers)


def tree(folder: Path) -> float:
    """Seconds of a reduction over 100,000 parts whose chunks do no work."""
    from infra.executors import Cluster
    from infra.settings import DaskSettings

    with Cluster(DaskSettings(workers=CORES)) as cluster:
        list(cluster.run(count, [range(1)] * 4 * CORES))
        groups = [range(at, at + MAX_BATCH) for at in range(0, BILLION_IMAGES_PARTS, MAX_BATCH)]
        before, started = resident_mb(), time.perf_counter()
        assert cluster.result(cluster.reduce(count, sum, groups)) == BILLION_IMAGES_PARTS
        seconds = time.perf_counter() - started
        print(f"the scheduler grew by {resident_mb() - before:.0f} MB", file=sys.stderr)
        return seconds


def resident_mb() -> float:
    """Memory of this process, which is that of a local cluster's scheduler, too."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


RUNS: dict[str, Callable[[Path], object]] = {
    program.__name__: program
    for program in (threads, deduplicated, other_k, read, duckdb, polars, dask, tree)
}


def measure(name: str, folder: Path) -> dict[str, float] | str:
    """Seconds and peak memory of a program in a process of its own, or why there are none."""
    command = [sys.executable, "-m", "tests.bench.topk", name, str(folder)]
    environment = {**os.environ, "POLARS_MAX_THREADS": str(CORES)}
    try:
        process = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {TIMEOUT_SECONDS} s"
    if process.returncode:
        return f"ended with status {process.returncode}: {process.stderr.strip().splitlines()[-1:]}"
    figures: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return figures


def run(name: str, folder: Path) -> None:
    """Run a program in this process and print its figures."""
    limit_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") - RESERVED_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
    started = time.perf_counter()
    seconds = RUNS[name](folder)
    if not isinstance(seconds, float):
        seconds = time.perf_counter() - started
    status = Path("/proc/self/status").read_text()
    peak_kib = int(status.split("VmHWM:")[1].split()[0])
    print(json.dumps({"seconds": round(seconds, 2), "peak_gb": round(peak_kib * 1024 / 1e9, 2)}))


def is_same(folder: Path, name: str) -> bool:
    """Whether the table in this file has the rows of `chosen`."""
    manifest = next((folder / "threads" / "topk").glob("*/manifest.json"))
    output = contract.find_output(open_store(str(manifest.parent)))
    assert output is not None
    chosen, table = contract.read_rows(output, tables.CHOSEN), pq.read_table(folder / name)
    return len(table) == len(chosen) and all(
        pc.all(pc.equal(table[name].combine_chunks(), chosen[name].combine_chunks())).as_py()
        for name in ("label", "rank", "image_id", "log_odds")
    )


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="protege-topk-", dir=os.environ.get("TMPDIR")) as place:
        folder = Path(place)
        generate(folder)
        size_bytes = sum(part.stat().st_size for part in (folder / "score/bench").glob("part-*"))
        line: dict[str, object] = {
            "images": IMAGES,
            "bytes_per_image": round(size_bytes / IMAGES, 1),
        }
        for name in ("read", "threads", "deduplicated", "duckdb", "polars", "dask", "other_k"):
            figures = measure(name, folder)
            print(f"{name:<12} {figures}", file=sys.stderr, flush=True)
            prefix = "" if name == "threads" else f"{name}_"
            if isinstance(figures, str):
                line[f"{prefix}seconds"] = figures
            else:
                line |= {f"{prefix}{key}": value for key, value in figures.items()}
            if name in ("duckdb", "polars") and not isinstance(figures, str):
                line[f"{name}_same"] = is_same(folder, f"{name}.parquet")
        print(json.dumps(line))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run(sys.argv[1], Path(sys.argv[2]))
    else:
        main()

"""Topk: the exact K best of every class, against DuckDB and Polars. `make bench-topk`

`IMAGES` images (10 million unless told) with their 10 best of 1,000 skewed classes, in parts of
100,000 as the stage `score` writes them, K = 16,000, two cores. Everybody reads the same files and
writes the same table; the results are compared row by row. Each runs in a process of its own, whose
peak memory is that of the kernel's books (VmHWM). Prints a table and one JSON line.

`seconds` and `peak_gb` are ours, `guarded_*` ours without copies of one another and of as many
labelled images as ImageNet has (3 % of the pile show one of 10,000 pictures), `dask_seconds` over
two worker processes of a cluster that is up already, `read_seconds` for reading the columns and
nothing else, `again_seconds` for another K on the same scores.
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
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.executors import Threads
from infra.store import open_store
from tasks import contract, tables
from tasks.contract import MAX_BATCH, Manifest, Output, Receipt, RowCounts
from tasks.duplicates.matching import THUMBNAIL
from tasks.score import scores_table
from tasks.topk import TopkOptions, topk
from tests.builders.score_tables import no_tags

IMAGES = int(os.environ.get("IMAGES", "10000000"))
PART_ROWS = 100_000
CLASSES, TOP_P, K = 1_000, 10, 16_000
MEMES, COPIED = 10_000, 0.03
LABELLED = 1_281_167
CORES = 2
SPARED = 1_500_000_000  # bytes of memory that nobody may take
PATIENCE_SECONDS = 600
PARTS_OF_A_BILLION = 100_000
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
    others = no_tags(PART_ROWS), signatures(rng, PART_ROWS, COPIED)
    table = scores_table(ids, labels_NP, log_odds_NP, *others)
    counts = RowCounts(PART_ROWS, PART_ROWS, 0)
    name, layout = contract.part_name(number), tables.scores_layout(TOP_P)
    return contract.write_part(open_store(uri), name, table, counts, layout=layout)


def signatures(rng: np.random.Generator, count: int, copied: float) -> list[pa.Array]:
    """Of noise, but for some pictures that are all over the pile."""
    shown = np.where(rng.random(count) < copied, rng.integers(MEMES, size=count), -1)
    phashes = rng.integers(2**64, size=count, dtype=np.uint64)
    thumbnails = rng.integers(256, size=(count, THUMBNAIL), dtype=np.uint8)
    memes = np.random.default_rng(0)
    meme_phashes = memes.integers(2**64, size=MEMES, dtype=np.uint64)
    meme_thumbnails = memes.integers(256, size=(MEMES, THUMBNAIL), dtype=np.uint8)
    rows = np.flatnonzero(shown >= 0)
    phashes[rows], thumbnails[rows] = meme_phashes[shown[rows]], meme_thumbnails[shown[rows]]
    column = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(THUMBNAIL), count, [None, pa.py_buffer(thumbnails.tobytes())]
    )
    return [pa.array(phashes), column]


def write_known(folder: Path) -> Output:
    """Signatures of as many labelled images as ImageNet has."""
    store, rng = open_store(str(folder / "signature" / "bench")), np.random.default_rng(LABELLED)
    columns = [pa.array(np.arange(LABELLED)), *signatures(rng, LABELLED, 1e-4)]
    table = pa.Table.from_arrays(columns, schema=tables.SIGNATURES)
    counts, name = RowCounts(LABELLED, LABELLED, 0), contract.part_name(0)
    part = contract.write_part(store, name, table, counts, layout=tables.SIGNATURES_LAYOUT)
    return contract.publish(store, Manifest("signature", "bench", {}, {}, [part], 0.0))


def generate(folder: Path) -> Output:
    """The scores of a pile."""
    write_known(folder)
    store = open_store(str(folder / "score" / "bench"))
    numbers = range(-(-IMAGES // PART_ROWS))
    with ProcessPoolExecutor(CORES, get_context("spawn")) as pool:
        receipts = list(pool.map(write_part, [store.uri] * len(numbers), numbers, chunksize=8))
    names = [f"class-{label}" for label in range(CLASSES)]
    extra = {"classes": names, "top_p": TOP_P}
    return contract.publish(store, Manifest("score", "bench", {}, {}, receipts, 0.0, extra))


def made(folder: Path, stage: str) -> Output:
    found = contract.find_output(open_store(str(folder / stage / "bench")))
    assert found is not None
    return found


def ours(folder: Path, k: int = K, name: str = "ours") -> None:
    topk(
        open_store(str(folder / name)),
        made(folder, "score"),
        TopkOptions(k=k, top_p=TOP_P, drop_near_duplicates=False),
        executor=Threads(CORES),
    )


def guarded(folder: Path) -> None:
    """Without copies of one another, and of labelled images."""
    topk(
        open_store(str(folder / "guarded")),
        made(folder, "score"),
        TopkOptions(k=K, top_p=TOP_P),
        executor=Threads(CORES),
        exclude={"labelled": made(folder, "signature")},
    )


def again(folder: Path) -> None:
    ours(folder, k=K // 2, name="ours")


def read(folder: Path) -> None:
    columns = [name for rank in range(TOP_P) for name in tables.score_columns(rank)]

    def one(path: Path) -> int:
        return pq.ParquetFile(path).read(["image_id", *columns], use_threads=False).num_rows

    with ThreadPoolExecutor(CORES) as pool:
        assert sum(pool.map(one, sorted((folder / "score/bench").glob("part-*")))) >= IMAGES


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
    order = {"by": ["label", "log_odds", "image_id"], "descending": [False, True, False]}
    best = pl.col("image_id", "log_odds").top_k_by(
        ["log_odds", "image_id"], k=K, reverse=[False, True]
    )
    chosen = (
        pl.concat(pairs)
        .group_by("label")
        .agg(best)
        .explode("image_id", "log_odds")
        .sort(**order)
        .with_columns(rank=pl.int_range(pl.len()).over("label").cast(pl.Int32))
        .select(pl.col("label").cast(pl.Int32), "rank", "image_id", "log_odds")
    )
    chosen.collect(engine="streaming").write_parquet(folder / "polars.parquet")


def dask(folder: Path) -> float:
    """Seconds over two worker processes that have done something before."""
    from infra.executors import Cluster
    from infra.settings import DaskSettings

    with Cluster(DaskSettings(workers=CORES)) as cluster:
        list(cluster.run(contract.part_name, range(4 * CORES)))
        started = time.perf_counter()
        root = open_store(str(folder / "dask"))
        options = TopkOptions(k=K, top_p=TOP_P, drop_near_duplicates=False)
        topk(root, made(folder, "score"), options, executor=cluster)
        return time.perf_counter() - started


def nothing(numbers: range) -> int:
    return len(numbers)


def tree(folder: Path) -> float:
    """Seconds of a reduction over 100,000 parts in which nothing is done."""
    from infra.executors import Cluster
    from infra.settings import DaskSettings

    with Cluster(DaskSettings(workers=CORES)) as cluster:
        list(cluster.run(nothing, [range(1)] * 4 * CORES))
        groups = [range(at, at + MAX_BATCH) for at in range(0, PARTS_OF_A_BILLION, MAX_BATCH)]
        before, started = resident_mb(), time.perf_counter()
        assert cluster.result(cluster.reduce(nothing, sum, groups)) == PARTS_OF_A_BILLION
        seconds = time.perf_counter() - started
        print(f"the scheduler grew by {resident_mb() - before:.0f} MB", file=sys.stderr)
        return seconds


def resident_mb() -> float:
    """Memory of this process, in which the scheduler of a local cluster runs, too."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


RUNS: dict[str, Callable[[Path], object]] = {
    one.__name__: one for one in (ours, guarded, again, read, duckdb, polars, dask, tree)
}


def measured(name: str, folder: Path) -> dict[str, float] | str:
    """Seconds and peak memory of one of them in a process of its own, or why there are none."""
    command = [sys.executable, "-m", "tests.bench.topk", name, str(folder)]
    environment = {**os.environ, "POLARS_MAX_THREADS": str(CORES)}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {PATIENCE_SECONDS} s"
    if done.returncode:
        return f"ended with status {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def run(name: str, folder: Path) -> None:
    """In the process that is measured; it may take most of the memory, but not the machine down."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    resource.setrlimit(resource.RLIMIT_DATA, (whole - SPARED, whole - SPARED))
    started = time.perf_counter()
    seconds = RUNS[name](folder)
    if not isinstance(seconds, float):
        seconds = time.perf_counter() - started
    status = Path("/proc/self/status").read_text()
    peak_kib = int(status.split("VmHWM:")[1].split()[0])
    print(json.dumps({"seconds": round(seconds, 2), "peak_gb": round(peak_kib * 1024 / 1e9, 2)}))


def same(folder: Path, theirs: str) -> bool:
    """Whether their table is ours, row by row."""
    place = next((folder / "ours" / "topk").glob("*/manifest.json"))
    output = contract.find_output(open_store(str(place.parent)))
    assert output is not None
    expected = contract.read_rows(output, tables.CHOSEN)
    found = pq.read_table(folder / theirs)
    return len(found) == len(expected) and all(
        pc.all(pc.equal(found[name].combine_chunks(), expected[name].combine_chunks())).as_py()
        for name in ("label", "rank", "image_id", "log_odds")
    )


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="protege-topk-", dir=os.environ.get("TMPDIR")) as place:
        folder = Path(place)
        generate(folder)
        parts = sum(one.stat().st_size for one in (folder / "score/bench").glob("part-*"))
        line: dict[str, object] = {"images": IMAGES, "bytes_per_image": round(parts / IMAGES, 1)}
        for name in ("read", "ours", "guarded", "duckdb", "polars", "dask", "again"):
            found = measured(name, folder)
            print(f"{name:<8} {found}", file=sys.stderr, flush=True)
            prefix = "" if name == "ours" else f"{name}_"
            if isinstance(found, str):
                line[f"{prefix}seconds"] = found
            else:
                line |= {f"{prefix}{key}": value for key, value in found.items()}
            if name in ("duckdb", "polars") and not isinstance(found, str):
                line[f"{name}_same"] = same(folder, f"{name}.parquet")
        print(json.dumps(line))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run(sys.argv[1], Path(sys.argv[2]))
    else:
        main()

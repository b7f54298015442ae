"""Data: how fast images come in, against tar, a bare decoder, and two libraries. `make bench-data`

    python -m tests.bench.data FOLDER [--images 5000] [--peers-python PYTHON]

JPEGs of 500 x 375 pixels, as files, in tars and in Parquet as Hugging Face writes it. In each
round, one after the other:

    pack      `shard` packs the files into shards, in two processes, and looks at their headers;
              `tar` packs them into one file, and `sync` writes it to the disk
    pin       `shard` pins tars where they are, in two processes, and decodes every image;
              two bare processes read files and decode them with simplejpeg
    tar       the images of all tars are read; webdataset reads them
    parquet   the images of all tables are read; `datasets` streams them without decoding
    reference `shard` leaves the images of tables where they are, in two processes, and looks at
              their headers; it copies them into shards instead

PYTHON can import webdataset and datasets, which want another fsspec than s3fs; without it `tar`
and `parquet` are left out. Prints one JSON line, with medians: `pack_ratio`, `pin_ratio`,
`tar_ratio`, `parquet_ratio` and `reference_ratio` are the time of the other by ours, so that 2 is
twice as fast.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

from infra.executors import Cluster, Executor
from infra.settings import DaskSettings
from infra.store import open_store
from tasks.shard import ShardOptions, shard
from tasks.shard.sources import Columns, Reading, read_container
from tests.builders.containers import tar_bytes
from tests.builders.photos import spectral_photo

WIDTH, HEIGHT, QUALITY = 500, 375, 90
PHOTOS = 64  # that differ
PER_FILE = 500  # images of a tar, a table, or a shard
PROCESSES, ROUNDS = 2, 3

Line = dict[str, Any]


def write_data(folder: Path, count: int) -> None:
    """The same images as files, in tars and in tables, unless they are there."""
    if (folder / "written").exists():
        return
    photos = [
        simplejpeg.encode_jpeg(spectral_photo(WIDTH, HEIGHT, seed), QUALITY)
        for seed in range(PHOTOS)
    ]
    for name in ("files", "tars", "tables"):
        (folder / name).mkdir(parents=True)
    for first in range(0, count, PER_FILE):
        names = [f"{number:06d}.jpg" for number in range(first, min(first + PER_FILE, count))]
        # What stands behind the end of a JPEG is not looked at, and no two images are the same.
        images = {name: photos[place % PHOTOS] + name.encode() for place, name in enumerate(names)}
        for name, data in images.items():
            (folder / "files" / name).write_bytes(data)
        (folder / "tars" / f"{first:06d}.tar").write_bytes(tar_bytes(images))
        rows = [
            {"image": {"bytes": data, "path": name}, "label": 0} for name, data in images.items()
        ]
        pq.write_table(
            pa.Table.from_pylist(rows), folder / f"tables/{first:06d}.parquet", row_group_size=100
        )
    (folder / "written").touch()


def shard_anew(folder: Path, options: ShardOptions, executor: Executor) -> None:
    """Shard into an empty folder."""
    shutil.rmtree(folder / "root", ignore_errors=True)
    shard(open_store(str(folder / "root")), options, executor=executor)


def tar(folder: Path) -> None:
    """Pack the files with `tar`, and write them to the disk."""
    packed = folder / "packed.tar"
    packed.unlink(missing_ok=True)
    subprocess.run(["tar", "-cf", str(packed), "-C", str(folder), "files"], check=True)
    subprocess.run(["sync", str(packed)], check=True)


def _decode(path: Path) -> int:
    return int(simplejpeg.decode_jpeg(path.read_bytes()).nbytes)


def bare(folder: Path, pool: Pool) -> None:
    """Decode the files in bare processes."""
    files = sorted((folder / "files").iterdir())
    assert sum(pool.map(_decode, files, chunksize=50)) == len(files) * WIDTH * HEIGHT * 3


def read_all(folder: Path, count: int) -> None:
    """Read the images of all containers of a folder."""
    reading, passed_over = Reading(False, Columns()), Counter[str]()
    sizes = [
        len(member.data)
        for path in sorted(folder.iterdir())
        for member in read_container(str(path), reading, passed_over)
    ]
    assert len(sizes) == count


PEERS = {
    "tar": """
import glob, sys, time, webdataset
def read(folder):
    files = sorted(glob.glob(folder + "/tars/*.tar"))
    return webdataset.WebDataset(files, shardshuffle=False)
def size(sample):
    return len(sample["jpg"])
""",
    "parquet": """
import glob, sys, time, datasets
datasets.disable_progress_bars()
def read(folder):
    files = sorted(glob.glob(folder + "/tables/*.parquet"))
    data = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
    return data.cast_column("image", datasets.Image(decode=False))
def size(sample):
    return len(sample["image"]["bytes"])
""",
}
PEER_ROUNDS = """
for _ in range(1 + int(sys.argv[2])):
    began = time.perf_counter()
    sizes = [size(sample) for sample in read(sys.argv[1])]
    print(len(sizes), time.perf_counter() - began)
"""


def peer_seconds(python: str, name: str, folder: Path, count: int) -> list[float]:
    """Seconds of each round of a peer in a process of its own, after a first round."""
    done = subprocess.run(
        [python, "-c", PEERS[name] + PEER_ROUNDS, str(folder), str(ROUNDS)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    lines = [line.split() for line in done.stdout.splitlines()[-ROUNDS:]]
    assert all(int(found) == count for found, _ in lines)
    return [float(seconds) for _, seconds in lines]


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds of some work."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compare(folder: Path, count: int, python: str) -> Iterator[tuple[str, list[float]]]:
    """The seconds of each program, by round."""
    packed = ShardOptions(source=f"{folder}/files", verify="header", images_per_shard=PER_FILE)
    pinned = ShardOptions(source=f"{folder}/tars")
    left = ShardOptions(source=f"{folder}/tables", verify="header")
    copied = left.model_copy(update={"containers": "copy"})
    with (
        Cluster(DaskSettings(workers=PROCESSES)) as cluster,
        get_context("spawn").Pool(PROCESSES) as pool,
    ):
        work: dict[str, Callable[[], object]] = {
            "pack": lambda: shard_anew(folder, packed, cluster),
            "pack_tar": lambda: tar(folder),
            "pin": lambda: shard_anew(folder, pinned, cluster),
            "pin_bare": lambda: bare(folder, pool),
            "tar": lambda: read_all(folder / "tars", count),
            "parquet": lambda: read_all(folder / "tables", count),
            "reference": lambda: shard_anew(folder, left, cluster),
            "copy": lambda: shard_anew(folder, copied, cluster),
        }
        for warm in work.values():
            warm()
        rounds = [{name: seconds_of(each) for name, each in work.items()} for _ in range(ROUNDS)]
    yield from ((name, [seconds[name] for seconds in rounds]) for name in work)
    for name in PEERS if python else ():
        yield f"{name}_peer", peer_seconds(python, name, folder, count)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--peers-python", default="", help="Imports webdataset and datasets.")
    given = parser.parse_args(argv)
    folder = given.folder.absolute() / f"data-{given.images}"
    write_data(folder, given.images)
    times = dict(compare(folder, given.images, given.peers_python))
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    pairs = {
        "pack": "pack_tar",
        "pin": "pin_bare",
        "tar": "tar_peer",
        "parquet": "parquet_peer",
        "reference": "copy",
    }
    ratios = {
        f"{ours}_ratio": round(medians[other] / medians[ours], 2)
        for ours, other in pairs.items()
        if other in medians
    }
    num_bytes = sum(path.stat().st_size for path in (folder / "files").iterdir())
    line: Line = {
        "bench": "data",
        "images": given.images,
        "megabytes": round(num_bytes / 1e6),
        **ratios,
        "images_per_second": {
            name: round(given.images / seconds) for name, seconds in medians.items()
        },
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()

"""Loader: how many images/s the reader of a training feeds to a device that is not there.

    make bench-loader

Lessons of JPEGs of 500 x 375 pixels and quality 90 are read as the trainer reads them: batches of
256 in virtual ranks of 32, random crops, prefetched. The bare loop decodes the same files whole
with simplejpeg and scales the same crops with Pillow, in as many processes as there are cores, and
its pixels go nowhere. All take turns; figures are medians over the rounds, because machines are
shared. Prints one JSON line, whose figures are by the side of the target in pixels:

    images_per_second      of the reader with a thread a core, for a device that takes no time
    ratio_to_bare_loop     over images/s of the bare loop, median of the ratios of the rounds
    ratio_to_processes     over images/s of its own views in processes instead of threads
    data_wait_share        of the time of a device that computes 1,500 images/s
    cpu_ms                 of the processor for an image
    libjpeg_ms             the same of decoding the whole file, and nothing else
    python_ms              of cpu_ms, outside of the libraries: at most so many hold Python's
                           lock, which thus allows 1000 / python_ms images/s or more
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
import simplejpeg

from infra.prefetch import prefetch
from infra.store import open_store
from tasks.contract import Output
from tasks.gather import gather
from tasks.images import Inputs, Pixels, Scaled, random_box, scale_for
from tasks.options import Length
from tasks.shard import ShardOptions, shard
from tasks.train.data import Batch, BatchReader, open_samples
from tasks.train.data.views import View
from tasks.train.options import TrainOptions, TrainSpeed
from tasks.train.trainer import STEPS_AHEAD
from tests.builders.photos import spectral_photo

WIDTH, HEIGHT, TARGETS = 500, 375, (64, 224)
IMAGES, BATCH, RANKS, STEPS = 192, 256, 8, 8
DEVICE_IMAGES_PER_SECOND = 1_500
REPEATS = 3  # of which the fastest counts: others use the processor, too


@dataclass(frozen=True)
class Round:
    """Images/s of one turn, and the share of waiting."""

    bare: float
    processes: float
    reader: float
    wait_share: float


def jpegs() -> list[bytes]:
    photos = [spectral_photo(WIDTH, HEIGHT, seed) for seed in range(IMAGES)]
    return [simplejpeg.encode_jpeg(photo, quality=90, colorsubsampling="420") for photo in photos]


def write_lessons(folder: Path, datas: Sequence[bytes]) -> Output:
    for number, data in enumerate(datas):
        place = folder / "labelled" / str(number % 2)
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.jpg").write_bytes(data)
    root = open_store(str(folder / "out"))
    return gather(root, shard(root, ShardOptions(source=str(folder / "labelled"), labelled=True)))


def options_of(size: int, cores: int) -> TrainOptions:
    return TrainOptions(
        inputs=Inputs(size=size, resize=size),
        length=Length(amount=1, unit="epochs"),
        batch_size=BATCH,
        virtual_ranks=RANKS,
        speed=TrainSpeed(decode_threads=cores, cache_gib=0),  # every image is decoded every time
    )


def by_libraries(view: View, data: bytes, position: int, *, is_scaled: bool) -> Pixels:
    """The crop of a view, by nothing but the two libraries."""
    rng = np.random.default_rng([view.seed, position])
    box = random_box(WIDTH, HEIGHT, view.crop_min_area, rng)
    scale = scale_for([box], view.size) if is_scaled else 1
    height, width = -(-HEIGHT // scale), -(-WIDTH // scale)
    pixels_HWC = simplejpeg.decode_jpeg(
        data, "RGB", min_height=height, min_width=width, min_factor=scale
    )
    image = Scaled(pixels_HWC, WIDTH, HEIGHT, scale)
    return image.crop(box, view.size, "bilinear")


def make_views(view: View, folder: str, numbers: range, *, is_bare: bool) -> None:
    """In a process, which reads its share of the files."""
    for position in numbers:
        number = position % IMAGES
        data = Path(folder, "labelled", str(number % 2), f"{number}.jpg").read_bytes()
        if is_bare:
            by_libraries(view, data, position, is_scaled=False)
        else:
            view.read(data, position)


def in_processes(
    pool: Pool, view: View, folder: Path, cores: int, steps: int, *, is_bare: bool
) -> float:
    """Images/s of processes that do nothing else."""
    count = BATCH * steps
    shares = [range(core, count, cores) for core in range(cores)]
    started = time.perf_counter()
    running = [
        pool.apply_async(make_views, (view, str(folder), share), {"is_bare": is_bare})
        for share in shares
    ]
    for share in running:
        share.get()
    return count / (time.perf_counter() - started)


def fed(lessons: Output, options: TrainOptions, step_seconds: float) -> tuple[float, float]:
    """Images/s after the first step, and the share of the time in which the device waits."""
    reader = BatchReader(open_samples(lessons, lessons.classes), options, BATCH)

    def read_step(step: int) -> list[Batch]:
        begun = [reader.begin(step, rank, RANKS) for rank in range(RANKS)]
        return [finish() for finish in begun]

    batches = prefetch(map(read_step, range(STEPS + 1)), STEPS_AHEAD)
    next(batches)
    waited, started = 0.0, time.perf_counter()
    asked = started
    for _ in batches:
        waited += time.perf_counter() - asked
        time.sleep(step_seconds)
        asked = time.perf_counter()
    seconds = asked - started
    return BATCH * STEPS / seconds, waited / seconds


def milliseconds(view: View, datas: Sequence[bytes]) -> dict[str, float]:
    """Of the processor, for an image."""
    works = (
        lambda data, position: view.read(data, position)[0],
        lambda data, position: by_libraries(view, data, position, is_scaled=True),
        lambda data, _position: simplejpeg.decode_jpeg(data, "RGB"),
    )
    rows = []
    for position, data in enumerate(datas):
        turns = [[cpu_seconds(work, data, position) for work in works] for _ in range(REPEATS)]
        rows.append(np.min(turns, axis=0))
    view_ms, libraries_ms, libjpeg_ms = (1000 * np.mean(rows, axis=0)).round(3).tolist()
    python_ms = round(view_ms - libraries_ms, 3)
    return {"cpu_ms": view_ms, "libjpeg_ms": libjpeg_ms, "python_ms": python_ms}


def cpu_seconds(work: Callable[[bytes, int], Pixels], data: bytes, position: int) -> float:
    started = time.thread_time()
    work(data, position)
    return time.thread_time() - started


def figures_of(
    folder: Path, lessons: Output, datas: Sequence[bytes], pool: Pool, size: int, num_rounds: int
) -> dict[str, float]:
    cores = len(os.sched_getaffinity(0))
    options = options_of(size, cores)
    view = View.of(options)
    make = partial(in_processes, pool, view, folder, cores)
    make(1, is_bare=True)  # the processes have imported everything then
    device_seconds = BATCH / DEVICE_IMAGES_PER_SECOND
    rounds = [
        Round(
            make(STEPS, is_bare=True),
            make(STEPS, is_bare=False),
            fed(lessons, options, 0)[0],
            fed(lessons, options, device_seconds)[1],
        )
        for _ in range(num_rounds)
    ]

    def median(figure: Callable[[Round], float]) -> float:
        return round(statistics.median(map(figure, rounds)), 3)

    return {
        "images_per_second": median(lambda turn: turn.reader),
        "ratio_to_bare_loop": median(lambda turn: turn.reader / turn.bare),
        "ratio_to_processes": median(lambda turn: turn.reader / turn.processes),
        "data_wait_share": median(lambda turn: turn.wait_share),
        **milliseconds(view, datas),
    }


def main() -> None:
    """Measure every size, and print one line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    num_rounds = parser.parse_args().rounds
    cores, datas = len(os.sched_getaffinity(0)), jpegs()
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="protege-bench-") as name,
        context.Pool(cores) as pool,
    ):
        folder = Path(name)
        lessons = write_lessons(folder, datas)
        sizes = {
            str(size): figures_of(folder, lessons, datas, pool, size, num_rounds)
            for size in TARGETS
        }
    line = {
        **sizes,
        "pixels": f"{WIDTH}x{HEIGHT}",
        "bytes": round(statistics.mean(map(len, datas))),
        "cores": cores,
        "batch_size": BATCH,
        "device_images_per_second": DEVICE_IMAGES_PER_SECOND,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()

"""Decode: how many images are prepared for a network by threads, and by processes of their own.

    python -m tests.bench.decode [--decoders N]

JPEGs of 500 x 375 pixels become squares of 224, with a signature each, as `score` asks for it; by
one worker, for a device that takes no time. Prints one JSON line of images/s:

    bare_rate         N processes that do nothing else, each with its own images: the most there is
    thread_rate       N threads of one process; thread_ratio by the bare rate
    process_rate      N threads that each ask a process; process_ratio by the bare rate
"""

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial

import simplejpeg
import torch
from torch import Tensor

from tasks.duplicates.prepare import prepare_image
from tasks.images import Inputs
from tasks.inference.decoder import Decoder
from tasks.inference.pipeline import run_pipeline
from tests.builders.photos import spectral_photo

CORES = len(os.sched_getaffinity(0))
WIDTH, HEIGHT, PHOTOS = 500, 375, 60
IMAGES_PER_DECODER, ROUNDS, BATCH = 600, 3, 64
INPUTS = Inputs()


@cache
def encoded() -> list[bytes]:
    photos = [spectral_photo(WIDTH, HEIGHT, seed) for seed in range(PHOTOS)]
    return [simplejpeg.encode_jpeg(photo, quality=90, colorsubsampling="420") for photo in photos]


def images(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield encoded()[number % PHOTOS]


def bare(count: int) -> float:
    """The seconds of a process that prepares so many images."""
    encoded()
    began = time.perf_counter()
    for data in images(count):
        prepare_image(data, INPUTS, with_luma=False)
    return time.perf_counter() - began


def bare_rate(decoders: int, count: int) -> float:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(decoders, mp_context=spawn) as pool:
        seconds = list(pool.map(bare, [count // decoders] * decoders))
    return count / max(seconds)


def rate(decoders: int, count: int, in_processes: bool) -> float:
    prepare = partial(prepare_image, inputs=INPUTS, with_luma=False)
    decoder: Decoder[bytes] = Decoder(prepare, bytes, lambda _item, _other: None, in_processes)

    def nothing(pixels_BHWC: Tensor, _num_images: int) -> Tensor:
        return torch.zeros(len(pixels_BHWC), 1)

    def run(number: int) -> int:
        batches = run_pipeline(
            images(number), decoder, nothing, size=224, batch_size=BATCH, decode_threads=decoders
        )
        return sum(len(batch) for batch in batches)

    run(BATCH * decoders)
    began = time.perf_counter()
    assert run(count) == count
    return count / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decoders", type=int, default=CORES)
    decoders = parser.parse_args().decoders
    count = IMAGES_PER_DECODER * decoders
    rates: dict[str, list[float]] = {"bare": [], "thread": [], "process": []}
    for _ in range(ROUNDS):
        rates["bare"].append(bare_rate(decoders, count))
        rates["thread"].append(rate(decoders, count, in_processes=False))
        rates["process"].append(rate(decoders, count, in_processes=True))
    medians = {kind: statistics.median(values) for kind, values in rates.items()}
    line: dict[str, float] = {f"{kind}_rate": round(value) for kind, value in medians.items()}
    for kind in ("thread", "process"):
        line[f"{kind}_ratio"] = round(medians[kind] / medians["bare"], 3)
    print(json.dumps({"decoders": decoders, **line}))


if __name__ == "__main__":
    main()

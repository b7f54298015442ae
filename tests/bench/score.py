"""Score: how near scoring comes to what its network and its decoder allow. `make bench-score`

    python -m tests.bench.score FOLDER [--images 5000] [--empty 100000] [--shards 1000]

A ResNet-18 at 224 px scores JPEGs of 500 x 375 pixels in 50 shards, on as many processes as there
are cores, with one thread each. Alone, in as many processes and in the same run, before and after:
the forward passes in the fastest form that is known (as it is, compiled by torch), and what an
image takes before (read, decode, signature, square). Prints one JSON line:

    end_to_end_ratio   images/s of the stage by 1 / (t_forward + t_prepare)
    busy_share         of a device that is not there, with a fixed time for a batch, which it would
                       need to be half as fast as the decoders; busy_share_by_shard is the same when
                       each shard is a pipeline by itself, busy_share_of_processes when images are
                       decoded in processes
    ray, daft          images/s of Ray Data and Daft with the same files, functions and processes
                       (score_peers.py), and the stage's by theirs; with --peers-python
    per_shard_ms       of --empty shards without an image, by both processes
    rerun_seconds      to find all of these finished, resume_seconds without their manifest
    worker_growth      memory of a worker after --shards small shards, by that after a tenth
"""

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import simplejpeg
import torch
from torch import Tensor

from infra.executors import Cluster
from infra.malloc import KEEP_MEMORY
from infra.settings import DaskSettings
from infra.store import Store, open_store
from models.network import Network
from tasks import contract, tables
from tasks.contract import Manifest, Output, PartId, Receipt
from tasks.images import Inputs, Limits, decode
from tasks.inference.fastest import fastest
from tasks.inference.model import Model, load_model
from tasks.inference.weights import WEIGHTS, Description, save_weights
from tasks.options import CompileChoice
from tasks.score import ScoreOptions, score
from tasks.score.options import ScoreSpeed
from tasks.score.stream import ScoreJob, score_parts
from tasks.shard import IMAGE_BYTES, ShardOptions, read_images, shard
from tests.builders.peak import peak_mib
from tests.builders.photos import spectral_photo

WIDTH, HEIGHT, PHOTOS = 500, 375, 200
SHARDS, BATCH = 50, 20
CLASSES = tuple(f"class {number}" for number in range(1_000))
CORES = len(os.sched_getaffinity(0))
FORWARDS, PREPARED = 6, 200
SMALL_IMAGES = 8

Line = dict[str, Any]


def write_pile(folder: Path, count: int) -> Output:
    """The pile, in shards of equal size."""
    source = folder / "pile"
    if not source.exists():
        source.mkdir(parents=True)
        photos = [spectral_photo(WIDTH, HEIGHT, seed) for seed in range(PHOTOS)]
        encoded = [
            simplejpeg.encode_jpeg(photo, quality=90, colorsubsampling="420") for photo in photos
        ]
        for number in range(count):
            (source / f"{number:06d}.jpg").write_bytes(encoded[number % PHOTOS])
    options = ShardOptions(
        source=str(source), images_per_shard=-(-count // SHARDS), verify="header"
    )
    return shard(open_store(str(folder / "root")), options)


def write_teacher(folder: Path, name: str, size: int, classes: Sequence[str]) -> Output:
    """A network with random weights, as a finished training leaves it."""
    from models.registry import build

    torch.manual_seed(0)
    description = Description(name, tuple(classes), Inputs(size=size, resize=size * 8 // 7))
    return publish_teacher(folder, build(name, len(classes)).eval(), description)


def publish_teacher(folder: Path, network: Network, description: Description) -> Output:
    """A network as a finished training leaves it."""
    data = save_weights(network, description)
    digest = contract.bytes_digest(data)
    store = open_store(str(folder / "root" / "train" / digest))
    store.replace(WEIGHTS, data)
    extra = {"classes": list(description.classes), "weights": digest}
    receipt = Receipt(WEIGHTS, 0, 0, 0, digest)
    return contract.publish(store, Manifest("train", digest, {}, {}, [receipt], 0.0, extra))


def forward_rate(teacher: Output, choice: Any) -> float:
    """Images/s of a process that only computes."""
    torch.set_num_threads(1)
    model = fastest(
        load_model(teacher), choice, batch_size=BATCH, precision="float32", num_images=10**9
    )
    size = model.description.inputs.size
    pixels_BHWC = torch.randint(0, 256, (BATCH, size, size, 3), dtype=torch.uint8)
    model.logits(pixels_BHWC)
    began = time.perf_counter()
    for _ in range(FORWARDS):
        model.logits(pixels_BHWC)
    return FORWARDS * BATCH / (time.perf_counter() - began)


def prepare_rate(images: Output, teacher: Output) -> float:
    """Images/s of a process that only reads and decodes."""
    from tasks.duplicates.matching import signature_of

    inputs, done, began = load_model(teacher).description.inputs, 0, time.perf_counter()
    for number in range(SHARDS):
        for _, data in read_images(images, number):
            pixels_HWC = decode(data, Limits())
            signature_of(pixels_HWC)
            inputs.square(pixels_HWC)
            done += 1
            if done == PREPARED:
                return done / (time.perf_counter() - began)
    raise AssertionError("the pile is too small")


def alone(pool: ProcessPoolExecutor, function: Any, *given: Any) -> float:
    """Images/s of all processes together, which do the same at the same time."""
    return sum(pool.map(_call, [(function, given)] * CORES))


def _call(work: tuple[Any, tuple[Any, ...]]) -> float:
    function, given = work
    rate: float = function(*given)
    return rate


def end_to_end(folder: Path, images: Output, teacher: Output) -> Line:
    """The stage by what bounds it."""
    spawn = multiprocessing.get_context("spawn")
    # The workers of a cluster of ours have it, too.
    os.environ.update(KEEP_MEMORY)
    with ProcessPoolExecutor(CORES, mp_context=spawn) as pool:
        forms = {
            choice: alone(pool, forward_rate, teacher, choice) for choice in ("never", "always")
        }
        choice = max(forms, key=forms.__getitem__)
        prepared = [alone(pool, prepare_rate, images, teacher)]
        speed = ScoreSpeed(compile=choice)
        options = ScoreOptions(batch_size=BATCH, speed=speed, max_reject_percent=0)
        with Cluster(DaskSettings(workers=CORES)) as cluster:
            small = many_shards(folder, "warm", 16, 1)
            score(fresh(folder, "warm"), small, teacher, options, executor=cluster)
            began = time.perf_counter()
            score(fresh(folder, "made"), images, teacher, options, executor=cluster)
            seconds = time.perf_counter() - began
        forward = [forms[choice], alone(pool, forward_rate, teacher, choice)]
        prepared.append(alone(pool, prepare_rate, images, teacher))
    bound = 1 / (1 / statistics.mean(forward) + 1 / statistics.mean(prepared))
    return {
        "images_per_second": round(images.kept / seconds, 1),
        "form": {"never": "as it is", "always": "compiled"}[choice],
        "forward_images_per_second": [round(rate, 1) for rate in forward],
        "prepare_images_per_second": [round(rate, 1) for rate in prepared],
        "end_to_end_ratio": round(images.kept / seconds / bound, 3),
    }


def peers(folder: Path, python: str, ours: Line) -> Line:
    """The same by others, in the form that was the fastest here."""
    script, compiled = Path(__file__).with_name("score_peers.py"), ours["form"] == "compiled"
    line: Line = {}
    for peer in ("ray", "daft"):
        command = [python, str(script), str(folder), peer, str(BATCH), "yes" if compiled else "no"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.strip().splitlines()[-1])
        rate = found["images"] / found["seconds"]
        line[peer] = round(rate, 1)
        line[f"{peer}_ratio"] = round(ours["images_per_second"] / rate, 2)
    return line


@contextmanager
def fixed_device(batch_seconds: float) -> Iterator[list[float]]:
    """A device that is not there takes so long for each batch; the seconds in which it is busy."""
    busy: list[float] = []

    def logits(_model: Model, pixels_BHWC: Tensor, *_given: Any, **_named: Any) -> Tensor:
        began = time.perf_counter()
        time.sleep(batch_seconds)
        busy.append(time.perf_counter() - began)
        return torch.zeros(len(pixels_BHWC), len(CLASSES))

    with patch.object(Model, "logits", logits):
        yield busy


def busy_share(folder: Path, images: Output, teacher: Output) -> Line:
    """The share of time in which a device of fixed speed is busy, after its first batch."""

    def share_of(
        batch_seconds: float,
        groups: Iterable[Sequence[PartId]],
        processes: CompileChoice = "never",
    ) -> tuple[float, float]:
        speed = ScoreSpeed(decode_threads=CORES, decode_processes=processes)
        options = ScoreOptions(batch_size=BATCH, speed=speed)
        job = ScoreJob(f"{fresh(folder, 'busy').uri}/score/x", options, images, teacher)
        with fixed_device(batch_seconds) as busy:
            began = time.perf_counter()
            for group in groups:
                for _, made in score_parts(job, group):
                    assert isinstance(made, Receipt), made
            return sum(busy) / (time.perf_counter() - began), sum(busy)

    parts = [PartId(number) for number in range(SHARDS)]
    began = time.perf_counter()
    share_of(0.0, [parts])
    decoders = images.kept / (time.perf_counter() - began)
    batch_seconds = 2 * BATCH / decoders
    return {
        "decoders_images_per_second": round(decoders),
        "device_images_per_second": round(BATCH / batch_seconds),
        "busy_share": round(share_of(batch_seconds, [parts])[0], 3),
        "busy_share_by_shard": round(share_of(batch_seconds, [[part] for part in parts])[0], 3),
        "busy_share_of_processes": round(share_of(batch_seconds, [parts], "always")[0], 3),
    }


def many_shards(folder: Path, name: str, count: int, images: int) -> Output:
    """An output of `shard` whose shards are the same few images, or none, by hard links."""
    store = open_store(f"{folder}/root/shard/{name}-{count}")
    if (found := contract.find_output(store)) is not None:
        return found
    data = [simplejpeg.encode_jpeg(spectral_photo(32, 32, seed)) for seed in range(images)]
    rows = [
        {
            "image_id": row,
            "image": image,
            "size": len(image),
            "key": f"{row}.jpg",
            "content_hash": 0,
        }
        for row, image in enumerate(data)
    ]
    import pyarrow as pa

    table = pa.Table.from_pylist(rows, schema=tables.IMAGES)
    facts = {IMAGE_BYTES: str(sum(map(len, data)))}
    first = contract.write_part(
        store,
        contract.part_name(0),
        table,
        contract.RowCounts(images, images, 0),
        facts=facts,
        layout=tables.IMAGES_LAYOUT,
    )
    place = Path(store.uri)
    receipts = [first]
    for number in range(1, count):
        part = contract.part_name(number)
        # A file may have 65,000 names on ext4.
        original = place / contract.part_name(number - number % 50_000)
        if number % 50_000:
            os.link(original, place / part)
        else:
            shutil.copy(place / contract.part_name(0), original)
        receipts.append(Receipt(part, images, images, 0, first.digest, facts))
    return contract.publish(store, Manifest("shard", name, {}, {}, receipts, 0.0))


def per_shard(folder: Path, count: int) -> Line:
    """What a shard costs by itself."""
    images = many_shards(folder, "empty", count, 0)
    teacher = write_teacher(folder, "mean_colour", 16, CLASSES[:3])
    root = fresh(folder, "empty")
    options = ScoreOptions(max_reject_percent=100)
    small = many_shards(folder, "warm", 16, 1)
    with Cluster(DaskSettings(workers=CORES)) as cluster:
        score(root, small, teacher, options, executor=cluster)
        began = time.perf_counter()
        scores = score(root, images, teacher, options, executor=cluster)
        seconds = time.perf_counter() - began
        began = time.perf_counter()
        assert score(root, images, teacher, options, executor=cluster).reused
        rerun = time.perf_counter() - began
        scores.store.delete(scores.manifest)
        began = time.perf_counter()
        score(root, images, teacher, options, executor=cluster)
        resume = time.perf_counter() - began
    return {
        "empty_shards": count,
        "per_shard_ms": round(1000 * seconds / count, 3),
        "rerun_seconds": round(rerun, 2),
        "resume_seconds": round(resume, 2),
    }


def worker_growth(folder: Path, count: int) -> Line:
    """How a worker grows over many shards."""
    images = many_shards(folder, "small", count, SMALL_IMAGES)
    teacher = write_teacher(folder, "mean_colour", 16, CLASSES[:3])
    options = ScoreOptions(batch_size=BATCH)
    job = ScoreJob(f"{fresh(folder, 'growth').uri}/score/x", options, images, teacher)
    made = iter(score_parts(job, map(PartId, range(count))))
    sizes = []
    for number, (_, receipt) in enumerate(made, 1):
        assert isinstance(receipt, Receipt), receipt
        if number in (count // 10, count):
            sizes.append(peak_mib())
    return {
        "worker_mib": [round(size) for size in sizes],
        "worker_growth": round(sizes[1] / sizes[0], 3),
    }


def fresh(folder: Path, name: str) -> Store:
    """An empty store of this name."""
    shutil.rmtree(folder / name, ignore_errors=True)
    return open_store(str(folder / name))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--empty", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=1_000)
    parser.add_argument("--peers-python", help="One that has torch, Ray Data and Daft.")
    parser.add_argument("--only", choices=("growth", "busy", "empty", "end"), action="append")
    given = parser.parse_args(argv)
    folder = given.folder.absolute()
    wanted = given.only or ("growth", "busy", "empty", "end")
    line: Line = {"bench": "score", "cores": CORES}
    if "growth" in wanted:
        line |= worker_growth(folder, given.shards)
    if "empty" in wanted:
        line |= per_shard(folder, given.empty)
    if {"busy", "end"} & set(wanted):
        images = write_pile(folder, given.images)
        teacher = write_teacher(folder, "resnet18", 224, CLASSES)
        if "busy" in wanted:
            line |= busy_share(folder, images, teacher)
        if "end" in wanted:
            line |= end_to_end(folder, images, teacher)
        if "end" in wanted and given.peers_python:
            line |= peers(folder, given.peers_python, line)
    print(json.dumps(line))


if __name__ == "__main__":
    main()

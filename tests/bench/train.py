"""Train: how much of a bare loop's speed a training has, and what its service costs.

    make bench-train

The bare loop is the same network, optimizer and batch on tensors that lie in memory, in the same
run, with the same threads. The training reads lessons from disk, decodes JPEGs, crops, augments,
averages its weights and reports. Rates are taken between the first and the last line of progress,
so that starting is not counted. Every rate is the median over the rounds, whose members take turns,
because machines are shared. Prints one JSON line:

    end_to_end_ratio  images/s of a training in one process, over those of the bare loop
    two_rank_ratio    images/s of two processes with one thread each, over one process with two
    data_wait_share   share of the time in which the one process waits for samples
    checkpoint_share  share of the time that checkpoints every 5 s take from the training
    resume_seconds    from the launch to the first step of a training that was killed
    compile_ratio     images/s with a compiled network, over those without; null where none is
    loader_images_per_second  of the reader alone, whose network takes no time
"""

import argparse
import json
import os

# As every training has it: threads that spin while they wait slow down others on shared cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import simplejpeg
import torch

from infra.settings import Processes
from infra.store import Store, open_store
from models.losses import soft_cross_entropy
from models.optim import OptimizerSettings, make_optimizer, parameter_groups
from models.pixels import channels_last, standardise
from models.registry import build
from tasks.contract import Output
from tasks.gather import gather
from tasks.images import Inputs
from tasks.options import CompileChoice, Length
from tasks.shard import ShardOptions, shard
from tasks.train import TrainOptions, train
from tasks.train.augment_options import Augment
from tasks.train.data import BatchReader, open_samples
from tasks.train.options import LearningRate, TrainSpeed
from tests.builders.photos import spectral_photo

CLASSES, IMAGES, SIDE = 10, 2_000, 96
SIZE, BATCH = 64, 256
NEVER = 86_400.0


@dataclass(frozen=True)
class Run:
    """What a training was seen to do."""

    images_per_second: float
    wait_share: float
    first_step_seconds: float


@dataclass(frozen=True)
class Round:
    """One turn of everything that is compared; `bare` is in images/s."""

    bare: float
    one: Run
    saving: Run
    two: Run
    compiled: Run | None


def write_lessons(folder: Path) -> tuple[Store, Output]:
    """JPEGs of a few classes, as the lessons of a training.

    They have 6.5 kB; photographs of scikit-learn have 4.4 to 5.8 kB at this size and quality.
    """
    for number in range(IMAGES):
        place = folder / "labelled" / str(number % CLASSES)
        place.mkdir(parents=True, exist_ok=True)
        data = simplejpeg.encode_jpeg(spectral_photo(SIDE, SIDE, number), quality=90)
        (place / f"{number}.jpg").write_bytes(data)
    root = open_store(str(folder / "out"))
    images = shard(root, ShardOptions(source=str(folder / "labelled"), labelled=True))
    return root, gather(root, images)


def options_of(
    model: str, steps: int, seed: int, checkpoint_seconds: float, compiles: CompileChoice = "never"
) -> TrainOptions:
    """The training that is measured; another seed makes it again."""
    return TrainOptions(
        model=model,
        inputs=Inputs(size=SIZE, resize=72),
        length=Length(amount=steps, unit="steps"),
        batch_size=BATCH,
        virtual_ranks=2,
        learning_rate=LearningRate(base=0.01),
        augment=Augment(),
        seed=seed,
        speed=TrainSpeed(
            checkpoint_seconds=checkpoint_seconds,
            decode_threads=2,
            cache_gib=0,  # every image is decoded every time
            compile=compiles,
        ),
    )


def measure(
    root: Store,
    lessons: Output,
    options: TrainOptions,
    processes: Processes,
    at_step: Callable[[int], None] = lambda _step: None,
) -> Run:
    """Train to the end, and take the rate from the lines of progress."""
    lines: list[tuple[float, int]] = []
    started = time.perf_counter()

    def on_progress(done: int, _total: int, *_rest: object) -> None:
        if done:
            lines.append((time.perf_counter(), done))
            at_step(done)

    output = train(root, lessons, options, processes=processes, on_progress=on_progress)
    (first_at, first), (last_at, last) = lines[0], lines[-1]
    seconds = output.body["parts"][0]["seconds"]
    loop = seconds.get("read", 0.0) + seconds.get("compute", 0.0)
    return Run(
        BATCH * (last - first) / (last_at - first_at),
        seconds.get("read", 0.0) / loop if loop else 0.0,
        first_at - started,
    )


def bare_images_per_second(model: str, steps: int) -> float:
    """The same steps on tensors in memory."""
    network = channels_last(build(model, CLASSES)).train()
    settings = OptimizerSettings(0.01, momentum=0.9, nesterov=False)
    optimizer = make_optimizer("sgd", settings, parameter_groups(network, 1e-4))
    inputs = Inputs()
    images_BCHW = torch.rand(BATCH, 3, SIZE, SIZE)
    targets_BC = torch.eye(CLASSES)[torch.arange(BATCH) % CLASSES]
    started = 0.0
    for step in range(steps + 1):
        if step == 1:
            started = time.perf_counter()
        optimizer.zero_grad()
        # In two shares, as the training has two virtual ranks.
        for share in range(2):
            rows = slice(share * BATCH // 2, (share + 1) * BATCH // 2)
            logits_BC = network(standardise(images_BCHW[rows], inputs.mean, inputs.std))
            (soft_cross_entropy(logits_BC, targets_BC[rows], 0.0) / 2).backward()
        optimizer.step()
    return BATCH * steps / (time.perf_counter() - started)


def loader_images_per_second(lessons: Output, steps: int) -> float:
    """The reader alone, which decodes, crops and stacks whole batches."""
    samples = open_samples(lessons, lessons.classes)
    reader = BatchReader(samples, options_of("resnet18", steps, 0, NEVER), BATCH)
    reader.read(0, 0, 1)
    started = time.perf_counter()
    for step in range(1, steps + 1):
        reader.read(step, 0, 1)
    return BATCH * steps / (time.perf_counter() - started)


def resume_seconds(root: Store, lessons: Output, model: str, steps: int) -> float:
    """Kill a training that has written a checkpoint, and wait for its next step."""
    killed_at: list[float] = []
    resumed_at: list[float] = []

    def at_step(_step: int) -> None:
        if killed_at and not resumed_at:
            resumed_at.append(time.perf_counter())
        elif not killed_at and any("step-" in name for name in root.sizes("train")):
            for child in psutil.Process().children(recursive=True):
                if "tasks.train" in " ".join(child.cmdline()):
                    with suppress(ProcessLookupError):
                        os.kill(child.pid, signal.SIGKILL)
            killed_at.append(time.perf_counter())

    options = options_of(model, steps, seed=999, checkpoint_seconds=1)
    measure(root, lessons, options, Processes(count=1, threads=2), at_step)
    return resumed_at[0] - killed_at[0]


def _round(
    root: Store, lessons: Output, model: str, steps: int, turn: int, *, compiles: bool
) -> Round:
    one, two = Processes(count=1, threads=2), Processes(count=2, threads=1)

    def run(
        seed: int, checkpoint_seconds: float, processes: Processes, choice: CompileChoice = "never"
    ) -> Run:
        options = options_of(model, steps, seed, checkpoint_seconds, choice)
        return measure(root, lessons, options, processes)

    return Round(
        bare_images_per_second(model, steps),
        run(turn, NEVER, one),
        run(100 + turn, 5, one),
        run(200 + turn, NEVER, two),
        run(300 + turn, NEVER, one, "always") if compiles else None,
    )


def main() -> None:
    """Measure everything in turns, and print one line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true", default=torch.cuda.is_available())
    arguments = parser.parse_args()
    model, steps = arguments.model, arguments.steps
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory(prefix="protege-bench-") as folder:
        root, lessons = write_lessons(Path(folder))
        rounds = [
            _round(root, lessons, model, steps, turn, compiles=arguments.compile)
            for turn in range(arguments.rounds)
        ]
        resumed = resume_seconds(root, lessons, model, steps)
        loader = loader_images_per_second(lessons, steps)

    def median(figure: Callable[[Round], float]) -> float:
        return round(statistics.median(map(figure, rounds)), 3)

    gains = [
        it.compiled.images_per_second / it.one.images_per_second for it in rounds if it.compiled
    ]
    line = {
        "end_to_end_ratio": median(lambda it: it.one.images_per_second / it.bare),
        "two_rank_ratio": median(lambda it: it.two.images_per_second / it.one.images_per_second),
        "data_wait_share": median(lambda it: it.one.wait_share),
        "checkpoint_share": median(
            lambda it: 1 - it.saving.images_per_second / it.one.images_per_second
        ),
        "compile_ratio": round(statistics.median(gains), 3) if gains else None,
        "resume_seconds": round(resumed, 2),
        "loader_images_per_second": round(loader),
        "bare_images_per_second": median(lambda it: it.bare),
        "model": model,
        "batch_size": BATCH,
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "threads": 2,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()

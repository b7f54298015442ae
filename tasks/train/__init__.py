"""train: one training job: teacher, student, fine-tune or baseline.

In: a labelled `images` output or a `lessons` output, and perhaps a model to start from. Out:
`weights.safetensors`, which says of itself what it is, and `history.parquet`. The work is done by
processes of its own, so that a crash does not take the caller along.

    teacher = train(root, TrainOptions(model="resnet50"), labelled, classes)
    student = train(root, options.fine_tune, labelled, classes, init=pretrained)
"""

import functools
import hashlib
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.errors import ProtegeError
from infra.launch import Crashed, launch
from infra.lease import Lease
from infra.settings import Processes, Settings
from infra.store import Store, open_store, split_uri
from tasks import contract
from tasks.contract import Manifest, OnProgress, Output, Receipt, once, silent
from tasks.images import IMAGES_VERSION
from tasks.train.job import Job
from tasks.train.names import CHECKPOINTS, HISTORY, WEIGHTS
from tasks.train.options import Training, TrainOptions

STAGE = "train"
VERSION = 1
logger = logging.getLogger(__name__)

__all__ = ["STAGE", "TrainOptions", "Training", "train", "weights_digest"]


def train(
    root: Store,
    options: TrainOptions,
    data: Output,
    classes: Sequence[str],
    on_progress: OnProgress = silent,
    *,
    init: Output | None = None,
    processes: Processes | None = None,
) -> Output:
    """Train, or take the output that is there. Without `processes`, this machine's settings rule.

    Raises ProtegeError for a checkpoint that does not fit, damaged images or a diverged loss;
    `Crashed` when the processes die again and again.
    """
    work = _Work(
        store=open_store(f"{root.uri}/{STAGE}/{_fingerprint(options, data, classes, init)}"),
        options=options,
        data=data,
        classes=tuple(classes),
        init=init,
    )
    make = functools.partial(_make, work, processes)
    output = once(work.store, make, on_progress, inputs=work.inputs)
    if output.reused:
        # Whoever made it may have been killed before it could.
        _delete_checkpoints(work.store)
    return output


def weights_digest(model: Output) -> str:
    """The digest of a model's weights: what a score depends on, however the weights came about."""
    digest: str = contract.load_manifest(model)["extra"]["weights"]
    return digest


@dataclass(frozen=True)
class _Work:
    store: Store
    options: TrainOptions
    data: Output
    classes: tuple[str, ...]
    init: Output | None

    @property
    def inputs(self) -> dict[str, Output]:
        """The outputs that it begins with, by role."""
        return {"data": self.data, **({"init": self.init} if self.init else {})}


def _make(
    work: _Work, processes: Processes | None, lease: Lease, on_progress: OnProgress
) -> Output:
    started = time.perf_counter()
    processes = processes or Settings().training()
    if work.options.batch_size % processes.count:
        raise ProtegeError(
            f"batch_size ({work.options.batch_size}) must be a multiple of the {processes.count} "
            "training processes"
        )
    if not work.store.exists(WEIGHTS):
        # Somebody has deleted them; the history is that of the weights to come.
        work.store.delete(HISTORY)
    seconds = _run(work, processes, lease.number, on_progress)
    manifest = _manifest(work, seconds, started)
    lease.check()
    output = contract.publish(work.store, manifest)
    if not lease.lost:
        _delete_checkpoints(work.store)
    return output


def _run(
    work: _Work, processes: Processes, attempt: int, on_progress: OnProgress
) -> dict[str, float]:
    """Train to the end. Processes that die go on from their last checkpoint, unless those after
    them get no further: what dies twice at the same step is no accident.
    """
    total, reached, stuck = work.options.total_steps(work.data.kept), -1, 0
    on_progress(0, total, "starting")
    while True:
        before, seconds = reached, dict[str, float]()
        try:
            for line in _launched(work, processes, attempt):
                seconds, reached = line["seconds"], max(reached, line["step"])
                loss = "" if line["loss"] is None else f"loss {line['loss']:.3f}"
                on_progress(line["step"], total, loss)
        except Crashed as error:
            stuck = 0 if reached > before else stuck + 1
            if stuck > 1:
                raise
            logger.warning("going on from its last checkpoint, for the training died: %s", error)
        else:
            return seconds


def _launched(work: _Work, processes: Processes, attempt: int) -> Iterator[dict[str, Any]]:
    """The progress of one launch of the training processes."""
    with tempfile.TemporaryDirectory(prefix="protege-train-") as folder:
        progress = Path(folder) / "progress.jsonl"
        job = Path(folder) / "job.json"
        told = Job(
            uri=work.store.uri,
            options=work.options,
            data=work.data,
            classes=work.classes,
            init=work.init,
            progress=str(progress),
            attempt=attempt,
        )
        job.write_text(told.model_dump_json())
        threads = work.options.speed.threads or processes.threads
        yield from launch("tasks.train", job, progress, processes.count, threads)


def _manifest(work: _Work, seconds: dict[str, float], started: float) -> Manifest:
    store, rows = work.store, work.data.kept
    weights = contract.bytes_digest(store.read(WEIGHTS))
    history = contract.read_receipt(store, HISTORY)
    return Manifest(
        stage=STAGE,
        fingerprint=store.uri.rsplit("/", 1)[1],
        options=work.options.model_dump(),
        inputs={role: contract.link(output) for role, output in work.inputs.items()},
        parts=[
            Receipt(WEIGHTS, rows, rows, 0, weights, history.facts, seconds),
            Receipt(HISTORY, 0, 0, 0, history.digest),
        ],
        seconds=time.perf_counter() - started,
        extra={
            "classes": list(work.classes),
            "weights": weights,
            "steps": work.options.total_steps(rows),
            "seed": work.options.seed,
        },
    )


def _delete_checkpoints(store: Store) -> None:
    for name in store.sizes(CHECKPOINTS):
        store.delete(name)


def _fingerprint(
    options: TrainOptions, data: Output, classes: Sequence[str], init: Output | None
) -> str:
    inputs = [data.digest, init.digest if init else ""]
    if options.checkpoint:
        given, name = split_uri(options.checkpoint)
        inputs.append(_file_digest(given, name, options.checkpoint))
    content = [options.content(), list(classes), IMAGES_VERSION]
    return contract.fingerprint_of(STAGE, VERSION, {"train": content}, inputs)


def _file_digest(store: Store, name: str, uri: str) -> str:
    try:
        return hashlib.sha256(store.read(name)).hexdigest()
    except OSError as error:
        raise ProtegeError(f"checkpoint {uri} cannot be read: {error}") from error

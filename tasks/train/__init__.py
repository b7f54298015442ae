"""train: one training job: teacher, student, fine-tune or baseline.

In: a labelled `images` output or a `lessons` output, and perhaps a model to start from. Out:
`weights.safetensors`, which says of itself what it is, and `history.parquet`. The work is done by
processes of its own, so that a crash does not take the caller along.

    teacher = train(root, labelled, TrainOptions(model="resnet50"))
    student = train(root, labelled, fine_tune, init=pretrained)
"""

import functools
import hashlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.errors import ProtegeError
from infra.launch import Crashed, launch
from infra.settings import Processes, Settings
from infra.store import Store, split_uri
from tasks import contract
from tasks.contract import Made, OnProgress, Output, Receipt, Session, Target, make_output, silent
from tasks.images import IMAGES_VERSION
from tasks.inference.weights import WEIGHTS
from tasks.shard import class_names
from tasks.train.job import TrainJob
from tasks.train.names import CHECKPOINTS, HISTORY
from tasks.train.options import Training, TrainOptions

STAGE = "train"
VERSION = 2
logger = logging.getLogger(__name__)

__all__ = ["STAGE", "TrainOptions", "Training", "train"]


def train(
    root: Store,
    data: Output,
    options: TrainOptions = TrainOptions(),
    *,
    classes: Sequence[str] | None = None,
    init: Output | None = None,
    processes: Processes | None = None,
    on_progress: OnProgress = silent,
) -> Output:
    """Train on labelled images or on lessons, or take the output that is there.

    Without `classes`, those of `init`, of the lessons, or of the labelled images. Without
    `processes`, this machine's settings rule. Raises ProtegeError for a checkpoint that does not
    fit, damaged images or a diverged loss; `Crashed` when the processes die again and again.
    """
    classes = classes or _known_classes(data, init)
    inputs = {"data": data, **({"init": init} if init else {})}
    content = {
        "classes": list(classes),
        "images_version": IMAGES_VERSION,
        "checkpoint": _file_digest(options.checkpoint),
    }
    target = Target(root, STAGE, VERSION, options, inputs, content=content, scratch=CHECKPOINTS)
    training = _Training(options, data, tuple(classes), init)
    make = functools.partial(_make, training, processes)
    return make_output(target, make, on_progress)


def _known_classes(data: Output, init: Output | None) -> list[str]:
    if init is not None:
        return init.classes
    return data.classes if data.stage == "gather" else class_names(data)


@dataclass(frozen=True)
class _Training:
    options: TrainOptions
    data: Output
    classes: tuple[str, ...]
    init: Output | None


def _make(training: _Training, processes: Processes | None, session: Session) -> Made:
    processes, options = processes or Settings().training(), training.options
    if options.batch_size % processes.count:
        raise ProtegeError(
            f"batch_size ({options.batch_size}) must be a multiple of the {processes.count} "
            "training processes"
        )
    if not session.store.exists(WEIGHTS):
        # Somebody has deleted them; the history is that of the weights to come.
        session.store.delete(HISTORY)
    seconds = _run(training, processes, session)
    weights = contract.bytes_digest(session.store.read(WEIGHTS))
    history, rows = contract.read_receipt(session.store, HISTORY), training.data.kept
    parts = [
        Receipt(WEIGHTS, rows, rows, 0, weights, history.facts, seconds),
        Receipt(HISTORY, 0, 0, 0, history.digest),
    ]
    extra = {
        "classes": list(training.classes),
        "weights": weights,
        "steps": options.total_steps(rows),
        "seed": options.seed,
    }
    return Made(parts, extra)


def _run(training: _Training, processes: Processes, session: Session) -> dict[str, float]:
    """Train to the end. Processes that die go on from their last checkpoint, unless those after
    them get no further: what dies twice at the same step is no accident.
    """
    total, reached, stuck = training.options.total_steps(training.data.kept), -1, 0
    session.on_progress(0, total, "starting")
    while True:
        before, seconds = reached, dict[str, float]()
        try:
            for line in _launched(training, processes, session):
                seconds, reached = line["seconds"], max(reached, line["step"])
                loss = "" if line["loss"] is None else f"loss {line['loss']:.3f}"
                session.on_progress(line["step"], total, loss)
        except Crashed as error:
            stuck = 0 if reached > before else stuck + 1
            if stuck > 1:
                raise
            logger.warning("going on from its last checkpoint, for the training died: %s", error)
        else:
            return seconds


def _launched(
    training: _Training, processes: Processes, session: Session
) -> Iterator[dict[str, Any]]:
    """The progress of one launch of the training processes."""
    with tempfile.TemporaryDirectory(prefix="protege-train-") as folder:
        progress, path = Path(folder) / "progress.jsonl", Path(folder) / "job.json"
        job = TrainJob(
            uri=session.store.uri,
            options=training.options,
            data=training.data,
            classes=training.classes,
            init=training.init,
            progress=str(progress),
            attempt=session.attempt,
        )
        path.write_text(job.model_dump_json())
        threads = training.options.speed.threads or processes.threads
        yield from launch("tasks.train", path, progress, processes.count, threads)


def _file_digest(uri: str) -> str:
    """The digest of a checkpoint that was given; empty without one. Raises ProtegeError."""
    if not uri:
        return ""
    store, name = split_uri(uri)
    try:
        return hashlib.sha256(store.read(name)).hexdigest()
    except OSError as error:
        raise ProtegeError(f"checkpoint {uri} cannot be read: {error}") from error

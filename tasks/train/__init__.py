"""train: one training job: teacher, student, fine-tune or baseline.

In: a labelled `images` output or a `lessons` output, and perhaps a model to start from. Out:
`weights.safetensors`, which says of itself what it is, and `history.parquet`. The work is done by
processes of its own under torchrun, so that a crash does not take the caller along.

    teacher = train(root, TrainOptions(model="resnet50"), labelled, classes)
    student = train(root, options.fine_tune, labelled, classes, init=pretrained)
"""

import hashlib
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from infra.errors import ProtegeError
from infra.launch import launch
from infra.settings import Processes, Settings
from infra.storage import Store, open_store, split_uri
from tasks import contract
from tasks.contract import Manifest, OnProgress, Output, Receipt, silent
from tasks.images import IMAGES_VERSION
from tasks.train.job import Job
from tasks.train.names import CHECKPOINTS, HISTORY, WEIGHTS
from tasks.train.options import Training, TrainOptions

STAGE = "train"
VERSION = 1

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
    `Crashed` when the processes died.
    """
    started = time.perf_counter()
    store = open_store(f"{root.uri}/{STAGE}/{_fingerprint(options, data, classes, init)}")
    output = contract.find_output(store)
    if output is not None:
        return output
    processes = processes or Settings().training()
    if options.batch_size % processes.count:
        raise ProtegeError(
            f"batch_size ({options.batch_size}) must be a multiple of the {processes.count} "
            "training processes"
        )
    seconds = _run(store, options, data, classes, init, processes, on_progress)
    rows = data.kept
    weights = hashlib.sha256(store.read(WEIGHTS)).hexdigest()[:16]
    history = contract.read_receipt(store, HISTORY)
    manifest = Manifest(
        stage=STAGE,
        fingerprint=store.uri.rsplit("/", 1)[1],
        options=options.model_dump(),
        inputs={"data": contract.link(data), **({"init": contract.link(init)} if init else {})},
        parts=[
            Receipt(WEIGHTS, rows, rows, 0, weights, history.facts, seconds),
            Receipt(HISTORY, 0, 0, 0, history.digest),
        ],
        seconds=time.perf_counter() - started,
        extra={
            "classes": list(classes),
            "weights": weights,
            "steps": options.total_steps(rows),
            "seed": options.seed,
        },
    )
    output = contract.publish(store, manifest)
    for name in store.sizes(CHECKPOINTS):
        store.delete(name)
    return output


def weights_digest(model: Output) -> str:
    """The digest of a model's weights: what a score depends on, however the weights came about."""
    digest: str = contract.load_manifest(model)["extra"]["weights"]
    return digest


def _run(
    store: Store,
    options: TrainOptions,
    data: Output,
    classes: Sequence[str],
    init: Output | None,
    processes: Processes,
    on_progress: OnProgress,
) -> dict[str, float]:
    total = options.total_steps(data.kept)
    seconds: dict[str, float] = {}
    on_progress(0, total, "starting")
    with tempfile.TemporaryDirectory(prefix="protege-train-") as folder:
        progress = Path(folder) / "progress.jsonl"
        job = Path(folder) / "job.json"
        told = Job(
            uri=store.uri,
            options=options,
            data=data,
            classes=tuple(classes),
            init=init,
            progress=str(progress),
        )
        job.write_text(told.model_dump_json())
        threads = options.speed.threads or processes.threads
        for line in launch("tasks.train", job, progress, processes.count, threads):
            seconds = line["seconds"]
            loss = "" if line["loss"] is None else f"loss {line['loss']:.3f}"
            on_progress(line["step"], total, loss)
    return seconds


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

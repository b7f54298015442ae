"""Workers: how much memory a worker of each stage needs, beside what each one has.

In: the options of a recipe, and an estimate with the cost of the network that scores. Out: lines
for a plan, and a ProtegeError where a worker has too little. The stages keep these bounds
(tasks/pieces.py, measured by tests/test_large_images.py) for images of at most 64 megapixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from flows.campaign.options import RecipeOptions
from infra.devices import gpu_count, memory_limit
from infra.errors import ProtegeError
from infra.executors import local_workers
from infra.settings import Settings
from tasks.estimate import Estimate
from tasks.gather import GatherOptions
from tasks.gather.plan import ROUND_BYTES
from tasks.pieces import PIECE_BYTES
from tasks.score import ScoreOptions
from tasks.shard import ShardOptions

GIB = 1 << 30
WORKER_BYTES = 120 << 20  # of a worker that has not loaded torch
TORCH_WORKER_BYTES = 310 << 20
DECODED_BYTES = 2 * 3 * 64_000_000  # two images at a time
PIECES_WRITTEN = 13  # read, waiting, checked, as rows, as a table, and as a row group
PIECES_READ = 7


@dataclass(frozen=True)
class Need:
    """Memory of one worker at a stage."""

    stage: str
    num_bytes: int


def needs_of(options: RecipeOptions, estimate: Estimate) -> list[Need]:
    """What a worker needs at each stage that Dask spreads."""
    needs = []
    sections = [getattr(options, name) for name in type(options).model_fields]
    if any(isinstance(section, ShardOptions) for section in sections):
        shard = WORKER_BYTES + PIECES_WRITTEN * PIECE_BYTES + DECODED_BYTES
        needs.append(Need("shard", shard))
    for section in sections:
        if isinstance(section, ScoreOptions):
            needs += _of_scoring(section, estimate)
        if isinstance(section, GatherOptions):
            part = section.mib_per_part << 20
            needs.append(Need("gather", WORKER_BYTES + part + 2 * ROUND_BYTES + 2 * PIECE_BYTES))
    return needs


def _of_scoring(options: ScoreOptions, estimate: Estimate) -> Iterator[Need]:
    cost = next((work.cost for work in estimate.works if work.stage == "score"), None)
    if cost is not None:
        network = 0 if gpu_count() else cost.forward_bytes(options.batch_size)
        images = PIECES_READ * PIECE_BYTES + DECODED_BYTES
        yield Need("score", TORCH_WORKER_BYTES + images + network)


def worker_lines(options: RecipeOptions, estimate: Estimate) -> list[str]:
    """What a worker needs, and what each has where the cluster is on this machine."""
    needs = needs_of(options, estimate)
    parts = [f"{need.stage} {need.num_bytes / GIB:.1f}" for need in needs]
    line = f"memory of a worker in GiB, at most about: {', '.join(parts)}"
    if _is_here():
        workers = _processes()
        line += f"; each of the {workers} has {memory_limit() / workers / GIB:.1f}"
    return [line] if needs else []


def check_workers(options: RecipeOptions, estimate: Estimate) -> None:
    """Raise ProtegeError where a worker of this machine has less memory than a stage needs."""
    needs = needs_of(options, estimate)
    if not needs or not _is_here():
        return
    workers = _processes()
    most = max(needs, key=lambda need: need.num_bytes)
    share = memory_limit() // workers
    if most.num_bytes <= share:
        return
    fitting = memory_limit() // most.num_bytes - gpu_count()
    remedy = (
        f"set PROTEGE_DASK__WORKERS={fitting}"
        if fitting > 0
        else "lower score.batch_size, or take a machine with more memory"
    )
    raise ProtegeError(
        f"{most.stage}: a worker needs about {most.num_bytes / GIB:.1f} GiB, and each of the "
        f"{workers} of this machine has {share / GIB:.1f}: {remedy}"
    )


def _processes() -> int:
    """The processes of a cluster on this machine, which share its memory."""
    return local_workers(Settings().dask) + gpu_count()


def _is_here() -> bool:
    settings = Settings()
    return settings.executor == "dask" and not settings.dask.address

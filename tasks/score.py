"""score: the teacher looks at every image of every shard.

In: `images` shards and a teacher. Out: `scores`, a part for each shard: the P best classes of each
image with their log-odds in float32, best first, and its signature. Images that cannot be decoded,
or whose logits are not finite, become rejects.

    scores = score(root, images, teacher, ScoreOptions(top_p=10))
"""

import functools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from infra.errors import ProtegeError
from infra.executors import Executor, Inline
from infra.store import Store
from tasks import contract, tables
from tasks.contract import OnProgress, Output, PartWriter, Receipt, Target, map_images, silent
from tasks.duplicates.matching import DUPLICATES_VERSION, THUMBNAIL_BYTES, signature_of
from tasks.estimate import Estimate, Work
from tasks.images import IMAGES_VERSION, Limits, Pixels, Unusable, decode, square
from tasks.options import Options
from tasks.shard import read_images, reject_images

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.inference.model import Model

STAGE = "score"
VERSION = 4


class ScoreSpeed(Options):
    """What changes how fast scoring runs, not what comes out."""

    decode_threads: int = Field(2, ge=1, le=256)
    """Threads that decode images in each worker."""


class ScoreOptions(Options):
    """Options of the stage `score`."""

    NOT_IN_FINGERPRINT: ClassVar[frozenset[str]] = frozenset({"speed", "max_reject_percent"})

    top_p: int = Field(10, ge=1, le=1000)
    """Classes kept of each image (the paper's P); at most the number of classes."""
    batch_size: int = Field(256, ge=1, le=65_536)
    """Images in a forward pass; the last one of a shard is padded, so all have the same shape."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the network; its last layer and the log-odds are always in float32."""
    max_reject_percent: float = Field(5, ge=0, le=100)
    """The stage fails when more than this share of the images cannot be scored."""
    speed: ScoreSpeed = ScoreSpeed()
    """What changes how fast it runs, not what comes out."""


def score(
    root: Store,
    images: Output,
    teacher: Output,
    options: ScoreOptions = ScoreOptions(),
    *,
    executor: Executor = Inline(),
    on_progress: OnProgress = silent,
) -> Output:
    """Score the shards that have no part yet. Raises ProtegeError when too many are rejected."""
    classes = teacher.classes
    if len(classes) > np.iinfo(np.uint16).max:
        raise ProtegeError(f"{len(classes)} classes; at most 65,535 can be scored")
    target = Target(
        root,
        STAGE,
        VERSION,
        options,
        inputs={"images": images, "teacher": teacher},
        identities={"images": images.fingerprint, "teacher": teacher.weights},
        content={"images_version": IMAGES_VERSION, "duplicates_version": DUPLICATES_VERSION},
    )
    make_part = functools.partial(score_shard, ScoreJob(target.uri, options, images, teacher))
    extra = {"classes": classes, "top_p": min(options.top_p, len(classes))}
    output = map_images(target, images, make_part, executor, on_progress, extra)
    contract.check_reject_share(output, options.max_reject_percent, "the pile")
    return output


@dataclass(frozen=True)
class ScoreJob:
    """What every worker of this stage is given."""

    uri: str
    options: ScoreOptions
    images: Output
    teacher: Output


def score_shard(job: ScoreJob, number: int) -> Receipt:
    """Make the part of one shard: the P best classes of every image."""
    # Imported here: it loads torch, which a run that finds everything done does not need.
    from tasks.inference.model import load_model

    writer = PartWriter(job.uri, number)
    teacher = load_model(job.teacher)
    writer.lap("load model")
    table = read_images(job.images, number, ["key", "tags"])
    writer.lap("read")
    top_p = min(job.options.top_p, len(teacher.description.classes))
    labels_NP = np.zeros((len(table), top_p), np.uint16)
    log_odds_NP = np.full((len(table), top_p), np.nan, np.float32)
    tags = _Tags(table["tags"].to_pylist(), teacher.description.classes)
    signatures = _Signatures(len(table))
    problems: dict[int, Unusable] = {}
    first = 0
    for results in _decoded_batches(table["image"].to_pylist(), teacher, job.options):
        writer.lap("decode")
        rows = slice(first, first + len(results))
        logits_BC, usable = _forward(teacher, results, job.options)
        labels_NP[rows], log_odds_NP[rows] = _best(logits_BC, usable, top_p)
        tags.look(logits_BC, first)
        signatures.take(results, first)
        problems |= {
            first + at: result for at, result in enumerate(results) if isinstance(result, Unusable)
        }
        first += len(results)
        writer.lap("compute")
    for row in np.flatnonzero(~np.isfinite(log_odds_NP).all(axis=1)).tolist():
        problems.setdefault(row, Unusable("not_finite", "the teacher's log-odds are not finite"))
    reject_images(writer, table, problems)
    kept = np.setdiff1d(np.arange(len(table)), np.fromiter(problems, np.int64, len(problems)))
    scores = scores_table(
        table["image_id"].to_numpy()[kept],
        labels_NP[kept],
        log_odds_NP[kept],
        tags.of(kept),
        signatures.of(kept),
    )
    facts = {"device": teacher.device.type}
    return writer.write(scores, facts=facts, layout=tables.scores_layout(top_p))


@dataclass(frozen=True)
class _Picture:
    """What is made of an image: the pixels that the network sees, and the signature."""

    pixels: Pixels
    phash: int
    thumbnail: bytes


def _decoded_batches(
    images: Sequence[bytes], teacher: "Model", options: ScoreOptions
) -> Iterator[list[_Picture | Unusable]]:
    """Decoded images in batches; the next batch is decoded while the network has this one."""
    inputs = teacher.description.inputs

    def look(data: bytes) -> _Picture | Unusable:
        try:
            pixels = decode(data, Limits())
        except Unusable as unusable:
            return unusable
        return _Picture(square(pixels, inputs.size, inputs.resize), *signature_of(pixels))

    with ThreadPoolExecutor(options.speed.decode_threads) as pool:
        pending: deque[list[Future[_Picture | Unusable]]] = deque()
        for first in range(0, len(images), options.batch_size):
            batch = images[first : first + options.batch_size]
            pending.append([pool.submit(look, data) for data in batch])
            if len(pending) > 1:
                yield [future.result() for future in pending.popleft()]
        while pending:
            yield [future.result() for future in pending.popleft()]


class _Signatures:
    """The signatures of the images of a shard."""

    def __init__(self, count: int) -> None:
        self.phashes_N = np.zeros(count, np.uint64)
        self.thumbnails_N = [b""] * count

    def take(self, results: Sequence[_Picture | Unusable], first: int) -> None:
        """Those of a batch, whose first image has this row."""
        for row, result in enumerate(results, first):
            if isinstance(result, _Picture):
                self.phashes_N[row] = result.phash
                self.thumbnails_N[row] = result.thumbnail

    def of(self, rows: npt.NDArray[np.intp]) -> list[pa.Array]:
        """The two columns of these rows."""
        thumbnails = [self.thumbnails_N[row] for row in rows.tolist()]
        return [pa.array(self.phashes_N[rows]), pa.array(thumbnails, pa.binary(THUMBNAIL_BYTES))]


class _Tags:
    """The classes that the images of a shard are tagged with, and the log-odds of these."""

    def __init__(self, tags_N: Sequence[Sequence[str] | None], classes: Sequence[str]) -> None:
        number = {name: label for label, name in enumerate(classes)}
        self.labels_N = [
            sorted({number[tag] for tag in tags or () if tag in number}) for tags in tags_N
        ]
        self.log_odds_N: list[list[float]] = [[] for _ in tags_N]

    def look(self, logits_BC: "Tensor", first: int) -> None:
        """Take the log-odds from the logits of a batch, whose first image has this row."""
        from models.losses import log_odds

        for at, labels in enumerate(self.labels_N[first : first + len(logits_BC)]):
            if labels:
                logits_TC = logits_BC[at].expand(len(labels), -1)
                labels_T = logits_BC.new_tensor(labels).long()
                self.log_odds_N[first + at] = log_odds(logits_TC, labels_T).tolist()

    def of(self, rows: npt.NDArray[np.intp]) -> list[pa.Array]:
        """The two columns of these rows."""
        labels = [self.labels_N[row] for row in rows.tolist()]
        log_odds = [self.log_odds_N[row] for row in rows.tolist()]
        return [pa.array(labels, pa.list_(pa.uint16())), pa.array(log_odds, pa.list_(pa.float32()))]


def _forward(
    teacher: "Model", results: list[_Picture | Unusable], options: ScoreOptions
) -> tuple["Tensor", npt.NDArray[np.bool_]]:
    """Logits (B, C) of one batch, and of which images there is a picture."""
    size = teacher.description.inputs.size
    # One shape for all batches, black where there is no picture: every image is computed alike.
    batch_BHWC = np.zeros((options.batch_size, size, size, 3), np.uint8)
    usable = np.zeros(len(results), bool)
    for row, result in enumerate(results):
        if isinstance(result, _Picture):
            batch_BHWC[row], usable[row] = result.pixels, True
    return teacher.logits(batch_BHWC, options.precision)[: len(results)], usable


def _best(
    logits_BC: "Tensor", usable: npt.NDArray[np.bool_], top_p: int
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.float32]]:
    """Labels and log-odds, both (B, P); NaN where there is no picture."""
    from models.losses import top_log_odds

    labels_BP, log_odds_BP = top_log_odds(logits_BC, top_p)
    values = log_odds_BP.cpu().numpy()
    values[~usable] = np.nan
    return labels_BP.cpu().numpy().astype(np.uint16), values


def scores_table(
    ids: npt.NDArray[np.int64],
    labels_NP: npt.NDArray[np.uint16],
    log_odds_NP: npt.NDArray[np.float32],
    tagged: Sequence[pa.Array],
    signatures: Sequence[pa.Array],
) -> pa.Table:
    """A part of `scores`; `tagged` and `signatures` are two columns each."""
    columns = [pa.array(ids, pa.int64())]
    for rank in range(labels_NP.shape[1]):
        columns += [pa.array(labels_NP[:, rank]), pa.array(log_odds_NP[:, rank])]
    phashes, thumbnails = signatures
    columns += [phashes, *tagged, thumbnails]
    return pa.Table.from_arrays(columns, schema=tables.scores(labels_NP.shape[1]))


def estimate_scoring(role: str, images: Output) -> Estimate:
    """What it takes to score these images."""
    text = f"{images.kept:,} images, but for those scored before"
    return Estimate((Work(role, "score", images.kept, text),))

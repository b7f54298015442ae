"""The part of one shard: the images that can be used, and the rejects.

In: a job and the id of a part. Out: the receipt of its part, which is published then.

    receipt = shard_images(ShardJob(uri, options, snapshot), PartId(17, made_from))
"""

import functools
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from infra.errors import ProtegeError
from infra.prefetch import prefetch
from infra.store import open_store
from tasks import tables
from tasks.contract import PartDraft, PartId, PartWriter, Receipt
from tasks.pieces import PIECE_BYTES, PIECE_IMAGES, pieces
from tasks.shard.candidates import Candidate, Problem, problem_of, read_loose, read_members
from tasks.shard.changes import content_hash
from tasks.shard.options import ShardOptions
from tasks.shard.passed import IMAGE_BYTES, as_facts, is_stray
from tasks.shard.pins import Snapshot, shard_pins
from tasks.shard.sources import NOT_UTF8, BadContainer, SourceFile, ending_of

DECODE_THREADS = 2
READ_THREADS = 16  # small reads wait for the store, not for the processor
MAX_DETAIL = 300  # letters
ANOTHER_ATTEMPT = "there is another attempt at it in a later shard"


@dataclass(frozen=True)
class ShardJob:
    """What every worker of this stage is given."""

    uri: str
    options: ShardOptions
    snapshot: Snapshot


class _Part:
    """A part while it is made; its images are written as they come."""

    def __init__(self, writer: PartWriter, draft: PartDraft) -> None:
        self.writer = writer
        self.passed_over: Counter[str] = Counter()
        self._draft = draft
        self._num_bytes = 0
        self._strays: Counter[str] = Counter()

    def add(self, candidates: Iterator[Candidate], options: ShardOptions, first_id: int) -> None:
        """Check the candidates and number them in their order."""
        ids = itertools.count(first_id)
        check = functools.partial(problem_of, options=options)
        with ThreadPoolExecutor(DECODE_THREADS) as pool:
            for piece in pieces(candidates, _size, PIECE_IMAGES, PIECE_BYTES):
                self.writer.lap("read")
                rows = []
                for candidate, problem in zip(piece, pool.map(check, piece), strict=True):
                    image_id = next(ids)
                    if problem is None:
                        rows.append(_image_row(image_id, candidate))
                        self._num_bytes += len(candidate.data)
                    else:
                        self._reject(image_id, candidate.key, problem)
                self.writer.lap("decode")
                if rows:
                    # A reader of one image reads no more than these.
                    self._draft.add(pa.Table.from_pylist(rows, schema=tables.IMAGES))
                self.writer.lap("write")

    def _reject(self, image_id: int, key: str, problem: Problem) -> None:
        self.writer.reject(image_id, key, problem["reason"], problem["detail"])
        if is_stray(key, problem["reason"]):
            self._strays[ending_of(key)] += 1

    def publish(self) -> Receipt:
        """Publish it with its rejects."""
        facts = as_facts(self.passed_over, self._strays)
        return self.writer.publish(self._draft, {**facts, IMAGE_BYTES: str(self._num_bytes)})


@contextmanager
def _open_part(job: ShardJob, part_id: PartId) -> Iterator[_Part]:
    writer = PartWriter(job.uri, part_id)
    # Encoded images do not shrink, and readers should not pay for trying.
    with writer.draft(tables.IMAGES, tables.IMAGES_LAYOUT) as draft:
        yield _Part(writer, draft)


def shard_images(job: ShardJob, part_id: PartId) -> Receipt:
    """Make the part of one shard. Raises ProtegeError when a container is bad, unless it may be."""
    files, rechecked = shard_pins(open_store(job.uri), part_id.number)
    if not files[0].is_container:
        return _shard_loose(job, part_id, files, rechecked)
    if rechecked:
        return _reject_whole(job, part_id, files[0], rechecked[0], ANOTHER_ATTEMPT)
    if files[0].version == NOT_UTF8:
        return _reject_whole(job, part_id, files[0], "unreadable", f"{NOT_UTF8}: rename this file")
    try:
        return _shard_container(job, part_id, files[0])
    except BadContainer as error:
        if not job.options.skip_bad_containers:
            raise ProtegeError(
                f"{str(error).removesuffix('.')}. Mend it, or put it back, and run again; or set "
                "options.skip_bad_containers to go on without it"
            ) from error
        # Also without the images before the damage: mended, it comes in as a whole.
        return _reject_whole(job, part_id, files[0], "unreadable", str(error))


def _shard_loose(
    job: ShardJob, part_id: PartId, files: Sequence[SourceFile], rechecked: Mapping[int, str]
) -> Receipt:
    with _open_part(job, part_id) as part:
        candidates = _read_all(files, rechecked)
        part.add(candidates, job.options, tables.image_id(part_id.number, 0))
        return part.publish()


def _shard_container(job: ShardJob, part_id: PartId, file: SourceFile) -> Receipt:
    """The part of a container. Raises BadContainer."""
    with _open_part(job, part_id) as part:
        candidates = read_members(file, job.options, part.passed_over)
        part.add(candidates, job.options, tables.image_id(part_id.number, 0))
        return part.publish()


def _reject_whole(
    job: ShardJob, part_id: PartId, file: SourceFile, reason: str, detail: str
) -> Receipt:
    """The part of a container that has no images for us: one reject."""
    writer = PartWriter(job.uri, part_id)
    writer.reject(tables.image_id(part_id.number, 0), file.key, reason, detail[:MAX_DETAIL])
    with writer.draft(tables.IMAGES, tables.IMAGES_LAYOUT) as draft:
        return writer.publish(draft, {IMAGE_BYTES: "0"})


def _read_all(files: Sequence[SourceFile], rechecked: Mapping[int, str]) -> Iterator[Candidate]:
    """Every file, by its row; a piece is read while the one before is checked."""

    def size_of(row: int) -> int:
        # Nobody has asked for the size of a file in a list on S3.
        return files[row].size if files[row].size >= 0 else PIECE_BYTES // READ_THREADS

    def read(row: int) -> Candidate:
        return _read_or_pass(files[row], rechecked.get(row))

    with ThreadPoolExecutor(READ_THREADS) as pool:
        rows = pieces(range(len(files)), size_of, PIECE_IMAGES, PIECE_BYTES)
        for piece in prefetch((list(pool.map(read, piece)) for piece in rows), ahead=1):
            yield from piece


def _size(candidate: Candidate) -> int:
    return len(candidate.data)


def _read_or_pass(file: SourceFile, reason: str | None) -> Candidate:
    """A reject with another attempt stays one when its part is made again: no image comes twice."""
    if reason is None:
        return read_loose(file)
    problem = {"reason": reason, "detail": ANOTHER_ATTEMPT}
    return Candidate(file.key, b"", file.label, problem=problem)


def _image_row(image_id: int, candidate: Candidate) -> dict[str, Any]:
    return {
        **_image_or_place(candidate),
        "image_id": image_id,
        "size": len(candidate.data),
        "key": candidate.key,
        "label": candidate.label,
        "tags": candidate.tags,
        "content_hash": content_hash(candidate.data),
    }


def _image_or_place(candidate: Candidate) -> dict[str, Any]:
    """The image, or where it stays."""
    if candidate.place is None:
        return {"image": candidate.data}
    row: dict[str, Any] = {"uri": candidate.uri, "offset": candidate.place.offset}
    if (page := candidate.place.page) is not None:
        row |= {
            "page_offset": page.offset,
            "page_bytes": page.num_bytes,
            "page_decompressed_bytes": page.decompressed_bytes,
            "page_codec": page.codec,
        }
    return row

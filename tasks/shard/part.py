"""The part of one shard: the images that can be used, and the rejects.

In: a job and the id of a part. Out: the receipt of its part, which is published then.

    receipt = shard_images(ShardJob(uri, options, snapshot), PartId(17, made_from))
"""

import functools
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from infra.errors import ProtegeError
from infra.store import open_store
from tasks import tables
from tasks.contract import PartId, PartWriter, Receipt
from tasks.shard.candidates import Candidate, Problem, problem_of, read_loose, read_members
from tasks.shard.changes import content_hash
from tasks.shard.options import ShardOptions
from tasks.shard.passed import as_facts, is_stray
from tasks.shard.pins import Snapshot, shard_pins
from tasks.shard.sources import NOT_UTF8, BadContainer, SourceFile, ending_of

DECODE_THREADS = 2
ROW_GROUP_ROWS = 256  # a reader of one image reads no more than so many
READ_THREADS = 16  # small reads wait for the store, not for the processor
IMAGES_PER_BATCH = 256  # checked at a time; the bytes of those that stay in a tar are then freed
MAX_DETAIL = 300  # letters
ANOTHER_ATTEMPT = "there is another attempt at it in a later shard"


@dataclass(frozen=True)
class ShardJob:
    """What every worker of this stage is given."""

    uri: str
    options: ShardOptions
    snapshot: Snapshot


@dataclass(frozen=True)
class _Part:
    """What a part is made of; the rejects are with the writer."""

    writer: PartWriter
    rows: list[dict[str, Any]] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    strays: Counter[str] = field(default_factory=Counter)

    def reject(self, image_id: int, key: str, problem: Problem) -> None:
        """Note an image that cannot be used."""
        self.writer.reject(image_id, key, problem["reason"], problem["detail"])
        if is_stray(key, problem["reason"]):
            self.strays[ending_of(key)] += 1

    def write(self) -> Receipt:
        """Publish it."""
        # Encoded images do not shrink, and readers should not pay for trying.
        return self.writer.write(
            pa.Table.from_pylist(self.rows, schema=tables.IMAGES),
            facts=as_facts(self.passed_over, self.strays),
            layout=tables.IMAGES_LAYOUT,
            row_group_rows=ROW_GROUP_ROWS,
        )


def shard_images(job: ShardJob, part_id: PartId) -> Receipt:
    """Make the part of one shard. Raises ProtegeError when a container is bad, unless it may be."""
    files, rechecked = shard_pins(open_store(job.uri), part_id.number)
    if not files[0].is_container:
        part = _Part(PartWriter(job.uri, part_id))
        _fill(part, _read_all(files, rechecked), job.options, part_id.number)
        return part.write()
    if rechecked:
        return _reject_whole(job, part_id, files[0], rechecked[0], ANOTHER_ATTEMPT)
    if files[0].version == NOT_UTF8:
        return _reject_whole(job, part_id, files[0], "unreadable", f"{NOT_UTF8}: rename this file")
    part = _Part(PartWriter(job.uri, part_id))
    try:
        members = read_members(files[0], job.options, part.passed_over)
        _fill(part, members, job.options, part_id.number)
    except BadContainer as error:
        if not job.options.skip_bad_containers:
            raise ProtegeError(
                f"{str(error).removesuffix('.')}. Mend it, or put it back, and run again; or set "
                "options.skip_bad_containers to go on without it"
            ) from error
        # Also without the images before the damage: mended, it comes in as a whole.
        return _reject_whole(job, part_id, files[0], "unreadable", str(error))
    return part.write()


def _fill(part: _Part, candidates: Iterator[Candidate], options: ShardOptions, number: int) -> None:
    """Check the candidates, and number them in their order."""
    ids = itertools.count(tables.image_id(number, 0))
    check = functools.partial(problem_of, options=options)
    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        while batch := list(itertools.islice(candidates, IMAGES_PER_BATCH)):
            part.writer.lap("read")
            for candidate, problem in zip(batch, pool.map(check, batch)):
                image_id = next(ids)
                if problem is None:
                    part.rows.append(_image_row(image_id, candidate))
                else:
                    part.reject(image_id, candidate.key, problem)
            part.writer.lap("decode")


def _reject_whole(
    job: ShardJob, part_id: PartId, file: SourceFile, reason: str, detail: str
) -> Receipt:
    """The part of a container that has no images for us: one reject."""
    part = _Part(PartWriter(job.uri, part_id))
    part.writer.reject(tables.image_id(part_id.number, 0), file.key, reason, detail[:MAX_DETAIL])
    return part.write()


def _read_all(files: Sequence[SourceFile], rechecked: Mapping[int, str]) -> Iterator[Candidate]:
    reasons = (rechecked.get(row) for row in range(len(files)))
    with ThreadPoolExecutor(READ_THREADS) as pool:
        yield from pool.map(_read_or_pass, files, reasons)


def _read_or_pass(file: SourceFile, reason: str | None) -> Candidate:
    """A reject with another attempt stays one when its part is made again: no image comes twice."""
    if reason is None:
        return read_loose(file)
    problem = {"reason": reason, "detail": ANOTHER_ATTEMPT}
    return Candidate(file.key, b"", file.label, problem=problem)


def _image_row(image_id: int, candidate: Candidate) -> dict[str, Any]:
    in_place = candidate.uri is not None
    return {
        "image_id": image_id,
        "image": None if in_place else candidate.data,
        "uri": candidate.uri,
        "offset": candidate.offset,
        "size": len(candidate.data),
        "key": candidate.key,
        "label": candidate.label,
        "tags": candidate.tags,
        "content_hash": content_hash(candidate.data),
    }

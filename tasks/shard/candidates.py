"""Candidates: images on their way into a shard, and whether they can be used.

In: a file of a source. Out: `Candidate`s with the bytes of the images, and for each what keeps it
from being used (reason and detail for the table of rejects), or None.

    candidate = read_loose(file)
    problem = problem_of(candidate, options)
"""

import errno
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from infra.errors import ProtegeError
from infra.store import Address, open_object
from tasks.images import Limits, Unusable, check, decode
from tasks.shard.options import ShardOptions
from tasks.shard.sources import (
    MAX_IMAGE_BYTES,
    NOT_UTF8,
    BadContainer,
    Member,
    Place,
    SourceFile,
    read_container,
)

NO_SUCH_NAME = {errno.ENAMETOOLONG, errno.ELOOP}  # it will not pass

Problem = Mapping[str, str]  # reason and detail


@dataclass(frozen=True)
class Candidate:
    """An image before it is checked; `problem` is set where there are no bytes to check."""

    key: str
    data: bytes
    label: str | None
    tags: Sequence[str] | None = None
    uri: str | None = None
    place: Place | None = None
    """Where the image stays, in the file of that address."""
    problem: Problem | None = None


def read_members(
    file: SourceFile, options: ShardOptions, passed_over: Counter[str]
) -> Iterator[Candidate]:
    """The images of a container; files of other kinds in it are counted. Raises BadContainer."""
    reading = replace(options.reading, label=file.label)
    for member in read_container(file.uri, reading, passed_over):
        key = f"{file.key}/{member.name}"
        if key in options.slice and options.patterns.wants(key, file.key):
            yield _member(key, member, file)


def container_problem(file: SourceFile, options: ShardOptions) -> Problem | None:
    """Why a container as a whole cannot be used; None if it can. Reads all of it."""
    # Nobody asks where they lie.
    options = options.model_copy(update={"containers": "copy"})
    try:
        for _ in read_members(file, options, Counter()):
            pass
    except BadContainer as error:
        return {"reason": "unreadable", "detail": str(error)}
    return None


def _member(key: str, member: Member, file: SourceFile) -> Candidate:
    unreadable = {"reason": "unreadable", "detail": member.problem}
    return Candidate(
        key,
        member.data,
        member.label,
        member.tags,
        uri=file.uri if member.place else None,
        place=member.place,
        problem=unreadable if member.problem else None,
    )


def read_loose(file: SourceFile) -> Candidate:
    """The bytes of a file, or why there are none.

    Raises ProtegeError when that may pass: an outage must not turn images into rejects for good.
    """
    if file.version == NOT_UTF8:
        return _unreadable(file, f"{NOT_UTF8}: rename this file")
    if file.size > MAX_IMAGE_BYTES:
        return _unreadable(file, f"a file of {file.size >> 20:,} MiB")
    store, name = open_object(Address(file.uri))
    try:
        data = store.read(name)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError) as error:
        return _unreadable(file, f"{type(error).__name__}: {file.uri}")
    except OSError as error:
        if error.errno in NO_SUCH_NAME:
            return _unreadable(file, f"{error.strerror}: {file.uri}")
        raise ProtegeError(
            f"{file.uri} cannot be read now: {error}. Run again when it can; what is done is kept"
        ) from error
    return Candidate(file.key, data, file.label, file.tags)


def _unreadable(file: SourceFile, detail: str) -> Candidate:
    problem = {"reason": "unreadable", "detail": detail}
    return Candidate(file.key, b"", file.label, file.tags, problem=problem)


def problem_of(candidate: Candidate, options: ShardOptions) -> Problem | None:
    """Why this image cannot be used, looked at as closely as the options say; None if it can."""
    if candidate.problem is not None:
        return candidate.problem
    inspect = decode if options.verify == "decode" else check
    try:
        inspect(candidate.data, Limits(max_pixels=round(options.max_megapixels * 1_000_000)))
    except Unusable as unusable:
        return {"reason": unusable.reason, "detail": unusable.detail}
    return None

"""Candidates: images on their way into a shard, and whether they can be used.

In: a file of a source. Out: `Candidate`s with the bytes of the images, and for each what keeps it
from being used (reason and detail for the table of rejects), or None.

    candidate = read_loose(file)
    problem = problem_of(candidate, options)
"""

import hashlib
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from infra.errors import ProtegeError
from infra.store import Address, open_object
from tasks.images import Limits, Unusable, check, decode
from tasks.shard.options import ShardOptions
from tasks.shard.sources import SourceFile, read_container

MAX_IMAGE_BYTES = 1 << 30  # a file beyond it is no image, and would fill the memory of a worker

Problem = Mapping[str, str]  # reason and detail


@dataclass(frozen=True)
class Candidate:
    """An image before it is checked; `problem` is set where there are no bytes to check."""

    key: str
    data: bytes
    label: str | None
    tags: Sequence[str] | None = None
    uri: str | None = None
    offset: int | None = None
    problem: Problem | None = None


def content_hash(data: bytes) -> int:
    """64 bits of BLAKE2b over the bytes of an image.

    They make the digest of a part tell the images, also where these stay in their container.
    """
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def read_members(file: SourceFile, options: ShardOptions, folder: str) -> Iterator[Candidate]:
    """The images of a container. Raises ProtegeError, with the folder of the shards."""
    try:
        for name, data, offset, label in read_container(file.uri):
            key = f"{file.key}/{name}"
            if key not in options.slice:
                continue
            in_place = offset is not None and options.tar == "reference"
            yield Candidate(
                key,
                data,
                label if options.labelled else None,
                uri=file.uri if in_place else None,
                offset=offset if in_place else None,
            )
    except (OSError, pa.ArrowException, tarfile.TarError, EOFError, KeyError) as error:
        raise ProtegeError(
            f"{file.uri} cannot be read ({error}). Mend it, or put it back, and run again; to go "
            f"on without it, remove it and delete the folder {folder}"
        ) from error


def read_loose(file: SourceFile) -> Candidate:
    """The bytes of a file, or why there are none.

    Raises ProtegeError when that may pass: an outage must not turn images into rejects for good.
    """
    data, error = b"", None
    if file.size > MAX_IMAGE_BYTES:
        error = f"a file of {file.size >> 20:,} MiB"
    else:
        store, name = open_object(Address(file.uri))
        try:
            data = store.read(name)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as problem:
            error = f"{type(problem).__name__}: {file.uri}"
        except OSError as problem:
            raise ProtegeError(
                f"{file.uri} cannot be read now: {problem}. Run again when it can; what is done "
                "is kept"
            ) from problem
    unreadable = None if error is None else {"reason": "unreadable", "detail": error}
    return Candidate(file.key, data, file.label, file.tags, problem=unreadable)


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

"""leakage: which test images are also among the images that are learned from.

In: `images` with true classes, labelled and test, and perhaps their `signatures`. Out: `leaks`, a
row for each test image that has a copy among the labelled ones: the same bytes, or, by signature,
the same picture, re-encoded or resized. What is measured on such images is how well they are
remembered.

    leaks = leakage(root, labelled, test, {"labelled": signatures, "test": test_signatures})
"""

import functools
import logging
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.errors import ProtegeError
from infra.store import Store
from tasks import contract, tables
from tasks.contract import (
    Made,
    OnProgress,
    Output,
    RowCounts,
    Session,
    Target,
    make_output,
    silent,
)
from tasks.duplicates.matching import (
    DUPLICATES_VERSION,
    THUMBNAIL_BYTES,
    Hashes,
    Thumbnails,
    near_known,
)

STAGE = "leakage"
VERSION = 1

logger = logging.getLogger(__name__)

Pairs = dict[int, tuple[int, bool]]  # test id -> labelled id, and whether their bytes are the same


def leakage(
    root: Store,
    labelled: Output,
    test: Output,
    signatures: Mapping[str, Output] = {},
    *,
    on_progress: OnProgress = silent,
) -> Output:
    """List the test images that have a copy among the labelled ones, or take the list.

    `signatures` are those of "labelled" and of "test"; without them, only the same bytes count.
    """
    inputs = {
        "labelled": labelled,
        "test": test,
        **{f"{role}_signatures": output for role, output in signatures.items()},
    }
    content = {"duplicates_version": DUPLICATES_VERSION}
    target = Target(root, STAGE, VERSION, inputs=inputs, content=content)
    return make_output(target, functools.partial(_make, labelled, test, signatures), on_progress)


def check_leakage(leaks: Output, max_percent: float, option: str) -> None:
    """Raise ProtegeError, or warn, of test images that are copies.

    `option` is what to raise when there are too many.
    """
    copies, count = leaks.kept, leaks.body["extra"]["test_images"]
    if not copies:
        return
    found = (
        f"{copies:,} of {count:,} test images are copies of labelled ones "
        f"({leaks.body['extra']['exact']:,} of them byte by byte): what is measured on them is "
        f"how well they are remembered. `protege show {leaks.uri}` lists them"
    )
    if copies <= count * max_percent / 100:
        logger.warning("%s", found)
        return
    raise ProtegeError(
        f"{found}. Take them out of one of the two, or raise {option} (now {max_percent:g})"
    )


def _make(
    labelled: Output, test: Output, signatures: Mapping[str, Output], session: Session
) -> Made:
    # Copies byte by byte win, because nothing is as certain.
    near = _near(signatures["labelled"], signatures["test"]) if signatures else {}
    pairs = near | _exact(labelled, test)
    rows = [
        {"image_id": test_id, "labelled_id": labelled_id, "exact": exact}
        for test_id, (labelled_id, exact) in sorted(pairs.items())
    ]
    table = pa.Table.from_pylist(rows, schema=tables.LEAKS)
    counts = RowCounts(len(table), len(table), 0)
    receipt = contract.write_part(session.store, contract.part_name(0), table, counts)
    exact = sum(row["exact"] for row in rows)
    return Made([receipt], {"test_images": test.kept, "exact": exact, "near": len(rows) - exact})


def _exact(labelled: Output, test: Output) -> Pairs:
    known = dict(zip(*_columns(labelled, "content_hash")))
    ids, contents = _columns(test, "content_hash")
    return {
        image_id: (known[content], True)
        for content, image_id in zip(ids, contents)
        if content in known
    }


def _columns(images: Output, column: str) -> tuple[list[int], list[int]]:
    table = contract.read_rows(images, tables.IMAGES, [column, "image_id"])
    return table[column].to_pylist(), table["image_id"].to_pylist()


def _near(labelled: Output, test: Output) -> Pairs:
    test_ids, test_hashes, test_thumbnails = _signatures(test)
    known_ids, known_hashes, known_thumbnails = _signatures(labelled)
    pairs: Pairs = {}
    for rows, known_rows in near_known(test_hashes, known_hashes):
        agree = test_thumbnails.take(rows).agree(known_thumbnails.take(known_rows))
        found = zip(test_ids[rows[agree]].tolist(), known_ids[known_rows[agree]].tolist())
        pairs |= {test_id: (known_id, False) for test_id, known_id in found}
    return pairs


def _signatures(output: Output) -> tuple[npt.NDArray[np.int64], Hashes, Thumbnails]:
    table = contract.read_rows(output, tables.SIGNATURES).combine_chunks()
    data = np.frombuffer(b"".join(table["thumbnail"].to_pylist()), np.uint8)
    thumbnails = Thumbnails.of(data.reshape(len(table), THUMBNAIL_BYTES))
    return table["image_id"].to_numpy(), table["phash"].to_numpy(), thumbnails

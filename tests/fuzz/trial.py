"""Trial: what becomes of one case, in this process.

In: a case. Out: a `Verdict`: kept, refused, or one of `FAULTS`.
"""

import tempfile
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infra.errors import ProtegeError
from infra.executors import Failures
from infra.store import open_store
from models.registry import build
from tasks.images import Limits, Unusable, check, decode
from tasks.inference.weights import parse_network
from tasks.shard import ShardOptions, shard
from tasks.train.start.source import Source
from tests.builders.peak import forget_peak, peak_mib
from tests.builders.reference import pillow_pixels
from tests.fuzz.cases import Case
from tests.fuzz.seeds import CLASSES, MODEL

FAULTS = ("crashes", "hangs", "over_memory", "wrong_pixels")
MAX_PIXELS = 1_000_000
# Twelve times the RGB bytes of the largest picture; libraries and tables need some by themselves.
MAX_IMAGE_MIB, MAX_OTHER_MIB = 36, 400
MAX_SHARE_OF_INPUT = 8


@dataclass(frozen=True)
class Verdict:
    """`kept`, `refused` or a fault, and what there is to say of it."""

    name: str
    detail: str = ""


def try_case(case: Case) -> Verdict:
    """Run the case, and watch the memory."""
    before = forget_peak()
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        try:
            verdict = TRIALS[case.kind](case, Path(folder))
        except (ProtegeError, Unusable) as refusal:
            verdict = Verdict("refused", str(refusal))
        except Exception:
            verdict = Verdict("crashes", traceback.format_exc())
    most = MAX_IMAGE_MIB if case.kind == "image" else MAX_OTHER_MIB
    used = peak_mib() - before
    if verdict.name not in FAULTS and used > most + MAX_SHARE_OF_INPUT * len(case.data) / 2**20:
        return Verdict("over_memory", f"{used:.0f} MiB, {verdict.name}: {verdict.detail}")
    return verdict


def _try_image(case: Case, folder: Path) -> Verdict:
    pixels = decode(case.data, Limits(MAX_PIXELS))
    check(case.data, Limits(MAX_PIXELS))
    try:
        expected = pillow_pixels(case.data)
    except Exception as error:  # it is stricter with notes
        return Verdict("kept", f"Pillow: {error}")
    if not np.array_equal(pixels, expected):
        return Verdict("wrong_pixels", f"{pixels.shape} instead of {expected.shape}")
    return Verdict("kept")


def _try_source(case: Case, folder: Path) -> Verdict:
    for name, data in case.files.items():
        (folder / name).write_bytes(data)
    name = next(iter(case.files))
    for labelled in (False, True):
        options = ShardOptions(
            source=str(folder / name), labelled=labelled, max_reject_percent=100, max_megapixels=1
        )
        try:
            shard(open_store(str(folder / f"root-{labelled}")), options)
        except Failures as failures:
            unknown = [error for error in failures.errors if not isinstance(error, ProtegeError)]
            if unknown:
                raise unknown[0] from failures
            raise ProtegeError(str(failures)) from failures
    return Verdict("kept")


def _try_weights(case: Case, folder: Path) -> Verdict:
    name = next(iter(case.files))
    (folder / name).write_bytes(case.data)
    Source(str(folder / name)).load_into(build(MODEL, len(CLASSES)), keep_head=True)
    return Verdict("kept")


def _try_model(case: Case, folder: Path) -> Verdict:
    parse_network(case.data)
    return Verdict("kept")


TRIALS: dict[str, Callable[[Case, Path], Verdict]] = {
    "image": _try_image,
    "source": _try_source,
    "weights": _try_weights,
    "model": _try_model,
}

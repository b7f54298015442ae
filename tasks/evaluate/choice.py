"""Choice: figures of the chosen images.

In: the chosen images, what they were chosen from, and by whom. Out: rows of `metrics`: how often
the teacher stays with a class when it sees an image changed a little, and the precision against an
audit list.
"""

import csv
import io
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.errors import ProtegeError
from infra.store import split_uri
from tasks import contract
from tasks.evaluate.metrics import Row
from tasks.evaluate.options import Choice, EvaluateOptions
from tasks.sampling import sample_classes, spread
from tasks.shard import find_keys, read_keys
from tasks.topk import read_chosen

if TYPE_CHECKING:
    from torch import Tensor

MAX_VIEW_IMAGES = 2_000  # of all classes together
logger = logging.getLogger(__name__)
CHOSEN = "chosen"  # what stands for the model in the rows; they are of no test set


def measure_choice(options: EvaluateOptions, choice: Choice, classes: list[str]) -> list[Row]:
    """Rows of `metrics` about the choice."""
    rows: list[Row] = []
    table = read_chosen(choice.chosen)
    if options.views:
        rows += _view_agreement(options, choice, table, len(classes))
    if options.audit:
        rows += _precision(options, choice, table, classes)
    return rows


def _row(measure: str, label: int | None, values_N: npt.NDArray[np.bool_]) -> Row:
    """The share of images that something is true of."""
    return Row(CHOSEN, "", measure, float(values_N.mean()), len(values_N), label)


def _view_agreement(
    options: EvaluateOptions, choice: Choice, chosen: pa.Table, num_classes: int
) -> Iterator[Row]:
    """How often the teacher stays with the class when it sees a chosen image changed a little.

    It needs no label. It finds a class that the teacher knows by a shortcut. It may miss a class
    that filled with what the teacher has never seen, so suspect_classes.py uses scores first.
    """
    labels = chosen["label"].to_numpy()
    if not len(labels):
        return
    sampled = _sample(labels, num_classes, options.view_images)
    ids, labels = chosen["image_id"].to_numpy()[sampled], labels[sampled]
    agree_NV = _predict_views(options, choice, ids) == labels[:, None]
    for label, inside in _by_class(labels):
        yield _row("view_agreement", label, agree_NV[inside])
    yield _row("view_agreement", None, agree_NV)


def _sample(
    labels: npt.NDArray[np.int32], num_classes: int, per_class: int
) -> npt.NDArray[np.intp]:
    """Rows of at most so many images of each class, and of not too many in all.

    The teacher is asked about each of them several times, which must not cost more than the
    training that the choice was made for.
    """
    count = max(1, min(per_class, MAX_VIEW_IMAGES // num_classes))
    return spread(sample_classes(labels, count), MAX_VIEW_IMAGES)


def _by_class(labels: npt.NDArray[np.int32]) -> Iterator[tuple[int, slice]]:
    """The rows of each class that has any; they are sorted by class."""
    found, starts = np.unique(labels, return_index=True)
    ends = [*starts[1:].tolist(), len(labels)]
    for label, start, end in zip(found.tolist(), starts.tolist(), ends, strict=True):
        yield label, slice(start, end)


def _predict_views(
    options: EvaluateOptions, choice: Choice, ids: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The teacher's best class for each changed view of these images, (N, views)."""
    import torch

    from models.augment import Augmentation, augment
    from tasks.inference.chosen import ask_about
    from tasks.inference.model import load_model

    teacher = load_model(choice.teacher)
    mild = Augmentation(
        flip=False, rotate_degrees=15, translate=0.08, scale=0.1, shear=0.1, elastic=0.02, erase=0
    )

    def forward(pixels_BHWC: "Tensor", num_images: int) -> "Tensor":
        def change(images_BCHW: "Tensor") -> "Tensor":
            # Not the padding, which would use up random numbers.
            changed_BCHW = augment(images_BCHW[:num_images], mild)
            return torch.cat([changed_BCHW, images_BCHW[num_images:]])

        views = [teacher.logits(pixels_BHWC, change=change) for _ in range(options.views)]
        return torch.stack([logits_BC.argmax(dim=1) for logits_BC in views], dim=1)

    torch.manual_seed(options.seed)
    return ask_about(choice.images, ids, teacher, forward, options.batch_size)


def _precision(
    options: EvaluateOptions, choice: Choice, chosen: pa.Table, classes: list[str]
) -> Iterator[Row]:
    """How many of the chosen images have the class that the audit list gives them."""
    truth = _read_audit(options.audit)
    ids, labels = chosen["image_id"].to_numpy(), chosen["label"].to_numpy()
    keys = find_keys(choice.images, ids, truth)
    known = np.isin(ids, list(keys))
    if not known.any():
        # All trainings are done by now, and their figures need no audit list.
        logger.warning(
            "%s: none of its %s keys is among the chosen images, so there is no precision. Keys "
            "are paths within the source of the pile, as %s",
            options.audit,
            f"{len(truth):,}",
            *(read_keys(choice.images, ids[:1]) or ["a.jpg"]),
        )
        return
    right = np.zeros(len(ids), bool)
    for row in np.flatnonzero(known).tolist():
        right[row] = truth[keys[ids[row]]] == classes[labels[row]]
    yield _row("precision", None, right[known])
    for label, rows in _by_class(labels):
        inside = known[rows]
        if inside.any():
            yield _row("precision", label, right[rows][inside])


def audit_digest(options: EvaluateOptions) -> str:
    """The digest of what the audit list says, empty without one. Raises ProtegeError."""
    return contract.digest_of(sorted(_read_audit(options.audit).items())) if options.audit else ""


def _read_audit(uri: str) -> dict[str, str]:
    store, name = split_uri(uri)
    try:
        rows = list(csv.DictReader(io.StringIO(store.read(name).decode("utf-8-sig"))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ProtegeError(f"{uri}: the audit list cannot be read: {error}") from error
    if rows and not {"key", "label"} <= set(rows[0]):
        raise ProtegeError(f"{uri}: the first line must name the columns key and label")
    return {row["key"]: row["label"] for row in rows}

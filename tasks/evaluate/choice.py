"""Choice: figures of the chosen images.

In: the chosen images, what they were chosen from, and by whom. Out: rows of `metrics`: how often
the teacher stays with a class when it sees an image changed a little, and the precision against an
audit list.
"""

import csv
import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.errors import ProtegeError
from infra.store import split_uri
from tasks import contract
from tasks.evaluate.measures import row
from tasks.evaluate.options import Choice, EvaluateOptions
from tasks.images import Limits, decode, square
from tasks.shard import read_keys, read_many
from tasks.topk import read_chosen


def measure_choice(
    options: EvaluateOptions, choice: Choice, classes: list[str]
) -> list[dict[str, Any]]:
    """Rows of `metrics` about the choice."""
    rows: list[dict[str, Any]] = []
    table = read_chosen(choice.chosen)
    if options.views:
        rows += _view_agreement(options, choice, table, len(classes))
    if options.audit:
        rows += _precision(options, choice, table, classes)
    return rows


def _view_agreement(
    options: EvaluateOptions, choice: Choice, chosen: pa.Table, num_classes: int
) -> list[dict[str, Any]]:
    """How often the teacher stays with the class when it sees a chosen image changed a little.

    It needs no label. A class that is held by a shortcut falls apart here; one that filled with
    what the teacher has never seen may not, which is why tasks/suspects.py looks at scores first.
    """
    import torch

    labels = chosen["label"].to_numpy()
    sampled = np.concatenate(
        [
            _spread(np.flatnonzero(labels == label), options.view_images)
            for label in range(num_classes)
        ]
    )
    ids, asked = chosen["image_id"].to_numpy()[sampled], labels[sampled]
    torch.manual_seed(options.seed)
    answers = [
        # A batch at a time: all decoded images of a thousand classes would not fit in memory.
        _ask_again(options, choice, ids[at : at + options.batch_size])
        for at in range(0, len(ids), options.batch_size)
    ]
    agree_NV = np.concatenate(answers) == asked[:, None]
    rows = []
    for label in range(num_classes):
        mine = agree_NV[asked == label]
        rows.append(row("chosen", "view_agreement", label, float(mine.mean()), len(mine)))
    rows.append(row("chosen", "view_agreement", None, float(agree_NV.mean()), len(agree_NV)))
    return rows


def _ask_again(
    options: EvaluateOptions, choice: Choice, ids: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The teacher's best class for each changed view of these images, (N, views)."""
    import torch

    from models.augment import Augmentation, augment
    from models.pixels import standardise, to_unit
    from tasks.inference.model import load_model

    loaded = load_model(choice.teacher)
    inputs = loaded.description.inputs
    images = read_many(choice.images, ids)
    pixels = [square(decode(data, Limits()), inputs.size, inputs.resize) for data in images]
    images_BCHW = to_unit(torch.from_numpy(np.stack(pixels)).to(loaded.device))
    mild = Augmentation(
        flip=False, rotate_degrees=15, translate=0.08, scale=0.1, shear=0.1, elastic=0.02, erase=0
    )
    answers = []
    for _ in range(options.views):
        views_BCHW = standardise(augment(images_BCHW, mild), inputs.mean, inputs.std)
        with torch.inference_mode():
            answers.append(loaded.network(views_BCHW).argmax(dim=1).cpu().numpy())
    return np.stack(answers, axis=1)


def _precision(
    options: EvaluateOptions, choice: Choice, chosen: pa.Table, classes: list[str]
) -> list[dict[str, Any]]:
    truth = _read_audit(options.audit)
    keys = read_keys(choice.images, chosen["image_id"].to_numpy())
    labels = chosen["label"].to_numpy()
    known = np.array([key in truth for key in keys])
    if not known.any():
        raise ProtegeError(f"{options.audit}: none of its keys is among the chosen images")
    right = np.array([truth.get(key) == classes[label] for key, label in zip(keys, labels)])
    rows = [row("chosen", "precision", None, float(right[known].mean()), int(known.sum()))]
    for label in range(len(classes)):
        mine = known & (labels == label)
        if mine.any():
            value = float(right[mine].mean())
            rows.append(row("chosen", "precision", label, value, int(mine.sum())))
    return rows


def _spread(places: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.intp]:
    """At most `count` of the places, evenly spread from the first to the last."""
    if len(places) <= count:
        return places
    evenly: npt.NDArray[np.intp] = places[np.linspace(0, len(places) - 1, count).astype(int)]
    return evenly


def audit_digest(options: EvaluateOptions) -> str:
    """The digest of what the audit list says, empty without one. Raises ProtegeError."""
    return contract.digest_of(sorted(_read_audit(options.audit).items())) if options.audit else ""


def _read_audit(uri: str) -> dict[str, str]:
    store, name = split_uri(uri)
    try:
        rows = list(csv.DictReader(io.StringIO(store.read(name).decode("utf-8-sig"))))
    except (OSError, UnicodeDecodeError) as error:
        raise ProtegeError(f"{uri}: the audit list cannot be read: {error}") from error
    if rows and not {"key", "label"} <= set(rows[0]):
        raise ProtegeError(f"{uri}: the first line must name the columns key and label")
    return {row["key"]: row["label"] for row in rows}

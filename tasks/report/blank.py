"""Blank: how many of the chosen images are nearly of one colour.

Such are empty scans, covers of a lens, and pictures of 12 bits in files of 16, which come out all
but black. No class should hold many of them.

In: a choice. Out: counts, of at most MAX_IMAGES chosen images that are spread over all classes. The
thumbnails that were made for near-duplicates tell, so that no image is read.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.contract import Output, part_name, read_part
from tasks.report.choice import Choice
from tasks.tables import ROW_BITS, scores_schema

MAX_IMAGES = 2_000
NUM_CELLS = 64  # of a thumbnail
MAX_RANGE = 16  # of 255, between its darkest and its brightest cell, in every channel


@dataclass(frozen=True)
class Blanks:
    """Images looked at, and those nearly of one colour, by the name of the class, most first."""

    num_images: int
    by_class: tuple[tuple[str, int], ...]

    @property
    def count(self) -> int:
        """All of them."""
        return sum(count for _, count in self.by_class)

    @property
    def share(self) -> float:
        """Of the images that were looked at."""
        return self.count / max(1, self.num_images)


def count_blanks(choice: Choice) -> Blanks:
    """Look at the chosen images. Raises ProtegeError for a damaged part of the scores."""
    chosen = choice.chosen.select(["label", "image_id"])
    rows = np.linspace(0, len(chosen) - 1, min(len(chosen), MAX_IMAGES)).astype(int)
    labels, ids = chosen["label"].to_numpy()[rows], chosen["image_id"].to_numpy()[rows]
    blank_ids = _blank_ids(choice.scores[0], np.unique(ids))
    counts = Counter(labels[np.isin(ids, blank_ids)].tolist())
    names = choice.classes["name"].to_pylist()
    by_class = tuple((names[label], count) for label, count in counts.most_common())
    return Blanks(len(rows), by_class)


def _blank_ids(scored: Output, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    schema, found = scores_schema(scored.body["extra"]), [np.zeros(0, np.int64)]
    for shard in np.unique(ids >> ROW_BITS).tolist():
        table = read_part(scored.store, part_name(shard), schema, ["image_id", "thumbnail"], ids)
        data = b"".join(table["thumbnail"].to_pylist())
        cells_NK3 = np.frombuffer(data, np.uint8).reshape(-1, NUM_CELLS, 3).astype(int)
        is_blank_N = (np.ptp(cells_NK3, axis=1) <= MAX_RANGE).all(axis=1)
        found.append(table["image_id"].to_numpy()[is_blank_N])
    return np.concatenate(found)

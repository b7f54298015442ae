"""Tags: the classes that images are tagged with, and the log-odds of these.

In: the tags of the images of a shard, and the logits of each batch. Out: two columns of `scores`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

if TYPE_CHECKING:
    from torch import Tensor


class TagScores:
    """The tagged classes of the images of a shard; `add_batch` fills in their log-odds."""

    def __init__(self, tags_N: Sequence[Sequence[str] | None], classes: Sequence[str]) -> None:
        index = {name: label for label, name in enumerate(classes)}
        self._labels_N = [
            sorted({index[tag] for tag in tags or () if tag in index}) for tags in tags_N
        ]
        self._log_odds_N: list[list[float]] = [[] for _ in tags_N]

    def add_batch(self, first: int, logits_BC: "Tensor") -> None:
        """Take the log-odds from the logits of a batch, whose first image has the row `first`."""
        import torch

        from models.losses import log_odds

        places = [place for place in range(len(logits_BC)) if self._labels_N[first + place]]
        if not places:
            return
        # All pairs at once: a GPU is asked as often for one as for all of them.
        labels = [self._labels_N[first + place] for place in places]
        rows_P = np.repeat(places, [len(of_image) for of_image in labels])
        labels_P = torch.tensor([label for of_image in labels for label in of_image])
        logits_PC = logits_BC[torch.from_numpy(rows_P).to(logits_BC.device)]
        values = iter(log_odds(logits_PC, labels_P.to(logits_BC.device)).tolist())
        for place, of_image in zip(places, labels, strict=True):
            self._log_odds_N[first + place] = [next(values) for _ in of_image]

    def columns(self, rows: npt.NDArray[np.intp]) -> list[pa.Array]:
        """`tag_labels` and `tag_log_odds` of these rows."""
        labels = [self._labels_N[row] for row in rows.tolist()]
        log_odds = [self._log_odds_N[row] for row in rows.tolist()]
        return [pa.array(labels, pa.list_(pa.uint16())), pa.array(log_odds, pa.list_(pa.float32()))]

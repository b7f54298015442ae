"""Soft labels: how much each image is of each class, as a network said when it scored the images.

In: `scores`, and the ids of chosen images. Out: the classes of each image with their probabilities,
among the P best that the scores have ("Self-training with noisy student", Xie et al. 2020, section
2: soft pseudo-labels). With P the number of classes, they are the whole softmax.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from infra.errors import ProtegeError
from tasks import contract, tables
from tasks.contract import Output


@dataclass(frozen=True)
class SoftLabel:
    """Classes of an image, the likeliest first, and their probabilities, which sum to 1."""

    labels_P: npt.NDArray[np.int32]
    weights_P: npt.NDArray[np.float32]


def read_soft_labels(scores: Output, ids: npt.NDArray[np.int64]) -> Iterator[SoftLabel]:
    """The soft label of each of these images, which are sorted, a shard at a time.

    Raises ProtegeError for an image without scores.
    """
    for shard, ids_of_shard in tables.ids_by_shard(ids):
        yield from _of_shard(scores, shard, ids_of_shard)


def _of_shard(scores: Output, shard: int, ids: npt.NDArray[np.int64]) -> Iterator[SoftLabel]:
    extra = scores.body["extra"]
    columns = [tables.score_columns(rank) for rank in range(extra["top_p"])]
    wanted = ["image_id", *(name for pair in columns for name in pair)]
    name = contract.part_name(shard)
    table = contract.read_part(scores.store, name, tables.scores_schema(extra), wanted, ids)
    found = table["image_id"].to_numpy()
    if not np.array_equal(found, ids):
        missing = np.setdiff1d(ids, found)
        raise ProtegeError(
            f"{scores.uri} has no scores for {len(missing):,} of the chosen images, the first of "
            f"which is {missing[0]}: score the images that they were chosen from"
        )
    labels_NP = np.stack([table[label].to_numpy() for label, _ in columns], axis=1)
    log_odds_NP = np.stack([table[log_odds].to_numpy() for _, log_odds in columns], axis=1)
    weights_NP = probabilities(log_odds_NP)
    for labels_P, weights_P in zip(labels_NP.astype(np.int32), weights_NP):
        yield SoftLabel(labels_P, weights_P)


def probabilities(log_odds_NP: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The probabilities of these log-odds, of each image divided by their sum."""
    weights_NP = np.exp(-np.logaddexp(0, -log_odds_NP.astype(np.float64)))
    weights_NP /= weights_NP.sum(axis=1, keepdims=True)
    shares_NP: npt.NDArray[np.float32] = weights_NP.astype(np.float32)
    return shares_NP

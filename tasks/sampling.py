"""Sampling: a few rows of each class of a choice, from its best rank to its last."""

import numpy as np
import numpy.typing as npt


def spread(places: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.intp]:
    """At most `count` of the places, evenly spread from the first to the last."""
    if len(places) <= count:
        return places
    evenly: npt.NDArray[np.intp] = places[np.linspace(0, len(places) - 1, count).astype(int)]
    return evenly


def sample_classes(labels_N: npt.NDArray[np.integer], count: int) -> npt.NDArray[np.intp]:
    """Rows of at most `count` images of each class, of images that are sorted by class."""
    _, starts = np.unique(labels_N, return_index=True)
    classes = np.split(np.arange(len(labels_N)), starts[1:])
    return np.concatenate([spread(rows, count) for rows in classes])

"""Order: the total order in which candidates compete.

In: values (log-odds, or random values that follow from the image_id), labels and ids. Out:
positions. The greater value wins; among equal values, the lower (label, image_id) wins. Positive
and negative zero are equal. NaN does not occur, for such images are rejected before.
"""

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Labels = npt.NDArray[np.uint16]
Positions = npt.NDArray[np.intp]

SIGN_BIT = np.uint32(0x8000_0000)


def hash_ids(image_ids: Ids, seed: int) -> npt.NDArray[np.uint64]:
    """A seeded 64-bit hash of each id (the finaliser of SplitMix64, a bijection for each seed)."""
    mixed = image_ids.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def random_values(image_ids: Ids, seed: int) -> Values:
    """A number in [0, 1) for each image, in steps of 2^-24, which float32 holds exactly."""
    return (hash_ids(image_ids, seed) >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


def select_best(values_N: Values, labels_N: Labels, ids_N: Ids, count: int) -> Positions:
    """Positions of the `count` best, or of all if there are fewer; not sorted."""
    if len(values_N) <= count:
        return np.arange(len(values_N))
    edge = np.partition(values_N, len(values_N) - count)[len(values_N) - count]
    above = np.flatnonzero(values_N > edge)
    equal = np.flatnonzero(values_N == edge)
    if len(above) + len(equal) > count:
        order = np.lexsort((ids_N[equal], labels_N[equal]))
        equal = equal[order[: count - len(above)]]
    return np.concatenate([above, equal])


def rank_positions(values_N: Values, ids_N: Ids) -> Positions:
    """Positions of the candidates of one class, the best first."""
    keys_N = _descending_keys(values_N)
    # A stable sort by the lower half of the bits and then by the upper half: NumPy's stable sort of
    # 16 bits is a radix sort, and both together take half the time of a sort of the floats.
    order = np.argsort(keys_N.astype(np.uint16), kind="stable")
    order = order[np.argsort((keys_N >> np.uint32(16)).astype(np.uint16)[order], kind="stable")]
    keys_N = keys_N[order]
    tied = keys_N[1:] == keys_N[:-1]
    if tied.any():
        rows = np.flatnonzero(np.append(tied, False) | np.append(False, tied))
        order[rows] = order[rows][np.lexsort((ids_N[order[rows]], keys_N[rows]))]
    return order


def _descending_keys(values_N: Values) -> npt.NDArray[np.uint32]:
    """Integers that sort as the values do, the greatest value first."""
    bits_N = (values_N + np.float32(0)).view(np.uint32)
    # Read as integers, the bits of negative floats grow as the value falls; those of others do not.
    return np.where(bits_N & SIGN_BIT, bits_N, bits_N ^ ~SIGN_BIT)

"""Fashion: photographs of goods, with few labels, as the tables that a user would have.

In: the four files of Fashion-MNIST (Xiao, Rasul and Vollgraf 2017), and a seed. Out:

    labelled/labelled.parquet   so many photographs, equally many of each of 10 classes
    pile/pile-000.parquet ...   all others of the 60,000, without classes, with words beside some
    test/test.parquet           the 10,000 that its authors have set aside, the same for every seed
    tags.csv                    which word means which class
    pile-truth.csv              what the pile really holds; only ever read to report the precision

The words are made up, as people use them: a "top" may be a T-shirt or a shirt, a "jacket" a coat or
a pullover. Every second photograph has one, one in ten of them is that of any class.
"""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flows.demo import packages, tables
from flows.demo.folders import whole_folder
from flows.demo.tables import ROWS_PER_FILE, Rows
from flows.demo.words import Words
from infra.errors import ProtegeError
from tasks.images import encode_png

PACKAGE = "dataset-fashion-mnist"
FILES = "usr/share/datasets/fashion-mnist"  # where the package has them
SIDE = 28
NAMES = {
    "t-shirt": ("tee", "top", "t-shirt"),
    "trouser": ("trousers", "pants", "jeans"),
    "pullover": ("pullover", "sweater", "jacket"),
    "dress": ("dress", "gown"),
    "coat": ("coat", "jacket", "parka"),
    "sandal": ("sandals", "shoes", "heels"),
    "shirt": ("shirt", "blouse", "top"),
    "sneaker": ("sneakers", "shoes", "trainers"),
    "bag": ("bag", "purse"),
    "ankle boot": ("boots", "shoes"),
}
CLASSES = tuple(NAMES)  # by their numbers
WORDS = Words(
    NAMES,
    named_shares=dict.fromkeys(NAMES, 0.5),
    others=("fashion", "sale", "new", "ootd", "style"),
)

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Photographs:
    """Grey pictures, (N, 28, 28), and their classes by number."""

    pixels_NHW: npt.NDArray[np.uint8]
    labels_N: npt.NDArray[np.int64]

    def __getitem__(self, places: Places) -> "Photographs":
        """Those at these places."""
        return Photographs(self.pixels_NHW[places], self.labels_N[places])

    def images(self) -> list[bytes]:
        """Each as PNG."""
        return [encode_png(np.ascontiguousarray(picture)) for picture in self.pixels_NHW]

    def names(self) -> list[str]:
        """The name of the class of each."""
        return [CLASSES[label] for label in self.labels_N.tolist()]


def fetch(folder: Path) -> Path:
    """The folder with the four files, which are downloaded once. Raises ProtegeError."""
    try:
        return packages.from_debian(PACKAGE, folder) / FILES
    except ProtegeError as error:
        raise ProtegeError(
            f"{error}. Give the folder with the files of github.com/zalandoresearch/fashion-mnist "
            "as --source"
        ) from None


def write_fashion(files: Path, folder: Path, seed: int, num_labels: int = 1_000) -> None:
    """Write the data of one seed, or leave them when they are complete. Raises ProtegeError."""
    if folder.exists():
        return
    photographs = read_photographs(files, "train")
    labelled, pile = split_fashion(photographs.labels_N, seed, num_labels)
    write_split(folder, photographs, labelled, pile, read_photographs(files, "t10k"), seed)


def read_photographs(files: Path, part: str) -> Photographs:
    """The photographs of a part, `train` or `t10k`. Raises ProtegeError."""
    pixels = _read_idx(files / f"{part}-images-idx3-ubyte.gz", head_bytes=16)
    labels = _read_idx(files / f"{part}-labels-idx1-ubyte.gz", head_bytes=8)
    if pixels.size != labels.size * SIDE * SIDE:
        raise ProtegeError(f"{files}: {part} has {labels.size:,} labels for other photographs")
    if labels.max(initial=0) >= len(CLASSES):
        raise ProtegeError(f"{files}: {part} has a class {labels.max()}, and knows only 0 to 9")
    return Photographs(pixels.reshape(-1, SIDE, SIDE), labels.astype(np.int64))


def _read_idx(path: Path, head_bytes: int) -> npt.NDArray[np.uint8]:
    try:
        return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=head_bytes)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ProtegeError(f"{path} cannot be read: {error}") from error


def split_fashion(
    labels_N: npt.NDArray[np.int64], seed: int, num_labels: int
) -> tuple[Places, Places]:
    """The places of the labelled photographs, equally many of each class, and of all others.

    Raises ProtegeError.
    """
    order = np.random.default_rng([seed, 0]).permutation(len(labels_N))
    own, rest = divmod(num_labels, len(CLASSES))
    if rest or own < 1 or own > np.bincount(labels_N, minlength=len(CLASSES)).min():
        raise ProtegeError(
            f"{num_labels:,} labels cannot be drawn equally from the 10 classes of these "
            f"{len(labels_N):,} photographs: give a multiple of 10 that each class has"
        )
    by_class = [order[labels_N[order] == label][:own] for label in range(len(CLASSES))]
    labelled = np.concatenate(by_class)
    return labelled, order[~np.isin(order, labelled)]


def write_split(
    folder: Path,
    photographs: Photographs,
    labelled: Places,
    pile: Places,
    test: Photographs,
    seed: int,
) -> None:
    """Write the parts of a split, with the words of this seed beside its pile."""
    with whole_folder(folder) as partial:
        for role, own in (("labelled", photographs[labelled]), ("test", test)):
            tables.write_labelled(partial / role, Rows(own.images(), own.names()))
        tables.write_pile(partial, _pile(photographs, pile, np.random.default_rng([seed, 1])))
        (partial / "tags.csv").write_text(WORDS.table())


def _pile(photographs: Photographs, places: Places, rng: np.random.Generator) -> Iterator[Rows]:
    """The photographs of the pile, file by file."""
    for start in range(0, len(places), ROWS_PER_FILE):
        own = photographs[places[start : start + ROWS_PER_FILE]]
        # By the number in the set of its authors, in whose order nothing is sorted by class.
        keys = [f"train-{place:05d}" for place in places[start : start + ROWS_PER_FILE].tolist()]
        names = own.names()
        yield Rows(own.images(), names, keys, [WORDS.beside(name, rng) for name in names])

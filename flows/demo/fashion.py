"""Fashion: photographs of goods, with few labels, as the tables that a user would have.

In: the four files of Fashion-MNIST (Xiao, Rasul and Vollgraf 2017), and a seed. Out:

    labelled/labelled.parquet   so many photographs, equally many of each of 10 classes
    pile/pile-00.parquet ...    all others of the 60,000, without classes, with words beside some
    test/test.parquet           the 10,000 that its authors have set aside, the same for every seed
    tags.csv                    which word means which class
    pile-truth.csv              what the pile really holds; only ever read to report the precision

Debian's package `dataset-fashion-mnist` has the files; `apt-get download` fetches it, without any
rights. The words are made up, as people use them: a "top" may be a T-shirt or a shirt, a "jacket" a
coat or a pullover. Every second photograph has one, one in ten of them is that of another class.
"""

import gzip
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import ProtegeError
from tasks.images import encode_png
from tests.bench.seeds import TUNING_SEEDS

PACKAGE = "dataset-fashion-mnist"
PLACE = "usr/share/datasets/fashion-mnist"
SIDE = 28
CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
WORDS = {
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
OTHERS = ("fashion", "sale", "new", "ootd", "style")
TAGGED_SHARE, WRONG_SHARE, OTHER_SHARE = 0.5, 0.1, 1 / 3
ROWS_PER_FILE = 5_000
HELD_OUT = 2_000
DONE = "complete"


@dataclass(frozen=True)
class Photographs:
    """Grey pictures, (N, 28, 28), and their classes by number."""

    pixels_NHW: npt.NDArray[np.uint8]
    labels_N: npt.NDArray[np.int64]


def fetch(folder: Path) -> Path:
    """The folder with the four files, which are downloaded once. Raises ProtegeError."""
    if not (folder / PLACE).exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(
                ["apt-get", "download", "-qq", PACKAGE], cwd=folder, check=True, text=True
            )
            [package] = folder.glob(f"{PACKAGE}_*.deb")
            subprocess.run(["dpkg-deb", "-x", package, folder / "partial"], check=True)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            raise ProtegeError(
                f"Debian's package {PACKAGE} cannot be fetched ({error}): unpack it into {folder}"
            ) from None
        shutil.copytree(folder / "partial", folder, dirs_exist_ok=True)
        shutil.rmtree(folder / "partial")
    return folder / PLACE


def read_photographs(place: Path, part: str) -> Photographs:
    """The photographs of a part, `train` or `t10k`. Raises ProtegeError."""
    pixels = _read_idx(place / f"{part}-images-idx3-ubyte.gz", head_bytes=16)
    labels = _read_idx(place / f"{part}-labels-idx1-ubyte.gz", head_bytes=8)
    if pixels.size != labels.size * SIDE * SIDE:
        raise ProtegeError(f"{place}: {part} has {labels.size:,} labels for other photographs")
    return Photographs(pixels.reshape(-1, SIDE, SIDE), labels.astype(np.int64))


def _read_idx(path: Path, head_bytes: int) -> npt.NDArray[np.uint8]:
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise ProtegeError(f"{path} cannot be read: {error}") from error
    return np.frombuffer(data, np.uint8, offset=head_bytes)


def write_fashion(place: Path, folder: Path, seed: int, num_labels: int = 1_000) -> None:
    """Write the data of one seed, or leave them when they are complete. Raises ProtegeError."""
    if (folder / DONE).exists():
        return
    everything = read_photographs(place, "train")
    order = np.random.default_rng([seed, 0]).permutation(len(everything.labels_N))
    labelled = _first_of_each(order, everything.labels_N, num_labels // len(CLASSES))
    rest = order[~np.isin(order, labelled)]
    tested = read_photographs(place, "t10k")
    test = np.arange(len(tested.labels_N))
    if seed >= TUNING_SEEDS:
        tested, test, rest = everything, rest[:HELD_OUT], rest[HELD_OUT:]
    _write(folder / "labelled", "labelled", everything, labelled)
    _write(folder / "test", "test", tested, test)
    _write_pile(folder, everything, rest, np.random.default_rng([seed, 1]))
    pairs = [f"{word},{name}" for name, words in WORDS.items() for word in words]
    (folder / "tags.csv").write_text("\n".join(["tag,class", *pairs]) + "\n")
    (folder / DONE).touch()


def _first_of_each(
    order: npt.NDArray[np.int64], labels_N: npt.NDArray[np.int64], count: int
) -> npt.NDArray[np.int64]:
    """The first so many places of each class, in this order."""
    by_class = [order[labels_N[order] == label][:count] for label in range(len(CLASSES))]
    return np.concatenate(by_class)


def _write(
    folder: Path, name: str, photographs: Photographs, places: npt.NDArray[np.int64]
) -> None:
    """One table of images with their classes."""
    labels = [CLASSES[label] for label in photographs.labels_N[places].tolist()]
    columns = {"image": _encoded(photographs, places), "label": pa.array(labels)}
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / f"{name}.parquet")


def _write_pile(
    folder: Path,
    photographs: Photographs,
    places: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> None:
    truth = ["key,label"]
    (folder / "pile").mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, len(places), ROWS_PER_FILE)):
        own = places[start : start + ROWS_PER_FILE]
        names = [CLASSES[label] for label in photographs.labels_N[own].tolist()]
        # By the number in the set of its authors, in whose order nothing is sorted by class.
        keys = [f"train-{place:05d}" for place in own.tolist()]
        columns = {
            "image": _encoded(photographs, own),
            "key": pa.array(keys),
            "tags": pa.array([_words(name, rng) for name in names], pa.list_(pa.string())),
        }
        file = f"pile-{number:02d}.parquet"
        pq.write_table(pa.table(columns), folder / "pile" / file)
        truth += [f"{file}/{key},{name}" for key, name in zip(keys, names, strict=True)]
    (folder / "pile-truth.csv").write_text("\n".join(truth) + "\n")


def _encoded(photographs: Photographs, places: npt.NDArray[np.int64]) -> pa.Array:
    pixels_NHW = photographs.pixels_NHW[places]
    return pa.array([encode_png(np.ascontiguousarray(picture)) for picture in pixels_NHW])


def _words(name: str, rng: np.random.Generator) -> list[str]:
    """The words beside one photograph."""
    words: list[str] = []
    if rng.random() < TAGGED_SHARE:
        meant = name if rng.random() >= WRONG_SHARE else CLASSES[rng.integers(len(CLASSES))]
        words.append(str(rng.choice(WORDS[meant])))
    if rng.random() < OTHER_SHARE:
        words.append(str(rng.choice(OTHERS)))
    return words

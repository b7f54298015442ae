"""Pictures: tiny images that a tiny network can tell apart, for tests that need a data set."""

from pathlib import Path

import numpy as np

from tasks.images import Pixels, encode_png

COLOURS = {"blue": (40, 60, 200), "green": (50, 190, 60), "red": (210, 50, 40)}
SIDE = 16


def picture(colour: str, rng: np.random.Generator) -> Pixels:
    """A noisy square of a colour, (16, 16, 3)."""
    noise = rng.normal(0, 25, (SIDE, SIDE, 3))
    return np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8)


def write_folder(
    folder: Path, rng: np.random.Generator, *, per_class: int, labelled: bool, prefix: str = ""
) -> list[Path]:
    """Write pictures of every colour, in folders by colour or all in one, with random names."""
    written = []
    for colour in COLOURS:
        place = folder / colour if labelled else folder
        place.mkdir(parents=True, exist_ok=True)
        for _ in range(per_class):
            path = place / f"{prefix}{rng.integers(1 << 48):012x}.png"
            path.write_bytes(encode_png(picture(colour, rng)))
            written.append(path)
    return written


def write_sources(folder: Path, *, seed: int, labelled: int, pile: int, test: int) -> None:
    """Write the three sources of a campaign, each with so many pictures of every colour."""
    rng = np.random.default_rng(seed)
    write_folder(folder / "labelled", rng, per_class=labelled, labelled=True)
    write_folder(folder / "pile", rng, per_class=pile, labelled=False)
    write_folder(folder / "test", rng, per_class=test, labelled=True)

"""Small: a campaign of a minute, and a list of the true classes of its pile."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flows.billion_scale.options import BillionScale
from tasks.options import Length
from tests.builders.campaign import tiny
from tests.builders.pictures import COLOURS

LEARNS = {"length": Length(amount=150, unit="steps")}


def small(pictures: Path, audit: Path, **changes: dict[str, Any]) -> BillionScale:
    """As `tiny`, but its networks learn something; `changes` are fields by section."""
    sections: dict[str, dict[str, Any]] = {
        "pile": {"verify": "header"},
        "teacher": LEARNS,
        "student": {**LEARNS, "nesterov": True},
        "topk": {"k": 12},
        "evaluate": {"audit": str(audit)},
    }
    merged = {
        name: {**sections.get(name, {}), **changes.get(name, {})}
        for name in {**sections, **changes}
    }
    return tiny(pictures, **merged)


def write_truth(pictures: Path, audit: Path) -> None:
    """The true class of every picture of the pile, which is its colour."""
    names = np.array(list(COLOURS))
    palette_CR = np.array(list(COLOURS.values()))
    lines = ["key,label"]
    for path in sorted((pictures / "pile").iterdir()):
        mean_R = np.asarray(Image.open(path)).mean(axis=(0, 1))
        nearest = np.argmin(((palette_CR - mean_R) ** 2).sum(axis=1))
        lines.append(f"{path.name},{names[nearest]}")
    audit.write_text("\n".join(lines) + "\n")

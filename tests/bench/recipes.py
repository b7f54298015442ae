"""Recipes: what the presets of the demo's data gain over their baselines. `make bench-recipes`

    python -m tests.bench.recipes FOLDER --recipe noisy-student [--data digits] [--seeds 0,1,2,3,4]

Seeds from 100 on are for choosing settings: their labelled images, pile and images to test on come
from those that no other seed tests on.

Prints one JSON line: the accuracies of each seed, and the gain with its standard error.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.demo import fashion
from flows.demo.digits import write_digits
from flows.demo.tags import write_tags
from flows.recipes import recipe
from tasks.options import flat_options
from tests.bench.seeds import TUNING_SEEDS, line, run_campaign, top1s
from tests.bench.tuning_digits import write_tuning_digits
from tests.bench.tuning_fashion import write_tuning_fashion

# What the presets name, which bear the names of their data.
PLACES = {
    "digits": "demo-output/data/seed-0",
    "fashion": "demo-output/fashion/seed-0",
    "icons": "demo-output/icons/seed-0",
}
FASHION_LABELS = 1_000  # of the preset


def prepare_digits(folder: Path, seed: int) -> Path:
    """The folder with the digits of a seed, which are written once."""
    data = folder / "data" / f"seed-{seed}"
    (write_tuning_digits if seed >= TUNING_SEEDS else write_digits)(data, seed)
    write_tags(data, seed)
    return data


def prepare_fashion(folder: Path, seed: int, num_labels: int = FASHION_LABELS) -> Path:
    """The folder with the goods of a seed, which are written once."""
    data = folder / "data" / f"{num_labels}-labels" / f"seed-{seed}"
    if not data.exists():
        write = write_tuning_fashion if seed >= TUNING_SEEDS else fashion.write_fashion
        write(fashion.fetch(folder / "package"), data, seed, num_labels)
    return data


PREPARE = {"digits": prepare_digits, "fashion": prepare_fashion}


def measure(
    folder: Path, name: str, preset: str, data: Path, seed: int, sets: Sequence[str] = ()
) -> dict[str, Any]:
    """The accuracies of a campaign of a seed, which is run to its end, and what it took."""
    began = time.monotonic()
    sources = _places(name, preset, data)
    summary = run_campaign(folder / "store", name, preset, seed, [*sources, *sets])
    row = {"seed": seed, "campaign": summary["campaign"], **top1s(summary)}
    seconds = round(time.monotonic() - began)
    print(json.dumps({**row, "seconds": seconds}), file=sys.stderr, flush=True)
    return row


def _places(name: str, preset: str, data: Path) -> list[str]:
    """The options of a preset that name a place of the demo, in this folder."""
    flat = flat_options(recipe(name).preset(preset).model_dump())
    return [
        f"{option}={value.replace(PLACES[preset], str(data))}"
        for option, value in flat
        if isinstance(value, str) and value.startswith(PLACES[preset])
    ]


def main() -> None:
    """Run every seed, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="Data and outputs; what is there is not redone.")
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--data", default="digits", choices=PREPARE)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--set", action="append", default=[], dest="sets")
    arguments = parser.parse_args()
    folder, name, preset = arguments.folder, arguments.recipe, arguments.data
    rows = [
        measure(folder, name, preset, PREPARE[preset](folder, seed), seed, arguments.sets)
        for seed in map(int, arguments.seeds.split(","))
    ]
    print(json.dumps({"bench": "recipes", "recipe": name, "data": preset, **line(rows)}))


if __name__ == "__main__":
    main()

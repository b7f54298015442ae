"""Recipes: what the preset `digits` of a recipe gains over its baseline. `make bench-recipes`

    python -m tests.bench.recipes FOLDER --recipe noisy-student [--seeds 0,1,2,3,4]

The data are those of the demo. Seeds from 100 on are for choosing settings: their 50 labelled
digits, 600 to test on and pile come from the 4,000 digits that no other seed tests on.

Prints one JSON line: the accuracies of each seed, and the gain with its standard error.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from flows.demo.digits import write_digits
from flows.demo.tags import write_tags
from flows.recipes import recipe
from tasks.options import flat_options
from tests.bench.seeds import TUNING_SEEDS, line, run_campaign, top1s
from tests.bench.tuning_digits import write_tuning_digits

DEMO = "demo-output/data/seed-0"  # what the presets name


def places(name: str, data: Path) -> list[str]:
    """The options of the preset that name a place of the demo, in this folder."""
    flat = flat_options(recipe(name).preset("digits").model_dump())
    return [
        f"{option}={value.replace(DEMO, str(data))}"
        for option, value in flat
        if isinstance(value, str) and value.startswith(DEMO)
    ]


def main() -> None:
    """Run every seed, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="Data and outputs; what is there is not redone.")
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--set", action="append", default=[], dest="sets")
    arguments = parser.parse_args()
    rows = []
    for seed in map(int, arguments.seeds.split(",")):
        data = arguments.folder / "data" / f"seed-{seed}"
        (write_tuning_digits if seed >= TUNING_SEEDS else write_digits)(data, seed)
        write_tags(data, seed)
        sets = [*places(arguments.recipe, data), *arguments.sets]
        began = time.monotonic()
        store = arguments.folder / "store"
        summary = run_campaign(store, arguments.recipe, "digits", seed, sets)
        rows.append({"seed": seed, **top1s(summary)})
        seconds = round(time.monotonic() - began)
        print(json.dumps({**rows[-1], "seconds": seconds}), file=sys.stderr, flush=True)
    print(json.dumps({"bench": "recipes", "recipe": arguments.recipe, **line(rows)}))


if __name__ == "__main__":
    main()

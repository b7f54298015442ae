"""Icons: what two recipes find among drawings of anything, and what a student gains by it.

    python -m tests.bench.icons FOLDER [--recipes billion-scale,semi-weakly] [--seeds 0,1,2]
        [--drawings 40000] [--source PACKAGE]

Seeds from 100 on are for choosing settings: nothing of the designers who test is among them.

Prints one JSON line: for each recipe and seed the accuracies on drawings by other designers, and
the share of the chosen images that is right, of the best K of each idea and of the best quarter of
them. `named` counts those, too, in whose name the word of the idea is beside others, as of a camera
that is crossed out.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flows.demo import iconify
from flows.demo.icons import testing_families, write_icons
from infra.store import open_store
from tasks.campaigns import campaigns
from tasks.shard import read_keys
from tasks.topk import read_chosen
from tests.bench.recipes import measure
from tests.bench.seeds import TUNING_SEEDS
from tests.bench.truth import read_truth


def prepare(folder: Path, seed: int, num_drawings: int, source: Path | None) -> Path:
    """The folder with the icons of a seed, which are drawn once."""
    data = folder / "data" / f"{num_drawings}-drawings" / f"seed-{seed}"
    if data.exists():
        return data
    drawings = list(iconify.read_drawings(source or iconify.fetch(folder / "package")))
    if seed >= TUNING_SEEDS:
        testing = testing_families(drawings)
        drawings = [drawing for drawing in drawings if drawing.family not in testing]
    write_icons(drawings, data, seed, num_drawings)
    return data


def precision(store: Path, campaign_id: str, truth: Mapping[str, str]) -> dict[str, float]:
    """The share of the chosen images of a campaign that is right, by what is taken for right."""
    root = open_store(str(store))
    [campaign] = [found for found in campaigns(root) if found.id == campaign_id]
    pile, topk = campaign.outputs["pile"], campaign.outputs["topk"]
    chosen, k = read_chosen(topk), topk.body["options"]["k"]
    shown = [truth[key] for key in read_keys(pile, chosen["image_id"].to_numpy())]
    wanted = [topk.classes[label] for label in chosen["label"].to_pylist()]
    right = np.array([is_shown == idea for is_shown, idea in zip(shown, wanted, strict=True)])
    named = np.array([idea in text.split("-") for text, idea in zip(shown, wanted, strict=True)])
    first = chosen["rank"].to_numpy() < k // 4
    return {
        "right_at_k": float(right.mean()),
        "right_at_quarter": float(right[first].mean()),
        "named_at_k": float(named.mean()),
        "named_at_quarter": float(named[first].mean()),
    }


def main() -> None:
    """Run every campaign, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="Data and outputs; what is there is not redone.")
    parser.add_argument("--recipes", default="billion-scale,semi-weakly")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--drawings", type=int, default=40_000)
    parser.add_argument("--source", type=Path, help="The unpacked package; else it is fetched.")
    parser.add_argument("--set", action="append", default=[], dest="sets")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in map(int, arguments.seeds.split(",")):
        data = prepare(arguments.folder, seed, arguments.drawings, arguments.source)
        for name in arguments.recipes.split(","):
            row = measure(arguments.folder, name, "icons", data, seed, arguments.sets)
            found = precision(
                arguments.folder / "store", row.pop("campaign"), read_truth(data / "pile-truth.csv")
            )
            rows.append({"recipe": name, **row, **found})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print(json.dumps({"bench": "icons", "drawings": arguments.drawings, "rows": rows}))


if __name__ == "__main__":
    main()

"""Photos: what the preset `photos` gains over an equally started baseline. `make bench-photos`

The pictures are those of Debian's package openclipart-png, drawn by hundreds of people, which
`apt-get download` fetches without any rights. Ten kinds are taken by their folders, 10 drawings of
each are labelled and 25 test; the pile is all others of these kinds, among as many of anything
else. The test drawings are the same for every seed. Seeds from 100 on are for choosing settings:
they test on drawings that no other seed tests on, and are not reported.

Prints one JSON line: the accuracies of each seed, and the gain with its standard error.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np

from flows.demo import packages
from tests.bench.seeds import TUNING_SEEDS, line, run_campaign, top1s

PACKAGE = "openclipart-png"
PICTURES = "usr/share/openclipart/png"
# Kinds that a person tells apart at a glance; nothing was left out for being hard.
KINDS = {
    "flags": "signs_and_symbols/flags",
    "cards": "recreation/games/cards",
    "arrows": "shapes/arrows",
    "road signs": "transportation/roadsigns",
    "fruit": "food/fruit",
    "mammals": "animals/mammals",
    "insects": "animals/bugs",
    "people": "people",
    "vehicles": "transportation/vehicles",
    "music": "recreation/music",
}
LABELLED_PER_KIND, TEST_PER_KIND = 10, 15
TEST_SEED = 2019


def fetch(folder: Path) -> Path:
    """The pictures, unpacked; they are downloaded once."""
    return packages.from_debian(PACKAGE, folder) / PICTURES


def sources_of(pictures: Path, folder: Path, seed: int) -> Path:
    """The folder with the three sources of one seed; they are written once."""
    own = folder / f"seed-{seed}"
    if not (own / "pile").exists():
        write_sources(pictures, own, seed)
    return own


def write_sources(pictures: Path, folder: Path, seed: int) -> None:
    """Write the three sources of one seed as folders of files, and what the pile really holds."""
    rng, test_rng = np.random.default_rng(seed), np.random.default_rng(TEST_SEED)
    everything = sorted(pictures.rglob("*.png"))
    pile: list[Path] = []
    truth: list[str] = []
    for kind, place in KINDS.items():
        own = [path for path in everything if path.is_relative_to(pictures / place)]
        order = [own[index] for index in test_rng.permutation(len(own))]
        test, rest = order[:TEST_PER_KIND], order[TEST_PER_KIND:]
        rest = [rest[index] for index in rng.permutation(len(rest))]
        if seed >= TUNING_SEEDS:
            test, rest = rest[:TEST_PER_KIND], rest[TEST_PER_KIND:]
        _copy(test, folder / "test" / kind)
        _copy(rest[:LABELLED_PER_KIND], folder / "labelled" / kind)
        pile += rest[LABELLED_PER_KIND:]
        truth += [kind] * len(rest[LABELLED_PER_KIND:])
    places = [pictures / place for place in KINDS.values()]
    others = [path for path in everything if not any(map(path.is_relative_to, places))]
    pile += [others[index] for index in rng.permutation(len(others))[: len(pile)]]
    _copy(pile, folder / "pile")
    truth += ["other"] * (len(pile) - len(truth))
    rows = [f"{number:05d}.png,{kind}" for number, kind in enumerate(truth)]
    (folder / "pile-truth.csv").write_text("\n".join(["key,label", *rows]) + "\n")


def _copy(paths: list[Path], folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, path in enumerate(paths):
        # Names say nothing about what is drawn.
        shutil.copyfile(path, folder / f"{number:05d}.png")


def main() -> None:
    """Run every seed, and print what was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--preset", default="photos")
    parser.add_argument("--set", action="append", default=[], dest="sets")
    arguments = parser.parse_args()
    pictures, found = fetch(arguments.folder / "package"), []
    for seed in map(int, arguments.seeds.split(",")):
        folder = sources_of(pictures, arguments.folder, seed)
        sources = [f"{role}.source={folder}/{role}" for role in ("labelled", "pile", "test")]
        sets, store = [*sources, *arguments.sets], folder / "out"
        summary = run_campaign(store, "billion-scale", arguments.preset, seed, sets)
        found.append({"seed": seed, **top1s(summary)})
        print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    print(json.dumps({"bench": "photos", **line(found)}))


if __name__ == "__main__":
    main()

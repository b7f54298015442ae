"""Photo heads: how much a head could learn from what the teacher of the preset `photos` chooses.

    python -m tests.bench.photo_heads FOLDER --seeds 101,102,103

In the space of the teacher's own features, where a head is fitted in a second instead of a network
in minutes: the best case for a student that is no other network than its teacher. For each K, the
precision of the choice (P = 1), and the accuracy of a head of the chosen images alone, and of one
of these beside the labelled images, repeated until they are as many. Accuracy is the mean over the
kinds, on the test drawings and all drawings of these kinds in the pile. Seeds below 100 are
refused, because their test drawings are kept for the result.

Prints one JSON line, whose figures are means over the seeds.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flows.billion_scale import presets
from infra.store import open_store
from models.losses import top_log_odds
from tasks.contract import bytes_digest
from tasks.gather import gather
from tasks.inference.model import Model, load_model
from tasks.inference.pipeline import run_pipeline
from tasks.shard import ShardOptions, shard
from tasks.train import train
from tasks.train.data import Targets
from tasks.train.start.linear import HeadFit, fit_head
from tests.bench.photos import KINDS, fetch, sources_of
from tests.bench.seeds import TUNING_SEEDS

CLASSES = sorted(KINDS)
COUNTS = (10, 20, 30, 50)  # K
OTHER = -1  # the kind of a drawing that is none of them


@dataclass(frozen=True)
class Drawings:
    """Features (N, D) of drawings, and their kinds."""

    features_ND: Tensor
    kinds_N: npt.NDArray[np.int64]


def kinds_by_content(pictures: Path) -> dict[str, int]:
    """The kind of each drawing of the package that has one, by the digest of its file."""
    return {
        _digest(path): CLASSES.index(kind)
        for kind, place in KINDS.items()
        for path in (pictures / place).rglob("*.png")
    }


def look_at(model: Model, paths: Sequence[Path], kinds: dict[str, int]) -> Drawings:
    """What the network sees of these files; those that cannot be decoded are left out."""
    size, features, unusable = model.description.inputs.size, [], set()
    for batch in run_pipeline(
        map(str, paths),
        model.decode,
        lambda pixels_BHWC, _: model.features(pixels_BHWC),
        size=size,
        batch_size=64,
    ):
        features.append(batch.outputs_BC)
        unusable |= set(batch.problems)
    rows = [row for row in range(len(paths)) if row not in unusable]
    found = np.array([kinds.get(_digest(paths[row]), OTHER) for row in rows])
    return Drawings(torch.cat(features)[rows], found)


def choose(log_odds_NC: npt.NDArray[np.float32], k: int) -> tuple[list[int], list[int]]:
    """Rows and classes of the K best of each class, of the images whose first class it is."""
    best_N, rows, classes = log_odds_NC.argmax(1), [], []
    for kind in range(log_odds_NC.shape[1]):
        candidates = np.flatnonzero(best_N == kind)
        order = np.argsort(-log_odds_NC[candidates, kind], kind="stable")[:k]
        rows += candidates[order].tolist()
        classes += [kind] * len(order)
    return rows, classes


def fit(features_ND: Tensor, classes: Sequence[int]) -> HeadFit:
    """The head of these images, as `start.head=linear` fits it."""
    rows = np.arange(len(classes))
    ones = np.ones(len(classes), np.float32)
    return fit_head(features_ND, Targets(rows, np.array(classes), ones), len(CLASSES))


def accuracy(head: HeadFit, drawings: Drawings) -> float:
    """The mean over the kinds of the share that is recognised."""
    best_N = (drawings.features_ND @ head.weight_CD.T + head.bias_C).argmax(1).numpy()
    kinds_N = drawings.kinds_N
    return float(
        np.mean([(best_N[kinds_N == kind] == kind).mean() for kind in range(len(CLASSES))])
    )


def measure(folder: Path, kinds: dict[str, int]) -> dict[str, float]:
    """The figures of one seed, whose sources lie in the folder."""
    # The teacher of the preset.
    root = open_store(str(folder / "heads"))
    options = ShardOptions(source=str(folder / "labelled"), labelled=True)
    lessons = gather(root, shard(root, options), classes=CLASSES)
    model = load_model(train(root, lessons, presets.photos().teacher))

    # What it sees, and chooses.
    roles = ("labelled", "pile", "test")
    labelled, pile, test = (
        look_at(model, sorted((folder / role).rglob("*.png")), kinds) for role in roles
    )
    known = pile.kinds_N != OTHER
    judged = Drawings(
        torch.cat([pile.features_ND[torch.from_numpy(known)], test.features_ND]),
        np.concatenate([pile.kinds_N[known], test.kinds_N]),
    )
    teacher = fit(labelled.features_ND, labelled.kinds_N.tolist())
    logits_NC = pile.features_ND @ teacher.weight_CD.T + teacher.bias_C
    labels_NC, values_NC = top_log_odds(logits_NC, len(CLASSES))
    log_odds_NC = torch.zeros_like(logits_NC).scatter_(1, labels_NC, values_NC).numpy()

    # What others learn from that.
    figures = {"teacher": accuracy(teacher, judged)}
    for k in COUNTS:
        rows, classes = choose(log_odds_NC, k)
        figures[f"precision_{k}"] = float(np.mean(pile.kinds_N[rows] == np.array(classes)))
        chosen_ND = pile.features_ND[rows]
        figures[f"chosen_{k}"] = accuracy(fit(chosen_ND, classes), judged)
        repeats = max(1, round(len(rows) / len(labelled.kinds_N)))
        both_ND = torch.cat([labelled.features_ND] * repeats + [chosen_ND])
        both = fit(both_ND, labelled.kinds_N.tolist() * repeats + classes)
        figures[f"both_{k}"] = accuracy(both, judged)
    return figures


def _digest(path: Path) -> str:
    return bytes_digest(path.read_bytes())


def main() -> None:
    """Measure every seed, and print one line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", default="101,102,103")
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    if min(seeds) < TUNING_SEEDS:
        parser.error(f"seeds below {TUNING_SEEDS} are for the result: take others")
    pictures = fetch(arguments.folder / "package")
    kinds, found = kinds_by_content(pictures), []
    for seed in seeds:
        found.append(measure(sources_of(pictures, arguments.folder, seed), kinds))
    means = {name: round(float(np.mean([row[name] for row in found])), 3) for name in found[0]}
    print(json.dumps({"seeds": seeds, **means}))


if __name__ == "__main__":
    main()

"""Precision: how well a committee says, without labels of the pile, how right each class is.

    python -m tests.bench.precision FOLDER [--domains digits,fashion,clipart] [--seeds 100,101]

A teacher, weak or strong, chooses the best K of each class. A committee of small networks, each
trained on another 80 % of the labelled images, is asked about a sample of them. An estimate of the
precision of a class is a function of what its members say; what is measured is how far it is from
the share that is right, which only this bench knows. Seeds from 100 on are those that settings may
be chosen by: none of their images tests anything that is reported.

Prints one JSON line: for each estimate, over all classes of all cases, the mean absolute error, the
rank correlation with the measured precision, and how many classes below 30 % it calls above 70 %.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from flows.billion_scale.presets import photos
from flows.campaign.committee import train_committee
from flows.campaign.run import Run
from flows.campaign.small_pictures import DIGITS, network, training
from flows.demo import fashion as fashion_demo
from infra.executors import Inline
from infra.store import open_store
from tasks.agreement import CommitteeOptions, read_precision
from tasks.contract import Output
from tasks.gather import GatherOptions
from tasks.shard import ShardOptions, read_keys
from tasks.topk import read_chosen
from tasks.train import TrainOptions
from tests.bench import photos as clipart
from tests.bench.truth import read_truth
from tests.bench.tuning_digits import write_tuning_digits
from tests.bench.tuning_fashion import write_tuning_fashion

COMMITTEE = CommitteeOptions()
BATCH_SIZE = 256
LOW, HIGH = 0.3, 0.7  # a class below the one must not be called above the other

Shares = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Domain:
    """Sources with what their pile really holds, by key; teachers, what they choose, and members
    of a committee.
    """

    folder: Path
    truth: Mapping[str, str]
    teachers: Mapping[str, TrainOptions]
    ks: tuple[int, ...]
    member: TrainOptions


@dataclass(frozen=True)
class Case:
    """A choice: for each sampled image its class, and the share of the members that agree; for each
    class its measured precision, over all images of the choice, and the interval of the estimate.
    """

    name: str
    labels_N: npt.NDArray[np.int64]
    agrees_N: Shares
    precision_C: Shares
    intervals: tuple[tuple[float, float] | None, ...]

    @property
    def inside(self) -> list[bool]:
        """Whether the measured precision of each class lies within the interval of the stage."""
        pairs = zip(self.precision_C.tolist(), self.intervals, strict=True)
        return [found[0] <= measured <= found[1] for measured, found in pairs if found]


def unanimous(agrees_N: Shares) -> float:
    """The share of images that every member gives the class: the estimate of the stage."""
    return float((agrees_N == 1).mean())


def majority(agrees_N: Shares) -> float:
    """The share of images that most members give the class."""
    return float((agrees_N > 0.5).mean())


def mean_agreement(agrees_N: Shares) -> float:
    """The mean share of members that give an image the class."""
    return float(agrees_N.mean())


ESTIMATES: tuple[Callable[[Shares], float], ...] = (unanimous, majority, mean_agreement)


def _small(model: str, length: int) -> TrainOptions:
    """A network for pictures of 28 pixels."""
    return network(model, training(DIGITS, length, base=0.8, weight_decay=5e-3))


def digits(folder: Path, seed: int) -> Domain:
    """Digits among badly cut cells, 5 labels of each class."""
    write_tuning_digits(folder, seed)
    return Domain(
        folder,
        read_truth(folder / "pile-truth.csv"),
        {
            "weak": _small("small_resnet_8", 100),
            "fair": _small("small_resnet_8", 300),
            "strong": _small("small_resnet_16", 1_200),
        },
        (100, 350),
        _small("small_resnet_8", 300),
    )


def fashion(folder: Path, seed: int) -> Domain:
    """Photographs of goods that look alike, 100 labels of each class, nothing else in the pile."""
    write_tuning_fashion(fashion_demo.fetch(folder.parent / "fashion-package"), folder, seed)
    return Domain(
        folder,
        read_truth(folder / "pile-truth.csv"),
        {"weak": _small("small_resnet_8", 100), "strong": _small("small_resnet_16", 1_200)},
        (500, 3_000),
        _small("small_resnet_8", 300),
    )


def drawings(folder: Path, seed: int) -> Domain:
    """Clip art of ten kinds among other things, 10 labels of each; heads on frozen features."""
    pictures = clipart.fetch(folder.parent / "clipart-package")
    sources = clipart.sources_of(pictures, folder, seed)
    head = photos().teacher
    few = head.inputs.model_copy(update={"size": 64, "resize": 73})
    return Domain(
        sources,
        read_truth(sources / "pile-truth.csv"),
        {"weak": head.model_copy(update={"inputs": few}), "strong": head},
        (25, 50),
        head,
    )


DOMAINS = {"digits": digits, "fashion": fashion, "clipart": drawings}


def cases_of(domain: Domain, run: Run, name: str) -> Iterator[Case]:
    """The choices of each teacher, and what the committee says of them."""
    labelled = run.shard(f"{domain.folder}/labelled", labelled=True)
    pile = run.shard(f"{domain.folder}/pile", options=ShardOptions(images_per_shard=2_000))
    classes = run.classes(labelled, labelled)
    lessons = run.gather(labelled, classes=classes)
    members = train_committee(run, COMMITTEE, domain.member, labelled, classes, GatherOptions())
    for strength, options in domain.teachers.items():
        teacher = run.train(lessons, options, classes=classes)
        scores = run.score(pile, teacher, top_p=min(10, len(classes)), batch_size=BATCH_SIZE)
        for k in domain.ks:
            chosen = run.topk(scores, k=k, top_p=1, drop_near_duplicates=False)
            asked = run.agreement(pile, chosen, members, COMMITTEE)
            votes = asked.table("votes")
            yield Case(
                f"{name} {strength} {k}",
                votes["label"].to_numpy(),
                votes["votes"].to_numpy() / len(members),
                _measured(domain, pile, chosen),
                tuple(
                    None if row["estimate"] is None else (row["low"], row["high"])
                    for row in read_precision(asked).to_pylist()
                ),
            )


def _measured(domain: Domain, pile: Output, chosen: Output) -> Shares:
    """The share of each class's images that is right; not a number where it has none."""
    table, classes = read_chosen(chosen), chosen.classes
    keys = read_keys(pile, table["image_id"].to_numpy())
    labels = table["label"].to_numpy()
    right = np.array([domain.truth.get(key) == classes[label] for key, label in zip(keys, labels)])
    own = (right[labels == label] for label in range(len(classes)))
    return np.array([found.mean() if len(found) else np.nan for found in own])


def judge(cases: list[Case]) -> dict[str, Any]:
    """How far each estimate is from what is measured, over all classes of all cases."""
    inside = [found for case in cases for found in case.inside]
    judged: dict[str, Any] = {"inside_interval": round(float(np.mean(inside)), 3)}
    for estimate in ESTIMATES:
        pairs = np.array(
            [
                (estimate(case.agrees_N[case.labels_N == label]), precision)
                for case in cases
                for label, precision in enumerate(case.precision_C)
                if not np.isnan(precision)
            ]
        )
        estimated, measured = pairs.T
        judged[estimate.__name__] = {
            "classes": len(pairs),
            "mean_absolute_error": round(float(np.abs(estimated - measured).mean()), 3),
            "bias": round(float((estimated - measured).mean()), 3),
            "rank_correlation": round(float(spearmanr(estimated, measured)[0]), 2),
            "bad_called_good": int(((measured < LOW) & (estimated > HIGH)).sum()),
        }
    return judged


def main() -> None:
    """Judge the estimates on every domain and on all together."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="Data and outputs; what is there is not redone.")
    parser.add_argument("--domains", default=",".join(DOMAINS))
    parser.add_argument("--seeds", default="100,101")
    arguments = parser.parse_args()
    found: dict[str, list[Case]] = {}
    for name in arguments.domains.split(","):
        for seed in map(int, arguments.seeds.split(",")):
            folder: Path = arguments.folder / name / f"seed-{seed}"
            run = Run(open_store(str(arguments.folder / "store")), Inline())
            domain = DOMAINS[name](folder, seed)
            found.setdefault(name, []).extend(cases_of(domain, run, f"{name} {seed}"))
    everything = [case for cases in found.values() for case in cases]
    result: dict[str, Any] = {name: judge(cases) for name, cases in found.items()}
    print(json.dumps({"bench": "precision", **result, "all": judge(everything)}))


if __name__ == "__main__":
    main()

"""Features: what contrastive pre-training is worth, by a linear head on frozen features.

    OMP_NUM_THREADS=1 python -m tests.bench.features FOLDER [--seeds 0,1,2] [--steps 400]

4,000 digits are looked at without their labels (the demo's, without its badly cut cells); a linear
head is then fitted to all labels, and asked about 1,000 others. Beside it, in the same run: the
same network with random weights, and trained on 1 % of the labels, by itself and with such a head.
It prints one JSON line: accuracies by seed, their means and standard errors.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from flows.campaign.run import Run
from flows.demo import digits as data
from flows.simclr_v2.presets import digits
from infra.executors import Inline
from infra.store import Store, open_store
from tasks.contract import Output
from tasks.gather import GatherOptions
from tasks.options import Length
from tasks.shard import ShardOptions
from tests.bench.seeds import measure_top1

ONE_PERCENT = GatherOptions(percent_of_class=1)


def write_all(folder: Path) -> None:
    """All digits in folders of their classes: 4,000 to learn from, 1,000 to test."""
    if (folder / data.DONE).exists():
        return
    cells, labels = data.load_digits()
    split = data.split_digits(labels, seed=0)
    rng = np.random.default_rng(0)
    learned = np.concatenate([split.labelled, split.unlabelled])
    for role, positions in (("all", learned), ("test", split.test)):
        for position in positions:
            data.write_cell(
                folder / role / str(labels[position]), data.random_name(rng), cells[position]
            )
    (folder / data.DONE).touch()


def measure(root: Store, folder: Path, seed: int, steps: int) -> dict[str, float]:
    """The accuracy of each kind of network on the test digits."""
    run, options = Run(root, Inline()), digits(seed=seed)
    learned = run.shard(options=ShardOptions(source=str(folder / "all"), labelled=True))
    test = run.shard(options=ShardOptions(source=str(folder / "test"), labelled=True))
    classes = run.classes(learned, test)
    everything = run.gather(learned)
    few = run.gather(learned, options=ONE_PERCENT.model_copy(update={"seed": seed}))
    unlabelled = run.gather(learned, classes=[])

    pretrain = options.pretrain.model_copy(update={"length": Length(amount=steps, unit="steps")})
    contrastive = run.train(unlabelled, pretrain, classes=classes, objective=options.contrast)
    # A rate of next to nothing for one step leaves the random weights as they are.
    still = pretrain.learning_rate.model_copy(
        update={"base": 1e-7, "warmup": Length(amount=0, unit="steps")}
    )
    no_step = {"length": Length(amount=1, unit="steps"), "learning_rate": still, "weight_decay": 0}
    random = run.train(
        unlabelled,
        pretrain.model_copy(update=no_step),
        classes=classes,
        objective=options.contrast,
    )
    own = pretrain.continued(options.fine_tune)
    supervised = run.train(few, own, classes=classes)

    def linear(model: Output) -> float:
        return measure_top1(run, run.fit_head(model, everything, classes=classes), test)

    return {
        "contrastive_linear": linear(contrastive),
        "random_linear": linear(random),
        "supervised_one_percent": measure_top1(run, supervised, test),
        "supervised_one_percent_linear": linear(supervised),
    }


def summary(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Means and standard errors over the seeds."""
    result: dict[str, Any] = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        result[name] = [round(float(value), 4) for value in values]
        result[f"{name}_mean"] = round(float(values.mean()), 4)
        if len(values) > 1:
            error = float(values.std(ddof=1)) / math.sqrt(len(values))
            result[f"{name}_standard_error"] = round(error, 4)
    return result


def main() -> None:
    """Measure every seed, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="Data and outputs; what is there is not redone.")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=400, help="Steps without labels.")
    arguments = parser.parse_args()
    write_all(arguments.folder / "digits")
    root = open_store(str(arguments.folder / "store"))
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    rows = [measure(root, arguments.folder / "digits", seed, arguments.steps) for seed in seeds]
    print(json.dumps({"bench": "features", "steps": arguments.steps, **summary(rows)}))


if __name__ == "__main__":
    main()

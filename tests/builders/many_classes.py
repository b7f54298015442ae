"""Many classes: every stage of the recipe on one tiny image of each class, and its peak memory.

    python -m tests.builders.many_classes FOLDER CLASSES

Prints a line of JSON: the peak of this process and that of its training processes, in MiB.
"""

import json
import resource
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flows.billion_scale.roles import ROLES
from infra.settings import Processes
from infra.store import Store, open_store
from tasks.contract import Output
from tasks.duplicates.leakage import leakage
from tasks.evaluate import Choice, EvaluateOptions, evaluate, predict
from tasks.gather import gather
from tasks.images import Inputs, encode_png
from tasks.options import Length
from tasks.report import Story, report
from tasks.score import ScoreOptions, score
from tasks.shard import ShardOptions, class_names, shard
from tasks.topk import TopkOptions, topk
from tasks.train import TrainOptions, train
from tasks.train.augment_options import Augment
from tasks.train.options import TrainSpeed
from tests.builders.peak import peak_mib

PILE_IMAGES, TEST_IMAGES = 300, 200
NETWORK = TrainOptions(
    model="small_resnet_8",
    inputs=Inputs(size=8, resize=8, pixels="unit"),
    length=Length(amount=2, unit="steps"),
    batch_size=64,
    augment=Augment(crop_min_area=1, flip=False),
    speed=TrainSpeed(threads=1, decode_threads=1),
)


def write_table(path: Path, count: int, labels: list[str] | None) -> str:
    """A table of so many tiny images."""
    rng = np.random.default_rng(count)
    different = [encode_png(rng.integers(0, 256, (8, 8, 3), np.uint8)) for _ in range(300)]
    images = [different[number % len(different)] for number in range(count)]
    columns = {"image": pa.array(images, pa.binary())}
    pq.write_table(pa.table({**columns, **({"label": labels} if labels else {})}), path)
    return str(path)


def run(root: Store, folder: Path, num_classes: int) -> Output:
    """Every stage; returns the report."""
    names = [f"class {number:05d}" for number in range(num_classes)]
    sources = {
        "labelled": ShardOptions(
            source=write_table(folder / "labelled.parquet", num_classes, names), labelled=True
        ),
        "pile": ShardOptions(source=write_table(folder / "pile.parquet", PILE_IMAGES, None)),
        "test": ShardOptions(
            source=write_table(folder / "test.parquet", TEST_IMAGES, names[:TEST_IMAGES]),
            labelled=True,
        ),
    }
    outputs = {role: shard(root, options) for role, options in sources.items()}
    pile, test, one = outputs["pile"], outputs["test"], Processes(count=1, threads=1)
    outputs["copies"] = leakage(root, outputs["labelled"], test)
    classes = class_names(outputs["labelled"], test)
    outputs["labelled_lessons"] = gather(root, outputs["labelled"], classes=classes)
    teacher = train(root, outputs["labelled_lessons"], NETWORK, processes=one)
    outputs |= dict.fromkeys(("teacher", "supervised", "baseline"), teacher)
    outputs["teacher_check"] = predict(root, teacher, test)
    outputs["score"] = score(root, pile, teacher, ScoreOptions(batch_size=64))
    options = TopkOptions(k=2, top_p=5, drop_near_duplicates=False)
    outputs["topk"] = topk(root, outputs["score"], options)
    outputs["gather"] = gather(root, pile, outputs["topk"])
    student = train(root, outputs["gather"], NETWORK, processes=one)
    outputs |= dict.fromkeys(("pretrained", "student"), student)
    models = {role: outputs[role] for role in ("teacher", "student", "baseline")}
    outputs["evaluate"] = evaluate(
        root,
        test,
        models,
        EvaluateOptions(views=1, batch_size=64),
        compare=("student", "baseline"),
        choice=Choice(pile, outputs["topk"], teacher),
    )
    story = Story("billion-scale", "many", "again", outputs, ROLES, "student", "baseline")
    return report(root, story)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    page = run(open_store(str(place / "root")), place, int(sys.argv[2]))
    # Not by resource usage, which counts what the process was that has started this one.
    largest_child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    peaks = {"own": peak_mib(), "training": largest_child}
    print(json.dumps({"report": page.uri, **peaks}))

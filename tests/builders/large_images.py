"""Large images: a labelled source of files of 3 MB through shard, signature, gather and train.

    python -m tests.builders.large_images FOLDER COUNT OPTIONS

The files are small pictures with a long end of zeros, which takes no room on a disk. OPTIONS is
JSON: {"shard": {...}, "gather": {...}, "train": {...}}. The last line is JSON: the bytes of the
images of each part, and by how many MiB the process grew in each stage.
"""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from infra.store import open_store
from tasks.contract import Output
from tasks.duplicates.signature import signature
from tasks.gather import GatherOptions, gather
from tasks.shard import IMAGE_BYTES, ShardOptions, shard
from tasks.train.trainer import Trainer
from tests.builders.peak import forget_peak, peak_mib
from tests.builders.pictures import COLOURS, picture
from tests.builders.trainings import ONE, SMALL, job, run_to

IMAGE_SIZE = 3 << 20


def fill(folder: Path, count: int) -> Path:
    """The source: as many files of each class."""
    rng = np.random.default_rng(0)
    for number in range(count):
        colour = list(COLOURS)[number % len(COLOURS)]
        path = folder / colour / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        sink = io.BytesIO()
        Image.fromarray(picture(colour, rng)).save(sink, "JPEG")
        path.write_bytes(sink.getvalue())
        with path.open("r+b") as file:
            file.truncate(IMAGE_SIZE)
    return folder


def parts_of(output: Output) -> list[int]:
    """The bytes of the images of each part."""
    return [int(part["facts"][IMAGE_BYTES]) for part in output.body["parts"]]


def run(folder: Path, count: int, options: dict[str, Any]) -> dict[str, Any]:
    """What became of it."""
    root, grown = open_store(str(folder / "root")), {}

    def measured(stage: str, make: Callable[[], Any]) -> Any:
        before = forget_peak()
        made = make()
        grown[stage] = peak_mib() - before
        return made

    source = str(fill(folder / "source", count))
    sharding = ShardOptions(source=source, labelled=True, verify="header", **options["shard"])
    gathering = GatherOptions(**options["gather"])
    images = measured("shard", lambda: shard(root, sharding))
    measured("signature", lambda: signature(root, images))
    lessons = measured("gather", lambda: gather(root, images, options=gathering))
    training = SMALL.model_copy(update=options.get("train", {}))
    trainer = Trainer(job(lessons, folder / "train", training), ONE)
    measured("train", lambda: run_to(trainer, 8))
    return {
        "shard": parts_of(images),
        "gather": parts_of(lessons),
        "kept": lessons.kept,
        "steps": trainer.learner.step,
        "grown_mib": grown,
    }


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))))

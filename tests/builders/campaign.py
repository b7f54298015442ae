"""Campaign: the recipe at its smallest, and its tables as bytes, for tests of the whole."""

import hashlib
from pathlib import Path
from typing import Any

from flows.billion_scale.options import BillionScale
from flows.campaign.baseline import BaselineOptions
from infra.store import open_store
from tasks.agreement import CommitteeOptions
from tasks.evaluate import EvaluateOptions
from tasks.images import Inputs
from tasks.options import Length
from tasks.report import ReportOptions
from tasks.score import ScoreOptions
from tasks.shard import ShardOptions
from tasks.topk import TopkOptions
from tasks.train import Training, TrainOptions
from tasks.train.augment_options import Augment
from tasks.train.options import LearningRate, TrainSpeed

AUGMENT = Augment(crop_min_area=1, flip=False, rotate_degrees=10)
SPEED = TrainSpeed(checkpoint_seconds=0, threads=1, decode_threads=1)


def tiny_steps(amount: int, base: float = 8.0) -> dict[str, Any]:
    """A training of so many steps."""
    return {
        "length": Length(amount=amount, unit="steps"),
        "batch_size": 8,
        "learning_rate": LearningRate(base=base),
        "augment": AUGMENT,
        "speed": SPEED,
    }


def tiny_network(amount: int) -> TrainOptions:
    """The smallest network, with a training of so many steps."""
    inputs = Inputs(size=16, resize=16, pixels="unit")
    return TrainOptions(model="mean_colour", inputs=inputs, **tiny_steps(amount))


def tiny(pictures: Path, **changes: dict[str, Any]) -> BillionScale:
    """Options of a campaign of seconds; `changes` are fields by section."""
    network = tiny_network(20)
    options = BillionScale(
        labelled=ShardOptions(source=str(pictures / "labelled"), labelled=True),
        pile=ShardOptions(source=str(pictures / "pile"), images_per_shard=16),
        test=ShardOptions(source=str(pictures / "test"), labelled=True),
        teacher=network,
        score=ScoreOptions(top_p=3, batch_size=8),
        topk=TopkOptions(k=6, top_p=2),
        committee=CommitteeOptions(members=0),
        member=network,
        student=network,
        fine_tune=Training(
            length=Length(amount=2, unit="steps"), batch_size=8, augment=AUGMENT, speed=SPEED
        ),
        baseline=BaselineOptions(
            length=Length(amount=20, unit="steps"), learning_rate=LearningRate(base=8.0)
        ),
        evaluate=EvaluateOptions(views=1, view_images=2),
        report=ReportOptions(images_per_strip=2),
    )
    sections = {
        name: getattr(options, name).model_copy(update=fields) for name, fields in changes.items()
    }
    return options.model_copy(update=sections)


def tables_of(root: str) -> dict[str, str]:
    """Digest of every table and of all weights below a root, by path."""
    store = open_store(root)
    return {
        name: hashlib.sha256(store.read(name)).hexdigest()
        for name in store.sizes()
        if name.endswith((".parquet", "weights.safetensors"))
        and not name.startswith(("campaigns", "report"))
        and "/pins/" not in name
    }

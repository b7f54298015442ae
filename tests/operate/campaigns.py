"""Campaigns for tests of the server: slow ones, single trainings, and what was made when."""

from pathlib import Path
from typing import Any

from flows.billion_scale.options import BillionScale
from infra.store import open_store
from tasks.campaigns import Campaign
from tasks.options import Length
from tests.builders.campaign import tiny

STEPS_PER_SECOND = 200  # of the linear network of `tiny`: 170 were seen on a busy core


def slow(pictures: Path, seconds: float, **changes: dict[str, Any]) -> BillionScale:
    """A campaign whose teacher trains for so long, and saves a checkpoint often."""
    teacher = {"length": _length(seconds), **changes.pop("teacher", {})}
    return tiny(pictures, teacher=teacher, **changes)


def training(campaign: Campaign, seconds: float, seed: int) -> dict[str, Any]:
    """The form of `train/single`: a training of so long on the labelled images of a campaign."""
    options = {**campaign.options["teacher"], "length": _length(seconds).model_dump(), "seed": seed}
    return {"data": campaign.outputs["labelled"].uri, "options": options}


def _length(seconds: float) -> Length:
    return Length(amount=round(seconds * STEPS_PER_SECOND), unit="steps")


def made(root: str) -> dict[str, str]:
    """Every part, weight and manifest below a root with a mark that changes when it is written."""
    kinds = (".parquet", ".safetensors", ".html")
    return {
        name: entry.version
        for name, entry in open_store(root).sizes().items()
        if not name.startswith(("campaigns", "leases", "champions"))
        and (name.endswith(kinds) or "/manifest" in name)
        and "/checkpoints/" not in name
    }

"""Campaigns for tests of the server: tiny ones, slow ones, and what was made when."""

from pathlib import Path
from typing import Any

from flows.billion_scale.options import BillionScale
from infra.storage import open_store
from tasks.options import Length
from tests.campaign import tiny

STEPS_PER_SECOND = 60  # of the linear network of `tiny`, at least, on a busy core


def slow(pictures: Path, seconds: float, **changes: dict[str, Any]) -> BillionScale:
    """A campaign whose teacher trains for so long, and saves a checkpoint often."""
    length = Length(amount=round(seconds * STEPS_PER_SECOND), unit="steps")
    teacher = {"length": length, **changes.pop("teacher", {})}
    return tiny(pictures, teacher=teacher, **changes)


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

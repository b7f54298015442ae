"""Every way to start a campaign checks what can be checked before any work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import protege as pg
from flows.billion_scale.options import BillionScale
from flows.campaign.find import sections_of
from flows.cli import app
from flows.recipes import BILLION_SCALE
from infra.errors import ProtegeError
from infra.store import Store
from tests.builders.campaign import tiny


def command_line(options: BillionScale, root: str, folder: Path) -> None:
    config = folder / "mine.yaml"
    config.write_text(yaml.safe_dump(options.model_dump(mode="json")))
    words = ["run", BILLION_SCALE.name, "--config", str(config), "--root", root]
    CliRunner().invoke(app, words, catch_exceptions=False)


def form(options: BillionScale, root: str, _folder: Path) -> None:
    """The flow that a worker of the server runs."""
    from flows.engine.flow import recipe_flow

    recipe_flow(BILLION_SCALE)(**sections_of(options), root=root)


def python(options: BillionScale, root: str, _folder: Path) -> None:
    pg.recipes.billion_scale(pg.open(root), options)


WAYS: dict[str, Callable[[BillionScale, str, Path], None]] = {
    "command line": command_line,
    "form": form,
    "python": python,
}
# An option that another one contradicts, places that overlap, a training that fits no machine.
FAULTS: dict[str, tuple[dict[str, dict[str, Any]], str]] = {
    "options": (
        {"evaluate": {"audit": "/nowhere.csv"}},
        "evaluate.audit: /nowhere.csv: the audit list cannot be read",
    ),
    "places": (
        {"pile": {"source": "{pictures}/test"}},
        "pile.source and test.source must be different places",
    ),
    "machine": (
        {"teacher": {"model": "small_resnet_8", "batch_size": 1_000_000, "virtual_ranks": 1}},
        "teacher: a step of small_resnet_8 on 1,000,000 images at once",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("way", WAYS)
def test_what_can_be_seen_is_refused_before_a_stage_has_begun(
    root: Store, pictures: Path, tmp_path: Path, way: str, fault: str
) -> None:
    changes, sentence = FAULTS[fault]
    options = tiny(pictures, **filled(changes, pictures))
    with pytest.raises(ProtegeError) as error:
        WAYS[way](options, root.uri, tmp_path)
    assert sentence in str(error.value)
    assert not root.sizes(), "nothing was pinned, and no campaign was begun"


def filled(changes: dict[str, dict[str, Any]], pictures: Path) -> dict[str, dict[str, Any]]:
    """The changes with the place of the pictures."""
    return {
        section: {
            name: value.format(pictures=pictures) if isinstance(value, str) else value
            for name, value in fields.items()
        }
        for section, fields in changes.items()
    }

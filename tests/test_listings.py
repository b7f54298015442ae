"""Listings: a start lists every source once, which takes long for many files."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import protege
from flows.billion_scale.options import BillionScale
from flows.campaign import machine
from flows.engine import execute
from flows.recipes import BILLION_SCALE, Recipe
from infra.store import Store
from tasks.shard import ShardOptions
from tests.builders.campaign import tiny


def from_python(options: BillionScale, root: str) -> None:
    protege.recipes.billion_scale(protege.open(root), options)


def from_the_command_line(options: BillionScale, root: str) -> None:
    execute.execute(BILLION_SCALE.name, options, root)


@pytest.mark.parametrize("start", [from_python, from_the_command_line])
def test_a_start_lists_every_source_once(
    root: Store,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    start: Callable[[BillionScale, str], None],
) -> None:
    # A batch for which the machine is looked at, and so the size of the pile.
    large = {"model": "small_resnet_8", "batch_size": 8192}
    monkeypatch.setattr(machine, "step_costs", lambda *_, **__: {})
    monkeypatch.setattr(Recipe, "run", lambda *_: ({}, {}))
    monkeypatch.setattr(execute, "_go_on", lambda *_: {})
    listed, listing = Counter[str](), ShardOptions.list_files

    def count(options: ShardOptions) -> object:
        listed[Path(options.source).name] += 1
        return listing(options)

    monkeypatch.setattr(ShardOptions, "list_files", count)
    start(tiny(pictures, teacher=large), root.uri)
    assert listed == {"labelled": 1, "pile": 1, "test": 1}
    # What is pinned by now is compared with what is there, which takes a listing, too.
    start(tiny(pictures, teacher=large), root.uri)
    assert listed == {"labelled": 2, "pile": 2, "test": 2}

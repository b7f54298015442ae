"""Fingerprints: the content of every table of a small campaign, and the VERSION that stands for it.

An output is found by its fingerprint, which hashes options, inputs and the stage's VERSION, but not
the code. So a change of a result under the same VERSION would mix old outputs with new ones. The
first stage whose content differs from `fingerprints.json` must have another version there, too;
those after it only follow. After a change on purpose: `python -m tests.test_fingerprints`.

What is the same on every machine is kept as a digest of each column. Arithmetic in floating point
is not, because processors differ in the last bits: of such a column, and of weights, the file has
the number of values, their mean, deviation and extremes, and a thousandth is allowed. Images are
digested as pixels, and their sizes are left out, because compressed bytes depend on the build of
zlib. Footers, pins and the report tell of the machine and of time, and are left out, too.
"""

import copy
import importlib
import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

from flows.campaign.run import Run
from infra.executors import Inline
from infra.store import open_store
from tasks.contract import Output, bytes_digest, output_at
from tasks.images import Limits, decode
from tests.builders.pictures import write_sources
from tests.builders.semi import tiny_semi
from tests.faults.driver import run_campaign

SNAPSHOT = Path(__file__).parent / "fingerprints.json"
REWRITE = "python -m tests.test_fingerprints"
# In the order in which they run; `VERSION` stands in these modules, beside the other versions that
# go into the stage's fingerprint.
STAGES = {
    "shard": "tasks.shard.pins",
    "train": "tasks.train",
    "score": "tasks.score",
    "signature": "tasks.duplicates.signature",
    "topk": "tasks.topk",
    "tags": "tasks.tags",
    "gather": "tasks.gather",
    "predictions": "tasks.evaluate.predictions",
    "evaluate": "tasks.evaluate",
}
# Names that were changed without a change of what they name.
RENAMED = {
    "sketch": "signature",
    "copies": "repeats",
    "left_out_copies": "dropped_near_duplicates",
    "left_out_labelled": "dropped_labelled",
    "left_out_test": "dropped_test",
}

# The columns of tables, by role and file.
Tables = dict[str, dict[str, Any]]
Content = dict[str, Any]


def contents_of(column: pa.ChunkedArray, name: str) -> dict[str, str | dict[str, float]]:
    """The content of a column by its name, and of named numbers that of each."""
    if not (pa.types.is_map(column.type) and pa.types.is_floating(column.type.item_type)):
        return {name: content_of(column, name)}
    pairs = [pair for row in column.to_pylist() for pair in row or ()]
    keys = sorted({key for key, _ in pairs})
    return {
        f"{name}.{key}": _summary(np.array([value for other, value in pairs if other == key]))
        for key in keys
    }


def content_of(column: pa.ChunkedArray, name: str) -> str | dict[str, float]:
    """A digest, or a summary of numbers in floating point."""
    kind = column.type
    while pa.types.is_list(kind):
        kind = kind.value_type
    if pa.types.is_floating(kind):
        values = column.combine_chunks()
        while pa.types.is_list(values.type):
            values = values.flatten()
        return _summary(values.drop_null().to_numpy(zero_copy_only=False))
    values = column.to_pylist()
    if name == "image":
        values = [decode(data, Limits()).tobytes() for data in values]
    return str(bytes_digest(repr(values).encode()))


def _summary(values: npt.NDArray[Any]) -> dict[str, float]:
    values = values.astype(np.float64)
    if not values.size:
        return {"count": 0}
    figures = {
        "mean": values.mean(),
        "deviation": values.std(),
        "min": values.min(),
        "max": values.max(),
    }
    return {
        "count": values.size,
        **{name: float(f"{figure:.6g}") for name, figure in figures.items()},
    }


def tables_of(output: Output) -> Iterator[tuple[str, dict[str, Any]]]:
    """The columns of every file of an output, by its name."""
    for part in output.body["parts"]:
        path = Path(output.uri) / part["name"]
        if path.suffix == ".safetensors":
            tensors = safetensors.numpy.load(path.read_bytes())
            yield path.name, {name: _summary(tensors[name]) for name in sorted(tensors)}
        else:
            table = pq.read_table(path)
            names = [name for name in table.column_names if name != "size"]
            columns = [contents_of(table[name], name) for name in names]
            yield path.name, {name: content for found in columns for name, content in found.items()}


def measure(root: Path, pictures: Path) -> Content:
    """The versions and the tables of every stage of a new campaign."""
    outputs = run_campaign(str(root), pictures)
    outputs = {**outputs, "tags": tagged(str(root), pictures)}
    signatures = {
        f"{node.role} signatures": output_at(f"{root}/{node.stage}/{node.fingerprint}", node.stage)
        for node in outputs["topk"].lineage()
        if node.stage == "signature"
    }
    predictions = {
        node.role: output_at(f"{root}/{node.stage}/{node.fingerprint}", node.stage)
        for node in outputs["evaluate"].lineage()
        if node.stage == "predictions"
    }
    found: Content = {stage: {"versions": versions(stage), "tables": {}} for stage in STAGES}
    for role, output in {**outputs, **signatures, **predictions}.items():
        if output.stage in STAGES:
            for name, columns in tables_of(output):
                found[output.stage]["tables"][f"{role}/{name}"] = columns
    return found


def tagged(root: str, pictures: Path) -> Output:
    """The tags of the pile, which no stage of the campaign looks at."""
    options = tiny_semi(pictures)
    run = Run(open_store(root), Inline())
    return run.tags(run.shard(options=options.pile), options.tags)


def versions(stage: str) -> dict[str, int]:
    """What a stage hashes beside its options and inputs."""
    names = vars(importlib.import_module(STAGES[stage]))
    return {name: names[name] for name in sorted(names) if name.endswith("VERSION")}


def same(first: Any, second: Any) -> bool:
    """Whether two contents of a column are the same, as far as processors agree."""
    if isinstance(first, str) or isinstance(second, str):
        return bool(first == second)
    return first["count"] == second["count"] and all(
        math.isclose(value, second[name], rel_tol=1e-3, abs_tol=1e-5)
        for name, value in first.items()
    )


def changes(known: Content, found: Content) -> list[str]:
    """The columns of a stage that are not what they were."""
    old, new = _columns(known["tables"]), _columns(found["tables"])
    places = {**old, **new}
    return [
        f"{table}: {column}"
        for table, column in places
        if not same(old.get((table, column), ""), new.get((table, column), ""))
    ]


def _columns(tables: Tables) -> dict[tuple[str, str], Any]:
    return {
        (table, column): content
        for table, columns in tables.items()
        for column, content in columns.items()
    }


def verdict(known: Content, found: Content) -> str:
    """What is to be done, in a sentence; nothing when all is as it was."""
    for stage, module in STAGES.items():
        changed = changes(known[stage], found[stage])
        raised = known[stage]["versions"] != found[stage]["versions"]
        if changed and not raised:
            return (
                f"{stage} gives another result ({', '.join(changed[:5])}), and its VERSION is "
                f"still the same: raise it in {module}, or old outputs are taken for new "
                f"ones, and run {REWRITE}. If no result should change, find what changes it."
            )
        if changed or raised:
            return f"the version of {stage} was raised: run {REWRITE}, and commit {SNAPSHOT.name}"
    return ""


def unrenamed(known: Content) -> Content:
    """The digests under the names of before, without those of tables that have changed since."""
    stages, before = known["stages"], known["before_renaming"]
    return {
        stage: {
            table: columns
            for table, columns in tables.items()
            if columns.items() <= _old_names(stages[RENAMED.get(stage, stage)], table).items()
        }
        for stage, tables in before.items()
    }


def _old_names(stage: Content, table: str) -> Content:
    old = {new: old for old, new in RENAMED.items()}
    columns: Mapping[str, Any] = stage["tables"].get(table, {})
    return {old.get(name, name): content for name, content in columns.items()}


@pytest.fixture(scope="module")
def known() -> Content:
    """What the file says."""
    content: Content = json.loads(SNAPSHOT.read_text())
    return content


def test_results_change_only_with_their_version(
    known: Content, pictures: Path, tmp_path: Path
) -> None:
    found = measure(tmp_path / "root", pictures)
    assert not verdict(known["stages"], found), verdict(known["stages"], found)


def test_names_were_changed_and_nothing_else(known: Content) -> None:
    assert unrenamed(known) == known["before_renaming"]


def test_change_without_a_raised_version_is_named(known: Content) -> None:
    found = copy.deepcopy(known["stages"])
    found["gather"]["tables"]["gather/part-00000.parquet"]["labels"] = "0123"
    found["evaluate"]["tables"].popitem()
    message = verdict(known["stages"], found)
    assert message.startswith(
        "gather gives another result (gather/part-00000.parquet: labels), and"
    )
    assert "raise it in tasks.gather" in message
    found["gather"]["versions"]["VERSION"] += 1
    assert verdict(known["stages"], found).startswith("the version of gather was raised: run")


def test_last_bits_may_differ_and_more_may_not(known: Content) -> None:
    found = copy.deepcopy(known["stages"])
    figures = found["score"]["tables"]["score/part-00000.parquet"]["log_odds_0"]
    figures["mean"] *= 1.0001
    assert not verdict(known["stages"], found)
    figures["mean"] *= 1.01
    message = "score gives another result (score/part-00000.parquet: log_odds_0)"
    assert verdict(known["stages"], found).startswith(message)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        write_sources(Path(folder) / "pictures", seed=0, labelled=4, pile=20, test=5)
        stages = measure(Path(folder) / "root", Path(folder) / "pictures")
    before = json.loads(SNAPSHOT.read_text())["before_renaming"] if SNAPSHOT.exists() else {}
    content = {"stages": stages, "before_renaming": before}
    content["before_renaming"] = unrenamed(content)
    SNAPSHOT.write_text(json.dumps(content, indent=1) + "\n")

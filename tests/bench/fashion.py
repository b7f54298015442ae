"""Fashion: every recipe against the labels alone, by the number of labels. `make bench-fashion`

    OMP_NUM_THREADS=1 python -m tests.bench.fashion FOLDER [--labels 100,500,1000,6000,60000]
        [--recipes billion-scale,semi-weakly] [--seeds 0,1,2,3,4]

Each campaign has the preset `fashion` of its recipe. Its accuracies are added to FOLDER/rows.jsonl
when it has ended, and what is there is not run again: the same command goes on after an
interruption, and several commands with other labels, recipes or seeds share a folder. Of all 60,000
labels no pile is left, and the network learns from them alone.

Prints the table of docs/fashion.md, of every row in the folder, and one JSON line: means and
standard errors over the seeds, of the models and of the gain of a student over its own baseline.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flows.billion_scale.presets import fashion
from flows.campaign.run import Run
from flows.recipes import RECIPES
from infra.executors import Inline
from infra.store import open_store
from tests.bench.recipes import measure, prepare_fashion
from tests.bench.seeds import mean_and_error, measure_top1

ALL = 60_000
SUPERVISED = "supervised"

Row = dict[str, Any]


def cells(labels: Sequence[int], recipes: Sequence[str], seeds: Sequence[int]) -> Iterator[Row]:
    """What is to be measured, the seeds in turn, so that an interrupted table has some of each."""
    for seed in seeds:
        for num_labels in labels:
            names = [SUPERVISED] if num_labels == ALL else recipes
            for name in names:
                yield {"labels": num_labels, "recipe": name, "seed": seed}


def measure_cell(folder: Path, cell: Row) -> Row:
    """The accuracies of a cell."""
    num_labels, seed = cell["labels"], cell["seed"]
    data = prepare_fashion(folder, seed, num_labels)
    if cell["recipe"] == SUPERVISED:
        return {**cell, "baseline": supervised(folder / "store", data, seed)}
    return {**cell, **measure(folder, cell["recipe"], "fashion", data, seed)}


def supervised(store: Path, data: Path, seed: int) -> float:
    """The accuracy of the network of billion-scale on all labels, as a student learns its pile."""
    run, options = Run(open_store(str(store)), Inline()), fashion(str(data), seed)
    labelled = run.shard(options=options.labelled)
    test = run.shard(options=options.test)
    classes = run.classes(labelled, test)
    lessons = run.gather(labelled, options=options.gather, classes=classes)
    model = run.train(lessons, options.student, classes=classes)
    return measure_top1(run, model, test)


def read_rows(path: Path) -> list[Row]:
    """The rows that are measured."""
    return [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []


def summary(rows: Sequence[Row]) -> list[Row]:
    """For each number of labels and recipe: means, standard errors and the share of error left."""
    kinds = sorted({(row["labels"], row["recipe"]) for row in rows})
    return [
        _summary_of([row for row in rows if (row["labels"], row["recipe"]) == kind])
        for kind in kinds
    ]


def _summary_of(rows: Sequence[Row]) -> Row:
    result: Row = {"labels": rows[0]["labels"], "recipe": rows[0]["recipe"], "seeds": len(rows)}
    models = [name for name, value in rows[0].items() if isinstance(value, float)]
    for model in models:
        result[model], result[f"{model}_error"] = mean_and_error([row[model] for row in rows])
    if "student" in models:
        gains = [row["student"] - row["baseline"] for row in rows]
        result["gain"], result["gain_error"] = mean_and_error(gains)
        result["share_of_error_left"] = (1 - result["student"]) / (1 - result["baseline"])
    return result


def table(found: Sequence[Row]) -> str:
    """The means by number of labels and recipe, in Markdown; each beside the same labels alone."""
    models = ("baseline", "weakly", "teacher", "student", "gain")
    head = ("labels", "recipe", "seeds", *models, "share of the error left")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in found:
        left = f"{row['share_of_error_left']:.2f}" if "gain" in row else ""
        fields = [f"{row['labels']:,}", row["recipe"], str(row["seeds"])]
        fields += [*(_with_error(row, model) for model in models), left]
        lines.append(f"| {' | '.join(fields)} |")
    return "\n".join(lines)


def _with_error(row: Row, name: str) -> str:
    if name not in row:
        return ""
    error = row[f"{name}_error"]
    return f"{row[name]:.4f}" + (f" ± {error:.4f}" if error is not None else "")


def main() -> None:
    """Measure what is not measured yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="Data and outputs; what is there is not redone.")
    parser.add_argument("--labels", default="100,500,1000,6000,60000")
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--seeds", default="0,1,2,3,4")
    arguments = parser.parse_args()
    labels, seeds = (
        [int(number) for number in text.split(",")] for text in (arguments.labels, arguments.seeds)
    )
    path = arguments.folder / "rows.jsonl"
    for cell in cells(labels, arguments.recipes.split(","), seeds):
        if any(cell.items() <= row.items() for row in read_rows(path)):
            continue
        row = measure_cell(arguments.folder, cell)
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
    found = summary(read_rows(path))
    print(table(found))
    print(json.dumps({"bench": "fashion", "cells": found}))


if __name__ == "__main__":
    main()

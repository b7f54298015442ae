"""Seeds: what several seeds of the demo say together.

In: the rows of `seeds.json`. Out: means, standard errors and the cut of the error, in the terminal.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

COLUMNS = ("teacher_top1", "baseline_top1", "pretrained_top1", "student_top1", "random_top1")


def show_seeds(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a row for each seed, the means, and what follows from them."""
    names = [name.removesuffix("_top1") for name in COLUMNS]
    table = Table("seed", *names, "precision", title="top-1, and precision of the chosen images")
    for row in rows:
        values = [f"{row[name]:.3f}" for name in (*COLUMNS, "chosen_precision")]
        table.add_row(str(row["seed"]), *values)
    means = [f"{np.mean([row[name] for row in rows]):.4f}" for name in COLUMNS]
    table.add_row("mean", *means, f"{np.mean([row['chosen_precision'] for row in rows]):.4f}")
    console = Console(markup=False)
    console.print(table)
    for line in verdict(rows):
        console.print(line)


def verdict(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The comparisons that the method stands or falls with, as sentences."""
    student, baseline, chance = (
        np.array([row[name] for row in rows])
        for name in ("student_top1", "baseline_top1", "random_top1")
    )
    cut = 1 - (1 - student).mean() / (1 - baseline).mean()
    wins = int((student > baseline).sum())
    gain = student - chance
    error = float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else float("nan")
    return [
        f"the student cuts the mean error by {cut:.1%} and wins in {wins} of {len(rows)} seeds",
        f"ranked minus random choice: {gain.mean():+.4f}, standard error {error:.4f}",
    ]

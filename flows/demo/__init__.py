"""demo: the recipe `billion-scale` on real images, on a laptop, in a few minutes.

In: a folder and seeds. Out: `summary.json`, and for several seeds `seeds.json`, with the figures of
the student, the supervised baseline, and a student of a random choice of the same size.

    protege demo --out demo-output
    protege demo --out demo-output --seeds 0,1,2,3,4
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.billion_scale import presets
from flows.billion_scale.options import BillionScale
from flows.demo.digits import write_digits
from flows.demo.tags import write_tags
from flows.engine.execute import execute
from flows.terminal import note

RECIPE = "billion-scale"


def demo(out: Path, seed: int) -> dict[str, Any]:
    """Run the demo of one seed and write `summary.json`. Raises ProtegeError."""
    result = _run(out, _prepared(out, seed))
    (out / "summary.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def demo_seeds(out: Path, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Run the demo for several seeds, each also with a random choice; write `seeds.json`."""
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        options = _prepared(out, seed)
        by_rank = _run(out, options)
        at_random = options.topk.model_copy(update={"mode": "random_per_class"})
        by_chance = _run(out, options.model_copy(update={"topk": at_random}))
        rows.append(
            {
                "seed": seed,
                "teacher_top1": by_rank["teacher_top1"],
                "baseline_top1": by_rank["baseline_top1"],
                "pretrained_top1": by_rank["pretrained_top1"],
                "student_top1": by_rank["student_top1"],
                "random_top1": by_chance["student_top1"],
                "chosen_precision": by_rank["chosen_precision"],
                "random_precision": by_chance["chosen_precision"],
                "report": by_rank["report"],
            }
        )
        (out / "seeds.json").write_text(json.dumps(rows, indent=1) + "\n")
    return rows


def _prepared(out: Path, seed: int) -> BillionScale:
    data = out / "data" / f"seed-{seed}"
    if not data.exists():
        note(f"writing the demo's images into {data}")
    write_digits(data, seed)
    write_tags(data, seed)
    return presets.digits(str(data), seed)


def _run(out: Path, options: BillionScale) -> dict[str, Any]:
    return execute(RECIPE, options, str(out / "store"))

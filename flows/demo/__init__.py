"""demo: the recipe `billion-scale` on real images, on a laptop, in a few minutes.

In: a folder and seeds. Out: `summary.json`, and for several seeds `seeds.json`, with the figures of
the student, the supervised baseline, and a student of a random choice of the same size.

    protege demo --out demo-output
    protege demo --out demo-output --seeds 0,1,2,3,4
    protege demo --data fashion
    protege demo --data icons
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flows.billion_scale import presets
from flows.billion_scale.options import BillionScale
from flows.demo import fashion, iconify
from flows.demo.digits import write_digits
from flows.demo.fashion import write_fashion
from flows.demo.icons import need_extras, write_icons
from flows.demo.tags import write_tags
from flows.engine.execute import execute
from flows.terminal import note

RECIPE = "billion-scale"
NUM_DRAWINGS = 40_000  # of 294,000, so that it takes minutes

Prepare = Callable[[int], BillionScale]  # writes the images of a seed; the options of its campaign


def demo(out: Path, seed: int, prepare: Prepare) -> dict[str, Any]:
    """Run the demo of one seed and write `summary.json`. Raises ProtegeError."""
    result = _run(out, prepare(seed))
    (out / "summary.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def demo_seeds(out: Path, seeds: Sequence[int], prepare: Prepare) -> list[dict[str, Any]]:
    """Run the demo for several seeds, each also with a random choice; write `seeds.json`."""
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        options = prepare(seed)
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


def prepare_digits(out: Path, seed: int) -> BillionScale:
    """Write the digits of a seed, with words beside some; the options of a campaign with them."""
    data = _folder(out / "data" / f"seed-{seed}")
    write_digits(data, seed)
    write_tags(data, seed)
    return presets.digits(str(data), seed)


def prepare_fashion(out: Path, seed: int, source: Path | None = None) -> BillionScale:
    """Write the goods of a seed; the options of a campaign with them. Raises ProtegeError.

    `source` is the folder with the files of Fashion-MNIST; without one, they are fetched.
    """
    data = _folder(out / f"seed-{seed}")
    if not data.exists():
        write_fashion(source or fashion.fetch(out / "package"), data, seed)
    return presets.fashion(str(data), seed)


def prepare_icons(
    out: Path, seed: int, source: Path | None = None, num_drawings: int = NUM_DRAWINGS
) -> BillionScale:
    """Draw the icons of a seed; the options of a campaign with them. Raises ProtegeError.

    `source` is the folder of the unpacked package; without one, it is fetched.
    """
    data = _folder(out / f"seed-{seed}")
    if not data.exists():
        need_extras()
        package = source or iconify.fetch(out / "package")
        write_icons(iconify.read_drawings(package), data, seed, num_drawings)
    return presets.icons(str(data), seed)


def _folder(data: Path) -> Path:
    state = "takes the images that are there:" if data.exists() else "writes its images into"
    note(f"the demo {state} {data}")
    return data


def _run(out: Path, options: BillionScale) -> dict[str, Any]:
    return execute(RECIPE, options, str(out / "store"))

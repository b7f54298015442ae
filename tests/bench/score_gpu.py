"""Score on a GPU: what networks and decoders allow, and what the stage does. `make bench-score-gpu`

    python -m tests.bench.score_gpu FOLDER [--networks resnet50,resnext101_32x8d,vit_base_patch16]
        [--images 20000] [--batch-size 256] [--precision bfloat16] [--only networks|agreement]

In one process, on the device that a worker would take; on a CPU it does the same, for tests of the
bench itself. Needs neither Dask nor Prefect. JPEGs of 500 x 375 pixels are scored by networks with
random weights. Prints one JSON line, with the device, and for each network:

    eager, compiled    images/s of the network alone, of pixels that are on the device
    bare_ratio         the faster of them by `eager`
    decoders           images/s of the stage where the network takes no time
    end_to_end         images/s of the stage in the faster form, when that has been made
    end_to_end_ratio   the same by the smaller of the network and the decoders
    busy_share         the share of that time in which the device computed, by its own events

`agreement` is the share of images that are chosen for the same classes by --precision and by
float32, of the pieces of photos of `make bench-crops`, by EfficientNet-Lite0, which has learned
ImageNet: the best 20 of each class among the 10 best classes of an image. `sure_agreement` is that
of those whose probability is above one half, `log_odds_difference` the median change of log-odds.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from infra.store import Store, open_store
from models.precision import Precision
from tasks import contract, tables
from tasks.contract import Output
from tasks.images import Inputs, encode_png
from tasks.inference.fastest import fastest
from tasks.inference.model import Model, load_model
from tasks.inference.release import release_models
from tasks.inference.weights import Description
from tasks.options import CompileChoice
from tasks.score import ScoreOptions, score
from tasks.score.options import ScoreSpeed
from tasks.shard import ShardOptions, shard
from tasks.topk import TopkOptions, topk
from tests.bench.score import (
    CLASSES,
    Line,
    fixed_device,
    fresh,
    publish_teacher,
    write_pile,
    write_teacher,
)

NETWORKS = "resnet50,resnext101_32x8d,vit_base_patch16"
SIZE, WARMING, TIMED_SECONDS = 224, 3, 5.0
CHOSEN_OF_CLASS, TOP_P = 20, 10


def bare_rate(model: Model, batch_size: int, precision: Precision) -> float:
    """Images/s of a network that looks at the same pixels again and again."""
    shape = (batch_size, SIZE, SIZE, 3)
    pixels_BHWC = torch.randint(0, 256, shape, dtype=torch.uint8, device=model.device)

    def passes(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            model.logits(pixels_BHWC, precision)
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)
        return time.perf_counter() - began

    passes(WARMING)
    count = 1 + int(TIMED_SECONDS / passes(1))
    return count * batch_size / passes(count)


def stage_rate(root: Store, images: Output, teacher: Output, options: ScoreOptions) -> Line:
    """Images/s of the stage, and the share of the time in which its device computed."""
    began = time.perf_counter()
    scores = score(root, images, teacher, options)
    seconds = time.perf_counter() - began
    busy = scores.body["work_seconds"].get("compute", 0.0)
    return {
        "images_per_second": round(images.kept / seconds, 1),
        "busy_share": round(busy / seconds, 3),
    }


def network(folder: Path, images: Output, name: str, given: argparse.Namespace) -> Line:
    """The figures of one network."""
    teacher = write_teacher(folder, name, SIZE, CLASSES)
    release_models()
    rates: dict[CompileChoice, float] = {}
    choices: tuple[CompileChoice, ...] = ("never", "always")
    for choice in choices:
        model = fastest(
            load_model(teacher),
            choice,
            batch_size=given.batch_size,
            precision=given.precision,
            num_images=images.kept,
        )
        rates[choice] = bare_rate(model, given.batch_size, given.precision)
    best = max(choices, key=rates.__getitem__)
    speed = ScoreSpeed(compile=best)
    options = ScoreOptions(
        batch_size=given.batch_size, precision=given.precision, speed=speed, max_reject_percent=0
    )
    with fixed_device(0.0):
        decoders = stage_rate(fresh(folder, "free"), images, teacher, options)["images_per_second"]
    # The first time, what was compiled is loaded.
    stage_rate(fresh(folder, "first"), images, teacher, options)
    stage = stage_rate(fresh(folder, "second"), images, teacher, options)
    bound = min(rates[best], decoders)
    return {
        "eager": round(rates["never"], 1),
        "compiled": round(rates["always"], 1),
        "bare_ratio": round(rates[best] / rates["never"], 2),
        "decoders": decoders,
        "end_to_end": stage["images_per_second"],
        "end_to_end_ratio": round(stage["images_per_second"] / bound, 3),
        "busy_share": stage["busy_share"],
    }


def agreement(folder: Path, given: argparse.Namespace) -> Line:
    """How many of the images that are chosen for a class are the same by float32."""
    images, teacher = _pieces(folder), _learned_teacher(folder)
    precisions: tuple[Precision, ...] = ("float32", given.precision)
    exact, other = (
        _chosen(fresh(folder, "agreement"), images, teacher, given.batch_size, precision)
        for precision in precisions
    )
    both = exact.keys() & other.keys()
    sure = {row for row, log_odds in exact.items() if log_odds > 0}
    differences = [abs(exact[row] - other[row]) for row in both]
    return {
        "images": images.kept,
        "chosen": len(exact),
        "agreement": round(len(both) / len(exact), 4),
        "sure": len(sure),
        "sure_agreement": round(len(sure & both) / max(1, len(sure)), 4),
        "log_odds_difference": round(statistics.median(differences), 3),
    }


def _pieces(folder: Path) -> Output:
    from tests.bench.crops import pieces_of_photos

    source, draft = folder / "pieces", folder / "pieces-draft"
    if not source.exists():
        draft.mkdir(parents=True, exist_ok=True)
        for number, pixels_HWC in enumerate(pieces_of_photos()[0]):
            (draft / f"{number:05d}.png").write_bytes(encode_png(pixels_HWC))
        draft.rename(source)
    return shard(open_store(str(folder / "root")), ShardOptions(source=str(source)))


def _learned_teacher(folder: Path) -> Output:
    from tests.bench.crops import learned_network

    inputs = Inputs(size=SIZE, resize=256, pixels="centred")
    description = Description("efficientnet_lite0", CLASSES, inputs)
    return publish_teacher(folder, learned_network(), description)


def _chosen(
    root: Store, images: Output, teacher: Output, batch_size: int, precision: Precision
) -> dict[tuple[int, int], float]:
    """The log-odds of each image that is chosen, by its class and id."""
    options = ScoreOptions(batch_size=batch_size, precision=precision, top_p=TOP_P)
    scores = score(root, images, teacher, options)
    chosen = topk(
        root, scores, TopkOptions(k=CHOSEN_OF_CLASS, top_p=TOP_P, drop_near_duplicates=False)
    )
    rows = contract.read_rows(chosen, tables.CHOSEN, ["label", "image_id", "log_odds"])
    labels, ids, log_odds = (rows[name].to_pylist() for name in rows.column_names)
    return dict(zip(zip(labels, ids, strict=True), log_odds, strict=True))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", default=NETWORKS, help="Names, with commas.")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--precision", default="bfloat16", choices=get_args(Precision))
    parser.add_argument("--only", choices=("networks", "agreement"))
    given = parser.parse_args(argv)
    folder = given.folder.absolute()
    is_gpu = torch.cuda.is_available()
    line: dict[str, Any] = {
        "bench": "score_gpu",
        "device": torch.cuda.get_device_name() if is_gpu else "cpu",
        "precision": given.precision,
    }
    if given.only != "agreement":
        images = write_pile(folder, given.images)
        for name in given.networks.split(","):
            line[name] = network(folder, images, name, given)
    if given.only != "networks":
        line |= agreement(folder, given)
    print(json.dumps(line))


if __name__ == "__main__":
    main()

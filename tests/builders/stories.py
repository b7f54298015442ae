"""Stories: finished campaigns for the report, small and made up; nothing was trained for them."""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from infra.store import Store, open_store
from tasks import contract, tables
from tasks.contract import Manifest, Output, Reasons, RowCounts
from tasks.evaluate import METRICS, TEST
from tasks.report import Role, Story
from tasks.score import scores_table
from tasks.topk import CLASSES, HISTOGRAM_EDGES
from tests.builders.score_tables import no_tags

K = 20
BINS = len(HISTOGRAM_EDGES) - 1
MODELS = ("teacher", "baseline", "pretrained", "student")
ROLES = (
    Role("labelled", "Labelled images", "labelled set"),
    Role("pile", "Unlabelled images"),
    Role("test", "Test images", "test set"),
    Role("score", "Scores"),
    Role("topk", "Chosen images"),
    Role("gather", "Training set"),
    Role("teacher", "Teacher"),
    Role("baseline", "Baseline, labels only"),
    Role("pretrained", "Student before fine-tuning"),
    Role("student", "Student after fine-tuning"),
    Role("evaluate", "Measures"),
)


@dataclasses.dataclass(frozen=True)
class Made:
    """What a synthetic campaign consists of; the defaults have everything."""

    names: tuple[str, ...] = ("cat", "dog", "emu", "fox", "gnu")
    kept: tuple[int, ...] = (K, K, K, K, K)
    gain: bool = True
    gained: float = 0.1
    gain_error: float = 0.01
    teacher_top1: float = 0.85
    precision: bool = True
    views: bool = True
    precise: float = 0.87
    lessons: int = 0
    leaks: int = 0
    rejects: int = 2
    suspect: int | None = None
    mode: str = "per_class"
    near_duplicates: int = 0
    blank: int = 0


def png(value: int) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.full((28, 28, 3), value, np.uint8)).save(sink, format="PNG")
    return sink.getvalue()


def put(
    root: Store,
    stage: str,
    name: str,
    parts: Mapping[str, tuple[pa.Table, RowCounts]],
    inputs: Mapping[str, Output],
    options: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    *,
    layout: tables.Layout = tables.ZSTD,
    reasons: Reasons | None = None,
) -> Output:
    """Publish an output as a stage would; `reasons` are those of the rejects of its parts."""
    fingerprint = contract.digest_of([stage, name])
    store = open_store(f"{root.uri}/{stage}/{fingerprint}")
    receipts = [
        dataclasses.replace(
            contract.write_part(
                store, part, table, counts, facts={"device": f"d{number % 2}"}, layout=layout
            ),
            reasons=reasons or {},
            seconds={"read": 1.0, "compute": 3.0},
        )
        for number, (part, (table, counts)) in enumerate(parts.items())
    ]
    links = {role: output.link for role, output in inputs.items()}
    manifest = Manifest(
        stage, fingerprint, dict(options or {}), links, receipts, 75.0, dict(extra or {})
    )
    return contract.publish(store, manifest)


def images(root: Store, name: str, count: int, rejected: int = 0) -> Output:
    rows = [
        {"image_id": row, "image": image, "size": len(image), "key": f"{name}/{row}.png"}
        | {"content_hash": row}
        for row, image in enumerate(png(row % 256) for row in range(count))
    ]
    table = pa.Table.from_pylist(rows, schema=tables.IMAGES)
    parts = {"part-00000.parquet": (table, RowCounts(count + rejected, count, rejected))}
    extra = {"passed_over": {".txt": 3, ".ogg": 7_858}}
    reasons = {"not_an_image": {".svg": rejected}} if rejected else {}
    layout, options = tables.IMAGES_LAYOUT, {"source": name}
    return put(root, "shard", name, parts, {}, options, extra, layout=layout, reasons=reasons)


def training(root: Store, name: str, inputs: Mapping[str, Output]) -> Output:
    rows = [
        {
            "step": step,
            "images": step * 8,
            "loss": 2 / step,
            "learning_rate": 0.1,
            "measurements": {},
        }
        for step in range(1, 9)
    ]
    table = pa.Table.from_pylist(rows, schema=tables.HISTORY)
    options = {
        "model": "small_resnet_8",
        "length": {"amount": 8, "unit": "steps"},
        "batch_size": 8,
        "inputs": {"size": 28, "resize": 28},
    }
    parts = {"history.parquet": (table, RowCounts(8, 8, 0))}
    return put(root, "train", name, parts, inputs, options)


def histogram(number: int, *, crowded: bool) -> list[int]:
    bins = np.zeros(BINS, int)
    zero = int(np.searchsorted(HISTOGRAM_EDGES, 0))
    bins[zero : zero + 10] = 5 + number
    if crowded:
        bins[zero + 30] = 500
    return bins.tolist()


def scored(root: Store, name: str, inputs: Mapping[str, Output], blank: int = 0) -> Output:
    """Scores of K images, of which the first ones are blank."""
    ids = np.arange(K)
    thumbnails = np.random.default_rng(0).integers(0, 256, (K, 192), dtype=np.uint8)
    thumbnails[:blank] %= 12
    columns = [pa.array(ids.astype(np.uint64)), pa.array(map(bytes, thumbnails), pa.binary(192))]
    labels, log_odds = np.zeros((K, 1), np.uint16), np.zeros((K, 1), np.float32)
    table = scores_table(ids, labels, log_odds, no_tags(K), columns)
    parts = {"part-00000.parquet": (table, RowCounts(K, K, 0))}
    return put(root, "score", name, parts, inputs, extra={"top_p": 1})


def choice(root: Store, made: Made, scores: Output, name: str = "topk") -> Output:
    rows, classes = [], []
    for label, (class_name, kept) in enumerate(zip(made.names, made.kept, strict=True)):
        log_odds = 6 - np.arange(kept) * 0.2
        rows += [
            {"label": label, "rank": rank, "image_id": rank, "log_odds": value, "repeats": 1}
            for rank, value in enumerate(log_odds)
        ]
        bins = histogram(label, crowded=label == made.suspect)
        row = {"label": label, "name": class_name, "candidates": sum(bins), "kept": kept}
        row |= {"kth_log_odds": log_odds[-1], "ties_at_edge": 1, "histogram": bins}
        row |= {
            "dropped_near_duplicates": made.near_duplicates,
            "dropped_labelled": 0,
            "dropped_test": label,
        }
        certified = kept == K and made.mode not in ("random_per_class", "threshold_balance")
        classes.append(row | {"certified": certified})
    total = len(rows)
    parts = {
        "part-00000.parquet": (
            pa.Table.from_pylist(rows, schema=tables.CHOSEN),
            RowCounts(total, total, 0),
        ),
        CLASSES: (pa.Table.from_pylist(classes, schema=tables.CLASSES), RowCounts(0, 0, 0)),
    }
    options = {"k": K, "top_p": 5, "mode": made.mode, "seed": 0}
    return put(root, "topk", name, parts, {"scores": scores}, options)


def measures(made: Made) -> list[dict[str, Any]]:
    figures: list[tuple[str, str, int | None, float]] = [
        ("teacher", "top1", None, made.teacher_top1),
        ("baseline", "top1", None, 0.8),
        ("pretrained", "top1", None, 0.88),
        ("student", "top1", None, 0.9),
    ]
    figures += [("student", "loss", None, 0.3), ("student", "calibration_error", None, 0.02)]
    figures += [("student", "top1", label, 0.9) for label in range(len(made.names))]
    if made.views:
        figures += [("chosen", "view_agreement", label, 0.95) for label in range(len(made.names))]
    if made.gain:
        figures += [("student", "gain", None, made.gained)]
        figures += [("student", "gain_standard_error", None, made.gain_error)]
    if made.precision:
        figures += [("chosen", "precision", None, made.precise)]
    keys = ("model", "measure", "label", "value")
    return [
        dict(zip(keys, figure, strict=True))
        | {"dataset": "" if figure[0] == "chosen" else TEST, "slice": "", "count": 100}
        for figure in figures
    ]


def evaluation(
    root: Store, made: Made, inputs: Mapping[str, Output], models: Sequence[str] = MODELS
) -> Output:
    """What was measured of these models, with the predictions of the student."""
    count, classes = 50, len(made.names)
    rows = [
        {"image_id": row, "label": row % classes, "rank": 0, "confidence": 0.9, "loss": 0.1}
        | {"predicted": (row + (row % 7 == 0)) % classes}
        for row in range(count)
    ]
    table = pa.Table.from_pylist(rows, schema=tables.PREDICTIONS)
    parts = {"part-00000.parquet": (table, RowCounts(count, count, 0))}
    names = {"classes": list(made.names)}
    predictions = put(root, "predictions", "student", parts, inputs, extra=names)
    known = {*models, "chosen"}
    figures = [row for row in measures(made) if row["model"] in known]
    metrics = pa.Table.from_pylist(figures, schema=tables.METRICS)
    return put(
        root,
        "evaluate",
        "evaluate",
        {METRICS: (metrics, RowCounts(0, 0, 0))},
        {"student on test": predictions},
        extra={**names, "models": sorted(models), "datasets": [TEST]},
    )


def few_lessons(made: Made, counts: RowCounts) -> dict[str, tuple[pa.Table, RowCounts]]:
    """The part of a training set that says it has so many, and has a few to look at."""
    rows = [
        {"image_id": row, "image": png(row), "labels": [row % len(made.names)], "weights": [1.0]}
        for row in range(5)
    ]
    return {"part-00000.parquet": (pa.Table.from_pylist(rows, schema=tables.LESSONS), counts)}


def lessons_of(root: Store, made: Made, labelled: Output) -> Output:
    """What the teacher learns from: so many lessons, or the labelled images as they are."""
    if not made.lessons:
        return labelled
    parts = few_lessons(made, RowCounts(made.lessons, made.lessons, 0))
    extra = {"classes": list(made.names)}
    return put(root, "gather", "labelled lessons", parts, {"images": labelled}, extra=extra)


def leaks(root: Store, made: Made, inputs: Mapping[str, Output]) -> Output:
    """Test images that are copies of labelled ones, half of them byte by byte."""
    count, exact = made.leaks, made.leaks // 2
    rows = [
        {"image_id": row, "labelled_id": row, "exact": row < exact} for row in range(made.leaks)
    ]
    table = pa.Table.from_pylist(rows, schema=tables.LEAKS)
    extra = {"test_images": 50, "exact": exact, "near": count - exact}
    parts = {"part-00000.parquet": (table, RowCounts(count, count, 0))}
    return put(root, "leakage", "copies", parts, inputs, extra=extra)


def campaign(root: Store, made: Made = Made(), **changes: Any) -> Story:
    """A finished campaign of a recipe, small and made up."""
    labelled, test = images(root, "labelled", 10), images(root, "test", 50)
    pile = images(root, "pile", 100, made.rejects)
    lessons = lessons_of(root, made, labelled)
    teacher = training(root, "teacher", {"data": lessons})
    score = scored(root, "score", {"images": pile, "teacher": teacher}, made.blank)
    topk = choice(root, made, score)
    parts, extra = few_lessons(made, RowCounts(K, K, 0)), {"classes": list(made.names)}
    gather = put(root, "gather", "gather", parts, {"images": pile, "chosen": topk}, extra=extra)
    pretrained = training(root, "pretrained", {"data": gather})
    student = training(root, "student", {"data": labelled, "init": pretrained})
    baseline = training(root, "baseline", {"data": labelled})
    evaluate = evaluation(root, made, {"images": test, "model": student})
    outputs = {"labelled": labelled, "pile": pile, "test": test, "teacher": teacher}
    if made.lessons:
        outputs["labelled_lessons"] = lessons
    outputs |= {"score": score, "topk": topk, "gather": gather, "pretrained": pretrained}
    outputs |= {"student": student, "baseline": baseline, "evaluate": evaluate}
    if made.leaks:
        outputs["copies"] = leaks(root, made, {"labelled": labelled, "test": test})
    story = Story(
        "billion-scale",
        "c-1",
        "protege run billion-scale",
        outputs,
        ROLES,
        result="student",
        compared_with="baseline",
    )
    return dataclasses.replace(story, **changes)

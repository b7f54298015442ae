"""evaluate: measures against plain definitions, and errors that name what is wrong."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from infra.errors import ProtegeError
from infra.executors import Inline
from infra.store import Store
from tasks import tables
from tasks.evaluate import (
    Choice,
    EvaluateOptions,
    evaluate,
    figure,
    read_metrics,
)
from tasks.evaluate.measures import calibration_error, measure_models
from tasks.shard import ShardOptions, shard
from tests.builders.chosen import chosen_of
from tests.builders.models import CLASSES, colour_model, model


def predictions(model: str, right: list[bool]) -> pa.Table:
    rows = [
        {
            "model": model,
            "image_id": at,
            "label": at % 3,
            "predicted": at % 3 if good else (at + 1) % 3,
            "rank": 0 if good else 1,
            "confidence": 0.75,
            "loss": 0.5,
        }
        for at, good in enumerate(right)
    ]
    return pa.Table.from_pylist(rows, schema=tables.PREDICTIONS)


def value(rows: list[dict], model: str, measure: str) -> float:
    return next(
        row["value"]
        for row in rows
        if (row["model"], row["measure"], row["label"]) == (model, measure, None)
    )


def test_gain_is_measured_image_by_image() -> None:
    student, baseline = [True] * 9 + [False], [True] * 5 + [False] * 5
    table = pa.concat_tables([predictions("student", student), predictions("baseline", baseline)])
    rows = measure_models(table, num_classes=3)
    assert value(rows, "student", "top1") == pytest.approx(0.9)
    assert value(rows, "student", "gain") == pytest.approx(0.4)
    differences = np.array(student, float) - np.array(baseline, float)
    expected = differences.std(ddof=1) / np.sqrt(10)
    assert value(rows, "student", "gain_standard_error") == pytest.approx(expected)


def test_calibration_error_is_the_gap_of_confidence_and_accuracy() -> None:
    right = np.array([1.0] * 6 + [0.0] * 4)
    assert calibration_error(right, np.full(10, 0.6, np.float32)) == pytest.approx(0, abs=1e-6)
    assert calibration_error(right, np.full(10, 0.99, np.float32)) == pytest.approx(0.39, abs=1e-6)
    assert calibration_error(right, np.full(10, 1.0, np.float32)) == pytest.approx(0.4, abs=1e-6)


def colour(path: Path) -> str:
    """The class of a picture: its strongest colour."""
    mean_R = np.asarray(Image.open(path)).mean(axis=(0, 1))
    return ("red", "green", "blue")[int(mean_R.argmax())]


def test_models_and_choice_are_measured(root: Store, pictures: Path, tmp_path: Path) -> None:
    test = shard(root, ShardOptions(source=str(pictures / "test"), labelled=True))
    pile = shard(root, ShardOptions(source=str(pictures / "pile")))
    models = {"teacher": colour_model(root), "student": colour_model(root, weight=0)}
    chosen = chosen_of(root, pile, [(place, place % 3) for place in range(12)])
    truth = tmp_path / "truth.csv"
    paths = sorted((pictures / "pile").iterdir())
    lines = [f"{path.name},{'red' if at % 3 == 2 else '-'}" for at, path in enumerate(paths)]
    truth.write_text("key,label\n" + "\n".join(lines))
    options = EvaluateOptions(views=2, view_images=4, audit=str(truth))
    output = evaluate(
        root,
        test,
        models,
        options,
        executor=Inline(),
        choice=Choice(pile, chosen, models["teacher"]),
    )
    metrics = read_metrics(output)
    assert figure(metrics, "teacher", "top1") == 1
    assert figure(metrics, "student", "top1") == pytest.approx(1 / 3)
    assert figure(metrics, "chosen", "precision") == pytest.approx(4 / 12)
    # The teacher sees the true colours, which are the chosen classes of some of the images.
    agreed = np.mean([colour(path) == CLASSES[at % 3] for at, path in enumerate(paths[:12])])
    assert 0 < agreed < 1
    assert figure(metrics, "chosen", "view_agreement") == pytest.approx(agreed)
    assert figure(metrics, "teacher", "gain") is None
    per_class = [row for row in metrics.to_pylist() if row["measure"] == "precision"]
    assert [row["value"] for row in per_class if row["label"] is not None] == [0, 0, 1]


def test_audit_list_without_its_columns_is_refused(root: Store, pictures: Path, tmp_path) -> None:
    test = shard(root, ShardOptions(source=str(pictures / "test"), labelled=True))
    (tmp_path / "truth.csv").write_text("name,class\na,b\n")
    options = EvaluateOptions(audit=str(tmp_path / "truth.csv"))
    with pytest.raises(ProtegeError, match="columns key and label"):
        evaluate(root, test, {"teacher": model(root)}, options)

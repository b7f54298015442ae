"""evaluate: measures against plain definitions, and errors that name what is wrong."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from PIL import Image

from infra.errors import ProtegeError
from infra.executors import Failures, Inline
from infra.store import Store
from tasks import tables
from tasks.contract import Output
from tasks.evaluate import (
    TEST,
    Choice,
    EvaluateOptions,
    PredictOptions,
    Row,
    check_better_than_chance,
    evaluate,
    figure,
    predict,
    predictions_in,
    read_metrics,
    read_predictions,
)
from tasks.evaluate.choice import _sample, measure_choice
from tasks.evaluate.protocols import accuracy
from tasks.evaluate.protocols.accuracy import calibration_error
from tasks.inference.model import load_model
from tasks.shard import ShardOptions, shard
from tests.builders.chosen import chosen_of
from tests.builders.models import CLASSES, colour_model, model
from tests.builders.pictures import write_folder
from tests.builders.shards import shard_table


def predictions(right: list[bool]) -> pa.Table:
    rows = [
        {
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


def value(rows: list[Row], model: str, measure: str) -> float:
    return next(
        row.value for row in rows if (row.model, row.measure, row.label) == (model, measure, None)
    )


def labelled_test(root: Store, pictures: Path) -> Output:
    return shard(root, ShardOptions(source=str(pictures / "test"), labelled=True))


def test_gain_is_measured_image_by_image() -> None:
    student, baseline = [True] * 9 + [False], [True] * 5 + [False] * 5
    tables_of = {"student": predictions(student), "baseline": predictions(baseline)}
    rows = list(accuracy.measure({"test": tables_of}, 3, ("student", "baseline")))
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
    test = labelled_test(root, pictures)
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


@pytest.mark.parametrize(
    ("text", "problem"),
    [("name,class\na,b\n", "columns key and label"), (f"key,label\n{'x' * 200_000},a\n", "read")],
)
def test_audit_list_that_is_none_is_refused(
    root: Store, pictures: Path, tmp_path: Path, text: str, problem: str
) -> None:
    test = labelled_test(root, pictures)
    (tmp_path / "truth.csv").write_text(text)
    options = EvaluateOptions(audit=str(tmp_path / "truth.csv"))
    with pytest.raises(ProtegeError, match=problem):
        evaluate(root, test, {"teacher": model(root)}, options)


def test_another_model_costs_its_own_predictions_only(root: Store, pictures: Path) -> None:
    test, first, second = labelled_test(root, pictures), model(root), model(root, seed=1)
    evaluate(root, test, {"first": first})
    before = folders(root)
    measured = evaluate(root, test, {"first": first, "second": second})
    assert len(before) == 1
    assert len(folders(root)) == 2
    assert predict(root, first, test).reused
    # The same weights under another name are the same model.
    again = evaluate(root, test, {"other name": first, "second": second})
    assert len(folders(root)) == 2
    assert again.fingerprint != measured.fingerprint


def test_seconds_of_a_measure_are_those_of_its_new_predictions_too(
    root: Store, pictures: Path
) -> None:
    test, first = labelled_test(root, pictures), model(root)
    measured = evaluate(root, test, {"first": first})
    predicted = predictions_in(measured, "first")
    assert measured.seconds > predicted.seconds > 0
    assert measured.body["work_seconds"].keys() >= {"read", "decode", "compute"}
    again = evaluate(root, test, {"first": first, "same": first})
    assert again.body["work_seconds"] == {}


def folders(root: Store) -> set[str]:
    return {name.split("/")[1] for name in root.sizes("predictions")}


def test_a_test_set_that_grows_keeps_its_predictions(
    root: Store, tmp_path: Path, pictures: Path
) -> None:
    folder = tmp_path / "test"
    shutil.copytree(pictures / "test" / "blue", folder / "blue")
    options = ShardOptions(source=str(folder), labelled=True, images_per_shard=5)
    before = predict(root, model(root), shard(root, options))
    shutil.copytree(pictures / "test" / "red", folder / "red")
    after = predict(root, model(root), shard(root, options))
    assert (before.kept, after.kept) == (5, 10)
    assert before.uri == after.uri
    assert before.body["parts"] == after.body["parts"][:1]


def test_several_test_sets_are_measured_apart(root: Store, pictures: Path) -> None:
    teacher, student = model(root), model(root, seed=1)
    whole = labelled_test(root, pictures)
    blue = shard(root, ShardOptions(source=str(pictures / "labelled"), labelled=True))
    measured = evaluate(
        root,
        {"whole": whole, "blue": blue},
        {"teacher": teacher, "student": student},
        compare=("student", "teacher"),
    )
    metrics = read_metrics(measured)
    counts = {
        dataset: metrics.filter(pc.field("dataset") == dataset)["count"][0].as_py()
        for dataset in ("whole", "blue")
    }
    assert counts == {"whole": whole.kept, "blue": blue.kept}
    alone = read_metrics(evaluate(root, whole, {"student": student}))
    top1 = figure(metrics, "student", "top1", "whole")
    assert top1 == figure(alone, "student", "top1") == figure(alone, "student", "top1", TEST)
    assert figure(metrics, "student", "gain", "blue") is not None
    assert figure(metrics, "teacher", "gain", "blue") is None
    with pytest.raises(ProtegeError, match="measured on blue, whole"):
        figure(metrics, "student", "top1")


def test_predictions_are_those_of_the_logits(root: Store, pictures: Path) -> None:
    test, teacher = labelled_test(root, pictures), model(root)
    predicted = predict(root, teacher, test, PredictOptions(batch_size=4, keep_logits=True))
    table, loaded = read_predictions(predicted), load_model(teacher)
    images = shard_table(test, 0, ["label"])
    pixels_NHWC = np.stack([loaded.decode(data) for data in images["image"].to_pylist()])
    logits_NC = loaded.logits(pixels_NHWC).numpy()
    assert [np.frombuffer(row, "<f4").tolist() for row in table["logits"].to_pylist()] == [
        pytest.approx(row, rel=1e-5) for row in logits_NC.tolist()
    ]
    labels_N = np.array([teacher.classes.index(name) for name in images["label"].to_pylist()])
    probabilities_NC = torch.softmax(torch.from_numpy(logits_NC).double(), dim=1).numpy()
    true_N = probabilities_NC[np.arange(len(labels_N)), labels_N]
    assert table["image_id"].to_pylist() == images["image_id"].to_pylist()
    assert table["label"].to_pylist() == labels_N.tolist()
    assert table["predicted"].to_pylist() == logits_NC.argmax(axis=1).tolist()
    assert table["rank"].to_pylist() == (probabilities_NC > true_N[:, None]).sum(axis=1).tolist()
    assert table["confidence"].to_pylist() == pytest.approx(probabilities_NC.max(axis=1), rel=1e-5)
    assert table["loss"].to_pylist() == pytest.approx(-np.log(true_N), rel=1e-5)


def test_measures_name_the_predictions_they_rest_on(root: Store, pictures: Path) -> None:
    test, teacher = labelled_test(root, pictures), model(root)
    measured = evaluate(root, test, {"teacher": teacher})
    rows = read_predictions(predictions_in(measured, "teacher"), ["label", "predicted"])
    right = np.array(rows["label"]) == np.array(rows["predicted"])
    assert figure(read_metrics(measured), "teacher", "top1") == pytest.approx(right.mean())
    with pytest.raises(ProtegeError, match="student was not measured on test"):
        predictions_in(measured, "student")


def test_images_without_a_class_are_predicted_but_not_measured(root: Store, pictures: Path) -> None:
    pile, teacher = shard(root, ShardOptions(source=str(pictures / "pile"))), model(root)
    table = read_predictions(predict(root, teacher, pile))
    assert len(table) == pile.kept
    for column in ("label", "rank", "loss"):
        assert table[column].null_count == pile.kept
    with pytest.raises(ProtegeError, match="60 images of test have no class"):
        evaluate(root, pile, {"teacher": teacher})


def test_audit_list_of_other_images_is_said_and_ends_nothing(
    root: Store, pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is read last, when all trainings are done."""
    test, pile = labelled_test(root, pictures), shard(root, ShardOptions(source=f"{pictures}/pile"))
    teacher, chosen = model(root), chosen_of(root, pile, [(0, 0), (1, 1)])
    (tmp_path / "truth.csv").write_text("key,label\nelsewhere.png,red\n")
    options = EvaluateOptions(views=0, audit=str(tmp_path / "truth.csv"))
    choice = Choice(pile, chosen, teacher)
    measured = evaluate(root, test, {"teacher": teacher}, options, choice=choice)
    assert figure(read_metrics(measured), "chosen", "precision") is None
    assert figure(read_metrics(measured), "teacher", "top1") is not None
    assert "none of its 1 keys is among the chosen images" in caplog.text


def damaged_test(root: Store, folder: Path, damaged: int) -> Output:
    """A test set of 6 images, whose damage only shows when they are decoded."""
    paths = write_folder(folder, np.random.default_rng(0), per_class=2, labelled=True)
    for path in paths[:damaged]:
        path.write_bytes(path.read_bytes()[:-30])
    return shard(root, ShardOptions(source=str(folder), labelled=True, verify="header"))


def test_test_image_that_cannot_be_decoded_is_told_and_left_out(
    root: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    test = damaged_test(root, tmp_path / "test", 1)
    predicted = predict(root, model(root), test)
    assert (predicted.rows_in, predicted.kept, predicted.rejected) == (6, 5, 1)
    models = {"teacher": model(root), "student": model(root, seed=1)}
    measured = evaluate(root, test, models, compare=("student", "teacher"))
    assert set(read_metrics(measured).filter(pc.field("label").is_null())["count"].to_pylist()) == {
        5
    }
    logged = [
        record for record in caplog.records if "no model is measured on them" in record.message
    ]
    assert len(logged) == 1
    assert "1 of the 6 images" in logged[0].message
    assert "(1 damaged)" in logged[0].message


def test_test_set_without_a_usable_image_is_an_error(root: Store, tmp_path: Path) -> None:
    test, teacher = damaged_test(root, tmp_path / "test", 6), model(root)
    with pytest.raises(ProtegeError, match=r"6 of the 6 images .* give other test images"):
        evaluate(root, test, {"teacher": teacher})
    with pytest.raises(ProtegeError, match="none of the 6 labelled images"):
        check_better_than_chance(predict(root, teacher, test), "teacher", stop=False)


def test_model_whose_answers_are_not_finite_is_not_measured(root: Store, pictures: Path) -> None:
    with pytest.raises(ProtegeError, match=r"15 not_finite.*train teacher again"):
        evaluate(root, labelled_test(root, pictures), {"teacher": model(root, spoil=True)})


def test_models_of_different_classes_are_not_compared(root: Store, pictures: Path) -> None:
    teacher, other = model(root), model(root, seed=1, classes=("blue", "red", "green"))
    with pytest.raises(ProtegeError, match="know different classes"):
        evaluate(root, labelled_test(root, pictures), {"teacher": teacher, "other": other})


def test_test_class_that_the_model_does_not_know_is_named(root: Store, pictures: Path) -> None:
    teacher = model(root, classes=("blue", "red", "pink"))
    with pytest.raises(Failures, match="classes that no labelled image has: green"):
        evaluate(root, labelled_test(root, pictures), {"teacher": teacher})


def test_views_are_of_so_many_images_in_all_that_they_cost_less_than_a_training(
    root: Store, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 40 chosen images of three classes, and no more than seven in all."""
    pile = shard(root, ShardOptions(source=str(pictures / "pile")))
    chosen = chosen_of(root, pile, [(place, place % 3) for place in range(40)])
    teacher, options = colour_model(root), EvaluateOptions(views=1)
    monkeypatch.setattr("tasks.evaluate.choice.MAX_VIEW_IMAGES", 7)
    rows = measure_choice(options, Choice(pile, chosen, teacher), list(CLASSES))
    counts = {row.label: row.count for row in rows}
    assert counts == {None: 6, 0: 2, 1: 2, 2: 2}


@pytest.mark.parametrize("num_classes", [2, 150, 5_000])
def test_views_of_any_choice_are_of_2000_images_at_most(num_classes: int) -> None:
    labels = np.repeat(np.arange(num_classes, dtype=np.int32), 30)
    rows = _sample(labels, num_classes, per_class=25)
    assert min(2_000, 25 * num_classes) >= len(rows) >= min(1_900, 25 * num_classes)
    assert len(np.unique(labels[rows])) == min(num_classes, 2_000), "as many classes as may be"

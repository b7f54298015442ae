"""The report: one page that needs nothing else, whatever the campaign lacks."""

import dataclasses
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from flows.billion_scale.roles import MODELS
from infra.errors import ProtegeError
from infra.store import Store, open_store
from tasks import contract, tables
from tasks.contract import Manifest, Output, RowCounts
from tasks.evaluate import METRICS, TEST
from tasks.report import PAGE, ReportOptions, Story, report
from tasks.report.format import duration, percent, points, probability
from tasks.report.pictures import ranks
from tasks.topk import CLASSES, HISTOGRAM_EDGES

K = 20
BINS = len(HISTOGRAM_EDGES) - 1
NASTY = "<script>alert('x')</script> & $x^2$"


@dataclasses.dataclass(frozen=True)
class Made:
    """What a synthetic campaign consists of; the defaults have everything."""

    names: tuple[str, ...] = ("cat", "dog", "emu", "fox", "gnu")
    kept: tuple[int, ...] = (K, K, K, K, K)
    gain: bool = True
    precision: bool = True
    rejects: int = 2
    suspect: int | None = None
    mode: str = "per_class"
    copies: int = 0


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
) -> Output:
    """Publish an output as a stage would."""
    fingerprint = contract.digest_of([stage, name])
    store = open_store(f"{root.uri}/{stage}/{fingerprint}")
    receipts = [
        dataclasses.replace(
            contract.write_part(store, part, table, counts, facts={"device": f"d{number % 2}"}),
            seconds={"read": 1.0, "compute": 3.0},
        )
        for number, (part, (table, counts)) in enumerate(parts.items())
    ]
    links = {role: output.link for role, output in inputs.items()}
    return contract.publish(
        store, Manifest(stage, fingerprint, dict(options or {}), links, receipts, 75.0)
    )


def images(root: Store, name: str, count: int, rejected: int = 0) -> Output:
    rows = [
        {"image_id": row, "image": png(row % 256), "size": 1, "key": f"{row}", "label": None}
        for row in range(count)
    ]
    table = pa.Table.from_pylist(rows, schema=tables.IMAGES)
    parts = {"part-00000.parquet": (table, RowCounts(count + rejected, count, rejected))}
    output = put(root, "shard", name, parts, {}, {"source": name})
    reasons = [
        {"image_id": count + row, "key": "k", "reason": "not_an_image", "detail": ""}
        for row in range(rejected)
    ]
    contract.write_rejects(output.store, 0, reasons)
    return output


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
    options = {"model": "small_resnet_8", "length": {"amount": 8, "unit": "steps"}}
    parts = {"history.parquet": (table, RowCounts(8, 8, 0))}
    return put(root, "train", name, parts, inputs, options)


def histogram(number: int, *, crowded: bool) -> list[int]:
    bins = np.zeros(BINS, int)
    zero = int(np.searchsorted(HISTOGRAM_EDGES, 0))
    bins[zero : zero + 10] = 5 + number
    if crowded:
        bins[zero + 30] = 500
    return bins.tolist()


def choice(root: Store, made: Made, scores: Output) -> Output:
    rows, classes = [], []
    for label, (name, kept) in enumerate(zip(made.names, made.kept, strict=True)):
        log_odds = 6 - np.arange(kept) * 0.2
        rows += [
            {"label": label, "rank": rank, "image_id": rank, "log_odds": one, "repeats": 1}
            for rank, one in enumerate(log_odds)
        ]
        bins = histogram(label, crowded=label == made.suspect)
        told = {"label": label, "name": name, "candidates": sum(bins), "kept": kept}
        told |= {"kth_log_odds": log_odds[-1], "ties_at_edge": 1, "histogram": bins}
        told |= {
            "dropped_near_duplicates": made.copies,
            "dropped_labelled": 0,
            "dropped_test": label,
        }
        classes.append(told | {"certified": kept == K})
    total = len(rows)
    parts = {
        "part-00000.parquet": (
            pa.Table.from_pylist(rows, schema=tables.CHOSEN),
            RowCounts(total, total, 0),
        ),
        CLASSES: (pa.Table.from_pylist(classes, schema=tables.CLASSES), RowCounts(0, 0, 0)),
    }
    options = {"k": K, "top_p": 5, "mode": made.mode, "seed": 0}
    return put(root, "topk", "topk", parts, {"scores": scores}, options)


def measures(made: Made) -> list[dict[str, Any]]:
    figures: list[tuple[str, str, int | None, float]] = [
        ("baseline", "top1", None, 0.8),
        ("student", "top1", None, 0.9),
    ]
    figures += [("student", "loss", None, 0.3), ("student", "calibration_error", None, 0.02)]
    figures += [("student", "top1", label, 0.9) for label in range(len(made.names))]
    figures += [("chosen", "view_agreement", label, 0.95) for label in range(len(made.names))]
    if made.gain:
        figures += [("student", "gain", None, 0.1), ("student", "gain_standard_error", None, 0.01)]
    if made.precision:
        figures += [("chosen", "precision", None, 0.87)]
    keys = ("model", "measure", "label", "value")
    return [
        dict(zip(keys, figure, strict=True))
        | {"dataset": "" if figure[0] == "chosen" else TEST, "slice": "", "count": 100}
        for figure in figures
    ]


def evaluation(root: Store, made: Made, inputs: Mapping[str, Output]) -> Output:
    count, classes = 50, len(made.names)
    rows = [
        {"image_id": row, "label": row % classes, "rank": 0, "confidence": 0.9, "loss": 0.1}
        | {"predicted": (row + (row % 7 == 0)) % classes}
        for row in range(count)
    ]
    table = pa.Table.from_pylist(rows, schema=tables.PREDICTIONS)
    parts = {"part-00000.parquet": (table, RowCounts(count, count, 0))}
    student = {"images": inputs["test"], "model": inputs["student"]}
    predictions = put(root, "predictions", "student", parts, student)
    metrics = pa.Table.from_pylist(measures(made), schema=tables.METRICS)
    parts = {METRICS: (metrics, RowCounts(0, 0, 0))}
    return put(root, "evaluate", "evaluate", parts, {"student on test": predictions})


def campaign(root: Store, made: Made = Made(), **changes: Any) -> Story:
    """A finished campaign of a recipe, small and made up."""
    none = {"part-00000.parquet": (tables.PINS.empty_table(), RowCounts(K, K, 0))}
    labelled, test = images(root, "labelled", 10), images(root, "test", 50)
    pile = images(root, "pile", 100, made.rejects)
    teacher = training(root, "teacher", {"data": labelled})
    score = put(root, "score", "score", none, {"images": pile, "teacher": teacher})
    topk = choice(root, made, score)
    gather = put(root, "gather", "gather", none, {"images": pile, "chosen": topk})
    pretrained = training(root, "pretrained", {"data": gather})
    student = training(root, "student", {"data": labelled, "init": pretrained})
    baseline = training(root, "baseline", {"data": labelled})
    models = {"test": test, "teacher": teacher, "student": student, "baseline": baseline}
    evaluate = evaluation(root, made, models)
    outputs = {"labelled": labelled, "pile": pile, "test": test, "teacher": teacher}
    outputs |= {"score": score, "topk": topk, "gather": gather, "pretrained": pretrained}
    outputs |= {"student": student, "baseline": baseline, "evaluate": evaluate}
    story = Story(
        "billion-scale",
        "c-1",
        "protege run billion-scale",
        outputs,
        MODELS,
        result="student",
        compared_with="baseline",
    )
    return dataclasses.replace(story, **changes)


@pytest.fixture
def root(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


def page_of(root: Store, story: Story, **options: Any) -> str:
    return report(root, story, ReportOptions(**options)).store.read(PAGE).decode()


def check_self_contained(page: str) -> None:
    for attribute in ("src", "href", "xlink:href", "action", "data"):
        for address in re.findall(rf'\s{attribute}\s*=\s*"([^"]*)"', page):
            assert address.startswith(("data:image/", "#")), address
    assert all(place.startswith("#") for place in re.findall(r"url\(([^)]*)\)", page))
    for forbidden in ("<script", "<link", "@import", "http://", "https://"):
        assert forbidden not in page


def test_page_needs_nothing_else(root: Store) -> None:
    page = page_of(root, campaign(root))
    check_self_contained(page)
    assert page.count("<img ") == 5 * K
    assert page.count("<svg") == page.count('role="img" aria-label=') == 1 + 5 + 4
    assert len(page.encode()) < 1_000_000


def test_pictures_have_words_and_ids_are_unique(root: Store) -> None:
    page = page_of(root, campaign(root))
    assert len(re.findall(r'<img [^>]*alt="[^"]+"', page)) == page.count("<img ")
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    links = re.findall(r'href="#([^"]*)"', page)
    assert set(links) <= set(ids)


def test_page_says_what_happened(root: Store) -> None:
    page = page_of(root, campaign(root), title="A title")
    told = ("A title", "90.0\u202f%", "+10.0", "± 1.0", "50\u202f%", "87.0\u202f%")
    for text in (
        *told,
        "not an image 2",
        "c-1",
        "protege run billion-scale",
        "small_resnet_8",
        "length.amount",
    ):
        assert text in page, text
    assert "d0 (1 of 2 parts), d1 (1 of 2 parts)" in page
    assert "mixed" in page
    assert "Look here first" not in page


def test_every_fingerprint_is_in_the_lineage(root: Store) -> None:
    story = campaign(root)
    page = page_of(root, story)
    for output in story.outputs.values():
        assert f"{output.stage}/{output.fingerprint}" in page


def test_lineage_goes_beyond_the_campaign(root: Store) -> None:
    earlier = training(root, "earlier", {})
    story = campaign(root)
    student = training(root, "other student", {"init": earlier})
    page = page_of(root, dataclasses.replace(story, outputs={**story.outputs, "student": student}))
    assert f"train/{earlier.fingerprint}" in page
    gone = dataclasses.replace(earlier, fingerprint="0123456789abcdef")
    student = training(root, "third student", {"init": gone})
    page = page_of(root, dataclasses.replace(story, outputs={**story.outputs, "student": student}))
    assert "no longer there" in page


def test_user_strings_cannot_inject_markup(root: Store) -> None:
    names = (NASTY, "dog", "emu", "fox", "gnu")
    made = Made(names, kept=(3, K, K, K, K), suspect=0)
    page = page_of(
        root, campaign(root, made, campaign=NASTY, command=NASTY, recipe=NASTY), title=NASTY
    )
    check_self_contained(page)
    assert "alert(&#39;x&#39;)" in page
    assert "<script" not in page


def test_what_was_not_measured_is_a_dash(root: Store) -> None:
    page = page_of(root, campaign(root, Made(gain=False, precision=False, rejects=0)))
    check_self_contained(page)
    assert "no audit list was given" in page
    assert "not an image" not in page


def test_near_duplicates_that_were_dropped_are_counted(root: Store) -> None:
    page = page_of(root, campaign(root, Made(kept=(K, 3, K, K, K), copies=2_000)))
    assert "10,000 candidates dropped as near-duplicates of a better one." in page
    assert "10 candidates left out as copies of a test image." in page
    assert "a labelled image" not in page
    assert "2,001 of them are copies" in page


@pytest.mark.parametrize("short", [1, 2, 7, K - 1])
def test_a_short_class_is_named(root: Store, short: int) -> None:
    page = page_of(root, campaign(root, Made(kept=(K, short, K, K, K))))
    assert "1 of 5 classes have fewer than 20 images" in page
    assert f"Short: {short} of 20 places are filled" in page


def test_recipes_may_lack_a_baseline(root: Store) -> None:
    story = campaign(root, Made(gain=False))
    without = {"baseline", "pretrained", "gather"}
    outputs = {role: output for role, output in story.outputs.items() if role not in without}
    page = page_of(root, dataclasses.replace(story, outputs=outputs, compared_with=""))
    check_self_contained(page)
    assert "Baseline, labels only" not in page


def test_a_large_matrix_is_a_list_of_errors(root: Store) -> None:
    names = tuple(f"class {number}" for number in range(25))
    page = page_of(root, campaign(root, Made(names, kept=(K,) * 25)), max_classes=3)
    assert "The most frequent errors" in page
    assert 'class="matrix"' not in page


def test_a_suspect_class_is_named(root: Store) -> None:
    page = page_of(root, campaign(root, Made(suspect=2)))
    assert 'class="badge mark">suspect' in page
    assert "may have filled with things that are none of its kind" in page


def test_random_choice_is_not_called_uncertain(root: Store) -> None:
    page = page_of(root, campaign(root, Made(kept=(K, K, K, K, K), mode="random_per_class")))
    assert "drawn at random" in page
    assert "not certified" not in page


def test_of_too_many_classes_the_needy_are_shown(root: Store) -> None:
    made = Made(kept=(K, K, K, 5, K), suspect=1)
    page = page_of(root, campaign(root, made), max_classes=2)
    shown = re.findall(r'<article class="class" id="class-(\d)"', page)
    assert shown == ["1", "3"]
    assert "3 of 5 classes are left out here" in page


def test_seeds_are_compared(root: Store) -> None:
    spread = tuple(
        {"seed": seed, "baseline_top1": 0.7, "student_top1": 0.8 + seed / 100} for seed in range(3)
    )
    page = page_of(root, campaign(root, spread=spread))
    assert "The same settings with 3 seeds" in page
    assert "81.0\u202f%" in page
    alone = page_of(root, campaign(root, spread=spread[:1]))
    assert "The same settings with" not in alone


def test_second_call_does_no_work(root: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    story = campaign(root)
    first = report(root, story, ReportOptions())
    monkeypatch.setattr("tasks.report.page.render", None)
    second = report(root, story, ReportOptions())
    assert (first.reused, second.reused) == (False, True)
    assert second.digest == first.digest
    assert first.uri == f"{root.uri}/report/{first.fingerprint}"


def test_what_the_page_shows_is_in_its_name(root: Store) -> None:
    story = campaign(root)
    stories = [
        story,
        dataclasses.replace(story, command="other"),
        dataclasses.replace(story, campaign="c-2"),
        dataclasses.replace(story, spread=({"seed": 1, "baseline_top1": 0, "student_top1": 1},)),
    ]
    assert len({report(root, one, ReportOptions()).fingerprint for one in stories}) == 4
    assert report(root, story, ReportOptions(images_per_strip=3)).reused is False


def test_same_inputs_give_the_same_bytes(root: Store) -> None:
    story = campaign(root)
    output = report(root, story, ReportOptions())
    before = output.store.read(PAGE)
    for name in output.store.sizes():
        output.store.delete(name)
    report(root, story, ReportOptions())
    assert output.store.read(PAGE) == before


def test_missing_stages_are_named(root: Store) -> None:
    story = campaign(root)
    some = {role: output for role, output in story.outputs.items() if role != "topk"}
    with pytest.raises(ProtegeError, match="missing: topk"):
        report(root, dataclasses.replace(story, outputs=some), ReportOptions())


def test_manifest_follows_the_contract(root: Store) -> None:
    story = campaign(root)
    output = report(root, story, ReportOptions())
    manifest = output.body
    assert set(manifest["inputs"]) == set(story.outputs)
    assert manifest["parts"][0]["name"] == PAGE
    assert manifest["parts"][0]["bytes"] == len(output.store.read(PAGE))


@pytest.mark.parametrize("kept", [1, 5, 12, 30, 48, 49, 1000])
def test_ranks_are_shown_once_and_in_order(kept: int) -> None:
    shown = [rank for window in ranks(kept, 12) for rank in window]
    assert shown == sorted(set(shown))
    assert (shown[0], shown[-1]) == (0, kept - 1)
    assert len(shown) <= 48


def test_words() -> None:
    assert percent(None) == "\u2013"
    assert percent(0.9312) == "93.1\u202f%"
    assert points(-0.021) == "\u22122.1"
    assert (probability(0), probability(9), probability(-1e9)) == ("0.500", "> 0.999", "< 0.001")
    assert [duration(one) for one in (0.04, 9.97, 185, 7800)] == [
        "0.0\u202fs",
        "10\u202fs",
        "3\u202fmin 05\u202fs",
        "2\u202fh 10\u202fmin",
    ]

"""The recipe as a whole, under Prefect, with Dask and torchrun: resume, growth, S3."""

import csv
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flows.billion_scale.options import BillionScale
from flows.campaign.run import Run
from flows.campaign.summary import show, story_of, summarise
from flows.cli import app
from flows.engine.execute import execute, resumed_options
from flows.operate.report_server import list_of_reports
from flows.recipes import BILLION_SCALE, RECIPES
from infra.errors import ProtegeError
from infra.executors import Inline
from infra.store import open_store
from tasks.campaigns import Campaign, campaigns
from tasks.evaluate import predictions_in, read_predictions
from tasks.options import Length
from tasks.report import verdict_of
from tasks.report.format import percent
from tasks.shard import read_keys
from tasks.train.options import Start
from tests.builders.campaign import tables_of, tiny
from tests.builders.pictures import write_folder


def run(root: str, options: BillionScale) -> dict[str, Any]:
    return execute("billion-scale", options, root)


def campaigns_of(root: Path | str, *, k: int = 6, images_per_shard: int = 16) -> list[Campaign]:
    """The campaigns with these options, oldest first."""
    return [
        campaign
        for campaign in campaigns(open_store(str(root)))
        if campaign.options["topk"]["k"] == k
        and campaign.options["pile"]["images_per_shard"] == images_per_shard
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """Sources of this module's own, which a test may let grow for a while."""
    folder = tmp_path_factory.mktemp("data")
    shutil.copytree(pictures, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, data: Path) -> str:
    """The root of a finished campaign."""
    root = str(tmp_path_factory.mktemp("finished"))
    run(root, tiny(data))
    return root


def test_campaign_ends_with_figures_a_report_and_every_stage(finished: str) -> None:
    (campaign,) = campaigns_of(finished)
    assert campaign.finished
    expected = ["labelled", "pile", "test", "labelled_signatures", "test_signatures", "copies"]
    expected += ["labelled_lessons", "teacher", "teacher_check", "score", "topk", "gather"]
    expected += ["pretrained", "student", "supervised", "baseline", "evaluate", "report"]
    assert list(campaign.outputs) == expected
    for role in ("teacher", "baseline", "pretrained", "student"):
        predicted = predictions_in(campaign.outputs["evaluate"], role)
        ranks = read_predictions(predicted, ["rank"])["rank"].to_numpy()
        assert len(ranks) == 15
        assert campaign.summary[f"{role}_top1"] == pytest.approx(np.mean(ranks == 0))
    assert campaign.summary["test_images"] == 15
    assert list(campaign.summary["verdict"]) == verdict_of(story_of(open_store(finished), campaign))
    assert set(campaign.summary["seconds"]) >= {*expected, "total"}
    assert Path(campaign.summary["report"]).read_text().lower().startswith("<!doctype html>")


def test_recipe_that_is_run_for_no_model_is_summarised_without_a_gain(
    finished: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (campaign,) = campaigns_of(finished)
    measuring = replace(BILLION_SCALE, result="", compared_with="")
    monkeypatch.setitem(RECIPES, BILLION_SCALE.name, measuring)
    summary = summarise(Run(open_store(finished), Inline(), campaign=campaign), 0.0)
    assert not summary.keys() & {"gain", "gain_standard_error", "seed"}
    assert summary["student_top1"] == campaign.summary["student_top1"]
    show(summary)
    text = capsys.readouterr().out
    assert "right on 15 test images" in text
    assert f"{percent(summary['student_top1'])} ± " in text
    assert not story_of(open_store(finished), campaign).spread


def test_chosen_files_are_listed_by_their_names(finished: str, data: Path) -> None:
    (campaign,) = campaigns_of(finished)
    topk = campaign.outputs["topk"]
    listed = CliRunner().invoke(app, ["chosen", campaign.id, "--root", finished])
    rows = list(csv.DictReader(io.StringIO(listed.output)))
    assert len(rows) == topk.kept
    assert all((data / "pile" / row["key"]).is_file() for row in rows)
    order = [(row["class"], int(row["rank"])) for row in rows]
    assert order == sorted(order)
    keys = read_keys(campaign.outputs["pile"], topk.table("chosen")["image_id"].to_numpy())
    assert [row["key"] for row in rows] == keys
    assert CliRunner().invoke(app, ["chosen", topk.uri]).output == listed.output


def test_the_page_of_reports_has_the_date_and_the_figures(
    finished: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (campaign,) = campaigns_of(finished)
    monkeypatch.setenv("PROTEGE_ROOT", finished)
    page = list_of_reports()
    assert f"{campaign.outputs['report'].fingerprint}/index.html" in page
    for text in (campaign.id, campaign.finished_at, percent(campaign.summary["student_top1"])):
        assert text in page


def test_every_row_is_kept_or_rejected_in_every_output(finished: str) -> None:
    (campaign,) = campaigns_of(finished)
    for output in campaign.outputs.values():
        assert output.rows_in == output.kept + output.rejected


def test_same_run_again_does_no_work(finished: str, data: Path) -> None:
    before = {name: entry.version for name, entry in open_store(finished).sizes().items()}
    again = run(finished, tiny(data))
    assert again == campaigns_of(finished)[0].summary
    after = {name: entry.version for name, entry in open_store(finished).sizes().items()}
    assert after == before


def test_changed_option_re_does_exactly_the_stages_after_it(finished: str, data: Path) -> None:
    (before,) = campaigns_of(finished)
    changed = tiny(data, topk={"k": 7})
    run(finished, changed)
    (campaign,) = campaigns_of(finished, k=7)
    again = [role for role, output in campaign.outputs.items() if not output.reused]
    # The baseline learns from the labels alone, so it stays.
    assert again == ["topk", "gather", "pretrained", "student", "evaluate", "report"]
    for role in ("labelled", "pile", "test", "teacher", "score", "supervised", "baseline"):
        assert campaign.outputs[role].digest == before.outputs[role].digest


def test_student_learns_what_the_teacher_said_where_pseudo_labels_are_soft(
    finished: str, data: Path, tmp_path: Path
) -> None:
    root = str(tmp_path / "root")
    shutil.copytree(finished, root)
    before = {campaign.id for campaign in campaigns_of(root)}
    run(root, tiny(data, gather={"pseudo_labels": "soft"}))
    (made,) = [campaign.outputs for campaign in campaigns_of(root) if campaign.id not in before]
    again = [role for role, output in made.items() if not output.reused]
    assert again == ["gather", "pretrained", "student", "evaluate", "report"]
    lessons = made["gather"].table("lessons").to_pylist()
    assert {len(row["weights"]) for row in lessons} == {3}
    assert made["pretrained"].body["extra"]["objective"] == "soft_labels"


def test_baseline_beside_a_student_with_given_weights_learns_for_its_own_length(
    finished: str, data: Path, tmp_path: Path
) -> None:
    root = str(tmp_path / "root")
    shutil.copytree(finished, root)
    (first,) = campaigns_of(root)
    weights = f"{first.outputs['student'].uri}/weights.safetensors"
    length = Length(amount=3, unit="steps")
    run(
        root,
        tiny(
            data,
            student={"start": Start(weights=weights), "length": Length()},
            baseline={"length": length},
        ),
    )
    (made,) = [campaign.outputs for campaign in campaigns_of(root) if campaign.id != first.id]
    steps = {role: made[role].body["extra"]["steps"] for role in ("pretrained", "supervised")}
    assert steps == {"pretrained": 0, "supervised": 3}


def test_campaign_whose_database_and_manifests_were_lost_goes_on(
    finished: str, data: Path, tmp_path: Path
) -> None:
    """Resume needs nothing but the store: here all that comes after `topk` is gone."""
    root = tmp_path / "copy"
    shutil.copytree(finished, root)
    (campaign,) = campaigns_of(root)
    for stage in ("gather", "evaluate", "report"):
        shutil.rmtree(root / stage)
    kept = tables_of(str(root))
    text = json.loads((root / "campaigns" / f"{campaign.id}.json").read_text())
    text["finished_at"] = ""
    (root / "campaigns" / f"{campaign.id}.json").write_text(json.dumps(text))
    result = execute("billion-scale", resumed_options(campaign), str(root))
    assert result["student_top1"] == campaign.summary["student_top1"]
    now = tables_of(str(root))
    assert {name: now[name] for name in kept} == kept
    assert {name for name in now if name.startswith("gather/")}


def test_damaged_part_that_was_deleted_is_made_again_in_a_finished_campaign(
    finished: str, data: Path, tmp_path: Path
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(finished, root)
    (campaign,) = campaigns_of(root)
    fingerprint = campaign.outputs["gather"].fingerprint
    lost = root / "gather" / fingerprint / "part-00000.parquet"
    whole = lost.read_bytes()
    assert run(str(root), tiny(data)) == campaign.summary  # a root may be moved
    lost.unlink()
    run(str(root), tiny(data))
    assert lost.read_bytes() == whole


@pytest.fixture
def grown(data: Path) -> Iterator[Path]:
    """The sources with more images in the pile, which are taken away again."""
    new = write_folder(
        data / "pile", np.random.default_rng(9), per_class=5, labelled=False, prefix="a"
    )
    yield data
    for path in new:
        path.unlink()


def test_source_that_grew_is_sharded_and_scored_only_where_it_is_new(
    finished: str, grown: Path, tmp_path: Path
) -> None:
    root = str(tmp_path / "root")
    shutil.copytree(finished, root)
    first = campaigns_of(root)[0].outputs
    parts = {
        path: path.stat().st_mtime_ns
        for role in ("pile", "score")
        for path in Path(first[role].uri).glob("part-*.parquet")
    }
    run(root, tiny(grown))
    second = campaigns_of(root)[1].outputs
    for role in ("pile", "score"):
        assert second[role].fingerprint == first[role].fingerprint
        assert second[role].rows_in == first[role].rows_in + 15
        assert len(list(Path(second[role].uri).glob("part-*.parquet"))) > len(parts) // 2
    assert {path: path.stat().st_mtime_ns for path in parts} == parts
    assert second["teacher"].reused
    assert second["topk"].fingerprint != first["topk"].fingerprint


def test_campaign_on_s3_gives_the_same_tables_as_one_on_disk(
    finished: str, data: Path, s3: str
) -> None:
    run(f"{s3}/whole-campaign", tiny(data))
    here, there = tables_of(finished), tables_of(f"{s3}/whole-campaign")
    assert set(there) <= set(here)
    assert {name: here[name] for name in there} == there
    assert any(name.startswith("gather/") for name in there)
    assert any(name.endswith("weights.safetensors") for name in there)


def test_other_shard_size_chooses_the_same_images_in_the_same_order(
    finished: str, data: Path, tmp_path: Path
) -> None:
    root = str(tmp_path / "root")
    shutil.copytree(finished, root)  # the teacher and the baseline are there already
    run(root, tiny(data, pile={"images_per_shard": 7}))
    assert _chosen_keys(root, 7) == _chosen_keys(finished, 16)


def _chosen_keys(root: str, images_per_shard: int) -> list[tuple[int, int, str]]:
    (found,) = campaigns_of(root, images_per_shard=images_per_shard)
    keys: dict[int, str] = {}
    for part in sorted(Path(found.outputs["pile"].uri).glob("part-*.parquet")):
        table = pq.read_table(part, columns=["image_id", "key"])
        keys.update(zip(table["image_id"].to_pylist(), table["key"].to_pylist()))
    chosen = pq.read_table(Path(found.outputs["topk"].uri) / "part-00000.parquet").to_pylist()
    return [(row["label"], row["rank"], keys[row["image_id"]]) for row in chosen]


def test_bad_source_fails_in_one_sentence_before_any_work(tmp_path: Path, pictures: Path) -> None:
    missing = tiny(pictures, pile={"source": str(tmp_path / "nowhere")})
    with pytest.raises(ProtegeError, match=r"pile\.source: .*nowhere: no images found"):
        run(str(tmp_path / "root"), missing)


def test_mended_source_mends_the_campaign(tmp_path: Path, pictures: Path) -> None:
    """A class without a usable image fails the run; once it has one, the same run goes through."""
    data, root = tmp_path / "data", str(tmp_path / "root")
    shutil.copytree(pictures, data)
    reds = sorted((data / "labelled" / "red").iterdir())
    good = reds[0].read_bytes()
    for path in reds:
        path.write_bytes(b"")
    options = tiny(data, labelled={"max_reject_percent": 100}, topk={"top_p": 3})
    with pytest.raises(ProtegeError, match="class 'red' has no usable labelled image"):
        run(root, options)
    (data / "labelled" / "red" / "new.png").write_bytes(good)
    run(root, options)
    mended = campaigns(open_store(root))[-1]
    assert mended.finished
    labelled = mended.outputs["labelled"]
    assert (labelled.rows_in, labelled.kept, labelled.rejected) == (13, 9, 4)

"""The report: one page that needs nothing else, whatever the campaign lacks."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from infra.errors import ProtegeError
from infra.store import Store, open_store
from tasks import tables
from tasks.contract import RowCounts
from tasks.evaluate import METRICS
from tasks.report import PAGE, ReportOptions, Role, Story, report
from tasks.report.format import duration, percent, points, probability
from tasks.report.pictures import ranks
from tests.builders import stories
from tests.builders.stories import K, Made, campaign, training

NASTY = "<script>alert('x')</script> & $x^2$"


@pytest.fixture
def root(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


def page_of(root: Store, story: Story, **options: Any) -> str:
    return report(root, story, ReportOptions(**options)).store.read(PAGE).decode()


def without(story: Story, *names: str) -> Story:
    """The story of a recipe without these roles."""
    outputs = {role: output for role, output in story.outputs.items() if role not in names}
    roles = tuple(role for role in story.roles if role.name not in names)
    return dataclasses.replace(story, outputs=outputs, roles=roles)


def headings(page: str) -> list[str]:
    return re.findall("<h2>(.*?)</h2>", page)


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
    assert page.count("<img ") == 5 * K + 8
    assert page.count("<svg") == page.count('role="img" aria-label=') == 1 + 5 + 4
    assert len(page.encode()) < 1_000_000


def test_pictures_have_words_and_ids_are_unique(root: Store) -> None:
    page = page_of(root, campaign(root))
    assert len(re.findall(r'<img [^>]*alt="[^"]+"', page)) == page.count("<img ")
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    links = re.findall(r'href="#([^"]*)"', page)
    assert set(links) <= set(ids)


def test_a_click_shows_a_picture_large_with_the_name_of_its_file(root: Store) -> None:
    page = page_of(root, campaign(root))
    pictures = re.findall(r'<details class="picture".*?</details>', page)
    assert len(pictures) == page.count("<img ")
    assert "<summary" in pictures[0]
    assert "cat, rank 1, p 0.998" in pictures[0]
    assert "<code>pile/0.png</code>" in pictures[0]


def test_page_says_what_happened(root: Store) -> None:
    page = page_of(root, campaign(root), title="A title")
    figures = ("A title", "90.0\u202f%", "+10.0", "± 1.0", "50\u202f%", "87.0\u202f%")
    for text in (
        *figures,
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


def test_page_says_where_the_result_is_and_how_to_load_it(root: Store) -> None:
    story = campaign(root)
    page, student = page_of(root, story), story.outputs["student"].uri
    assert f"model = pg.load(&#39;{student}/weights.safetensors&#39;)" in page
    assert f"protege chosen {story.outputs['topk'].uri} &gt; chosen.csv" in page
    alone = without(dataclasses.replace(story, result="", compared_with=""))
    assert "pg.load" not in page_of(root, alone)


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
    assert "no audit list has a chosen image" in page
    assert "not an image" not in page


def test_columns_of_what_was_not_measured_are_left_out(root: Store) -> None:
    page = page_of(root, campaign(root, Made(precision=False, views=False)))
    assert "View agreement</th>" not in page
    assert "Precision</th>" not in page


def test_columns_of_what_was_measured_are_there(root: Store) -> None:
    page = page_of(root, campaign(root))
    assert "View agreement</th>" in page
    assert "Precision</th>" in page


def test_what_a_source_could_not_use_is_counted_by_reason_and_ending(root: Store) -> None:
    page = page_of(root, campaign(root))
    assert 'not an image 2 <span class="quiet">(2 .svg)</span>' in page
    assert page.count("7,858 .ogg, 3 .txt") == 3


def test_near_duplicates_that_were_dropped_are_counted(root: Store) -> None:
    page = page_of(root, campaign(root, Made(kept=(K, 3, K, K, K), near_duplicates=2_000)))
    assert "10,000 candidates dropped as near-duplicates of a better one." in page
    assert "10 candidates dropped as near-duplicates of a test image." in page
    assert "a labelled image" not in page
    assert "2,001 of them near-duplicates" in page


@pytest.mark.parametrize("short", [1, 2, 7, K - 1])
def test_a_short_class_is_named(root: Store, short: int) -> None:
    page = page_of(root, campaign(root, Made(kept=(K, short, K, K, K))))
    assert "1 of 5 classes have fewer than 20 images" in page
    assert f"Short: {short} of 20 places are filled" in page


def test_recipes_may_lack_a_baseline(root: Store) -> None:
    made = Made(gain=False)
    story = without(campaign(root, made), "baseline", "pretrained", "gather")
    inputs = {"images": story.outputs["test"], "model": story.outputs["student"]}
    measured = stories.evaluation(root, made, inputs, models=("teacher", "student"))
    outputs = {**story.outputs, "evaluate": measured}
    page = page_of(root, dataclasses.replace(story, outputs=outputs, compared_with=""))
    check_self_contained(page)
    assert "Baseline" not in page
    assert "Gain" not in page
    assert "90.0\u202f%" in page


def test_a_page_has_the_sections_that_apply_in_their_order(root: Store) -> None:
    assert headings(page_of(root, campaign(root))) == [
        "Models",
        "What was chosen",
        "Class by class",
        "Training",
        "Errors of the student",
        "Time",
        "Rejects",
        "Lineage",
        "Use it",
        "Run it again",
    ]


def test_a_recipe_that_chooses_and_measures_nothing_has_a_page(root: Store) -> None:
    pile = stories.images(root, "unlabelled", 10)
    pretrained = training(root, "pretrained", {"data": pile})
    distilled = training(root, "distilled", {"data": pile, "init": pretrained})
    outputs = {"unlabelled": pile, "pretrained": pretrained, "distilled": distilled}
    roles = (Role("distilled", "Distilled student", "distilled student"),)
    story = Story("simclr-v2", "c-1", "again", outputs, roles, result="distilled")
    page = page_of(root, story)
    check_self_contained(page)
    assert headings(page) == ["Training", "Time", "Rejects", "Lineage", "Use it", "Run it again"]
    assert "Training loss of the distilled student, from" in page
    assert "Training loss of the pretrained, from" in page


def test_a_section_that_does_not_apply_reads_no_tables(root: Store) -> None:
    story = without(campaign(root), "topk")
    for stage in ("predictions", "topk"):
        for name in root.sizes(stage):
            if name.endswith(".parquet"):
                root.delete(f"{stage}/{name}")
    page = page_of(root, dataclasses.replace(story, result="", compared_with=""))
    assert headings(page) == ["Models", "Training", "Time", "Rejects", "Lineage", "Run it again"]


def test_of_several_generations_the_last_choice_is_shown(root: Store) -> None:
    story = campaign(root)
    second_teacher = training(root, "teacher 2", {"data": story.outputs["gather"]})
    inputs = {"images": story.outputs["pile"], "teacher": second_teacher}
    scores = stories.scored(root, "score 2", inputs)
    chosen = stories.choice(root, Made(kept=(K, K, 7, K, K)), scores, "topk 2")
    later = {"teacher_2": second_teacher, "score_2": scores, "topk_2": chosen}
    roles = (
        *story.roles,
        Role("teacher_2", "Second teacher", "second teacher"),
        Role("score_2", "Second scores"),
        Role("topk_2", "Second choice"),
    )
    page = page_of(
        root, dataclasses.replace(story, outputs={**story.outputs, **later}, roles=roles)
    )
    check_self_contained(page)
    assert "This is the last of 2 choices: Second choice." in page
    assert "The second teacher learned from 20 images of the gather and scored" in page
    assert "Short: 7 of 20 places are filled" in page


def test_each_data_set_has_a_table_of_its_models(root: Store) -> None:
    story = campaign(root)
    rows = [
        {"model": "student", "measure": "top1", "label": None, "value": 0.612, "count": 1_000}
        | {"dataset": "sketches", "slice": name}
        for name in ("", "cats")
    ]
    metrics = pa.Table.from_pylist(rows, schema=tables.METRICS)
    other = stories.put(
        root,
        "evaluate",
        "sketches",
        {METRICS: (metrics, RowCounts(0, 0, 0))},
        {},
        extra={"models": ["student"], "datasets": ["sketches"], "classes": []},
    )
    page = page_of(
        root, dataclasses.replace(story, outputs={**story.outputs, "sketches_measured": other})
    )
    assert "On 100 images of the test set." in page
    assert "On 1,000 images of the sketches." in page
    assert page.count("61.2\u202f%") == 1
    assert "The student is right on 90.0\u202f% of 100 images of the test set" in page


def test_models_are_compared_in_the_order_of_the_roles(root: Store) -> None:
    page = page_of(root, campaign(root))
    titles = [role.title for role in stories.ROLES if role.name in stories.MODELS]
    section = page[page.index('id="models"') : page.index('id="choice"')]
    assert re.findall(r'<th scope="row">([^<]*)</th>', section) == titles


def test_errors_are_shown_with_both_classes_and_the_name_of_the_file(root: Store) -> None:
    page = page_of(root, campaign(root))
    section = page[page.index('id="errors"') :]
    assert section.count("<img ") == 8
    assert "The 8 errors that it was surest of" in section
    assert "cat, taken for dog, p 0.900<br><code>test/0.png</code>" in section


def test_a_large_matrix_is_a_list_of_errors(root: Store) -> None:
    names = tuple(f"class {number}" for number in range(25))
    page = page_of(root, campaign(root, Made(names, kept=(K,) * 25)), max_classes=3)
    assert "The most frequent errors" in page
    assert 'class="matrix"' not in page


def test_random_choice_is_not_called_uncertain(root: Store) -> None:
    page = page_of(root, campaign(root, Made(kept=(K, K, K, K, K), mode="random_per_class")))
    assert "drawn at random" in page
    assert "not certified" not in page
    assert "Look here first" not in page


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
    others = [
        story,
        dataclasses.replace(story, command="other"),
        dataclasses.replace(story, campaign="c-2"),
        dataclasses.replace(story, spread=({"seed": 1, "baseline_top1": 0, "student_top1": 1},)),
    ]
    assert len({report(root, other, ReportOptions()).fingerprint for other in others}) == 4
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
    outputs = {role: output for role, output in story.outputs.items() if role != "topk"}
    with pytest.raises(ProtegeError, match="missing: topk"):
        report(root, dataclasses.replace(story, outputs=outputs), ReportOptions())


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
    assert [duration(seconds) for seconds in (0.04, 9.97, 185, 7800)] == [
        "0.0\u202fs",
        "10\u202fs",
        "3\u202fmin 05\u202fs",
        "2\u202fh 10\u202fmin",
    ]


def test_random_changes_of_the_teacher_are_shown_as_long_as_its_lessons_are_there(
    root: Store,
) -> None:
    story = campaign(root, Made(lessons=5))
    page = page_of(root, story)
    check_self_contained(page)
    assert "Random changes" in headings(page)
    assert len(re.findall('alt="[^"]*as in step 5"', page)) == 4
    assert "augment.crop_min_area=0.08" in page
    lessons = story.outputs["labelled_lessons"]
    lessons.store.delete("part-00000.parquet")
    assert "Random changes" not in headings(page_of(root, story, title="Again"))
    assert "Random changes" not in headings(page_of(root, campaign(root), title="Without"))

"""tags: which classes the tags of images teach, and how often each image is taken for them."""

import logging
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import ProtegeError
from infra.executors import Cluster, Executor, Inline
from infra.store import Store, open_store
from tasks import contract, tables
from tasks.contract import Output
from tasks.gather import GatherOptions, gather
from tasks.shard import ShardOptions, shard
from tasks.shard.sources.labels import tags_of
from tasks.tags import TagOptions, tags
from tasks.tags.counts import TagCounts
from tasks.tags.mapping import canonical_tags, read_mapping
from tasks.tags.vocabulary import make_vocabulary
from tests.builders.sources import CALM
from tests.builders.tags import tag_table, tagged

MIXED = ["cat", "Cat,dog", "#dog", None, "cat,cat", "ink", "CAT, dog ,ink"]
TABLE = {"cat": ["animal", "pet"], "dog": ["animal"], "DOG": ["animal"]}


def images_of(root: Store, folder: Path, listed: Sequence[str | None], size: int = 3) -> Output:
    source = tagged(folder, listed)
    return shard(root, ShardOptions(source=source, images_per_shard=size))


def classes_by_image(output: Output) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for row in output.table("tag_labels").to_pylist():
        found.setdefault(row["image_id"], set()).add(output.classes[row["label"]])
    return found


def test_each_tag_is_a_class_of_its_own_without_a_table(root: Store, tmp_path: Path) -> None:
    output = tags(root, images_of(root, tmp_path, MIXED))
    assert output.classes == ["cat", "dog", "ink"]
    found = list(classes_by_image(output).values())
    assert found == [{"cat"}, {"cat", "dog"}, {"dog"}, {"cat"}, {"ink"}, {"cat", "dog", "ink"}]
    rows = {row["tag"]: row for row in output.table("tags").to_pylist()}
    assert {tag: row["images"] for tag, row in rows.items()} == {"cat": 4, "dog": 3, "ink": 2}


def test_table_maps_tags_to_classes_and_what_maps_to_nothing_is_counted(
    root: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = images_of(root, tmp_path, MIXED)
    with caplog.at_level(logging.INFO):
        output = tags(root, images, TagOptions(table=tag_table(tmp_path, TABLE)))
    assert output.classes == ["animal", "pet"]
    # An image with two tags of one class counts once.
    sizes = {row["name"]: row["images"] for row in output.table("tag_classes").to_pylist()}
    assert sizes == {"animal": 5, "pet": 4}
    became = {row["tag"]: row["classes"] for row in output.table("tags").to_pylist()}
    assert became == {"cat": ["animal", "pet"], "dog": ["animal"], "ink": []}
    assert "1 of 3 tags teach none of these classes, the most frequent are ink" in caplog.text
    assert "5 of 7 images have tags that teach one of 2 classes" in caplog.text


def test_lessons_of_an_image_with_k_classes_give_each_of_them_a_kth(
    root: Store, tmp_path: Path
) -> None:
    images = images_of(root, tmp_path, MIXED)
    labels = tags(root, images, TagOptions(resampling="none"))
    lessons = gather(root, images, labels, GatherOptions().sharing)
    assert lessons.classes == labels.classes
    weights = sorted(map(tuple, lessons.table("lessons")["weights"].to_pylist()))
    third, half = (pytest.approx(1 / 3),) * 3, (0.5, 0.5)
    assert weights == [third, half, (1.0,), (1.0,), (1.0,), (1.0,)]


def test_images_of_rare_classes_are_repeated_by_the_root_of_their_size(
    root: Store, tmp_path: Path
) -> None:
    images = images_of(root, tmp_path, ["many"] * 400 + ["few"] * 100 + ["few,many"], size=50)
    labels = tags(root, images)
    rows = labels.table("tag_classes").to_pylist()
    assert [row["repeats"] for row in rows] == [math.sqrt(401 / 101), 1.0]
    repeats = {row["image_id"]: row["repeats"] for row in labels.table("tag_labels").to_pylist()}
    few = [times for times in repeats.values() if times > 1]
    assert len(few) == 101, "an image of both counts as its rarer class"
    assert sum(few) == pytest.approx(101 * math.sqrt(401 / 101), rel=0.05)
    lessons = gather(root, images, labels, GatherOptions().sharing)
    counts = Counter(lessons.table("lessons")["image_id"].to_pylist())
    assert counts == repeats


@CALM
@given(
    sizes=st.lists(st.integers(1, 10_000), min_size=2, max_size=20),
    max_repeats=st.integers(1, 50),
    seed=st.integers(0, 2**31 - 1),
)
def test_repeats_are_what_the_rule_says_and_follow_from_image_and_seed(
    sizes: list[int], max_repeats: int, seed: int
) -> None:
    counts = TagCounts(classes=Counter({f"c{place}": size for place, size in enumerate(sizes)}))
    vocabulary = make_vocabulary(counts, TagOptions(max_repeats=max_repeats))
    for size, repeats in zip(vocabulary.images_C, vocabulary.repeats_C, strict=True):
        assert repeats == pytest.approx(min(math.sqrt(max(sizes) / size), max_repeats))
    ids_N = np.arange(500, dtype=np.int64) << 32
    labels_N = [[place % len(sizes), 0] for place in range(500)]
    times_N = vocabulary.repeats_of(ids_N, labels_N, seed)
    wanted_N = np.array([max(vocabulary.repeats_C[label] for label in row) for row in labels_N])
    assert ((times_N == np.floor(wanted_N)) | (times_N == np.ceil(wanted_N))).all()
    order = np.random.default_rng(seed).permutation(500)
    again_N = vocabulary.repeats_of(ids_N[order], [labels_N[place] for place in order], seed)
    assert (again_N == times_N[order]).all()


@pytest.mark.parametrize("size", [1, 4, 100])
def test_size_of_shards_and_executor_change_no_label(
    tmp_path: Path, cluster: Cluster, size: int
) -> None:
    def by_key(executor: Executor, name: str, size: int) -> dict[str, Any]:
        root = open_store(str(tmp_path / name))
        images = images_of(root, tmp_path / "images", MIXED * 9, size)
        output = tags(root, images, TagOptions(resampling="none"), executor=executor)
        keys = {row["image_id"]: row["key"] for row in images.table("images").to_pylist()}
        return {keys[image]: names for image, names in classes_by_image(output).items()}

    assert by_key(cluster, f"there-{size}", size) == by_key(Inline(), f"here-{size}", 7)


def test_only_the_largest_classes_are_kept(root: Store, tmp_path: Path) -> None:
    images = images_of(root, tmp_path, ["a,b,c,d"] * 2 + ["a,b,c"] * 2 + ["b,a"])
    assert tags(root, images, TagOptions(max_classes=2)).classes == ["a", "b"]
    assert tags(root, images, TagOptions(min_images=4)).classes == ["a", "b", "c"]


def test_changed_table_is_another_output(root: Store, tmp_path: Path) -> None:
    images = images_of(root, tmp_path, MIXED)
    table = tag_table(tmp_path, {"cat": ["a"], "dog": ["b"]})
    first = tags(root, images, TagOptions(table=table))
    assert tags(root, images, TagOptions(table=table)).fingerprint == first.fingerprint
    tag_table(tmp_path, {"cat": ["b"], "dog": ["a"]})
    assert tags(root, images, TagOptions(table=table)).fingerprint != first.fingerprint


def test_work_that_was_half_done_is_gone_on_with(
    root: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = images_of(root, tmp_path, MIXED, size=2)
    expected = contract.read_rows(tags(open_store(f"{root.uri}-2"), images), tables.TAG_LABELS)
    write, made = contract.PartWriter.write, []

    def failing(self: contract.PartWriter, *args: Any, **fields: Any) -> Any:
        made.append(1)
        if len(made) == 3:
            raise RuntimeError("power cut")
        return write(self, *args, **fields)

    monkeypatch.setattr(contract.PartWriter, "write", failing)
    with pytest.raises(Exception, match="power cut"):
        tags(root, images)
    output = tags(root, images)
    assert len(made) == 4 + 1, "only the missing part was made"
    assert not output.store.sizes("counts")
    assert contract.read_rows(output, tables.TAG_LABELS).equals(expected)


@pytest.mark.parametrize(
    ("listed", "table", "sentence"),
    [
        ([None, None], None, "no image of .*list.csv has a tag"),
        (["cat", "cat"], None, "teach 'cat' alone, .*: take images with more"),
        (["cat", "dog"], {"mouse": ["a"]}, "teach no class, .*: give options.table lines"),
        (["cat", "dog"], {"cat": ["a"]}, "teach 'a' alone, .*: give options.table lines"),
    ],
)
def test_tags_that_teach_nothing_are_an_error(
    root: Store,
    tmp_path: Path,
    listed: list[str | None],
    table: dict[str, list[str]] | None,
    sentence: str,
) -> None:
    images = images_of(root, tmp_path, listed)
    options = TagOptions(table=tag_table(tmp_path, table) if table else "")
    with pytest.raises(ProtegeError, match=sentence):
        tags(root, images, options)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "there is no such file"),
        ("tag,label\na,b\n", "there is no 'class', but 'tag', 'label'"),
        ("tag,class\na,\n", "line 2: a tag and a class are needed"),
        ("tag,class\n#,b\n", "line 2: a tag and a class are needed"),
        ("tag,class\n", "maps no tag to a class"),
        ("word\na\n", "give a .csv or .jsonl file with the columns tag and class"),
        (b"tag,class\n\xff\xff\n", "not a list in UTF-8"),
    ],
)
def test_table_that_cannot_be_read_says_why(
    root: Store, tmp_path: Path, content: str | bytes | None, sentence: str
) -> None:
    images, table = images_of(root, tmp_path, MIXED), tmp_path / "table.csv"
    if content is not None:
        table.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ProtegeError, match=sentence):
        tags(root, images, TagOptions(table=str(table)))


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"tag": "a", "class": ["b"]}', "line 2: .* is no class .*type list"),
        ('{"tag": "a", "class": 1.5}', "line 2: '1.5' is no class"),
        ('{"tag": "a"}', "line 2: a tag and a class are needed"),
        ('{"tag": "a\\ud83d", "class": "b"}', "line 2: .* is no tag .*half of a character"),
    ],
)
def test_values_of_a_table_are_read_as_labels_are(tmp_path: Path, line: str, sentence: str) -> None:
    table = tmp_path / "table.jsonl"
    table.write_text('{"tag": 1, "class": 0.0}\n{"tag": "one", "class": 1}\n')
    assert read_mapping(str(table)).table == {"1": ("0",), "one": ("1",)}
    table.write_text(f'{{"tag": "zero", "class": 0}}\n{line}\n')
    with pytest.raises(ProtegeError, match=sentence):
        read_mapping(str(table))


def test_order_of_the_lines_of_a_table_means_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = ["cat,Pet", "dog,pet", "cat,animal"]
    mappings = []
    for ordered in (lines, lines[::-1]):
        (tmp_path / "table.csv").write_text("\n".join(["tag,class", *ordered]))
        mappings.append(read_mapping(str(tmp_path / "table.csv")))
    assert mappings[0].digest == mappings[1].digest
    assert "classes that look alike are different classes: 'Pet', 'pet'" in caplog.text


def test_tag_that_is_no_text_is_passed_over() -> None:
    assert tags_of(["cat", True, None, 7, 1.5, "cut\ud83d", "dog"]) == ("cat", "7", "dog")
    assert tags_of([True]) is None


def test_changed_tags_of_a_list_are_an_error(root: Store, tmp_path: Path) -> None:
    images_of(root, tmp_path, ["cat", None, "dog"])
    with pytest.raises(ProtegeError, match="1 files have changed"):
        images_of(root, tmp_path, ["cat", None, "horse"])


def test_class_of_sample_one_is_drawn_for_each_repeat(root: Store, tmp_path: Path) -> None:
    images = images_of(root, tmp_path, ["many"] * 900 + ["few,many"] * 9, size=500)
    labels = tags(root, images, TagOptions(max_repeats=100))
    lessons = gather(root, images, labels, GatherOptions(multi_label="sample_one"))
    both = {row["image_id"] for row in labels.table("tag_labels").to_pylist() if row["repeats"] > 1}
    drawn: dict[int, set[int]] = {}
    for row in lessons.table("lessons").to_pylist():
        if row["image_id"] in both:
            drawn.setdefault(row["image_id"], set()).update(row["labels"])
    assert len(drawn) == 9
    assert all(found == {0, 1} for found in drawn.values())


def test_table_outside_the_allowed_places_is_refused(
    root: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = images_of(root, tmp_path / "pile", MIXED)
    monkeypatch.setenv("PROTEGE_SOURCES", str(tmp_path / "pile"))
    with pytest.raises(ProtegeError, match="may not be read"):
        tags(root, images, TagOptions(table=tag_table(tmp_path, TABLE)))


def test_tags_are_compared_without_capitals_hashes_and_ways_to_write_accents() -> None:
    assert canonical_tags(["#Café", "CAFE\u0301", " café ", "##", ""]) == {"café"}
    assert canonical_tags(None) == set()


def test_tags_of_a_grown_pile_are_not_gathered_from_the_smaller_one(
    root: Store, tmp_path: Path
) -> None:
    smaller = images_of(root, tmp_path, ["cat", "dog"])
    labels = tags(root, images_of(root, tmp_path, ["cat", "dog", "cat", "dog"]))
    with pytest.raises(ProtegeError, match=r"has images of shard 1, which .* has not"):
        gather(root, smaller, labels)


def test_choice_by_tags_of_other_images_is_refused(root: Store, tmp_path: Path) -> None:
    images = images_of(root, tmp_path / "a", MIXED)
    labels = tags(root, images)
    other = images_of(root, tmp_path / "b", ["cat"] * 7)
    with pytest.raises(ProtegeError, match="has other images than those"):
        gather(root, other, labels)

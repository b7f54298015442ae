"""topk compared with a sorted list of all candidates, for any order and grouping of the parts."""

import functools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, get_args

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.errors import ProtegeError
from infra.executors import Cluster, Executor, Handle, Inline, Threads
from infra.settings import DaskSettings
from infra.store import Store, open_store
from infra.store import s3 as storage
from tasks import contract, tables
from tasks.contract import Output
from tasks.topk import CLASSES, Limits, TopkOptions, read_chosen, read_classes, topk
from tasks.topk.candidates import DROP_REASONS
from tasks.topk.class_ranges import count_per_class
from tasks.topk.dedup import shortlist
from tasks.topk.job import ReductionJob
from tasks.topk.modes import MODES, Mode
from tasks.topk.reader import Reader
from tasks.topk.reduction import fill_quotas
from tests.builders.processes import kill_at
from tests.builders.score_tables import (
    Chosen,
    Row,
    brute_force,
    random_rows,
    scores_of,
    signatures_of,
)
from tests.builders.waiting import wait_for

VALUES = [-np.inf, -3.0, -1e-40, -0.0, 0.0, 0.5, 0.5, 1e-40, 7.25, 1e30, np.inf]


def chosen_rows(table: pa.Table) -> list[Chosen]:
    columns = [table[name].to_pylist() for name in ("label", "rank", "image_id", "repeats")]
    return list(zip(*columns))


def found_by(output: Output) -> list[Chosen]:
    return chosen_rows(read_chosen(output))


def files_of(output: Output) -> dict[str, bytes]:
    """Every table of an output; manifests say when they were made."""
    names = [name for name in output.store.sizes() if name.endswith(".parquet")]
    return {name: output.store.read(name) for name in names}


def dropped_by(output: Output) -> list[dict[str, int]]:
    """How many candidates of each class were dropped, by reason."""
    rows = read_classes(output).to_pylist()
    return [{name: row[f"dropped_{name}"] for name in DROP_REASONS} for row in rows]


@st.composite
def score_rows(draw: st.DrawFn) -> tuple[list[Row], int, int]:
    """Rows with many ties, infinities and a few NaN; every class has a candidate in every mode."""
    classes = draw(st.integers(2, 5))
    top_p = draw(st.integers(1, classes))
    values = st.sampled_from(VALUES)
    rows = []
    for image_id in range(draw(st.integers(classes, 24))):
        first = image_id % classes
        others = draw(st.permutations([label for label in range(classes) if label != first]))
        log_odds = sorted(draw(st.lists(values, min_size=top_p, max_size=top_p)), reverse=True)
        if image_id < classes:  # so that no class is without a candidate
            log_odds[0] = np.inf
        elif draw(st.integers(0, 9)) == 0:
            log_odds[draw(st.integers(0, top_p - 1))] = np.nan
        tags = {first: draw(values), others[0]: draw(values)}
        # The images that give each class a candidate have no near-duplicates.
        picture = -1 if image_id < classes else draw(st.integers(-1, 15))
        rows.append(Row(image_id, [first, *others][:top_p], log_odds, tags, picture))
    return rows, classes, top_p


@given(score_rows(), st.sampled_from([*MODES]), st.integers(1, 9), st.integers(1, 6), st.randoms())
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_choice_is_that_of_brute_force_for_any_grouping_and_order(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: tuple[list[Row], int, int],
    mode: str,
    k: int,
    groups: int,
    random: Random,
) -> None:
    rows, classes, top_p = drawn
    root = open_store(str(tmp_path_factory.mktemp("topk")))
    shuffled = list(rows)
    random.shuffle(shuffled)
    parts = [shuffled[at::groups] for at in range(groups)]
    scores = scores_of(root, parts, classes, top_p)
    options = TopkOptions(
        k=k,
        top_p=top_p,
        mode=mode,
        threshold=random.choice([0.3, 0.5]),
        drop_near_duplicates=random.choice([True, True, False]),
    )
    pictures = {"labelled": [0, 13], "test": [12, 2]}
    exclude = {role: signatures_of(root, numbers) for role, numbers in pictures.items()}
    # Small limits, so that few rows are enough for a buffer to be pruned, for floors to come from a
    # sample, for several rounds, and for another scan where there are many near-duplicates.
    limits = Limits(
        prune_pairs=random.choice([1, 7, 4_000_000]),
        floor_sample_images=1,
        min_sample_stride_parts=random.choice([1, 1_000]),
        pairs_per_round=random.choice([1, 2 * k, 32_000_000]),
        reserve_share=0,
        reserve_images=random.choice([0, 16]),
        hash_pairs_per_block=random.choice([1, 5, 4_000_000]),
        thumbnail_pairs_per_block=random.choice([1, 100_000]),
        rows_per_range=random.choice([1, 1_000]),
    )
    executor = random.choice([Inline(), Threads(2)])
    output = topk(root, scores, options, executor=executor, exclude=exclude, limits=limits)
    chosen, dropped = brute_force(rows, classes, options, pictures)
    assert found_by(output) == chosen
    assert dropped_by(output) == dropped
    kept = Counter(label for label, *_ in chosen)
    assert read_classes(output)["kept"].to_pylist() == [kept[label] for label in range(classes)]


@pytest.mark.parametrize("mode", MODES)
def test_bytes_are_the_same_for_any_parts_and_any_workers(
    root: Store, cluster: Cluster, mode: str
) -> None:
    rows = random_rows(600, classes=7, top_p=4, seed=1)
    for label in range(7):  # so that no class is without a candidate, whatever the mode
        others = [(label + at) % 7 for at in (1, 2, 3)]
        rows.append(Row(600 + label, [label, *others], [9, 0, 0, 0], {label: 1.0}))
    options = TopkOptions(k=30, top_p=3, mode=mode)
    exclude = {"test": signatures_of(root, range(20, 60))}
    files = []
    ways: list[tuple[int, Executor]] = [
        (1, Inline()),
        (5, Threads(2)),
        (13, cluster),
        (40, cluster),
    ]
    for number, (parts, executor) in enumerate(ways):
        order = np.random.default_rng(number).permutation(len(rows))
        grouped = [[rows[at] for at in piece] for piece in np.array_split(order, parts)]
        place = open_store(f"{root.uri}/{number}")
        scores = scores_of(place, grouped, 7, 4)
        files.append(files_of(topk(place, scores, options, executor=executor, exclude=exclude)))
        dropped = dropped_by(topk(place, scores, options, executor=executor, exclude=exclude))
        for reason in ("near_duplicates", "test"):
            assert sum(counts[reason] for counts in dropped)
    assert len(files[0]) == 2
    assert files.count(files[0]) == len(files)


def test_floors_that_were_too_high_are_noticed_and_cost_nothing_but_time(root: Store) -> None:
    rows = random_rows(300, classes=4, top_p=3, seed=5)
    scores = scores_of(root, [rows[at::3] for at in range(3)], 4, 3)
    parts = tuple((name, 100) for name in contract.part_names(scores))
    too_high = {"per_class": [99, -np.inf, 1.0, 3.5], "overall": [99] * 4}
    for mode, floors in too_high.items():
        options = TopkOptions(k=40, top_p=3, mode=mode)
        store = open_store(f"{root.uri}/{mode}")
        reader = Reader(scores, 3, 4, len(parts), options, tables.scores(3))
        reduction = ReductionJob(store.uri, reader, ("a", "b", "c", "d"), parts, exclude={})
        (job,) = reduction.round_jobs()
        floors_C = np.array(floors, np.float32)
        result = fill_quotas(reduction, job, floors_C, 0, Inline(), contract.silent)
        names = [part.name for part in result.parts]
        chosen = pa.concat_tables(contract.read_part(store, name, tables.CHOSEN) for name in names)
        assert chosen_rows(chosen) == brute_force(rows, 4, options, {})[0], mode


@pytest.mark.parametrize("mode", get_args(Mode))
def test_every_mode_has_rules_words_and_a_row_in_the_documentation(mode: Mode) -> None:
    options = TopkOptions(mode=mode)
    rules = MODES[mode]
    for sentence in (rules.chosen, rules.candidacy, rules.remedy):
        assert "{" not in sentence.format(count="9", options=options)
    assert f"| `{mode}` |" in (Path(__file__).parent.parent / "docs/topk.md").read_text()


def test_choice_is_that_of_a_database(root: Store) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for image_id in rng.permutation(3_000).tolist():
        log_odds = np.sort(rng.normal(size=3).round(1))[::-1].tolist()
        rows.append(Row(image_id, rng.permutation(20)[:3].tolist(), log_odds))
    scores = scores_of(root, [rows[at::4] for at in range(4)], 20, 3)
    output = topk(root, scores, TopkOptions(k=100, top_p=3))
    pairs = " UNION ALL ".join(
        f"SELECT label_{rank} AS label, log_odds_{rank} AS log_odds, image_id "
        f"FROM '{scores.uri}/part-*.parquet'"
        for rank in range(3)
    )
    ranked = "row_number() OVER (PARTITION BY label ORDER BY log_odds DESC, image_id) - 1 AS rank"
    query = f"SELECT label, {ranked}, image_id, 1 FROM ({pairs}) QUALIFY rank < 100 ORDER BY 1, 2"
    expected = duckdb.sql(query)
    assert expected is not None
    assert found_by(output) == expected.fetchall()


def test_class_has_its_candidates_edge_and_ties(root: Store) -> None:
    rows = [Row(at, [0, 1], [value, -1.0]) for at, value in enumerate([3, 2, 2, 2, 1])]
    output = topk(root, scores_of(root, [rows], 2, 2), TopkOptions(k=3, top_p=2))
    first, second = read_classes(output).to_pylist()
    assert (first["candidates"], first["kept"], first["kth_log_odds"]) == (5, 3, 2.0)
    assert first["kth_probability"] == pytest.approx(1 / (1 + np.exp(-2.0)))
    assert first["ties_at_edge"] == 2  # of the three that are equal, two had a place
    assert (second["candidates"], second["kept"], second["ties_at_edge"]) == (5, 3, 3)
    assert sum(first["histogram"]) == 5


def test_class_is_certified_only_when_nothing_cut_off_could_rank(root: Store) -> None:
    sure = [Row(at, [0, 1], [3.0, -3.0]) for at in range(4)]
    unsure = [Row(10 + at, [1, 2], [-0.9, -1.0]) for at in range(4)]
    third = [Row(20, [2, 0], [1.0, -5.0])]
    scores = scores_of(root, [sure + unsure + third], classes=3, top_p=2)
    table = read_classes(topk(root, scores, TopkOptions(k=3, top_p=2)))
    # K reached at p > 1/3; K reached at p = 0.29 < 1/3; K reached but at log-odds of -1.
    assert table["certified"].to_pylist() == [True, False, False]
    rows = [Row(1, [0, 1], [1.0, -1.0]), Row(2, [1, 0], [1.0, -1.0])]
    complete = scores_of(root, [rows], 2, 2)
    table = read_classes(topk(root, complete, TopkOptions(k=9, top_p=2)))
    assert table["certified"].to_pylist() == [True, True]  # P is every class: nothing was cut off


def test_image_whose_score_is_not_a_number_is_rejected(root: Store) -> None:
    rows = [Row(1, [0, 1], [1.0, -1.0]), Row(2, [1, 0], [1.0, np.nan])]
    rows += [Row(3, [1, 0], [0.5, -1.0])]
    output = topk(root, scores_of(root, [rows], 2, 2), TopkOptions(k=9, top_p=2))
    assert output.rejected == 1
    rejects = pq.read_table(Path(output.uri) / "rejects-00000.parquet").to_pylist()
    assert [(row["image_id"], row["reason"]) for row in rejects] == [(2, "not_finite")]
    assert {row[2] for row in found_by(output)} == {1, 3}


def test_many_classes_and_shards_of_one_row_or_none(root: Store) -> None:
    rows = [Row(label, [label], [float(label % 7)]) for label in range(60_000)]
    single = [[row] for row in rows[:20]]
    scores = scores_of(root, [*single, [], rows[20:], []], classes=60_000, top_p=1)
    output = topk(root, scores, TopkOptions(k=2, top_p=1))
    assert [row[:3] for row in found_by(output)] == [(label, 0, label) for label in range(60_000)]


@pytest.mark.parametrize(
    ("mode", "remedy"),
    [
        ("per_class", "raise topk.top_p"),
        ("threshold_balance", "lower topk.threshold"),
        ("tagged", "the images need tags"),
    ],
)
def test_class_without_a_candidate_gets_nothing_and_is_named(
    root: Store, mode: str, remedy: str, caplog: pytest.LogCaptureFixture
) -> None:
    scores = scores_of(root, [[Row(1, [0], [1.0], {0: 1.0})]], classes=2, top_p=1)
    chosen = topk(root, scores, TopkOptions(k=1, top_p=1, mode=mode))
    assert f"class-1 (1 of 2 classes): {remedy}" in caplog.text
    assert read_classes(chosen)["kept"].to_pylist() == [1, 0]
    assert read_chosen(chosen)["label"].to_pylist() == [0]


def test_class_without_a_candidate_is_named_in_any_round(
    root: Store, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [Row(label, [label], [1.0]) for label in range(4)]
    scores, limits = scores_of(root, [rows], 5, 1), Limits(pairs_per_round=2)
    chosen = topk(root, scores, TopkOptions(k=1, top_p=1), limits=limits)
    assert "candidate for class-4 (1 of 5 classes)" in caplog.text
    assert read_classes(chosen)["kept"].to_pylist() == [1, 1, 1, 1, 0]


def test_near_duplicate_of_a_dropped_image_alone_is_kept(root: Store) -> None:
    """The second resembles the first, and the third resembles the second alone."""
    rows = [Row(at, [0], [3.0 - at], picture=4 + at) for at in range(3)]
    output = topk(root, scores_of(root, [rows], 1, 1), TopkOptions(k=3, top_p=1))
    assert [row[2] for row in found_by(output)] == [0, 2]
    assert dropped_by(output) == [{"near_duplicates": 1, "labelled": 0, "test": 0}]


class ShortlistRecorder(Inline):
    """Runs everything in this process, and notes how many candidates each shortlist has."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.candidates_per_class: list[list[int]] = []

    def apply(self, function: Callable[..., Any], *handles: Handle[Any]) -> Handle[Any]:
        handle = super().apply(function, *handles)
        if isinstance(function, functools.partial) and function.func is shortlist:
            counts_C = count_per_class(self.result(handle).pieces, self.num_classes)
            self.candidates_per_class.append(counts_C.tolist())
        return handle


def test_flood_of_near_duplicates_in_one_class_costs_the_others_nothing(root: Store) -> None:
    """The other classes keep their candidates, and their quotas do not grow."""
    rows = [Row(at, [0], [50.0 - at / 1_000], picture=8) for at in range(3_000)]
    rows += [Row(3_000 + at, [at % 3], [float(at % 11)]) for at in range(3_000)]
    scores = scores_of(root, [rows[at::5] for at in range(5)], 3, 1)
    options, recorder = TopkOptions(k=20, top_p=1), ShortlistRecorder(3)
    output = topk(root, scores, options, executor=recorder)
    chosen, dropped = brute_force(rows, 3, options, {})
    assert (found_by(output), dropped_by(output)) == (chosen, dropped)
    assert dropped[0]["near_duplicates"] == 2_999
    scans = recorder.candidates_per_class
    assert 3 <= len(scans) <= 5
    assert max(count for scan in scans[1:] for count in scan[1:]) <= 200  # the 20th has many ties


def test_parts_that_are_all_empty_have_no_candidate(root: Store) -> None:
    scores = scores_of(root, [[] for _ in range(9)], 2, 1)
    with pytest.raises(ProtegeError, match="no image of the pile is a candidate"):
        topk(root, scores, TopkOptions(k=2_000, top_p=1))


def test_overall_may_leave_a_class_with_nothing(root: Store) -> None:
    rows = [Row(at, [0, 1], [5.0, -5.0]) for at in range(4)]
    scores = scores_of(root, [rows], classes=2, top_p=2)
    output = topk(root, scores, TopkOptions(k=2, top_p=2, mode="overall"))
    assert read_classes(output)["kept"].to_pylist() == [4, 0]
    assert read_classes(output)["kth_log_odds"].to_pylist() == [5.0, None]


def test_more_classes_than_were_scored_cannot_be_asked_for(root: Store) -> None:
    scores = scores_of(root, [random_rows(9, 3, 1, 0)], classes=3, top_p=1)
    with pytest.raises(ProtegeError, match=r"raise score\.top_p"):
        topk(root, scores, TopkOptions(k=1, top_p=2))


def test_torn_part_is_named(root: Store) -> None:
    scores = scores_of(root, [random_rows(50, 3, 2, 0)], classes=3, top_p=2)
    data = scores.store.read("part-00000.parquet")
    scores.store.replace("part-00000.parquet", data[: len(data) // 2])
    with pytest.raises(ProtegeError, match=r"part-00000\.parquet cannot be read"):
        topk(root, scores, TopkOptions(k=1, top_p=2))


def test_part_with_another_schema_or_a_class_that_is_not_there_is_named(root: Store) -> None:
    rows = random_rows(50, 3, 2, 0)
    narrow, wide = (scores_of(root, [rows], 3, 2), scores_of(root, [random_rows(9, 3, 3, 0)], 3, 3))
    narrow.store.replace("part-00000.parquet", wide.store.read("part-00000.parquet"))
    with pytest.raises(ProtegeError, match=r"part-00000\.parquet.*another schema"):
        topk(root, narrow, TopkOptions(k=1, top_p=2))
    foreign = scores_of(root, [[Row(1, [0, 7], [1.0, 0.0])]], 3, 2)
    with pytest.raises(ProtegeError, match=r"part-00000\.parquet has a class 7 of 3"):
        topk(root, foreign, TopkOptions(k=1, top_p=2))


@pytest.mark.parametrize("parts", [((1, 2, 2), (5,)), ((1, 2), (9,), (2, 4))])
def test_image_that_is_there_twice_is_an_error_that_says_where(
    root: Store, parts: Sequence[Sequence[int]]
) -> None:
    rows = [[Row(image_id, [0], [1.0]) for image_id in part] for part in parts]
    message = "image 2 twice"
    if len(parts) == 3:
        message = "image 2 is both in part-00000.parquet and in part-00002.parquet"
    with pytest.raises(ProtegeError, match=message):
        topk(root, scores_of(root, rows, 1, 1), TopkOptions(k=1, top_p=1))


def test_parts_whose_ids_overlap_are_no_error(root: Store) -> None:
    rows = [[Row(image_id, [0], [1.0]) for image_id in part] for part in ((1, 3, 5), (4, 2))]
    output = topk(root, scores_of(root, rows, 1, 1), TopkOptions(k=9, top_p=1))
    assert [row[2] for row in found_by(output)] == [1, 2, 3, 4, 5]


def test_other_k_reads_the_same_scores_and_makes_nothing_twice(root: Store) -> None:
    scores = scores_of(root, [random_rows(90, 3, 2, 0)], 3, 2)
    before = scores.store.sizes()
    first = topk(root, scores, TopkOptions(k=5, top_p=2))
    topk(root, scores, TopkOptions(k=7, top_p=1))
    # What a mode does not use does not make another output.
    again = topk(root, scores, TopkOptions(k=5, top_p=2, seed=4, threshold=0.9))
    assert (again.uri, again.reused) == (first.uri, True)
    assert scores.store.sizes() == before


def test_workers_that_are_killed_change_nothing(root: Store) -> None:
    rows = random_rows(4_000, classes=9, top_p=4, seed=2)
    scores = scores_of(root, [rows[at::50] for at in range(50)], 9, 4)
    options = TopkOptions(k=60, top_p=4)
    expected = files_of(topk(open_store(f"{root.uri}/calm"), scores, options))
    # At the start, in the scan, at its end, and when duplicates are dropped.
    for step in (1, 7, 13, 15):
        with Cluster(DaskSettings(workers=2)) as cluster:
            wait_for(functools.partial(_has_both, cluster), "both workers are there")
            victim = _pids(cluster)[0]
            place, kill = open_store(f"{root.uri}/{step}"), kill_at(step, victim)
            found = topk(place, scores, options, executor=cluster, on_progress=kill)
            assert files_of(found) == expected
            wait_for(functools.partial(_is_gone, cluster, victim), "the killed worker is gone")


def _has_both(cluster: Cluster) -> bool:
    return len(_pids(cluster)) == 2


def _is_gone(cluster: Cluster, pid: int) -> bool:
    return pid not in _pids(cluster)


def _pids(cluster: Cluster) -> list[int]:
    """The processes of its workers that answer."""
    return list(cluster.client.run(os.getpid, on_error="ignore").values())


def test_part_on_s3_is_read_in_three_requests(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size, its footer, and all needed columns; a round trip each."""
    root = open_store(f"{s3}/few-requests")
    scores = scores_of(root, [random_rows(20_000, 9, 9, seed=3)], 9, 9)
    client, requests = storage._s3(), []
    call = client._call_s3

    async def counted(method: str, *given: object, **named: object) -> object:
        requests.append(method)
        return await call(method, *given, **named)

    reader = Reader(scores, 9, 9, 1, TopkOptions(), tables.scores(9))
    with monkeypatch.context() as patch:
        patch.setattr(client, "_call_s3", counted)
        part = reader.part((0, "part-00000.parquet"))
    assert len(part.image_ids_N) == 20_000
    assert requests == ["head_object", "get_object", "get_object"]


def test_choice_on_s3_is_the_one_on_disk(s3: str, root: Store) -> None:
    rows = random_rows(900, classes=5, top_p=3, seed=6)
    parts = [rows[at::7] for at in range(7)]
    files = []
    for place in (root, open_store(f"{s3}/choice")):
        exclude = {
            "labelled": signatures_of(place, [3, 30, 7]),
            "test": signatures_of(place, [60, 7]),
        }
        scores = scores_of(place, parts, 5, 3)
        options = TopkOptions(k=120, top_p=3)
        files.append(files_of(topk(place, scores, options, executor=Threads(2), exclude=exclude)))
    assert files[0] == files[1]


def test_schema_of_chosen_is_the_declared_one(root: Store) -> None:
    scores = scores_of(root, [random_rows(30, 3, 2, 0)], 3, 2)
    output = topk(root, scores, TopkOptions(k=2, top_p=2))
    assert read_chosen(output).schema.equals(tables.CHOSEN)
    assert contract.read_part(output.store, CLASSES, tables.CLASSES).num_rows == 3

"""agreement: what a committee says of a choice, and what becomes of classes it does not trust."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flows.campaign.committee import classes_below, train_committee
from flows.campaign.find import campaign_key, find_campaign, sources_of
from flows.campaign.run import Run
from flows.recipes import BILLION_SCALE
from infra.errors import ProtegeError
from infra.executors import Inline
from infra.store import Store, open_store
from tasks import tables
from tasks.agreement import CommitteeOptions, agreement, read_precision
from tasks.contract import Output, output_at
from tasks.evaluate import find_suspect_classes
from tasks.gather import GatherOptions, Share
from tasks.sampling import sample_classes
from tasks.topk import read_chosen, read_classes
from tests.builders.campaign import tiny, tiny_network
from tests.builders.models import colour_model, model

COMMITTEE = CommitteeOptions(members=2, sample=5)


@pytest.fixture
def run(root: Store) -> Run:
    return Run(root, Inline())


@pytest.fixture
def pile(run: Run, pictures: Path) -> Output:
    return run.shard(f"{pictures}/pile", images_per_shard=16)


@pytest.fixture
def choice(run: Run, root: Store, pile: Output) -> Output:
    scores = run.score(pile, colour_model(root), top_p=3, batch_size=8)
    return run.topk(scores, k=8, top_p=1, drop_near_duplicates=False)


def rows_of(output: Output) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in read_precision(output).to_pylist()}


def test_estimate_is_the_share_that_every_member_gives_the_class(
    root: Store, pile: Output, choice: Output
) -> None:
    sees_red = colour_model(root, weight=0)
    alone = rows_of(agreement(root, pile, choice, {"a": colour_model(root)}, COMMITTEE))
    assert {name: row["estimate"] for name, row in alone.items()} == dict.fromkeys(alone, 1.0)
    members = {"a": colour_model(root), "b": sees_red}
    rows = rows_of(agreement(root, pile, choice, members, COMMITTEE))
    estimates = {name: row["estimate"] for name, row in rows.items()}
    assert estimates == {"blue": 0.0, "green": 0.0, "red": 1.0}
    for row in rows.values():
        assert row["sampled"] == 5
        assert row["unanimous"] == round(row["estimate"] * 5)
        assert 0 <= row["low"] <= row["estimate"] <= row["high"] <= 1


def test_votes_are_of_images_from_the_best_rank_to_the_last(
    root: Store, pile: Output, choice: Output
) -> None:
    members = {"a": colour_model(root), "b": colour_model(root, weight=0)}
    votes = agreement(root, pile, choice, members, COMMITTEE).table("votes").to_pylist()
    assert [row["rank"] for row in votes] == [0, 1, 3, 5, 7] * 3
    assert [row["votes"] for row in votes] == [1] * 10 + [2] * 5
    chosen = {
        (row["label"], row["rank"]): row["image_id"] for row in read_chosen(choice).to_pylist()
    }
    assert all(chosen[row["label"], row["rank"]] == row["image_id"] for row in votes)


def test_class_without_a_chosen_image_has_no_estimate(run: Run, root: Store, pile: Output) -> None:
    scores = run.score(pile, colour_model(root, weight=0), top_p=1, batch_size=8)
    only_red = run.topk(scores, k=8, top_p=1, drop_near_duplicates=False)
    output = agreement(root, pile, only_red, {"a": colour_model(root)}, COMMITTEE)
    rows = rows_of(output)
    assert rows["blue"]["estimate"] is None
    assert rows["blue"]["sampled"] == 0
    assert rows["red"]["estimate"] is not None
    assert classes_below(output, 1.0) == (["red"] if rows["red"]["estimate"] < 1 else [])


def test_committee_of_nobody_or_of_other_classes_is_refused(
    root: Store, pile: Output, choice: Output
) -> None:
    with pytest.raises(ProtegeError, match="a committee needs a member"):
        agreement(root, pile, choice, {})
    other = model(root, classes=("a", "b", "c"))
    with pytest.raises(ProtegeError, match="stranger of the committee has other classes"):
        agreement(root, pile, choice, {"stranger": other})


def test_members_learn_from_different_shares_with_different_seeds(run: Run, pictures: Path) -> None:
    labelled = run.shard(f"{pictures}/labelled", labelled=True)
    classes = run.classes(labelled, labelled)
    options = CommitteeOptions(members=3, percent=50)
    members = train_committee(run, options, tiny_network(2), labelled, classes, GatherOptions())
    assert list(members) == ["member_1", "member_2", "member_3"]
    taken = []
    for member in members.values():
        (lessons,) = (node for node in member.lineage() if node.stage == "gather")
        assert lessons.manifest is not None
        subset = output_at(f"{run.store.uri}/gather/{lessons.fingerprint}").table("subset")
        assert Counter(subset["label"].to_pylist()) == dict.fromkeys(classes, 2)
        taken.append(frozenset(subset["key"].to_pylist()))
    assert len(set(taken)) > 1
    assert len({member.options["seed"] for member in members.values()}) == 3
    assert not train_committee(
        run, CommitteeOptions(members=0), tiny_network(2), labelled, classes, GatherOptions()
    )


def test_members_learn_from_the_share_of_the_campaign_alone(run: Run, pictures: Path) -> None:
    labelled = run.shard(f"{pictures}/labelled", labelled=True)
    half = GatherOptions(percent_of_class=50, seed=3)
    own = set(run.gather(labelled, options=half).table("subset")["key"].to_pylist())
    for seed in range(5):
        share = run.gather(labelled, options=half, share=Share(90, seed)).table("subset")
        # Of two images of a class, one is spared, lest all members learn the same.
        assert Counter(share["label"].to_pylist()) == {"blue": 1, "green": 1, "red": 1}
        assert set(share["key"].to_pylist()) < own


def test_committee_that_doubts_most_classes_is_not_believed(
    root: Store, pile: Output, choice: Output
) -> None:
    members = {"a": colour_model(root, weight=0), "b": colour_model(root)}
    precision = read_precision(agreement(root, pile, choice, members, COMMITTEE))
    assert [row["estimate"] for row in precision.to_pylist()] == [0.0, 0.0, 1.0]
    assert not find_suspect_classes(
        read_classes(choice), tables.METRICS.empty_table(), 8, precision=precision
    )


def test_sampled_rows_are_those_of_each_class() -> None:
    labels_N = np.array([0] * 10 + [2] * 3)
    assert sample_classes(labels_N, 4).tolist() == [0, 3, 6, 9, 10, 11, 12]
    assert sample_classes(np.array([], np.int32), 4).tolist() == []


def test_class_of_which_less_than_half_is_right_is_suspect(choice: Output) -> None:
    rows = [
        {"label": label, "name": name, "sampled": 5, "unanimous": unanimous}
        | {"estimate": unanimous / 5, "low": 0.0, "high": 1.0}
        for label, (name, unanimous) in enumerate([("blue", 1), ("green", 3), ("red", 5)])
    ]
    precision = pa.Table.from_pylist(rows, tables.PRECISION)
    suspects = find_suspect_classes(
        read_classes(choice), tables.METRICS.empty_table(), 8, precision=precision
    )
    assert [suspect.name for suspect in suspects] == ["blue"]
    assert "agree with 1 of 5 of its images, so that 20% may be right" in suspects[0].reason


# ------------------------------------------------------------------------------- in a recipe


def test_classes_that_are_dropped_are_not_learned(run: Run, pile: Output, choice: Output) -> None:
    lessons = run.gather(pile, choice, dropped_classes=["blue"])
    assert lessons.classes == choice.classes
    learned = {label for row in lessons.table("lessons").to_pylist() for label in row["labels"]}
    assert learned == {1, 2}
    assert run.gather(pile, choice).kept == choice.kept
    assert lessons.body["extra"]["dropped_classes"] == ["blue"]
    with pytest.raises(Exception, match=r"no image of .* is left to learn from"):
        run.gather(pile, choice, dropped_classes=choice.classes)


def test_campaign_with_a_committee_says_how_right_each_class_is(
    tmp_path: Path, pictures: Path
) -> None:
    root = open_store(str(tmp_path))
    trusting = tiny(pictures, committee={"members": 2, "sample": 4})
    campaign = find_campaign(root, BILLION_SCALE.name, trusting, sources_of(trusting))
    run = Run(root, Inline(), campaign=campaign)
    _, result = BILLION_SCALE.run(run, trusting)
    outputs = run.campaign.outputs
    assert {"member_1", "member_2", "member_lessons_1", "agreement"} <= set(outputs)
    page = Path(result["report"]).read_text()
    assert "Estimated precision" in page
    assert "image_bytes" not in page
    estimates = rows_of(outputs["agreement"])
    assert set(estimates) == {"blue", "green", "red"}
    estimate = BILLION_SCALE.plan(trusting, 12, 3, 60)
    assert [work.role for work in estimate.works if work.role.startswith("member")] == [
        "member_1",
        "member_2",
    ]
    # Another bound is another campaign, and trains no member again.
    strict = tiny(pictures, committee={"members": 2, "sample": 4, "min_precision": 0.5})
    assert campaign_key(strict) != campaign_key(trusting)

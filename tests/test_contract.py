"""The stage contract: counts, digests, parts that appear whole, manifests, and resume."""

from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pytest

from infra.errors import ProtegeError
from infra.executors import Cluster, Executor, Failures, Inline
from infra.store import LocalStore, Store, open_store
from tasks import contract, tables
from tasks.contract import Manifest, Output, PartId, Receipt, RowCounts, run_shards, silent

SCHEMA = tables.REJECTS


def some_rows(count: int, start: int = 0) -> pa.Table:
    rows = [
        {"image_id": start + at, "key": f"k{at}", "reason": "empty", "detail": ""}
        for at in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def test_part_remembers_its_counts_and_the_digest_of_its_content(root: Store) -> None:
    receipt = contract.write_part(root, "part-00000.parquet", some_rows(3), RowCounts(5, 3, 2))
    assert contract.read_receipt(root, "part-00000.parquet") == receipt
    assert receipt.digest == contract.table_digest(some_rows(3))
    assert contract.read_part(root, "part-00000.parquet", SCHEMA).equals(some_rows(3))


def test_digest_is_of_the_values_not_of_their_chunks() -> None:
    whole = some_rows(10)
    pieces = pa.concat_tables([whole.slice(0, 3), whole.slice(3)])
    assert contract.table_digest(whole) == contract.table_digest(pieces)
    assert contract.table_digest(whole) != contract.table_digest(some_rows(10, start=1))


def test_second_writer_of_a_part_takes_the_receipt_of_the_first(root: Store) -> None:
    first = contract.write_part(root, "part-00000.parquet", some_rows(3), RowCounts(3, 3, 0))
    second = contract.write_part(root, "part-00000.parquet", some_rows(4), RowCounts(4, 4, 0))
    assert second == first


def test_lost_rows_are_a_defect() -> None:
    with pytest.raises(AssertionError, match="lost rows"):
        RowCounts(rows_in=3, kept=1, rejected=1)


def test_part_of_another_schema_is_named(root: Store) -> None:
    contract.write_part(root, "part-00000.parquet", some_rows(1), RowCounts(1, 1, 0))
    with pytest.raises(ProtegeError, match=r"part-00000\.parquet .* another schema"):
        contract.read_part(root, "part-00000.parquet", tables.CHOSEN)


def test_fingerprint_depends_on_stage_version_content_and_inputs_by_role() -> None:
    def of(
        stage: str = "topk", version: int = 1, k: int = 1, *, scores: str = "a", test: str = "b"
    ) -> str:
        return contract.fingerprint_of(stage, version, {"k": k}, {"scores": scores, "test": test})

    others = [of("gather"), of(version=2), of(k=2), of(scores="c"), of(scores="b", test="a")]
    assert len({of(), *others}) == 6
    swapped = {"test": "b", "scores": "a"}
    assert contract.fingerprint_of("topk", 1, {"k": 1}, swapped) == of()


def test_output_is_there_only_when_its_manifest_is(root: Store) -> None:
    receipt = contract.write_part(root, "part-00000.parquet", some_rows(2), RowCounts(3, 2, 1))
    assert contract.find_output(root) is None
    output = contract.publish(root, Manifest("score", "f", {"a": 1}, {}, [receipt], 1.5))
    found = contract.find_output(root)
    assert found is not None
    assert found.reused
    assert (found.rows_in, found.kept, found.rejected) == (3, 2, 1)
    assert found.digest == output.digest


def test_reject_with_another_attempt_counts_once(root: Store) -> None:
    """The image is a reject of the first part, and a row of the second."""
    first = contract.write_part(root, "part-00000.parquet", some_rows(3), RowCounts(5, 3, 2))
    parts = [
        replace(first, reasons={"empty": {".png": 2}}),
        contract.write_part(root, "part-00001.parquet", some_rows(1), RowCounts(1, 1, 0)),
    ]
    output = contract.publish(
        root, Manifest("shard", "f", {}, {}, parts, 0, rechecked={"empty": 1})
    )
    assert (output.rows_in, output.kept, output.rejected) == (5, 4, 1)
    assert contract.reject_reasons(output) == {"empty": 1}
    with pytest.raises(ProtegeError, match=r"1 of 5 images .*\(1 empty\).* Mend them and wait, or"):
        contract.check_reject_share(output, 19, "here", "wait")


@dataclass(frozen=True)
class MakePart:
    """Writes a part, and a line into a log for each execution."""

    uri: str
    log: str
    broken: frozenset[int] = frozenset()

    def __call__(self, part: PartId) -> Receipt:
        number = part.number
        with Path(self.log).open("a") as log:
            log.write(f"{number}\n")
        if number in self.broken:
            raise OSError(f"disk of {number}")
        table = some_rows(2, start=10 * number)
        name = contract.part_name(number)
        counts = RowCounts(2, 2, 0)
        return contract.write_part(
            open_store(self.uri), name, table, counts, made_from=part.made_from
        )


@pytest.fixture(params=["inline", "dask"])
def executor(request: pytest.FixtureRequest) -> Executor:
    return Inline() if request.param == "inline" else request.getfixturevalue("cluster")


def test_same_work_twice_runs_once_and_gives_the_same_receipts(
    root: Store, executor: Executor, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    make = MakePart(root.uri, str(log))
    first = run_shards(root, map(PartId, range(7)), make, executor, silent)
    second = run_shards(root, map(PartId, range(7)), make, executor, silent)
    assert sorted(log.read_text().split()) == [str(number) for number in range(7)]
    assert [(one.name, one.digest) for one in first] == [(one.name, one.digest) for one in second]


def test_failures_come_when_everything_else_is_done_and_resume_does_only_the_rest(
    root: Store, executor: Executor, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    broken = MakePart(root.uri, str(log), frozenset({3}))
    with pytest.raises(Failures, match="disk of 3"):
        run_shards(root, map(PartId, range(6)), broken, executor, silent)
    assert len([name for name in root.sizes() if name.startswith("part-")]) == 5
    log.unlink()
    run_shards(root, map(PartId, range(6)), MakePart(root.uri, str(log)), executor, silent)
    assert log.read_text().split() == ["3"]


def test_part_that_was_torn_is_made_again(root: Store, executor: Executor, tmp_path: Path) -> None:
    make = MakePart(root.uri, str(tmp_path / "log"))
    whole = run_shards(root, map(PartId, range(3)), make, executor, silent)
    root.replace("part-00001.parquet", root.read("part-00001.parquet")[:40])
    again = run_shards(root, map(PartId, range(3)), make, executor, silent)
    assert [one.digest for one in again] == [one.digest for one in whole]


def test_part_that_was_made_from_another_input_is_made_again(
    root: Store, executor: Executor, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    make = MakePart(root.uri, str(log))
    first = [PartId(number, f"input {number}") for number in range(3)]
    receipts = run_shards(root, first, make, executor, silent)
    contract.publish(root, Manifest("score", "f", {}, {}, receipts, 0.0), "manifest-one.json")
    log.unlink()

    changed = [*first[:2], PartId(2, "another input")]
    again = run_shards(root, changed, make, executor, silent)
    assert log.read_text().split() == ["2"]
    assert [receipt.made_from for receipt in again] == [part.made_from for part in changed]
    # The manifest would now speak of another part than the one that is there.
    assert contract.find_output(root, "manifest-one.json") is None


def test_manifest_of_a_part_that_is_made_again_is_gone_before(root: Store, tmp_path: Path) -> None:
    make = MakePart(root.uri, str(tmp_path / "log"))
    receipts = run_shards(root, map(PartId, range(3)), make, Inline(), silent)
    contract.publish(root, Manifest("score", "f", {}, {}, receipts[:1], 0.0), "manifest-one.json")
    contract.publish(root, Manifest("score", "f", {}, {}, receipts, 0.0), "manifest-all.json")
    root.delete("part-00002.parquet")
    run_shards(root, map(PartId, range(3)), make, Inline(), silent)
    assert contract.find_output(root, "manifest-one.json") is not None
    assert contract.find_output(root, "manifest-all.json") is None


def test_slow_twin_that_read_older_input_does_not_win(root: Store) -> None:
    name, counts = "part-00000.parquet", RowCounts(1, 1, 0)
    contract.write_part(root, name, some_rows(1, start=5), counts, made_from="older")
    new = contract.write_part(root, name, some_rows(1), counts, made_from="newer")
    assert contract.read_receipt(root, name) == new


def test_reference_to_an_output_that_was_made_anew_is_refused(root: Store) -> None:
    def publish(start: int) -> Output:
        root.delete("part-00000.parquet")
        rows, counts = some_rows(1, start=start), RowCounts(1, 1, 0)
        receipt = contract.write_part(root, "part-00000.parquet", rows, counts)
        return contract.publish(root, Manifest("score", "f", {}, {}, [receipt], 0.0))

    before, now = publish(1), publish(2)
    assert now.body["digest"] == now.digest
    with pytest.raises(ProtegeError, match="another output now"):
        _ = before.body


def test_failed_shard_does_not_keep_the_rest_of_its_batch_from_being_made(
    root: Store, cluster: Cluster, tmp_path: Path
) -> None:
    broken = MakePart(root.uri, str(tmp_path / "log"), frozenset({0, 57}))
    with pytest.raises(Failures, match=r"2 of 120 failed:\s.*disk of"):
        run_shards(root, map(PartId, range(120)), broken, cluster, silent)
    assert len([name for name in root.sizes() if name.startswith("part-")]) == 118


def test_failures_without_end_stop_the_stage(root: Store, tmp_path: Path) -> None:
    broken = MakePart(root.uri, str(tmp_path / "log"), frozenset(range(5000)))
    with pytest.raises(Failures, match="too many, the rest was not tried"):
        run_shards(root, map(PartId, range(5000)), broken, Inline(), silent)
    assert len((tmp_path / "log").read_text().split()) < 200


def test_store_that_is_away_is_not_taken_for_a_torn_part(
    root: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = MakePart(root.uri, str(tmp_path / "log"))
    run_shards(root, map(PartId, range(3)), make, Inline(), silent)
    before = root.sizes()

    def away(self: LocalStore, path: str) -> None:
        raise OSError(5, "SlowDown")

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "open_parquet", away)
        with pytest.raises(Failures, match="SlowDown"):
            run_shards(root, map(PartId, range(3)), make, Inline(), silent)
        with pytest.raises(ProtegeError, match="Run again when it can be"):
            contract.read_part(root, "part-00000.parquet", SCHEMA)
    assert root.sizes() == before


def test_output_whose_part_was_deleted_is_not_there(root: Store) -> None:
    receipt = contract.write_part(root, "part-00000.parquet", some_rows(2), RowCounts(2, 2, 0))
    contract.publish(root, Manifest("score", "f", {}, {}, [receipt], 0.0))
    root.delete("part-00000.parquet")
    assert contract.find_output(root) is None


def test_progress_reaches_the_total(root: Store, cluster: Cluster, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    make = MakePart(root.uri, str(tmp_path / "log"))
    run_shards(
        root,
        map(PartId, range(9)),
        make,
        cluster,
        lambda done, total, note: seen.append((done, total)),
    )
    assert seen[-1] == (9, 9)
    assert seen == sorted(seen)


def test_parts_are_in_the_order_of_their_numbers(root: Store) -> None:
    parts = [PartId(number) for number in range(99_998, 100_002)]

    def make(part: PartId) -> Receipt:
        name = contract.part_name(part.number)
        return contract.write_part(root, name, some_rows(1), RowCounts(1, 1, 0))

    receipts = contract.run_shards(root, parts, make, Inline(), contract.silent)
    assert [contract.part_number(receipt.name) for receipt in receipts] == [
        part.number for part in parts
    ]


def test_manifest_of_an_output_that_is_found_is_read_once(
    root: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract.publish(root, Manifest("stage", "f", {}, {}, [], 0.0, {"seen": [1, 2]}))
    reads: list[str] = []
    read = LocalStore.read

    def counted(store: LocalStore, name: str) -> bytes:
        reads.append(name)
        return read(store, name)

    monkeypatch.setattr(LocalStore, "read", counted)
    found = contract.find_output(root)
    assert found is not None
    assert found.body["extra"] == {"seen": [1, 2]}
    assert found.options == {}
    assert reads == ["manifest.json"]

"""Passed over: how many files of other kinds a source has, from its pins and its parts.

In: counts by the ending of a name, as they go into a footer. Out: the sum for a manifest; and of
the rejects, those that were no images either, though their names did not say so.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping

from infra.store import Store
from tasks import contract, tables
from tasks.contract import Output, Receipt
from tasks.shard.sources import Kind, kind_of

FACT = "passed_over"


def as_facts(counts: Mapping[str, int]) -> dict[str, str]:
    """The counts as a fact of a footer; none where nothing was passed over."""
    return {FACT: json.dumps(dict(sorted(counts.items())))} if counts else {}


def total_passed_over(
    store: Store, increments: Iterable[str], parts: Iterable[Receipt]
) -> dict[str, int]:
    """What was passed over by the last listing that was pinned, and in all containers."""
    last = [contract.read_receipt(store, name) for name in list(increments)[-1:]]
    total: Counter[str] = Counter()
    for receipt in (*last, *parts):
        total.update(json.loads(receipt.facts.get(FACT, "{}")))
    return dict(sorted(total.items()))


def count_strays(output: Output, tried: Iterable[int]) -> int:
    """How many rejects are files of another kind, by their bytes and against no word of their name.

    A page of HTML that is called `.jpg` is an image that went wrong. `tried` are the rejects with
    another attempt, which do not count.
    """
    if not output.rejected:
        return 0
    again = set(tried)
    rows = output.rejects(["image_id", "key", "reason"]).to_pylist()
    return sum(
        row["reason"] == "not_an_image"
        and kind_of(row["key"]) is Kind.UNKNOWN
        and row["image_id"] not in again
        for row in rows
    )


def tried_rejects(store: Store, increments: Iterable[str]) -> set[int]:
    """The ids of the rejects with another attempt in these increments."""
    pins = [contract.read_part(store, name, tables.PINS, ["recheck_of"]) for name in increments]
    return {image_id for table in pins for image_id in table["recheck_of"].drop_null().to_pylist()}

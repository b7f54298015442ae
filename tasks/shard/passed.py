"""Passed over: how many files of other kinds a source has, from its pins and its parts.

In: counts by the ending of a name, as they go into a footer. Out: the sum for a manifest; and of
the rejects, those that were no images either, though their names did not say so.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from infra.store import Store
from tasks import contract, tables
from tasks.contract import Output, Receipt
from tasks.shard.sources import Kind, kind_of

IMAGE_BYTES = "image_bytes"  # of all images of a part, wherever they lie
PASSED_OVER = "passed_over"
STRAYS = "strays"


def as_facts(passed_over: Mapping[str, int], strays: Mapping[str, int] = {}) -> dict[str, str]:
    """The counts as facts of a footer, where there are any."""
    facts = {PASSED_OVER: passed_over, STRAYS: strays}
    return {
        name: json.dumps(dict(sorted(counts.items()))) for name, counts in facts.items() if counts
    }


def total_counts(
    store: Store, increments: Iterable[str], parts: Iterable[Receipt]
) -> dict[str, dict[str, int]]:
    """What the last listing that was pinned and all parts have passed over, and the strays."""
    last = [contract.read_receipt(store, name) for name in list(increments)[-1:]]
    total: dict[str, Counter[str]] = {PASSED_OVER: Counter(), STRAYS: Counter()}
    for receipt in (*last, *parts):
        for name, counts in total.items():
            counts.update(json.loads(receipt.facts.get(name, "{}")))
    return {name: dict(sorted(counts.items())) for name, counts in total.items()}


def is_stray(key: str, reason: str) -> bool:
    """Whether a reject is a file of another kind, by its bytes and against no word of its name.

    A page of HTML that is called `.jpg` is no stray, but an image that went wrong.
    """
    return reason == "not_an_image" and kind_of(key) is Kind.UNKNOWN


def count_strays(output: Output, tried: Collection[int]) -> int:
    """How many rejects are strays, without those with another attempt (`tried`)."""
    rows = output.rejects(["image_id", "key", "reason"]).to_pylist()
    return sum(is_stray(row["key"], row["reason"]) and row["image_id"] not in tried for row in rows)


def tried_rejects(store: Store, increments: Iterable[str]) -> set[int]:
    """The ids of the rejects with another attempt in these increments."""
    pins = [contract.read_part(store, name, tables.PINS, ["recheck_of"]) for name in increments]
    return {image_id for table in pins for image_id in table["recheck_of"].drop_null().to_pylist()}

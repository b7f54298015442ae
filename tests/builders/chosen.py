"""Chosen: a small output of `topk` with given images."""

import pyarrow as pa

from infra.store import Store, open_store
from tasks import contract, tables
from tasks.contract import Manifest, Output, RowCounts


def chosen_of(root: Store, images: Output, pairs: list[tuple[int, int]]) -> Output:
    """A finished `chosen` output with these images of the pile, by position in the sorted keys."""
    ids = []
    for name in contract.part_names(images):
        ids += contract.read_part(images.store, name, tables.IMAGES)["image_id"].to_pylist()
    rows = sorted((label, place) for place, label in pairs)
    table = pa.Table.from_pylist(
        [
            {"label": label, "rank": rank, "image_id": ids[place], "log_odds": 1.0, "repeats": 1}
            for rank, (label, place) in enumerate(rows)
        ],
        schema=tables.CHOSEN,
    )
    store = open_store(f"{root.uri}/topk/{contract.digest_of(pairs)}")
    receipt = contract.write_part(
        store, contract.part_name(0), table, RowCounts(len(rows), len(rows), 0)
    )
    extra = {"classes": ["a", "b", "c"]}
    return contract.publish(store, Manifest("topk", "f", {}, {}, [receipt], 0.0, extra))

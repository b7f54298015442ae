"""Addresses: what a person types for an output."""

import json
import re

import pytest

from infra.errors import ProtegeError
from infra.store import Store, open_store
from tasks.contract import Manifest, output_at, publish


def make(root: Store, stage: str, made_at: str = "", name: str = "manifest.json") -> str:
    """The address of an output without parts."""
    store = open_store(f"{root.uri}/{stage}/00ff")
    publish(store, Manifest(stage, "00ff", {}, {}, [], 1.0), name)
    if made_at:
        body = json.loads(store.read(name))
        store.replace(name, json.dumps({**body, "made_at": made_at}).encode())
    return store.uri


def test_folder_and_manifest_both_mean_the_output(root: Store) -> None:
    address = make(root, "topk")
    found = output_at(address, "topk")
    assert found.uri == address
    assert output_at(f" {address}/ ", "topk") == found
    assert output_at(f"{address}/manifest.json", "score", "topk") == found


def test_newest_of_several_manifests_is_meant(root: Store) -> None:
    address = make(root, "shard", "2026-02-01T00:00:00Z", "manifest-aa.json")
    make(root, "shard", "2026-01-01T00:00:00Z", "manifest-zz.json")
    assert output_at(address, "shard").manifest == "manifest-aa.json"
    assert output_at(f"{address}/manifest-zz.json", "shard").manifest == "manifest-zz.json"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "an address is missing: <root>/score/"),
        ("{root}/nowhere", "no complete output here"),
        ("{root}/topk/00ff", "is an output of topk; wanted is score"),
        ("ftp://host/x", "only local paths"),
    ],
)
def test_what_is_meant_by_nothing_has_a_remedy(root: Store, address: str, reason: str) -> None:
    make(root, "topk")
    with pytest.raises(ProtegeError, match=re.escape(reason)):
        output_at(address.format(root=root.uri), "score")

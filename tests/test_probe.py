"""Probe: a root in which two writers would both believe that they were first is refused."""

from pathlib import Path

import pytest

from flows.campaign.find import find_campaign, sources_of
from flows.recipes import BILLION_SCALE
from infra.errors import ProtegeError
from infra.store import S3Store, Store, check_create_only, open_store
from tasks.campaigns import Campaign
from tests.builders.campaign import tiny


def begin(root: Store, pictures: Path) -> Campaign:
    options = tiny(pictures)
    return find_campaign(root, BILLION_SCALE.name, options, sources_of(options))


def test_store_that_ignores_create_only_is_refused_at_the_start(
    s3: str, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(store: S3Store, path: str, data: bytes) -> bool:
        store.replace(path, data)
        return True

    monkeypatch.setattr(S3Store, "create", replace)
    root = open_store(f"{s3}/ignores")
    with pytest.raises(ProtegeError, match=r"s3://protege/ignores .* ignores `If-None-Match"):
        begin(root, pictures)
    assert not root.sizes()


def test_store_with_create_only_is_asked_once(
    s3: str, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = open_store(f"{s3}/honest")
    begin(root, pictures)
    begin(root, pictures)
    asked, create = [], S3Store.create

    def count(store: S3Store, path: str, data: bytes) -> bool:
        asked.append(path)
        return create(store, path, data)

    monkeypatch.setattr(S3Store, "create", count)
    check_create_only(root)
    assert len(asked) == 1


def test_disk_is_not_asked(root: Store) -> None:
    check_create_only(root)
    assert not root.sizes()

"""Campaigns: one run of a recipe over fixed data, as a small JSON file.

In: a recipe's options and the snapshots of its sources. Out: `campaigns/<id>.json`, which holds
both and the outputs so far. A run looks for an unfinished campaign of the same options first and
goes on with the snapshots that were pinned then, however the sources have grown since.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from infra.store import Store

FOLDER = "campaigns"


@dataclass(frozen=True)
class Campaign:
    """A run of a recipe. `outputs` are the references of its stages by role, in order of run.

    Once `pinned`, its snapshots stay; until then (a class without images, say) they follow the
    sources, so that mending a source mends the campaign.
    """

    id: str
    recipe: str
    options: Mapping[str, Any]
    snapshots: Mapping[str, Mapping[str, Any]]
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    pinned: bool = False
    finished_at: str = ""

    @property
    def finished(self) -> bool:
        """Whether every stage is done."""
        return bool(self.finished_at)


def begin(
    root: Store,
    recipe: str,
    options: Mapping[str, Any],
    snapshots: Mapping[str, Mapping[str, Any]],
    key: str,
) -> Campaign:
    """The unfinished campaign of this key, or the finished one of these very snapshots.

    Without either, a new one. The key is the digest of the options that can change a result, so
    that another number of threads goes on with the same campaign.
    """
    earlier = campaigns(root, f"{recipe}-{key}")
    for campaign in reversed(earlier):
        if campaign.snapshots == snapshots or (campaign.pinned and not campaign.finished):
            return campaign
        if not campaign.pinned:
            campaign = replace(campaign, snapshots=snapshots)
            save(root, campaign)
            return campaign
    name = f"{recipe}-{key}-{len(earlier):03d}"
    campaign = Campaign(name, recipe, options, snapshots)
    if root.create(_path(name), _encode(campaign)):
        return campaign
    # Somebody else has just begun it.
    return begin(root, recipe, options, snapshots, key)


def save(root: Store, campaign: Campaign) -> None:
    """Write the campaign as it now is."""
    root.replace(_path(campaign.id), _encode(campaign))


def campaigns(root: Store, prefix: str = "") -> list[Campaign]:
    """The campaigns whose name begins so, oldest first within the same options."""
    return [
        _decode(root.read(name))
        for name in root.sizes(FOLDER)
        if name.startswith(f"{FOLDER}/{prefix}") and name.endswith(".json")
    ]


def find(root: Store, name: str) -> Campaign | None:
    """The campaign of this name, if it is in this root."""
    try:
        return _decode(root.read(_path(name)))
    except FileNotFoundError:
        return None


def newest_first(found: Iterable[Campaign]) -> list[Campaign]:
    """Those that are finished, the last one first."""
    finished = [one for one in found if one.finished]
    return sorted(finished, key=lambda one: (one.finished_at, one.id), reverse=True)


def _path(name: str) -> str:
    return f"{FOLDER}/{name}.json"


def _encode(campaign: Campaign) -> bytes:
    return json.dumps(asdict(campaign), indent=1, ensure_ascii=False).encode()


def _decode(data: bytes) -> Campaign:
    return Campaign(**json.loads(data))

"""Campaigns: one run of a recipe over fixed data, as a small JSON file.

In: a recipe's options and the snapshots of its sources. Out: `campaigns/<id>.json`, which holds
both and the outputs so far. The same options over sources that have changed are another campaign,
which shares with the first whatever did not change. Who wants to go on with what the sources held
then asks for that campaign by its name.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from infra.errors import ProtegeError, describe_error
from infra.lease import acquire
from infra.names import check_name
from infra.store import Store
from tasks.contract import Output
from tasks.shard import Snapshot

FOLDER = "campaigns"
LEASE_SECONDS = 60.0  # of a write that takes moments


@dataclass(frozen=True)
class Campaign:
    """A run of a recipe. `outputs` are those of its stages, by role, in the order of the run.

    `runs` are the runs of a server that have worked on it: when one is retried, or was suspended,
    it goes on with its own campaign. One that repeats another belongs to its `line`, which has the
    name of the first campaign. Once `pinned`, its snapshots stay; until then (a class without
    images, say) they follow the sources, so that mending a source mends the campaign.
    """

    id: str
    recipe: str
    options: Mapping[str, Any]
    snapshots: Mapping[str, Snapshot]
    outputs: Mapping[str, Output] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    pinned: bool = False
    finished_at: str = ""
    repeats: str = ""
    runs: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The first campaign of those that repeat one another."""
        return self.repeats or self.id

    @property
    def finished(self) -> bool:
        """Whether every stage is done."""
        return bool(self.finished_at)


def begin(
    root: Store,
    recipe: str,
    options: Mapping[str, Any],
    snapshots: Mapping[str, Snapshot],
    key: str,
    repeats: str = "",
) -> Campaign:
    """The campaign of this key and of these very snapshots, or a new one.

    The key is the digest of the options that can change a result, so
    that another number of threads goes on with the same campaign. `repeats` is the first campaign
    of the line that a new one belongs to.
    """
    earlier = campaigns(root, f"{recipe}-{key}")
    for campaign in reversed(earlier):
        if campaign.snapshots == snapshots:
            return campaign
        if not campaign.pinned:
            campaign = replace(campaign, snapshots=snapshots)
            save(root, campaign)
            return campaign
    name = f"{recipe}-{key}-{len(earlier):03d}"
    campaign = Campaign(name, recipe, options, snapshots, repeats=repeats)
    if root.create(_path(name), _encode(campaign)):
        return campaign
    # Somebody else has just begun it.
    return begin(root, recipe, options, snapshots, key, repeats)


def save(root: Store, campaign: Campaign) -> None:
    """Write the campaign as it now is; of a run at work, others may know more (`update`)."""
    root.replace(_path(campaign.id), _encode(campaign))


def update(
    root: Store, campaign: Campaign, outputs: Mapping[str, Output] | None = None, **news: Any
) -> Campaign:
    """Write what a run has found out about its campaign, beside what other runs have; returns both.

    Two runs of one campaign may be at work. What is finished stays so, and what is pinned: raises
    ProtegeError when another run has pinned other snapshots than this run works with.
    """
    with acquire(root, f"{FOLDER}/{campaign.id}", seconds=LEASE_SECONDS):
        present = find(root, campaign.id) or campaign
        if present.pinned and present.snapshots != campaign.snapshots:
            raise ProtegeError(
                f"another run of {campaign.id} has pinned its sources as they were at another "
                "time: run again, which goes on with these"
            )
        merged = replace(
            present,
            snapshots=campaign.snapshots,
            outputs={**present.outputs, **(outputs or {})},
            **({} if present.finished else news),
        )
        save(root, merged)
    return merged


def campaigns(root: Store, prefix: str = "") -> list[Campaign]:
    """The campaigns whose name begins so, oldest first within the same options."""
    return [
        _read(root, name)
        for name in root.sizes(FOLDER)
        if name.startswith(f"{FOLDER}/{prefix}") and name.endswith(".json")
    ]


def find(root: Store, name: str) -> Campaign | None:
    """The campaign of this name, if it is in this root. Raises ProtegeError for what is no name."""
    try:
        return _read(root, _path(name))
    except FileNotFoundError:
        return None


def of_run(root: Store, recipe: str, run: str) -> Campaign | None:
    """The campaign that a run of a server has worked on before."""
    return next((found for found in campaigns(root, recipe) if run in found.runs), None)


def note_run(root: Store, campaign: Campaign, run: str) -> Campaign:
    """The campaign, with this run among those that have worked on it."""
    if run not in campaign.runs:
        return update(root, campaign, runs=(*campaign.runs, run))
    return campaign


def newest_first(found: Iterable[Campaign]) -> list[Campaign]:
    """Those that are finished, the last one first."""
    finished = [campaign for campaign in found if campaign.finished]
    return sorted(finished, key=lambda campaign: (campaign.finished_at, campaign.id), reverse=True)


def _path(name: str) -> str:
    return f"{FOLDER}/{check_name('campaign', name)}.json"


def _encode(campaign: Campaign) -> bytes:
    outputs = {role: output_values(output) for role, output in campaign.outputs.items()}
    body = {**asdict(campaign), "outputs": outputs}
    return json.dumps(body, indent=1, ensure_ascii=False).encode()


def _read(root: Store, path: str) -> Campaign:
    """The campaign in this file. Raises ProtegeError for one that is damaged."""
    data = root.read(path)
    try:
        return _decode(root, data)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ProtegeError(
            f"{root.uri}/{path} is damaged, or no campaign of this version of protege: "
            f"{describe_error(error)}. Delete this file; the outputs of the campaign stay"
        ) from error


def _decode(root: Store, data: bytes) -> Campaign:
    body = json.loads(data)
    body["snapshots"] = {
        role: Snapshot(**{**snapshot, "increments": tuple(snapshot["increments"])})
        for role, snapshot in body["snapshots"].items()
    }
    body["runs"] = tuple(body["runs"])
    body["outputs"] = {role: output_from(root, output) for role, output in body["outputs"].items()}
    return Campaign(**body)


def output_values(output: Output) -> dict[str, Any]:
    """An output as JSON values, without the address of its root, which may be moved."""
    values = asdict(output)
    del values["uri"]
    return values


def output_from(root: Store, values: Mapping[str, Any]) -> Output:
    """An output from its JSON values, as it lies below this root, which may have been moved."""
    uri = f"{root.uri}/{values['stage']}/{values['fingerprint']}"
    return Output(**{**values, "uri": uri})

"""Lineage: every output behind the page, what it was made from, and with which options."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.contract import canonical
from tasks.contract.lineage import walk
from tasks.options import flat_options
from tasks.report.sections import ReportData, Section, always


@dataclass(frozen=True)
class LineageRow:
    """An output; `sources` are (role of the input, fingerprint).

    The role of an output that has none in the campaign is what another one calls it as its input.
    """

    role: str
    in_campaign: bool
    stage: str
    fingerprint: str
    made_at: str
    sources: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class OptionsTable:
    """The options of an output, as (dotted name, JSON value)."""

    role: str
    title: str
    rows: tuple[tuple[str, str], ...]


def facts(data: ReportData) -> Mapping[str, Any]:
    """The chain of outputs, their options, and the versions of the libraries."""
    return {
        "rows": _rows(data),
        "options": [
            OptionsTable(role, data.story.role(role).title, _flat(manifest["options"]))
            for role, manifest in data.manifests.items()
        ],
        "versions": _versions(data.manifests),
    }


def _rows(data: ReportData) -> list[LineageRow]:
    """The outputs of the campaign first; an output with two roles is one row."""
    links = {role: output.link for role, output in data.story.outputs.items()}
    roles: dict[str, list[str]] = {}
    for role, link in links.items():
        roles.setdefault(link["manifest"], []).append(role)
    return [
        LineageRow(
            role=" and ".join(roles.get(node.link["manifest"], [node.role])),
            in_campaign=node.link["manifest"] in roles,
            stage=node.stage,
            fingerprint=node.fingerprint,
            # Deleted, or under another root: the chain ends here, and the page says so.
            made_at=node.manifest["made_at"] if node.manifest else "no longer there",
            sources=tuple((role, link["fingerprint"]) for role, link in node.inputs.items()),
        )
        for node in walk(data.root, links)
    ]


def _versions(manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Library versions; where stages differ, each version with the stages that had it."""
    roles: dict[str, dict[str, list[str]]] = {}
    for role, manifest in manifests.items():
        for package, version in manifest["versions"].items():
            roles.setdefault(package, {}).setdefault(version, []).append(role)
    return {
        package: "; ".join(
            version if len(by_version) == 1 else f"{version} ({', '.join(used_by)})"
            for version, used_by in by_version.items()
        )
        for package, by_version in roles.items()
    }


def _flat(options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Options as (dotted name, JSON value)."""
    return tuple((name, canonical(value)) for name, value in flat_options(options))


SECTION = Section("lineage", "Lineage", always, facts, "lineage")

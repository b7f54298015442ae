"""Times: how long each stage took, on what, and which part of its work was slow."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.contract import slowest
from tasks.report.sections import ReportData, Section, always
from tasks.shard import IMAGE_BYTES

WORK_KINDS = ("read", "decode", "compute", "write")  # those with a colour of their own


@dataclass(frozen=True)
class StageTime:
    """How long a stage took, and seconds of each kind of work, summed over its workers."""

    role: str
    seconds: float
    work: tuple[tuple[str, float], ...]

    @property
    def slow(self) -> str:
        """The kind of work that took longest, or nothing."""
        return slowest(dict(self.work))


@dataclass(frozen=True)
class Machines:
    """What is known of the machines behind some stages; `mixed` when their parts differ in it."""

    roles: tuple[str, ...]
    descriptions: tuple[str, ...]
    mixed: bool


def facts(data: ReportData) -> Mapping[str, Any]:
    """The stages in the order of the run, and the machines."""
    times = [_stage_time(role, manifest) for role, manifest in data.manifests.items()]
    return {
        "times": times,
        "longest": max((time.seconds for time in times), default=0) or 1,
        "total": sum(time.seconds for time in times),
        "work_kinds": WORK_KINDS,
        "machines": _machines(data.manifests),
    }


def _stage_time(role: str, manifest: Mapping[str, Any]) -> StageTime:
    work = manifest["work_seconds"]
    kinds = [kind for kind in WORK_KINDS if kind in work]
    kinds += sorted(set(work) - set(kinds))
    seconds = tuple((kind, float(work[kind])) for kind in kinds)
    return StageTime(role, float(manifest["seconds"]), seconds)


def _machines(manifests: Mapping[str, Mapping[str, Any]]) -> list[Machines]:
    """What the parts say of the machines that made them; stages that say the same are one entry."""
    roles: dict[tuple[str, ...], list[str]] = {}
    mixed: dict[tuple[str, ...], bool] = {}
    for role, manifest in manifests.items():
        counts: dict[str, Counter[str]] = {}
        for part in manifest["parts"]:
            for name, value in part["facts"].items():
                if name == IMAGE_BYTES:
                    continue  # of the part itself, and not of the machine
                counts.setdefault(name, Counter())[value] += 1
        if counts:
            descriptions = tuple(_describe(name, counts[name]) for name in sorted(counts))
            roles.setdefault(descriptions, []).append(role)
            mixed[descriptions] = any(len(values) > 1 for values in counts.values())
    return [
        Machines(tuple(same), descriptions, mixed[descriptions])
        for descriptions, same in roles.items()
    ]


def _describe(name: str, counts: Counter[str]) -> str:
    if len(counts) == 1:
        return f"{name} {next(iter(counts))}"
    total = sum(counts.values())
    values = (f"{value} ({count:,} of {total:,} parts)" for value, count in sorted(counts.items()))
    return f"{name} {', '.join(values)}"


SECTION = Section("times", "Time", always, facts, "time")

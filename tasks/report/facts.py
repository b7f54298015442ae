"""Facts: the figures of the page, out of manifests and small tables.

In: the outputs of a campaign by role. Out: plain values for the template, with nothing about how
they look.

    data = load(story)
    head = headline(data)
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.store import Store
from tasks import contract, tables
from tasks.contract import Output
from tasks.evaluate import TEST, predictions_in, read_metrics, read_predictions
from tasks.report.story import Story
from tasks.topk import TopkOptions, describe_dropped, read_chosen, read_classes
from tasks.train import HISTORY

KINDS = ("read", "decode", "compute", "write")

Measures = Mapping[tuple[str, str, int | None], tuple[float, int]]


@dataclass(frozen=True)
class ReportData:
    """Everything that is read once: manifests by role, and the tables of the choice."""

    story: Story
    manifests: Mapping[str, Mapping[str, Any]]
    classes: pa.Table
    chosen: pa.Table
    metrics: pa.Table

    @property
    def outputs(self) -> Mapping[str, Output]:
        """The outputs of the campaign, by role."""
        return self.story.outputs

    @property
    def chosen_output(self) -> Output:
        """The output of topk."""
        return _made_by(self.story, "topk")

    @property
    def scored_images(self) -> Output:
        """The images that were chosen from."""
        link = _made_by(self.story, "score").body["inputs"]["images"]
        return next(
            output
            for output in self.outputs.values()
            if output.link["manifest"] == link["manifest"]
        )

    @property
    def topk(self) -> TopkOptions:
        """How the images were chosen."""
        return TopkOptions.model_validate(self.chosen_output.options)

    @property
    def k(self) -> int:
        """Images asked for each class."""
        return self.topk.k

    @property
    def measures(self) -> Measures:
        """(model, measure, class or None) -> (value, images it rests on)."""
        return {
            (row["model"], row["measure"], row["label"]): (row["value"], row["count"])
            for row in self.metrics.to_pylist()
            if not row["slice"] and row["dataset"] in ("", TEST)
        }


@dataclass(frozen=True)
class Headline:
    """The result in a few figures; None for what was not measured. Shares are in [0, 1]."""

    compared: float | None
    result: float | None
    gain: float | None
    gain_error: float | None
    error_cut: float | None
    tested: int


@dataclass(frozen=True)
class ModelRow:
    """A line of the table of models."""

    role: str
    network: str
    top1: float | None
    top5: float | None
    loss: float | None
    calibration_error: float | None


@dataclass(frozen=True)
class StageTime:
    """How long a stage took, and seconds of the parts of its work, summed over its workers."""

    role: str
    seconds: float
    work: tuple[tuple[str, float], ...]

    @property
    def slow(self) -> str:
        """The part that took longest, or nothing."""
        return contract.slowest(dict(self.work))


@dataclass(frozen=True)
class Machines:
    """What is known of the machines behind some stages; `mixed` when their parts differ in it."""

    roles: tuple[str, ...]
    told: tuple[str, ...]
    mixed: bool


@dataclass(frozen=True)
class Node:
    """An output in the lineage; `sources` are (role of the input, fingerprint)."""

    role: str
    stage: str
    fingerprint: str
    digest: str
    made_at: str
    sources: tuple[tuple[str, str], ...]


def load(story: Story) -> ReportData:
    """Read the manifests and the small tables. Raises ProtegeError for a damaged part."""
    chosen = _made_by(story, "topk")
    return ReportData(
        story,
        {role: output.body for role, output in story.outputs.items()},
        read_classes(chosen),
        read_chosen(chosen),
        read_metrics(_made_by(story, "evaluate")),
    )


def _made_by(story: Story, stage: str) -> Output:
    output = story.made_by(stage)
    assert output is not None, "the stage was asked for before"
    return output


def value(measures: Measures, model: str, measure: str, label: int | None = None) -> float | None:
    """A figure, or None when it was not measured."""
    found = measures.get((model, measure, label))
    return None if found is None else found[0]


def headline(data: ReportData) -> Headline:
    """The result against the model that it must beat."""
    measures, result = data.measures, data.story.result
    compared_top1 = value(measures, data.story.compared_with, "top1")
    result_top1 = value(measures, result, "top1")
    cut = None
    if compared_top1 is not None and result_top1 is not None and compared_top1 < 1:
        cut = (result_top1 - compared_top1) / (1 - compared_top1)
    gain = value(measures, result, "gain")
    error = value(measures, result, "gain_standard_error")
    tested = measures.get((result, "top1", None), (0.0, 0))[1]
    return Headline(compared_top1, result_top1, gain, error, cut, tested)


def models(data: ReportData) -> list[ModelRow]:
    """The table of models, in the order in which one would compare them."""
    measures = data.measures
    return [
        ModelRow(
            role,
            str(data.manifests[role]["options"].get("model", "")),
            value(measures, role, "top1"),
            value(measures, role, "top5"),
            value(measures, role, "loss"),
            value(measures, role, "calibration_error"),
        )
        for role in (model.name for model in data.story.models)
        if role in data.outputs
    ]


def histories(data: ReportData) -> Iterator[tuple[str, pa.Table]]:
    """(role, history) of each training that took any step."""
    compared = {model.name for model in data.story.models}
    for role in filter(compared.__contains__, data.outputs):
        store = data.outputs[role].store
        table = contract.read_part(store, HISTORY, tables.HISTORY)
        if len(table):
            yield role, table


def confusion(data: ReportData, num_classes: int) -> npt.NDArray[np.int64]:
    """Test images by true and predicted class of the result, shape (C, C)."""
    predicted = predictions_in(_made_by(data.story, "evaluate"), data.story.result)
    rows = read_predictions(predicted, ["label", "predicted"])
    cells = rows["label"].to_numpy().astype(np.int64) * num_classes + rows["predicted"].to_numpy()
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def times(data: ReportData) -> list[StageTime]:
    """How long each stage took, in the order of the run."""
    rows = []
    for role, manifest in data.manifests.items():
        work = manifest["work_seconds"]
        known = [kind for kind in KINDS if kind in work]
        kinds = [*known, *sorted(set(work) - set(known))]
        parts = tuple((kind, float(work[kind])) for kind in kinds)
        rows.append(StageTime(role, float(manifest["seconds"]), parts))
    return rows


def machines(data: ReportData) -> list[Machines]:
    """What the parts say of the machines that made them; stages that say the same are one entry."""
    roles: dict[tuple[str, ...], list[str]] = {}
    mixed: dict[tuple[str, ...], bool] = {}
    for role, manifest in data.manifests.items():
        counts: dict[str, Counter[str]] = {}
        for part in manifest["parts"]:
            for name, told in part["facts"].items():
                counts.setdefault(name, Counter())[told] += 1
        if counts:
            told = tuple(_told(name, counts[name]) for name in sorted(counts))
            roles.setdefault(told, []).append(role)
            mixed[told] = any(len(values) > 1 for values in counts.values())
    return [Machines(tuple(some), told, mixed[told]) for told, some in roles.items()]


def _told(name: str, counts: Counter[str]) -> str:
    if len(counts) == 1:
        return f"{name} {next(iter(counts))}"
    total = sum(counts.values())
    several = (f"{value} ({n:,} of {total:,} parts)" for value, n in sorted(counts.items()))
    return f"{name} {', '.join(several)}"


def rejects(data: ReportData) -> list[tuple[str, int, int, dict[str, int]]]:
    """(role, rows in, rejected, images by reason) of each stage that may reject."""
    found = []
    for role, output in data.outputs.items():
        if output.stage not in ("shard", "score"):
            continue
        reasons = contract.reject_reasons(output)
        found.append((role, output.rows_in, output.rejected, reasons))
    return found


def copies(data: ReportData) -> list[str]:
    """What was left out of the choice as a copy, by reason."""
    return describe_dropped(data.classes.to_pylist())


def lineage(root: Store, data: ReportData) -> list[Node]:
    """Every output behind the campaign, its own first; an output with two roles is one node."""
    roles: dict[str, list[str]] = {}
    known: dict[str, Mapping[str, Any]] = {}
    pending: list[Mapping[str, str]] = []
    for role, output in data.outputs.items():
        place = output.link["manifest"]
        roles.setdefault(place, []).append(role)
        known[place] = data.manifests[role]
        pending.append(output.link)
    nodes: dict[str, Node] = {}
    while pending:
        told = pending.pop(0)
        place = told["manifest"]
        if place in nodes:
            continue
        manifest = known.get(place) or _manifest(root, place)
        inputs = manifest.get("inputs", {})
        nodes[place] = Node(
            " and ".join(roles.get(place, ["earlier"])),
            told["stage"],
            told["fingerprint"],
            told["digest"],
            manifest.get("made_at", "no longer there"),
            tuple((role, source["fingerprint"]) for role, source in inputs.items()),
        )
        pending += inputs.values()
    return list(nodes.values())


def versions(data: ReportData) -> dict[str, str]:
    """Library versions; where stages differ, each version with the stages that had it."""
    found: dict[str, dict[str, list[str]]] = {}
    for role, manifest in data.manifests.items():
        for package, version in manifest["versions"].items():
            found.setdefault(package, {}).setdefault(version, []).append(role)
    return {
        package: "; ".join(
            version if len(had) == 1 else f"{version} ({', '.join(roles)})"
            for version, roles in had.items()
        )
        for package, had in found.items()
    }


def flat_options(options: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Options as (dotted name, JSON value)."""
    rows = []
    for name, option in options.items():
        if isinstance(option, Mapping):
            rows += flat_options(option, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", contract.canonical(option)))
    return rows


def _manifest(root: Store, place: str) -> dict[str, Any]:
    try:
        body: dict[str, Any] = json.loads(root.read(place))
    except FileNotFoundError:
        # Removed by gc, or under another root: the chain ends here, and the page says so.
        return {}
    return body

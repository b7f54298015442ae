"""Data: what the sections of the page read, each thing when it is first needed, and once.

In: the options and the story. Out: manifests, small tables and figures.

    data = ReportData(options, story)
    data.measures.value("student", "top1", data.datasets[0])
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from infra.store import Store
from tasks.agreement import read_precision
from tasks.contract import Output, output_at
from tasks.evaluate import find_suspect_classes, predictions_in, read_metrics
from tasks.report.blank import Blanks, count_blanks
from tasks.report.choice import Choice
from tasks.report.class_cards import ClassCard, make_cards, most_in_need
from tasks.report.curves import Curve, curves_of
from tasks.report.measures import Measures
from tasks.report.options import ReportOptions
from tasks.report.story import Story
from tasks.tables import METRICS


@dataclass(frozen=True)
class ReportData:
    """Everything that the sections may read. Reading raises ProtegeError for a damaged part."""

    options: ReportOptions
    story: Story

    @property
    def root(self) -> Store:
        """The root that holds the outputs."""
        return next(iter(self.story.outputs.values())).root

    @cached_property
    def manifests(self) -> Mapping[str, Mapping[str, Any]]:
        """The manifest of each output, by role, in the order of the run."""
        return {role: output.body for role, output in self.story.outputs.items()}

    def inputs_of(self, output: Output, stage: str) -> list[Output]:
        """What an output was made from, as far as this stage made it. Raises ProtegeError."""
        known = {known.link["manifest"]: known for known in self.story.outputs.values()}
        links = [link for link in output.body["inputs"].values() if link["stage"] == stage]
        return [
            known.get(link["manifest"]) or output_at(f"{self.root.uri}/{link['manifest']}", stage)
            for link in links
        ]

    def role_of(self, output: Output) -> str:
        """The first role of an output in this campaign; its stage, where it has none."""
        roles = (role for role, known in self.story.outputs.items() if known.link == output.link)
        return next(roles, output.stage)

    # ------------------------------------------------------------------------------- figures

    @cached_property
    def measured(self) -> Mapping[tuple[str, str], Output]:
        """The last output of evaluate by (model, data set) that it measured."""
        return {
            (model, dataset): output
            for output in self.story.of_stage("evaluate").values()
            for model in output.body["extra"]["models"]
            for dataset in output.body["extra"]["datasets"]
        }

    @cached_property
    def datasets(self) -> list[str]:
        """The data sets that models were measured on; the first is that of the headline."""
        return self.story.sorted_by_role({dataset for _, dataset in self.measured})

    def is_measured(self, model: str) -> bool:
        """Whether there are figures of a model on the data set of the headline."""
        return bool(self.datasets) and (model, self.datasets[0]) in self.measured

    @cached_property
    def metrics(self) -> pa.Table:
        """The `metrics` tables of all outputs of evaluate."""
        outputs = self.story.of_stage("evaluate").values()
        return pa.concat_tables([METRICS.empty_table(), *map(read_metrics, outputs)])

    @cached_property
    def measures(self) -> Measures:
        """All figures; of what was measured twice, the later ones."""
        return Measures(self.metrics)

    def top1(self, model: str, label: int | None = None) -> float | None:
        """The accuracy of a model on the data set of the headline."""
        if not self.is_measured(model):
            return None
        return self.measures.value(model, "top1", self.datasets[0], label)

    def predictions(self, model: str) -> Output:
        """The predictions of a model on the data set of the headline."""
        dataset = self.datasets[0]
        return predictions_in(self.measured[model, dataset], model, dataset)

    # ---------------------------------------------------------------------------- the choice

    @cached_property
    def choice(self) -> Choice | None:
        """The last choice that was measured: mostly the one that the result learned from."""
        choices = list(self.story.of_stage("topk").items())
        if not choices:
            return None
        measured = [
            output.body["inputs"]["chosen"]
            for output in self.story.of_stage("evaluate").values()
            if "chosen" in output.body["inputs"]
        ]
        known = (pair for pair in choices if measured and pair[1].link == measured[-1])
        role, output = next(known, choices[-1])
        scores = tuple(self.inputs_of(output, "score"))
        teachers = [teacher for part in scores for teacher in self.inputs_of(part, "train")]
        images = self.inputs_of(scores[0], "shard")
        return Choice(role, output, scores, tuple(teachers), images[0])

    @cached_property
    def cards(self) -> list[ClassCard]:
        """What is known of each class of the choice; none without a choice."""
        if self.choice is None:
            return []
        teacher = self.role_of(self.choice.teachers[-1])
        suspects = find_suspect_classes(
            self.choice.classes, self.metrics, self.choice.k, teacher, self.precision
        )
        return make_cards(self.choice, self.measures, suspects, self.precision, self._dropped)

    @property
    def _dropped(self) -> list[str]:
        """The classes of the choice that nothing has learned from."""
        for output in self.story.of_stage("gather").values():
            chosen = output.body["inputs"].get("chosen")
            if self.choice and chosen == self.choice.output.link:
                dropped: list[str] = output.body["extra"].get("dropped_classes", [])
                return dropped
        return []

    @cached_property
    def precision(self) -> pa.Table | None:
        """What a committee says of each class of the choice; None where nobody was asked."""
        for output in self.story.of_stage("agreement").values():
            if self.choice and output.body["inputs"]["chosen"] == self.choice.output.link:
                return read_precision(output)
        return None

    @property
    def estimated_precision(self) -> float | None:
        """The same of all chosen images together."""
        known = [card for card in self.cards if card.estimate is not None and card.kept]
        kept = sum(card.kept for card in known)
        shares = (card.kept * card.estimate.share for card in known if card.estimate)
        return sum(shares) / kept if kept else None

    @cached_property
    def blanks(self) -> Blanks | None:
        """How many of the chosen images are nearly of one colour; None without a choice."""
        return None if self.choice is None else count_blanks(self.choice)

    @cached_property
    def shown_cards(self) -> list[ClassCard]:
        """The classes that the page has room for."""
        if self.choice is None:
            return []
        return most_in_need(self.cards, self.choice.k, self.options.max_classes)

    @cached_property
    def curves(self) -> list[Curve]:
        """The curves of these classes."""
        if self.choice is None:
            return []
        return curves_of(self.choice, {card.label for card in self.shown_cards})

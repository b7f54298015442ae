"""Choice: how full and how certain each class of the chosen images is."""

from collections.abc import Mapping
from typing import Any

from tasks.report import plots
from tasks.report.sections import ReportData, Section, has_choice


def facts(data: ReportData) -> Mapping[str, Any]:
    """The curves of the shown classes in one figure, and a table of them."""
    choice, story = data.choice, data.story
    assert choice is not None, "the section does not apply"
    suspects = {card.label for card in data.shown_cards if card.suspect}
    teachers = [story.role(data.role_of(teacher)).noun for teacher in choice.teachers]
    num_choices = len(story.of_stage("topk"))
    return {
        "choice_title": story.role(choice.role).title if num_choices > 1 else "",
        "num_choices": num_choices,
        "teachers": " and the ".join(teachers),
        "k": choice.k,
        "kept": choice.output.kept,
        "num_classes": len(data.cards),
        "can_be_certified": choice.can_be_certified,
        "candidate_phrase": choice.candidate_phrase,
        "blanks": data.blanks,
        "cards": data.shown_cards,
        "suspects": suspects,
        "plot": plots.score_curves(data.curves, choice.k, suspects),
        "result": story.role(story.result).noun if data.is_measured(story.result) else "",
        "top1": {card.label: data.top1(story.result, card.label) for card in data.shown_cards},
        "total_top1": data.top1(story.result),
        "has_views": any(card.agreement is not None for card in data.cards),
        "is_audited": data.measures.of_choice("precision") is not None,
        "agreement": data.measures.of_choice("view_agreement"),
        "precision": data.measures.of_choice("precision"),
        "is_estimated": data.precision is not None,
        "estimate": data.estimated_precision,
    }


SECTION = Section("choice", "What was chosen", has_choice, facts, "choice")

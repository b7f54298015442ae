"""Sections: the parts of the page, a file and a template for each.

A file says whether a campaign has the section and what its template is given; the template, of the
same name, says how that looks. `tasks/report/page.py` has the list of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.report.data import ReportData


@dataclass(frozen=True)
class Section:
    """A part of the page.

    `name` is that of its file and its template. `applies` says whether a campaign has it, and reads
    none of its tables where it has not. `facts` is what the template is given. A section with an
    `anchor` is in the navigation.
    """

    name: str
    title: str
    applies: Callable[[ReportData], bool]
    facts: Callable[[ReportData], Mapping[str, Any]]
    anchor: str = ""


def always(_data: ReportData) -> bool:
    """Every campaign has the section."""
    return True


def has_choice(data: ReportData) -> bool:
    """Images were chosen."""
    return data.choice is not None


__all__ = ["ReportData", "Section", "always", "has_choice"]

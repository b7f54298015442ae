"""Base: what every format is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.export.check import Check
from tasks.export.origin import Origin
from tasks.inference.model import Model


@dataclass(frozen=True)
class Written:
    """What a format has written, for people, and its check.

    Without one, `why_unchecked` says why; `facts` are for the record.
    """

    what: str
    check: Check | None
    why_unchecked: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """A way to write a model, which is on the CPU, into a folder.

    `admit` raises ProtegeError for a network that it has no place for, and for missing packages.
    """

    admit: Callable[[Model], None]
    write: Callable[[Model, Origin, Path], Written]


def shape_text(model: Model) -> str:
    """The inputs for a sentence."""
    size = model.description.inputs.size
    return f"images (batch, 3, {size}, {size}), float32, of any batch size"

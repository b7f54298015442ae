"""Iconify: the drawings of npm's package @iconify/json, where 158 designers draw the same things.

In: a folder, or one with the unpacked package. Out: drawings as SVG, set by set, with what their
names say. Sets whose licence forbids commercial use, and those under the GPL, are left out.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.demo import packages
from infra.errors import ProtegeError

PACKAGE, VERSION = "@iconify/json", "2.2.535"
# What a name says about how it is drawn, not about what.
_STYLES = """
    outline outlined outlines line lined linear stroke regular light thin bold medium solid fill
    filled round rounded sharp flat baseline twotone duotone two tone duo broken bulk remix alt
    variant simple basic glyph small large big black white color colored icon
"""
# Of the sets, as SPDX names them.
_LICENCES = """
    MIT Apache-2.0 CC-BY-4.0 CC-BY-3.0 CC-BY-SA-4.0 CC-BY-SA-3.0 CC0-1.0 OFL-1.1 ISC Unlicense
    MPL-2.0 BSD-3-Clause
"""
# Designers of whom one has taken over drawings of another: ten or more that differ by less than 1 %
# of grey, and are more than one in twenty.
FAMILIES = (
    ("480 Design", "REICON"),
    ("Ben Sperry", "Family"),
    ("Google", "Material Design Authors", "Pictogrammers"),
    ("Lucide Contributors", "Cole Bemis", "Keyline Icons", "zkreations"),
    ("Paweł Kuna", "Refactoring UI Inc"),
    ("Boxicons", "Gerrit Halfmann"),
)
STYLES, LICENCES = frozenset(_STYLES.split()), frozenset(_LICENCES.split())


@dataclass(frozen=True)
class Drawing:
    """A drawing, as SVG; its name is that of its set, a colon, and its own."""

    name: str
    designer: str
    licence: str
    svg: str

    @property
    def family(self) -> str:
        """Its designer, or one whose drawings its designer has taken over."""
        return next((names[0] for names in FAMILIES if self.designer in names), self.designer)

    @property
    def words(self) -> list[str]:
        """The words of its name."""
        return [word for word in self.name.partition(":")[2].split("-") if word]

    @property
    def idea(self) -> str:
        """What it shows: its name, without style and numbers."""
        return "-".join(
            word for word in self.words if word not in STYLES and not word.rstrip("px").isdigit()
        )


def fetch(folder: Path) -> Path:
    """The folder of the package, which is downloaded once. Raises ProtegeError."""
    try:
        return packages.from_npm(PACKAGE, VERSION, folder)
    except ProtegeError as error:
        raise ProtegeError(f"{error}. Give an unpacked {PACKAGE} as --source") from None


def read_drawings(package: Path) -> Iterator[Drawing]:
    """The drawings of every set that may be used freely, set by set. Raises ProtegeError."""
    try:
        about = json.loads((package / "collections.json").read_bytes())
        for name, own in sorted(about.items()):
            licence = own["license"].get("spdx", "")
            if licence in LICENCES:
                found = json.loads((package / "json" / f"{name}.json").read_bytes())
                yield from _drawings_of(found, own["author"]["name"], licence)
    except (OSError, ValueError, KeyError) as error:
        raise ProtegeError(f"{package} is no {PACKAGE}: {error!r}") from error


def _drawings_of(found: dict[str, Any], designer: str, licence: str) -> Iterator[Drawing]:
    """The drawings of a set; each has a size of its own, or that of the set."""
    for name, own in found["icons"].items():
        if own.get("hidden"):
            continue
        left, top, width, height = (
            own.get(field, found.get(field, default))
            for field, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
        )
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{left} {top} {width} {height}">{own["body"]}</svg>'
        )
        yield Drawing(f"{found['prefix']}:{name}", designer, licence, svg)

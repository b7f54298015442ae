"""Compare page: tables of campaigns side by side, and test images on which their results disagree.

In: the rows of the tables as text, and what each result says of some images. Out: the text of a
page that needs no other file.

    html = compare_html(names, {"Figures": rows}, images, disagreements)
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from tasks.contract import Output
from tasks.report import Picture, pictures_of

STYLE = (
    "body{font:15px system-ui,sans-serif;margin:2em;color-scheme:light dark}"
    "table{border-collapse:collapse;margin:1em 0}th,td{text-align:left;padding:.3em 1em .3em 0;"
    "border-bottom:1px solid #8884;vertical-align:top}thead th{font-weight:600}"
    "tbody th{font-weight:400}img{display:block;width:96px}.tiny{image-rendering:pixelated}"
    ".wrong{color:#c33}"
)


@dataclass(frozen=True)
class Row:
    """A line of a table: what it is about, and a text for each campaign."""

    name: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What one result says of an image, and whether that is its class."""

    label: str
    probability: float
    is_right: bool


@dataclass(frozen=True)
class Disagreement:
    """A test image of which some results know the class and others do not."""

    image_id: int
    label: str
    answers: tuple[Answer, ...]


def compare_html(
    names: Sequence[str],
    tables: Mapping[str, Sequence[Row]],
    images: Output | None,
    disagreements: Sequence[Disagreement],
) -> str:
    """The page; `images` are those that the disagreements are about. Raises ProtegeError."""
    title = escape(" and ".join(names))
    bodies = [_table(heading, names, rows) for heading, rows in tables.items()]
    if images is not None:
        bodies.append(_pictures(names, images, disagreements))
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n'
        f"<style>{STYLE}</style>\n<h1>Campaigns side by side</h1>\n{''.join(bodies)}</html>\n"
    )


def _table(heading: str, names: Sequence[str], rows: Sequence[Row]) -> str:
    if not rows:
        return f"<h2>{escape(heading)}</h2>\n<p>None.</p>\n"
    lines = (f"<tr><th scope=row>{escape(row.name)}</th>{_cells(row.texts)}</tr>" for row in rows)
    body = "\n".join(lines)
    return (
        f"<h2>{escape(heading)}</h2>\n<table><thead><tr><th></th>{_heads(names)}</tr></thead>\n"
        f"<tbody>{body}</tbody></table>\n"
    )


def _heads(names: Sequence[str]) -> str:
    return "".join(f"<th scope=col>{escape(name)}</th>" for name in names)


def _cells(texts: Sequence[str]) -> str:
    return "".join(f"<td>{escape(text)}</td>" for text in texts)


def _pictures(names: Sequence[str], images: Output, disagreements: Sequence[Disagreement]) -> str:
    heading = "<h2>Test images on which they disagree</h2>\n"
    if not disagreements:
        return f"{heading}<p>None: all results are right on the same images.</p>\n"
    ids = np.array([found.image_id for found in disagreements], np.int64)
    pictures = pictures_of(images, ids, [found.label for found in disagreements])
    rows = zip(pictures, disagreements, strict=True)
    body = "\n".join(f"<tr>{''.join(_answers(*row))}</tr>" for row in rows)
    heads = f"<th scope=col>image</th><th scope=col>class</th>{_heads(names)}"
    return f"{heading}<table><thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody></table>\n"


def _answers(picture: Picture, found: Disagreement) -> Iterator[str]:
    small = picture.thumbnail
    tiny = " class=tiny" if small.is_tiny else ""
    key = escape(picture.key, quote=True)
    yield f'<td><img src="{small.uri}"{tiny} alt="{key}" title="{key}"></td>'
    yield f"<th scope=row>{escape(found.label)}</th>"
    for answer in found.answers:
        wrong = "" if answer.is_right else " class=wrong"
        yield f"<td{wrong}>{escape(answer.label)}, p {answer.probability:.3f}</td>"

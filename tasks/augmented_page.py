"""Augmented page: images beside what a training makes of them, as HTML that needs no other file.

In: lessons and the options of a training on them. Out: the text of the page.

    html = augmented_html(lessons, TrainOptions(augment=Augment(colour=1)), num_images=8)
"""

from collections.abc import Iterator
from html import escape

from tasks.contract import Output
from tasks.images import Pixels, thumbnail_of
from tasks.train import Augment, AugmentedPicture, TrainOptions, augmented_pictures

STYLE = (
    "body{font:15px system-ui,sans-serif;margin:2em;color-scheme:light dark}"
    "table{border-spacing:4px}th{text-align:left;font-weight:400;padding-right:1em}"
    "td{padding:0}td:nth-child(2){padding-right:12px}img{display:block;width:160px}"
    ".tiny{image-rendering:pixelated}"
)


def augmented_html(
    lessons: Output, options: TrainOptions, *, num_images: int = 8, num_versions: int = 6
) -> str:
    """A row for each image: its classes, itself, and its versions. Raises ProtegeError."""
    pictures = augmented_pictures(
        lessons, options, num_images=num_images, num_versions=num_versions
    )
    heads = ("Classes", "Not changed", *(f"Step {step}" for step in range(num_versions)))
    head = "".join(f"<th scope=col>{name}</th>" for name in heads)
    rows = "".join(f"<tr>{''.join(_cells(picture))}</tr>\n" for picture in pictures)
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Augmented images</title>\n'
        f"<style>{STYLE}</style>\n<h1>Augmented images</h1>\n"
        f"<p>Images of <code>{escape(lessons.uri)}</code> as the network would see them with<br>"
        f"<code>{escape(changes(options.augment))}</code></p>\n"
        f"<table><tr>{head}</tr>\n{rows}</table></html>\n"
    )


def changes(augment: Augment) -> str:
    """The options that differ from no change at all, as on the command line."""
    none = Augment(crop_min_area=1, flip=False)
    given = {name: getattr(augment, name) for name in Augment.model_fields}
    if not augment.randaugment_ops:
        given = {name: value for name, value in given.items() if "randaugment" not in name}
    shown = [
        f"augment.{name}={value}" for name, value in given.items() if value != getattr(none, name)
    ]
    return " ".join(shown) or "no change"


def _cells(picture: AugmentedPicture) -> Iterator[str]:
    yield f"<th scope=row>{escape(', '.join(picture.classes))}</th>"
    for pixels_HWC in (picture.original, *picture.versions):
        yield f"<td>{_image(pixels_HWC)}</td>"


def _image(pixels_HWC: Pixels) -> str:
    small = thumbnail_of(pixels_HWC)
    return f'<img src="{small.uri}"{" class=tiny" if small.is_tiny else ""} alt="">'

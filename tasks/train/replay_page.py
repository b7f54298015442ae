"""Replay page: a step that diverged, as a page: its images, and the values of its layers.

In: a `Replay`. Out: HTML with all pictures in it, and lines for the terminal.
"""

import base64
import io
import math
from collections.abc import Iterator

import numpy as np
from markupsafe import Markup, escape
from PIL import Image

from tasks.train.replay import Replay
from tasks.train.trace import LayerValues

STYLE = """
body { font: 15px system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em }
table { border-collapse: collapse } td, th { padding: .2em .8em; text-align: right }
td:first-child, th:first-child { text-align: left; font-family: monospace }
.bad { background: #fdd; color: #700 } figure { display: inline-block; margin: .4em; width: 9em }
figure img { width: 8em; image-rendering: pixelated } figcaption { font-size: 12px }
"""
HEADINGS = ("layer", "kind", "output", "largest value", "not finite", "largest gradient")


def replay_lines(replay: Replay) -> Iterator[str]:
    """The sentences, then a line for each layer."""
    yield from _sentences(replay)
    yield ""
    yield "{:<32} {:<16} {:>18} {:>14} {:>11} {:>17}".format(*HEADINGS)
    for layer in replay.layers:
        name, kind, *numbers = _cells(layer)
        yield "{:<32} {:<16} {:>18} {:>14} {:>11} {:>17}".format(name, kind, *numbers)


def replay_page(replay: Replay) -> str:
    """The page."""
    sentences = Markup("").join(
        Markup("<p>{}</p>").format(sentence) for sentence in _sentences(replay)
    )
    head = Markup("").join(Markup("<th>{}</th>").format(heading) for heading in HEADINGS)
    rows = Markup("").join(_row(layer) for layer in replay.layers)
    title = escape(f"Step {replay.step:,} of {replay.uri}")
    return (
        f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>"
        f"<h1>{title}</h1>{sentences}<h2>Images, as the network saw them before mixing</h2>"
        f"{Markup('').join(_figures(replay))}<h2>Layers</h2><table><tr>{head}</tr>{rows}</table>"
    )


def _sentences(replay: Replay) -> Iterator[str]:
    rank = f"virtual rank {replay.kept.rank + 1} of {replay.num_ranks}"
    yield (
        f"{replay.uri}: step {replay.step:,}, {rank}, made again on {replay.device} from the state "
        f"after step {replay.begun_at:,}: loss {replay.loss:g}"
    )
    if replay.step != replay.noticed_step:
        yield f"The loss was noticed at step {replay.noticed_step:,}."
    if not replay.diverges:
        yield "Here all values are finite: another device, or other rounding, gets past this step."
    if bad := replay.first_bad:
        names = [_name(replay, image) for image in bad.bad_images]
        yield (
            f"The first value that is not finite is in the output of {_title(bad)}, in "
            f"{len(names)} of {bad.shape[0]} images: {', '.join(names[:8])}"
            f"{', ...' if len(names) > 8 else ''}."
        )
    elif bad := replay.last_bad_gradient:
        yield f"The first gradient that is not finite is that of the output of {_title(bad)}."
    largest = max(replay.layers, key=lambda layer: layer.largest)
    steepest = max(replay.layers, key=lambda layer: layer.largest_gradient)
    yield f"The largest finite value is {largest.largest:.3g}, in {_title(largest)}."
    yield f"The largest finite gradient is {steepest.largest_gradient:.3g}, in {_title(steepest)}."
    if bad_state := replay.bad_state:
        shown = ", ".join(bad_state[:4]) + (", ..." if len(bad_state) > 4 else "")
        yield f"After the step, {len(bad_state)} tensors of the state are not finite: {shown}."
    if broken := [name for name, size in replay.gradients.items() if math.isnan(size)]:
        yield f"Of {len(replay.gradients)} parameters, {len(broken)} get such a gradient."


def _title(layer: LayerValues) -> str:
    return f"{layer.name or 'the network'} ({layer.kind})"


def _cells(layer: LayerValues) -> tuple[str, ...]:
    gradient = "not finite" if layer.bad_gradients else f"{layer.largest_gradient:.3g}"
    shape = "x".join(map(str, layer.shape))
    return layer.name, layer.kind, shape, f"{layer.largest:.3g}", str(layer.not_finite), gradient


def _row(layer: LayerValues) -> Markup:
    cells = Markup("").join(Markup("<td>{}</td>").format(cell) for cell in _cells(layer))
    mark = Markup(" class=bad") if layer.not_finite or layer.bad_gradients else Markup("")
    return Markup("<tr{}>{}</tr>").format(mark, cells)


def _figures(replay: Replay) -> Iterator[Markup]:
    bad = replay.first_bad
    for role, inputs in replay.kept.inputs.items():
        images_BHWC = inputs.images_BCHW.cpu().permute(0, 2, 3, 1).numpy()
        for row, pixels_HWC in enumerate(images_BHWC):
            label = ", ".join(map(str, inputs.classes_P[inputs.rows_P == row].tolist()))
            is_bad = bad is not None and row in bad.bad_images
            yield Markup(
                "<figure{}><img src='data:image/png;base64,{}' alt=''><figcaption>{}, class {}"
                "</figcaption></figure>"
            ).format(
                Markup(" class=bad") if is_bad else Markup(""),
                _png(pixels_HWC),
                replay.kept.names[role][row],
                label,
            )


def _name(replay: Replay, image: int) -> str:
    """The image of a row of the batch; of several data sets, rows count through all."""
    names = [name for role in replay.kept.names for name in replay.kept.names[role]]
    return names[image] if image < len(names) else f"row {image}"


def _png(pixels_HWC: "np.typing.NDArray[np.float32]") -> str:
    shown = (np.nan_to_num(pixels_HWC, nan=1.0).clip(0, 1) * 255).round().astype(np.uint8)
    sink = io.BytesIO()
    Image.fromarray(shown).save(sink, "PNG")
    return base64.b64encode(sink.getvalue()).decode()

"""Plots: figures as inline SVG that takes its colours from the page, light or dark.

In: arrays. Out: SVG text without a fixed size, with a description for those who cannot see it.
Matplotlib draws with stand-in colours, which are replaced by the page's CSS variables.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from markupsafe import Markup, escape
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from tasks.evaluate import counts_above
from tasks.topk import HISTOGRAM_EDGES

INK, SOFT, LINE, ACCENT, WARN = "#010101", "#020202", "#030303", "#040404", "#050505"
VARIABLES = {INK: "--ink", SOFT: "--soft", LINE: "--line", ACCENT: "--accent", WARN: "--warn"}
STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 12,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.linewidth": 1,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "text.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.parse_math": False,
}
CURVE_POINTS = 120
BEYOND = 3  # curves go on to this many times K
LOWEST = -8.0  # log-odds below are all alike: no

Points = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Curve:
    """Log-odds against rank (from 1): of the chosen images, and of the candidates after them."""

    label: int
    chosen: Points
    beyond: Points


def curves(classes: pa.Table, chosen: pa.Table, k: int, *, by_score: bool) -> list[Curve]:
    """The curve of each class; `by_score` is False where the chosen ones were drawn at random."""
    labels, log_odds = chosen["label"].to_numpy(), chosen["log_odds"].to_numpy()
    above_CB = counts_above(classes)
    found = []
    for row, class_row in enumerate(classes.select(["label", "kept"]).to_pylist()):
        first, last = np.searchsorted(labels, [class_row["label"], class_row["label"] + 1])
        mine = log_odds[first:last].astype(float)
        if not len(mine):
            # Where all classes compete with one another, one may get nothing.
            found.append(Curve(class_row["label"], *[_beyond(above_CB[row], 0, BEYOND * k)] * 2))
            continue
        at = np.unique(np.linspace(0, len(mine) - 1, CURVE_POINTS).astype(int))
        start = class_row["kept"] if by_score else 0
        beyond = _beyond(above_CB[row], start, BEYOND * k)
        if by_score:
            # The histogram knows ranks only at the edges of its bins; join it to the last score.
            beyond = (np.append(start, beyond[0]), np.append(mine[-1], beyond[1]))
        found.append(Curve(class_row["label"], (at + 1.0, mine[at]), beyond))
    return found


def score_curves(some: Sequence[Curve], k: int, flagged: set[int]) -> Markup:
    """The curves of all classes in one figure, those of suspects standing out."""
    figure, axes = _figure(12.6, 4.4)
    for curve in sorted(some, key=lambda one: one.label in flagged):
        colour = WARN if curve.label in flagged else ACCENT
        width = 2.2 if curve.label in flagged else 1.3
        axes.plot(*curve.chosen, color=colour, lw=width)
        axes.plot(*curve.beyond, color=colour, lw=width, ls=(0, (2, 2)), alpha=0.75)
    axes.axvline(k, color=SOFT, lw=1, ls=":")
    axes.annotate(
        f"K = {k:,}",
        xy=(k, 1),
        xycoords=("data", "axes fraction"),
        xytext=(5, -3),
        textcoords="offset points",
        va="top",
        color=SOFT,
    )
    _limit(axes, [part for one in some for part in (one.chosen, one.beyond)], k)
    axes.set_xlabel("rank within the class")
    axes.set_ylabel("log-odds")
    words = f"Log-odds against rank for {len(some)} classes; K is {k}."
    return _svg(figure, "scores", words)


def class_curve(
    typical_B: npt.NDArray[np.int64], curve: Curve, k: int, name: str, *, flagged: bool
) -> Markup:
    """The curve of one class before that of the median class."""
    figure, axes = _figure(3.9, 2.2)
    typical = _beyond(typical_B, 0, BEYOND * k)
    axes.plot(*typical, color=LINE, lw=3.5)
    colour = WARN if flagged else ACCENT
    axes.plot(*curve.chosen, color=colour, lw=2)
    axes.plot(*curve.beyond, color=colour, lw=1.5, ls=(0, (2, 2)))
    axes.plot(curve.chosen[0][-1:], curve.chosen[1][-1:], "o", color=colour, ms=6)
    _limit(axes, [curve.chosen, curve.beyond, typical], k)
    axes.set_xticks([1, k, 2 * k, 3 * k], ["1", "K", "2K", "3K"])
    words = f"Log-odds of class {name} fall from {curve.chosen[1][0]:.1f} at rank 1 to "
    words += f"{curve.chosen[1][-1]:.1f} at rank {curve.chosen[0][-1]:.0f}, the last one chosen."
    return _svg(figure, f"class-{curve.label}", words)


def training_curve(role: str, history: pa.Table) -> Markup:
    """Loss against steps, before the course of the learning rate."""
    figure, axes = _figure(6.1, 2.6)
    steps, loss = history["step"].to_numpy(), history["loss"].to_numpy()
    rate = history["learning_rate"].to_numpy()
    behind = axes.twinx()
    behind.fill_between(steps, rate / max(float(rate.max()), 1e-30), color=LINE, alpha=0.35, lw=0)
    behind.set_ylim(0, 1.15)
    behind.set_axis_off()
    axes.set_zorder(behind.get_zorder() + 1)
    axes.plot(steps, loss, color=ACCENT, lw=1.6)
    axes.set_ylim(bottom=min(0.0, float(loss.min())))
    axes.locator_params(axis="both", nbins=4)
    axes.set_xlabel("steps")
    words = (
        f"Training loss of the {role}, from {loss[0]:.2f} to {loss[-1]:.2f} in {steps[-1]} steps."
    )
    return _svg(figure, f"training-{role}", words)


def seed_dots(spread: Sequence[tuple[float, float, float | None]], names: Sequence[str]) -> Markup:
    """Baseline, student and perhaps random choice of each run, top-1 in percent."""
    figure, axes = _figure(12.6, 0.8 + 0.36 * len(spread))
    for place, (baseline, student, random) in enumerate(spread):
        axes.plot([baseline, student], [place, place], color=LINE, lw=3, zorder=1)
        axes.plot(baseline, place, "o", mfc="none", mec=SOFT, mew=1.8, ms=9)
        axes.plot(student, place, "o", color=ACCENT, ms=9.5)
        if random is not None:
            axes.plot(random, place, "D", color=WARN, ms=6)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("top-1 accuracy, %")
    words = f"Top-1 accuracy of the baseline and the student in {len(spread)} runs."
    return _svg(figure, "seeds", words)


def _beyond(above_B: npt.NDArray[np.int64], start: int, end: int) -> Points:
    """(rank, log-odds) at the edges of the histogram's bins, best first, from `start` to `end`."""
    # The first bin is open below: its edge is no log-odds of anything.
    counts, edges = above_B[:0:-1], HISTOGRAM_EDGES[-2:0:-1]
    inside = (counts > start) & (counts <= end)
    return counts[inside].astype(float), edges[inside].astype(float)


def _limit(axes: Any, some: Sequence[Points], k: int) -> None:
    heights = np.concatenate([log_odds for _, log_odds in some])
    axes.set_xlim(1, BEYOND * k)
    axes.set_ylim(max(LOWEST, float(heights.min())) - 0.5, float(heights.max()) + 1)
    axes.locator_params(axis="y", nbins=5)


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        return figure, figure.add_subplot()


def _svg(figure: Figure, name: str, words: str) -> Markup:
    sink = io.StringIO()
    # The salt makes the ids of one figure differ from those of the next on the page.
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None})
    text = sink.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"font: (?:\d+ )?([\d.]+px) [^;\"]*", r"font-size: \1", text)
    view = re.search(r'viewBox="[^"]*"', text)
    head = f'<svg {view[0] if view else ""} role="img" aria-label="{escape(words)}">'
    text = re.sub(r"<svg[^>]*>", lambda _: head, text, count=1)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return Markup(re.sub(r"\s*\n\s*", "\n", text))

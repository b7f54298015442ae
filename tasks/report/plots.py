"""Plots: figures as inline SVG that takes its colours from the page, light or dark.

In: curves and tables. Out: SVG text without a fixed size, with a description for readers who cannot
see it. Matplotlib draws with stand-in colours, which are replaced by the page's CSS variables.
"""

import io
import re
from collections.abc import Collection, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from markupsafe import Markup, escape
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from tasks.report.curves import END_RANKS, Curve, Points

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
MIN_LOG_ODDS = -8.0  # below it, candidates are all alike: not of the class


def score_curves(curves: Sequence[Curve], k: int, suspects: Collection[int]) -> Markup:
    """The curves of all classes in one figure, suspect ones in the colour of warnings."""
    figure, axes = _figure(12.6, 4.4)
    for curve in sorted(curves, key=lambda curve: curve.label in suspects):
        colour = WARN if curve.label in suspects else ACCENT
        width = 2.2 if curve.label in suspects else 1.3
        axes.plot(*curve.chosen, color=colour, lw=width)
        axes.plot(*curve.candidates, color=colour, lw=width, ls=(0, (2, 2)), alpha=0.75)
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
    _set_limits(
        axes, [points for curve in curves for points in (curve.chosen, curve.candidates)], k
    )
    axes.set_xlabel("rank within the class")
    axes.set_ylabel("log-odds")
    description = f"Log-odds against rank for {len(curves)} classes; K is {k}."
    return _svg(figure, "scores", description)


def class_curve(median: Points, curve: Curve, k: int, *, suspect: bool) -> Markup:
    """The curve of one class, in front of that of the median class."""
    figure, axes = _figure(3.9, 2.2)
    axes.plot(*median, color=LINE, lw=3.5)
    colour = WARN if suspect else ACCENT
    ranks, log_odds = curve.chosen
    axes.plot(ranks, log_odds, color=colour, lw=2)
    axes.plot(*curve.candidates, color=colour, lw=1.5, ls=(0, (2, 2)))
    axes.plot(ranks[-1:], log_odds[-1:], "o", color=colour, ms=6)
    _set_limits(axes, [curve.chosen, curve.candidates, median], k)
    axes.set_xticks([1, k, 2 * k, 3 * k], ["1", "K", "2K", "3K"])
    description = f"Class {curve.name} has no chosen image."
    if len(ranks):
        description = (
            f"Log-odds of class {curve.name} fall from {log_odds[0]:.1f} at rank 1 to "
            f"{log_odds[-1]:.1f} at rank {ranks[-1]:.0f}, the last one chosen."
        )
    return _svg(figure, f"class-{curve.label}", description)


def training_curve(role: str, noun: str, history: pa.Table) -> Markup:
    """Loss against steps, in front of the learning rate."""
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
    description = (
        f"Training loss of the {noun}, from {loss[0]:.2f} to {loss[-1]:.2f} in {steps[-1]} steps."
    )
    return _svg(figure, f"training-{role}", description)


def share_curve(
    name: str, noun: str, steps: npt.NDArray[np.int64], shares: Sequence[float], chance: float
) -> Markup:
    """A share from 0 to 1 against steps, and what it would be by chance."""
    figure, axes = _figure(6.1, 2.6)
    axes.plot(steps, shares, color=ACCENT, lw=1.6)
    axes.axhline(chance, color=SOFT, lw=1, ls=":")
    axes.set_ylim(0, 1)
    axes.locator_params(axis="both", nbins=4)
    axes.set_xlabel("steps")
    description = f"From {shares[0]:.2f} to {shares[-1]:.2f} in the training of the {noun}."
    return _svg(figure, name, description)


def seed_dots(runs: Sequence[tuple[float, float]], names: Sequence[str], nouns: str) -> Markup:
    """(compared, result) of each run, top-1 in percent: a ring and a dot."""
    figure, axes = _figure(12.6, 0.8 + 0.36 * len(runs))
    for row, (compared, result) in enumerate(runs):
        axes.plot([compared, result], [row, row], color=LINE, lw=3, zorder=1)
        axes.plot(compared, row, "o", mfc="none", mec=SOFT, mew=1.8, ms=9)
        axes.plot(result, row, "o", color=ACCENT, ms=9.5)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("top-1 accuracy, %")
    return _svg(figure, "seeds", f"Top-1 accuracy of {nouns} in {len(runs)} runs.")


def _set_limits(axes: Any, curves: Sequence[Points], k: int) -> None:
    heights = np.concatenate([log_odds for _, log_odds in curves])
    axes.set_xlim(1, END_RANKS * k)
    if len(heights):
        axes.set_ylim(max(MIN_LOG_ODDS, float(heights.min())) - 0.5, float(heights.max()) + 1)
    axes.locator_params(axis="y", nbins=5)


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        return figure, figure.add_subplot()


def _svg(figure: Figure, name: str, description: str) -> Markup:
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
    head = f'<svg {view[0] if view else ""} role="img" aria-label="{escape(description)}">'
    text = re.sub(r"<svg[^>]*>", lambda _: head, text, count=1)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return Markup(re.sub(r"\s*\n\s*", "\n", text))

"""Pictures of a run for people: outcomes, and outcomes over time, as PNG bytes.

Here: drawing. Not here: counting (data/figures), what a code means (wording). Every picture has a
light ground of its own, so that it reads the same in a dark page. Matplotlib is imported where it
draws (1 s), and without pyplot, which keeps figures in global state.
"""

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from data.figures import SUBMITTED
from tasks.wording import OUTCOMES, share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

# Okabe and Ito's palette, told apart by the colour-blind (jfly.uni-koeln.de/color).
_KINDS = {
    "delivered": ("#009E73", ("delivered",)),
    "under way": ("#56B4E9", ("pending", "deferred")),
    "in doubt": ("#E69F00", ("in_doubt",)),
    "not delivered": ("#D55E00", ("undelivered", "failed", "rejected", "expired")),
    "kept back": ("#CC79A7", ("blocked", "suppressed", "held_out", "cancelled")),
    "unusable row": ("#8A8F98", ("duplicate", "invalid")),
}
_KIND_OF = {outcome: kind for kind, (_, members) in _KINDS.items() for outcome in members}
_TEXT, _QUIET, _LINE, _GROUND = "#1C2430", "#5B6676", "#D9DEE5", "#FBFCFD"
_WIDTH = 8.4  # inches
_DPI = 120


def outcomes_png(counts: dict[str, int]) -> bytes:
    """Draw records by outcome as bars, each with its number and share."""
    bars = _bars(counts)
    figure = _figure(_bars_height(bars))
    _draw_outcomes(figure, bars, _caption(bars))
    return _png(figure)


def timeline_png(timeline: pd.DataFrame) -> bytes:
    """Draw how outcomes added up over time; `timeline` as from `data.figures.timeline`."""
    figure = _figure(3.8)
    _draw_timeline(figure, timeline)
    return _png(figure)


def summary_png(title: str, subtitle: str, counts: dict[str, int], timeline: pd.DataFrame) -> bytes:
    """Draw both under a title and a line of figures, as one picture."""
    bars = _bars(counts)
    heights = [_bars_height(bars), 3.6]
    figure = _figure(sum(heights) + 0.5)
    figure.suptitle(_plain(title), x=0.02, ha="left", fontsize=18, fontweight="bold", color=_TEXT)
    above, below = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
    _draw_outcomes(above, bars, subtitle)
    _draw_timeline(below, timeline)
    return _png(figure)


def _figure(height: float) -> "Figure":
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.1)
    return Figure(figsize=(_WIDTH, height), dpi=_DPI, layout=layout, facecolor=_GROUND)


def _png(figure: "Figure") -> bytes:
    """A third of the size that matplotlib writes: the few colours are kept in a palette."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    out = io.BytesIO()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3])
    picture.quantize(128).save(out, "PNG", optimize=True)
    return out.getvalue()


def _plain(text: str) -> str:
    # A pair of dollar signs would be set as a formula.
    return text.replace("$", r"\$")


# ------------------------------------------------------------------ outcomes


def _bars(counts: dict[str, int]) -> list[tuple[str, int]]:
    """The outcomes that occur, in the order of their meaning; unknown ones at the end."""
    known = [(outcome, counts[outcome]) for outcome in OUTCOMES if counts.get(outcome)]
    return known + [(name, n) for name, n in counts.items() if n and name not in OUTCOMES]


def _bars_height(bars: list[tuple[str, int]]) -> float:
    return 1.1 + 0.32 * max(len(bars), 2)


def _caption(bars: list[tuple[str, int]]) -> str:
    total = sum(rows for _, rows in bars)
    return f"Outcomes of {total:,} {'row' if total == 1 else 'rows'}"


def _draw_outcomes(part: "FigureBase", bars: list[tuple[str, int]], title: str) -> None:
    axes = _axes(part, title)
    axes.set_xticks([])
    if not bars:
        _nothing(axes, "No row has an outcome yet")
        return
    total = sum(rows for _, rows in bars)
    names = [name.replace("_", " ") for name, _ in bars]
    rows = [rows for _, rows in bars]
    drawn = axes.barh(names, rows, height=0.68, color=[_colour(name) for name, _ in bars])
    labels = [f"{count:,}  ({share(count, total)})" for count in rows]
    axes.bar_label(drawn, labels=labels, padding=5, color=_TEXT, fontsize=10)
    axes.set_ylim(max(len(bars), 2) - 0.5, -0.5)
    # Room for the label behind the longest bar.
    axes.set_xlim(0, max(rows) * (1.0 + 0.018 * max(len(label) for label in labels)))
    axes.tick_params(axis="y", length=0, labelsize=11, labelcolor=_TEXT)
    axes.spines["left"].set_visible(True)
    _legend(part, [name for name, _ in bars])


def _legend(part: "FigureBase", outcomes: list[str]) -> None:
    from matplotlib.patches import Patch

    kinds = [
        Patch(color=colour, label=kind)
        for kind, (colour, members) in _KINDS.items()
        if set(members) & set(outcomes)
    ]
    part.legend(
        handles=kinds,
        loc="outside lower left",
        ncols=len(_KINDS),
        frameon=False,
        fontsize=9,
        labelcolor=_QUIET,
        handlelength=0.9,
        handleheight=0.9,
        columnspacing=1.5,
    )


def _colour(outcome: str) -> str:
    return _KINDS[_KIND_OF[outcome]][0] if outcome in _KIND_OF else _QUIET


# ------------------------------------------------------------------ over time


def _draw_timeline(part: "FigureBase", timeline: pd.DataFrame) -> None:
    from matplotlib import dates, ticker

    axes = _axes(part, "Messages over time (UTC)")
    if timeline.empty:
        axes.set_xticks([])
        _nothing(axes, "Nothing has been sent yet")
        return
    lines = _lines(timeline)
    ends: list[tuple[str, float, str]] = []
    for name, line in lines.items():
        colour = _KINDS[name][0] if name in _KINDS else _TEXT
        width = 1.3 if name == SUBMITTED else 2.4
        axes.step(line.index, line, where="post", color=colour, linewidth=width)
        ends.append((f"{name} {int(line.iloc[-1]):,}", float(line.iloc[-1]), colour))
    axes.set_ylim(0, max(end for _, end, _ in ends) * 1.05)
    axes.margins(x=0)
    axes.yaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_major_locator(dates.AutoDateLocator(minticks=3, maxticks=7))  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(_clock(axes.xaxis.get_major_locator()))
    axes.grid(axis="y", color=_LINE, linewidth=0.8)
    axes.spines["bottom"].set_visible(True)
    _label_ends(axes, ends)


def _clock(locator: Any) -> Any:
    """Whole times at every tick, and the day once at the end of the axis."""
    from matplotlib.dates import ConciseDateFormatter

    day, minute, second = "%d %b %Y", "%H:%M", "%H:%M:%S"
    return ConciseDateFormatter(  # type: ignore[no-untyped-call]
        locator,
        formats=["%Y", "%b", "%d %b", minute, minute, second],
        zero_formats=["", "%Y", "%d %b", "%d %b", minute, second],
        offset_formats=["", "", "%Y", day, day, day],
    )


def _lines(timeline: pd.DataFrame) -> dict[str, pd.Series]:
    """Running totals by kind of outcome over naive UTC, each beginning at nothing."""
    kind = timeline["outcome"].map(lambda name: _KIND_OF.get(name, name))
    steps = timeline.assign(at=timeline["at"].dt.tz_convert(None))
    table = steps.groupby(["at", kind])["rows"].sum().unstack(fill_value=0).cumsum()
    first, last = table.index[0], table.index[-1]
    margin = max((last - first) / 60, pd.Timedelta(seconds=1))
    before, after = table.iloc[[0]] * 0, table.iloc[[-1]]
    table = pd.concat([before.set_axis([first - margin]), table, after.set_axis([last + margin])])
    order = [SUBMITTED, *_KINDS]
    return {name: table[name] for name in order if name in table}


def _label_ends(axes: "Axes", ends: list[tuple[str, float, str]]) -> None:
    """Write each line's name at its end, apart from one another, with a hairline to the line."""
    top = axes.get_ylim()[1]
    placed = _spread([end / top for _, end, _ in ends])
    for (label, end, colour), place in zip(ends, placed, strict=True):
        axes.annotate(
            label,
            xy=(1.0, end / top),
            xytext=(1.035, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=9.5,
            color=_TEXT,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 1.1,
                "shrinkA": 1,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )


def _spread(wanted: list[float], gap: float = 0.072) -> list[float]:
    """Move heights (0 to 1) apart by at least `gap`, keeping their order and close to the wanted.

    Pushed up from below first, then down from the top where that ran over it.
    """
    order = sorted(range(len(wanted)), key=lambda at: wanted[at])
    placed = dict.fromkeys(order, 0.0)
    lowest = 0.0
    for at in order:
        placed[at] = max(wanted[at], lowest)
        lowest = placed[at] + gap
    highest = 1.0
    for at in reversed(order):
        placed[at] = min(placed[at], highest)
        highest = placed[at] - gap
    return [placed[at] for at in range(len(wanted))]


# ------------------------------------------------------------------ both


def _axes(part: "FigureBase", title: str) -> "Axes":
    """Bare axes under a title that begins at the picture's left edge."""
    part.set_facecolor(_GROUND)
    part.suptitle(_plain(title), x=0.02, ha="left", fontsize=12.5, color=_TEXT)
    axes: Axes = part.subplots()
    axes.set_facecolor(_GROUND)
    for spine in axes.spines.values():
        spine.set_visible(False)
        spine.set_color(_LINE)
    axes.tick_params(colors=_QUIET, labelsize=9.5)
    return axes


def _nothing(axes: "Axes", words: str) -> None:
    axes.set_yticks([])
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", color=_QUIET, fontsize=12)

"""Pictures of a run for people: outcomes, and outcomes over time, as PNG bytes.

Here: drawing. Not here: counting (data/figures), what a code means (wording). Every picture has a
light ground of its own, so that it reads the same in a dark page. Matplotlib is imported where it
draws (1 s), and without pyplot, which keeps figures in global state.
"""

import io
from typing import TYPE_CHECKING, Any

import pandas as pd

from data.figures import SUBMITTED
from tasks.wording import OUTCOMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart by the colour-blind (jfly.uni-koeln.de/color).
_KINDS = {
    "Delivered": ("#009E73", ("delivered",)),
    "Under way": ("#56B4E9", ("pending", "deferred")),
    "In doubt": ("#E69F00", ("in_doubt",)),
    "Not delivered": ("#D55E00", ("undelivered", "failed", "rejected", "expired")),
    "Kept back": ("#CC79A7", ("blocked", "suppressed", "held_out", "cancelled")),
    "Unusable row": ("#8A8F98", ("duplicate", "invalid")),
}
_COLOURS = {outcome: colour for colour, outcomes in _KINDS.values() for outcome in outcomes}
_TEXT, _QUIET, _LINE, _GROUND = "#1C2430", "#5B6676", "#D9DEE5", "#FBFCFD"
# Outcomes of one kind share a colour; lines of one kind differ by their strokes.
_STROKES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
_WIDTH = 8.4  # inches
_DPI = 120


def outcomes_png(counts: dict[str, int]) -> bytes:
    """Draw records by outcome as bars, each with its number and share."""
    bars = _bars(counts)
    figure = _figure(_bars_height(bars))
    _draw_outcomes(figure.subplots(), bars)
    return _png(figure)


def timeline_png(timeline: pd.DataFrame) -> bytes:
    """Draw how outcomes added up over time; `timeline` as from `data.figures.timeline`."""
    figure = _figure(3.9)
    _draw_timeline(figure.subplots(), timeline)
    return _png(figure)


def summary_png(title: str, subtitle: str, counts: dict[str, int], timeline: pd.DataFrame) -> bytes:
    """Draw both, under a title and a line of figures, as one picture."""
    bars = _bars(counts)
    heights = [_bars_height(bars), 3.7]
    figure = _figure(sum(heights) + 1.0)
    figure.suptitle(_plain(title), x=0.02, ha="left", fontsize=17, fontweight="bold", color=_TEXT)
    above, below = figure.subfigures(2, 1, height_ratios=heights)
    for part in (above, below):
        part.set_facecolor(_GROUND)
    _draw_outcomes(above.subplots(), bars, _plain(subtitle))
    _draw_timeline(below.subplots(), timeline)
    return _png(figure)


def _figure(height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained", facecolor=_GROUND)


def _png(figure: "Figure") -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    out = io.BytesIO()
    FigureCanvasAgg(figure).print_png(out, metadata={"Software": None})
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
    return 0.95 + 0.34 * max(len(bars), 3)


def _draw_outcomes(axes: "Axes", bars: list[tuple[str, int]], title: str = "") -> None:
    total = sum(rows for _, rows in bars)
    _bare(axes, title or f"Outcomes of {total:,} rows")
    axes.set_xticks([])
    if not bars:
        axes.set_yticks([])
        _nothing(axes, "No row has an outcome yet")
        return
    names = [name.replace("_", " ") for name, _ in bars]
    rows = [rows for _, rows in bars]
    drawn = axes.barh(names, rows, height=0.68, color=[_colour(name) for name, _ in bars])
    shares = [f" {count:,}  ({_share(count, total)})" for count in rows]
    axes.bar_label(drawn, labels=shares, padding=2, color=_TEXT, fontsize=10)
    axes.invert_yaxis()
    axes.set_ylim(max(len(bars), 3) - 0.5, -0.6)
    # Room for the label behind the longest bar.
    axes.set_xlim(0, max(rows) * (1.0 + 0.022 * max(len(share) for share in shares)))
    axes.tick_params(axis="y", length=0, labelsize=11, labelcolor=_TEXT)
    axes.spines["left"].set_visible(True)
    _legend(axes, [name for name, _ in bars])


def _legend(axes: "Axes", outcomes: list[str]) -> None:
    from matplotlib.patches import Patch

    kinds = [
        Patch(color=colour, label=kind)
        for kind, (colour, members) in _KINDS.items()
        if set(members) & set(outcomes)
    ]
    axes.legend(
        handles=kinds,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=6,
        frameon=False,
        fontsize=9,
        labelcolor=_QUIET,
        handlelength=0.9,
        handleheight=0.9,
        columnspacing=1.4,
    )


def _colour(outcome: str) -> str:
    return _COLOURS.get(outcome, _QUIET)


def _share(part: int, whole: int) -> str:
    share = 100 * part / whole
    return "< 0.1 %" if share < 0.1 else f"{share:.1f} %"


# ------------------------------------------------------------------ over time


def _draw_timeline(axes: "Axes", timeline: pd.DataFrame) -> None:
    from matplotlib import dates, ticker

    _bare(axes, "Outcomes over time (UTC)")
    if timeline.empty:
        axes.set_xticks([])
        axes.set_yticks([])
        _nothing(axes, "Nothing has been sent yet")
        return
    table = timeline.pivot_table(index="at", columns="outcome", values="rows", aggfunc="sum")
    table = table.fillna(0).cumsum()
    # A step before the first, so that every line begins at nothing.
    step = (table.index[-1] - table.index[0]) / 60 or pd.Timedelta(seconds=1)
    table.loc[table.index[0] - step] = 0
    table = table.sort_index()
    order = [SUBMITTED, *OUTCOMES]
    ends: list[tuple[str, float, str]] = []
    strokes: dict[str, int] = {}
    for name in sorted(table, key=lambda name: order.index(name) if name in order else len(order)):
        colour = _TEXT if name == SUBMITTED else _colour(name)
        stroke = strokes.get(colour, 0)
        strokes[colour] = stroke + 1
        axes.step(
            table.index.tz_convert(None),
            table[name],
            where="post",
            color=colour,
            linewidth=1.4 if name == SUBMITTED else 2.2,
            linestyle=_STROKES[stroke % len(_STROKES)],
            solid_joinstyle="round",
        )
        label = f"{name.replace('_', ' ')} {int(table[name].iloc[-1]):,}"
        ends.append((label, float(table[name].iloc[-1]), colour))
    axes.set_ylim(0, max(end for _, end, _ in ends) * 1.05)
    axes.margins(x=0)
    axes.yaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))
    locator = dates.AutoDateLocator(minticks=3, maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    axes.grid(axis="y", color=_LINE, linewidth=0.8)
    axes.spines["bottom"].set_visible(True)
    _label_ends(axes, ends)


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


def _bare(axes: "Axes", title: str) -> None:
    axes.set_facecolor(_GROUND)
    axes.set_title(title, loc="left", fontsize=12.5, color=_TEXT, pad=10)
    for spine in axes.spines.values():
        spine.set_visible(False)
        spine.set_color(_LINE)
    axes.tick_params(colors=_QUIET, labelsize=9.5)


def _nothing(axes: Any, words: str) -> None:
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", color=_QUIET, fontsize=12)

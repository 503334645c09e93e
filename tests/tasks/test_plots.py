"""Pictures: whole, of a sensible size, and drawable whatever the run was like."""

import io
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tasks.plots import _spread, outcomes_png, summary_png, timeline_png
from tasks.wording import OUTCOMES

NOTHING = pd.DataFrame(columns=["at", "outcome", "rows"])
ALL = {outcome: 10**place for place, outcome in enumerate(OUTCOMES)}


def timeline(*steps: tuple[str, str, int]) -> pd.DataFrame:
    frame = pd.DataFrame(steps, columns=["at", "outcome", "rows"])
    return frame.assign(at=pd.to_datetime("2026-11-24T" + frame["at"] + "Z", utc=True))


SENT = timeline(
    ("08:00:00", "submitted", 9_000_000),
    ("08:00:01", "delivered", 8_000_000),
    ("08:01:00", "undelivered", 3),
    ("08:02:00", "failed", 1),
    ("09:00:00", "blocked", 5),
    ("09:00:00", "delivered", 900_000),
    ("10:30:00", "something_new", 1),
)


def opened(png: bytes) -> Image.Image:
    assert png.startswith(b"\x89PNG\r\n")
    picture = Image.open(io.BytesIO(png))
    picture.verify()
    return Image.open(io.BytesIO(png)).convert("L")


def assert_nothing_is_cut_off(picture: Image.Image) -> None:
    pixels = np.asarray(picture)
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert edge.min() > 240  # the light ground all around


@pytest.mark.parametrize(
    "counts",
    [
        {},
        {"delivered": 1},
        {"delivered": 10_000_000, "in_doubt": 1},
        {"invalid": 3, "something_new": 2},
        ALL,
    ],
    ids=["nothing", "one", "ten millions", "an unknown outcome", "all outcomes"],
)
def test_outcomes_are_drawn_whole(counts: dict[str, int]) -> None:
    png = outcomes_png(counts)
    picture = opened(png)
    assert picture.width == 1008
    assert 150 < picture.height < 1_000
    assert len(png) < 60_000
    assert_nothing_is_cut_off(picture)


def test_more_outcomes_make_a_taller_picture() -> None:
    assert opened(outcomes_png(ALL)).height > 2 * opened(outcomes_png({"delivered": 1})).height


@pytest.mark.parametrize(
    "steps",
    [NOTHING, timeline(("08:00:00", "delivered", 1)), SENT],
    ids=["nothing", "one instant", "a long run"],
)
def test_time_is_drawn_whole(steps: pd.DataFrame) -> None:
    png = timeline_png(steps)
    picture = opened(png)
    assert picture.width == 1008
    assert len(png) < 60_000
    assert_nothing_is_cut_off(picture)


def test_the_summary_holds_both_under_any_title() -> None:
    png = summary_png("Half price: $5 for a_b^c $", "1 of 2 · $1", {"delivered": 1}, SENT)
    picture = opened(png)
    assert picture.height > opened(timeline_png(SENT)).height
    assert_nothing_is_cut_off(picture)


@pytest.mark.parametrize("wanted", [[0.0] * 7, [1.0] * 7, [0.5, 0.51, 0.0, 1.0], [0.97, 0.95]])
def test_labels_keep_their_distance_and_order(wanted: list[float]) -> None:
    placed = _spread(wanted)
    ordered = sorted(placed)
    assert all(above - below > 0.0719 for below, above in pairwise(ordered))
    assert ordered[0] >= -1e-9
    assert ordered[-1] <= 1 + 1e-9
    assert sorted(range(len(wanted)), key=lambda at: (wanted[at], placed[at])) == sorted(
        range(len(wanted)), key=lambda at: placed[at]
    )

"""Price tables and estimates."""

from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.settings import settings
from tasks.pricing import DEFAULT_TABLE, Price, PriceTable, PriceTableError

TABLE = PriceTable(
    (
        Price("US", "USD", Decimal("0.0083"), "contract"),
        Price("GB", "GBP", Decimal("0.0315"), "contract"),
        Price("*", "USD", Decimal("0.25"), "assumption"),
    )
)

HEADER = "country,currency,price_per_segment,source\n"


def table_file(folder: Path, rows: str, header: str = HEADER) -> Path:
    path = folder / "prices.csv"
    path.write_text(header + rows, encoding="utf-8")
    return path


def column(*values: object) -> pd.Series:
    return pd.Series(values)


def test_a_message_costs_its_segments_at_the_price_of_its_country() -> None:
    estimate = TABLE.estimate(column("US", "GB", "us"), column(1, 3, 2))
    assert estimate["price"].tolist() == [Decimal("0.0083"), Decimal("0.0945"), Decimal("0.0166")]
    assert estimate["currency"].tolist() == ["USD", "GBP", "USD"]


@pytest.mark.parametrize("country", ["ZZ", "", None])
def test_a_country_without_a_row_has_the_price_of_the_star_row(country: str | None) -> None:
    estimate = TABLE.estimate(pd.Series([country], dtype="str"), column(2))
    assert estimate.iloc[0].tolist() == [Decimal("0.50"), "USD"]


def test_an_estimate_keeps_the_index_of_the_countries() -> None:
    estimate = TABLE.estimate(pd.Series(["US", "GB"], index=[9, 9]), column(1, 1))
    assert estimate.index.tolist() == [9, 9]


def test_a_text_without_segments_costs_nothing() -> None:
    assert TABLE.estimate(column("US"), column(0))["price"].tolist() == [Decimal(0)]


def test_totals_are_exact_where_floats_drift() -> None:
    count = 100_000
    summary = TABLE.summary(pd.Series(["US"] * count), pd.Series([1] * count))
    assert summary.loc["USD", "cost"] == Decimal("830")


def test_a_summary_has_one_row_a_currency_and_counts_what_was_assumed() -> None:
    summary = TABLE.summary(column("US", "GB", "FR", "US"), column(1, 2, 1, 3))
    assert summary.index.tolist() == ["GBP", "USD"]
    assert summary.loc["GBP"].tolist() == [1, 2, Decimal("0.063"), 0]
    assert summary.loc["USD"].tolist() == [3, 5, Decimal("0.2832"), 1]


@given(st.lists(st.tuples(st.sampled_from(["US", "GB", "FR"]), st.integers(0, 11)), min_size=2))
def test_summaries_of_partitions_add_up(rows: list[tuple[str, int]]) -> None:
    frame = pd.DataFrame(rows, columns=["country", "segments"])
    parts = [frame[:1], frame[1:]]
    added = pd.concat([TABLE.summary(p["country"], p["segments"]) for p in parts])
    whole = TABLE.summary(frame["country"], frame["segments"])
    assert added.groupby(level="currency").sum().to_dict() == whole.to_dict()


def test_a_table_is_read_with_a_byte_order_mark_and_small_letters(tmp_path: Path) -> None:
    path = table_file(tmp_path, "gb,gbp, 0.0315 ,contract\n*,usd,0.25,guess\n", "\ufeff" + HEADER)
    assert PriceTable.load(path).prices[0] == Price("GB", "GBP", Decimal("0.0315"), "contract")


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ("GBR,GBP,0.04,x\n", "line 2, column country: 'GBR' is no country"),
        ("GB,pounds,0.04,x\n", "line 2, column currency: 'pounds' is no currency"),
        ("GB,GBP,free,x\n", "line 2, column price_per_segment: 'free' is no price"),
        ("GB,GBP,-0.04,x\n", "column price_per_segment: '-0.04' is no price"),
        ("GB,GBP,NaN,x\n", "column price_per_segment: 'NaN' is no price"),
        ("GB,GBP,0.0000001,x\n", "column price_per_segment: '0.0000001' is no price"),
        ("GB,GBP,0,04,x\n", "line 2 has more cells than columns; write 0.04, not 0,04"),
        ("GB,GBP\n", "column price_per_segment: '' is no price"),
        ("*,USD,1,x\nGB,GBP,1,x\nGB,GBP,2,x\n", "line 4, column country: GB has a price already"),
        ("GB,GBP,0.04,x\n", "has no row for *"),
    ],
)
def test_a_faulty_table_is_refused_with_line_and_column(
    tmp_path: Path, rows: str, fault: str
) -> None:
    path = table_file(tmp_path, rows)
    with pytest.raises(PriceTableError) as refused:
        PriceTable.load(path)
    assert fault in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_table_without_a_column_is_refused_by_its_name(tmp_path: Path) -> None:
    path = table_file(tmp_path, "GB,0.04\n", "country,price\n")
    with pytest.raises(PriceTableError, match="has no column currency, price_per_segment, source"):
        PriceTable.load(path)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_table_that_cannot_be_read_is_one_clear_line(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "prices.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PriceTableError, match="cannot be"):
        PriceTable.load(path)


def test_sms_prices_names_the_company_s_own_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table_file(tmp_path, "US,EUR,0.005,contract\n*,EUR,0.1,contract\n")
    monkeypatch.setenv("SMS_PRICES", str(path))
    settings.cache_clear()
    try:
        assert PriceTable.load().prices[0].currency == "EUR"
    finally:
        settings.cache_clear()


def test_the_built_in_table_is_sound_and_names_a_source_for_every_price() -> None:
    prices = PriceTable.load(DEFAULT_TABLE).prices
    assert len(prices) > 25
    assert all(price.source and price.per_segment > 0 for price in prices)
    assert prices[-1].per_segment == max(price.per_segment for price in prices)

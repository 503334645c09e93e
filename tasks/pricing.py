"""Pricing: what segments cost by country, from a price table, before anything is sent.

Here: reading and checking a table, and estimates in exact decimals. Not here: the prices
themselves (data/prices, or the file that SMS_PRICES names), what a gateway charged in the end.
"""

import csv
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from data.errors import SmsError
from data.settings import PROJECT, settings

DEFAULT_TABLE = PROJECT / "data" / "prices" / "default.csv"
COLUMNS = ("country", "currency", "price_per_segment", "source")
ELSEWHERE = "*"  # the row for every country without one

# Six decimals, millionths of a unit: gateways quote four or five. Amounts are decimals all the
# way; a million floats of 0.0083 do not add up to 8,300.
_MONEY = pa.decimal128(18, 6)
_STEP = Decimal("0.000001")


class PriceTableError(SmsError):
    """A price table that cannot be used, with its file, line and column."""


@dataclass(frozen=True)
class Price:
    """One row of a price table; `per_segment` is in whole units of the currency."""

    country: str
    currency: str
    per_segment: Decimal
    source: str


@dataclass(frozen=True)
class PriceTable:
    """Prices by ISO 3166 country, with one for everywhere else."""

    prices: tuple[Price, ...]  # the last one is for everywhere else

    @classmethod
    def load(cls, path: Path | None = None) -> "PriceTable":
        """Read a CSV table; without a path the one that SMS_PRICES names, or the built-in one.

        Raises `PriceTableError` with the line and column of the first fault.
        """
        path = path or settings().prices or DEFAULT_TABLE
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                return cls(_ordered(path, _rows(path, csv.DictReader(file, strict=True))))
        except OSError as error:
            raise PriceTableError(
                f"the price table {path} cannot be opened: {error.strerror}; check SMS_PRICES"
            ) from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise PriceTableError(
                f"the price table {path} cannot be read: {error}; save it as CSV in UTF-8"
            ) from error

    def estimate(self, countries: pd.Series, segments: pd.Series) -> pd.DataFrame:
        """Price messages: `price` (decimal, six places) and `currency`, indexed as `countries`.

        `segments` is aligned by position. A country without a row, or a missing one, has the
        price of the `*` row.
        """
        at = self._find(countries)
        rates = pa.array([price.per_segment for price in self.prices], _MONEY)
        count = pa.array(segments.to_numpy(dtype=np.int64)).cast(pa.decimal128(19, 0))
        amounts = pc.multiply(rates.take(pa.array(at)), count).cast(_MONEY)
        currencies = np.array([price.currency for price in self.prices], dtype=object)
        return pd.DataFrame(
            {
                "price": pd.Series(amounts, dtype=pd.ArrowDtype(_MONEY)),
                "currency": pd.Series(currencies[at], dtype="str"),
            }
        ).set_axis(countries.index)

    def summary(self, countries: pd.Series, segments: pd.Series) -> pd.DataFrame:
        """Add up an estimate: one row a currency, indexed by it, in alphabetical order.

        Columns: `messages`, `segments`, `cost` (exact decimal) and `assumed`, the number of
        messages that had to be priced by the `*` row. Summaries of partitions add up:
        `pd.concat(parts).groupby(level="currency").sum()`.
        """
        estimate = self.estimate(countries, segments)
        return (
            pd.DataFrame(
                {
                    "currency": estimate["currency"].to_numpy(),
                    "messages": 1,
                    "segments": segments.to_numpy(dtype=np.int64),
                    "cost": estimate["price"].array,
                    "assumed": (self._find(countries) == len(self.prices) - 1).astype(np.int64),
                }
            )
            .groupby("currency", sort=True)
            .sum()
        )

    def _find(self, countries: pd.Series) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        known = pd.Index([price.country for price in self.prices])
        at = known.get_indexer(pd.Index(countries.astype("str").str.upper()))
        return np.where(at < 0, len(self.prices) - 1, at)


def _rows(path: Path, reader: "csv.DictReader[str]") -> list[Price]:
    absent = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if absent:
        raise PriceTableError(
            f"the price table {path} has no column {', '.join(absent)};"
            f" its first line is {','.join(COLUMNS)}"
        )
    prices: dict[str, Price] = {}
    for row in reader:
        where = f"the price table {path}, line {reader.line_num}"
        if None in row:
            raise PriceTableError(
                f"{where} has more cells than columns; write 0.04, not 0,04, and put a source"
                " that holds a comma in quotes"
            )
        price = _price(where, {name: (row[name] or "").strip() for name in COLUMNS})
        if price.country in prices:
            raise PriceTableError(
                f"{where}, column country: {price.country} has a price already; keep one of them"
            )
        prices[price.country] = price
    return list(prices.values())


def _price(where: str, row: dict[str, str]) -> Price:
    country, currency = row["country"].upper(), row["currency"].upper()
    if country != ELSEWHERE and not re.fullmatch("[A-Z]{2}", country):
        raise PriceTableError(
            f"{where}, column country: {row['country']!r} is no country; write two letters as in"
            " GB, or * for everywhere else"
        )
    if not re.fullmatch("[A-Z]{3}", currency):
        raise PriceTableError(
            f"{where}, column currency: {row['currency']!r} is no currency; write three letters"
            " as in USD"
        )
    try:
        amount = Decimal(row["price_per_segment"])
        # From 0 to 10,000 a segment in millionths; NaN and Infinity fail the comparison.
        usable = 0 <= amount < 10_000 and amount == amount.quantize(_STEP)
    except InvalidOperation:
        usable = False
    if not usable:
        raise PriceTableError(
            f"{where}, column price_per_segment: {row['price_per_segment']!r} is no price; write a"
            " number as in 0.0083, with a point and at most six decimals"
        )
    return Price(country, currency, amount, row["source"])


def _ordered(path: Path, prices: list[Price]) -> tuple[Price, ...]:
    elsewhere = [price for price in prices if price.country == ELSEWHERE]
    if not elsewhere:
        raise PriceTableError(
            f"the price table {path} has no row for {ELSEWHERE}, every country not in it; add one"
        )
    return (*(price for price in prices if price.country != ELSEWHERE), *elsewhere)

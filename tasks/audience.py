"""Which source column means what, and the canonical columns made from them.

Belongs here: column names, and the ways people write countries, consent and dates. Not here:
judging a record (validation.py) or a number (phones.py), and opening files (adapters/sources).
"""

import csv
import difflib
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from adapters.sources.base import ColumnMapping
from data.errors import SmsError
from data.privacy import mask_text
from data.settings import PROJECT
from tasks.column_words import NO, SYNONYMS, YES

FIELDS = (
    "phone",
    "country",
    "timezone",
    "subdivision",
    "opt_in",
    "opt_in_at",
    "age_verified",
)


class AudienceError(SmsError):
    """The columns of an audience cannot be told apart, or what was said of them is wrong."""


@dataclass(frozen=True)
class Mapped:
    """The source column of each canonical field, and in `notes` what was guessed, for people."""

    phone: str
    country: str | None = None
    timezone: str | None = None
    subdivision: str | None = None
    opt_in: str | None = None
    opt_in_at: str | None = None
    age_verified: str | None = None
    notes: tuple[str, ...] = ()


def map_columns(
    columns: Sequence[str], mapping: ColumnMapping, *, source: str = "the audience"
) -> Mapped:
    """Find the column of each field: the one that `mapping` names, else a guess from its name.

    `source` is what errors call the audience (a path, a block). Raises `AudienceError` where a
    named column does not exist, where two columns are equally good guesses, and where no column
    looks like a phone number.
    """
    named = {field: name for field in FIELDS if (name := getattr(mapping, field))}
    for field, name in named.items():
        if name not in columns:
            raise AudienceError(_no_such_column(field, name, columns, source))
    free = [name for name in columns if name not in named.values()]
    found: dict[str, str] = dict(named)
    notes: list[str] = []
    for field in FIELDS:
        if field not in named and (guess := _guess(field, free, source)):
            found[field] = guess
            notes.append(_note(field, guess, free))
    if "phone" not in found:
        raise AudienceError(
            f"no phone column found in {source}: {_listed(columns)}; name it: columns: {{phone: …}}"
        )
    return Mapped(**found, notes=tuple(notes))


def canonical(
    frame: pd.DataFrame, mapped: Mapped, *, default_country: str | None = None
) -> pd.DataFrame:
    """Return the canonical columns of a partition, row for row and with its index.

    In: text columns (`str`, NaN for empty). Out: `phone`, `country` (alpha-2 where known, else as
    written; `default_country`, an alpha-2 code, where empty), `timezone`, `subdivision`, `opt_in`
    and `age_verified` (`yes`, `no`, else as written), all `str`, stripped, NaN where empty or not
    mapped; `opt_in_at` (`datetime64[us, UTC]`, without a zone taken for UTC) and
    `opt_in_at_reading`, which tells validation how its text could be read: `clear`, `ambiguous`,
    `unreadable`, NaN where empty.
    """
    text = {field: _stripped(frame, getattr(mapped, field)) for field in FIELDS}
    country = _translated(text["country"], _country)
    moment, reading = _moments(text["opt_in_at"])
    return pd.DataFrame(
        {
            "phone": text["phone"],
            "country": country.fillna(default_country) if default_country else country,
            "timezone": text["timezone"],
            "subdivision": text["subdivision"],
            "opt_in": _translated(text["opt_in"], _yes_or_no),
            "opt_in_at": moment,
            "opt_in_at_reading": reading,
            "age_verified": _translated(text["age_verified"], _yes_or_no),
        }
    )


@cache
def alpha2_codes() -> frozenset[str]:
    """The country codes that exist: ISO 3166-1, and XK, AC and TA, which have numbers too."""
    return frozenset(_countries().values())


@cache
def _countries() -> dict[str, str]:
    """Every written form in data/countries.csv, as a key, to its alpha-2 code."""
    with (PROJECT / "data" / "countries.csv").open(encoding="utf-8", newline="") as file:
        return {
            _key(form): row["alpha2"]
            for row in csv.DictReader(file)
            for form in (row["alpha2"], row["alpha3"], *row["names"].split("|"))
            if form
        }


def _country(text: str) -> str:
    # "n/a" is no country, though its letters are Namibia's.
    return text if "/" in text else _countries().get(_key(text), text)


@cache
def _answers() -> dict[str, str]:
    return {
        _key(word) or word: answer
        for answer, words in (("yes", YES), ("no", NO))
        for word in words.split()
    }


def _yes_or_no(text: str) -> str:
    # A column of 1 and 0 with gaps comes out of pandas as 1.0 and 0.0.
    return _answers().get(_key(text.removesuffix(".0")) or text, text)


def _key(text: str) -> str:
    """Text without case, accents, spaces and punctuation: `Tél. portable` → `telportable`."""
    plain = unicodedata.normalize("NFKD", text.casefold().replace("&", " and "))
    return "".join(letter for letter in plain if letter.isalnum())


def _stripped(frame: pd.DataFrame, column: str | None) -> "pd.Series[str]":
    if column is None:
        return pd.Series(pd.NA, index=frame.index, dtype="str")
    text = frame[column].str.strip()
    return text.mask(text == "")


def arrow_text(column: "pd.Series[str]") -> pa.LargeStringArray:
    """Return a text column as one Arrow array; a frame that was pieced together has several."""
    text = pa.array(column, pa.large_string())
    return text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text


def _translated(column: "pd.Series[str]", read: Callable[[str], str]) -> "pd.Series[str]":
    """Apply `read` to each distinct value of a text column; a partition has few of them."""
    codes, values = pd.factorize(column)
    # Missing values have the code -1, which is no label of the table, and so stay missing.
    table = pd.Series([read(value) for value in values], dtype="str")
    return table.reindex(codes).set_axis(column.index)


def _guess(field: str, columns: Sequence[str], source: str) -> str | None:
    for rank in SYNONYMS[field]:
        found = [name for name in columns if _is_called(name, rank)]
        if len(found) == 1:
            return found[0]
        if found:
            raise AudienceError(
                f"{len(found)} columns of {source} may be the {field}"
                f" ({_quoted(found)}): name one: columns: {{{field}: …}}"
            )
    return None


def _is_called(name: str, rank: str) -> bool:
    """Whether a column has one of a rank's names, or one with a number behind it (`phone2`)."""
    key = _key(name)
    return bool({key, re.sub(r"[1-9]$", "", key)} & set(rank.split()))


def _note(field: str, guess: str, columns: Sequence[str]) -> str:
    note = f"{field}: guessed column {_quoted([guess])}"
    passed_over = [
        name
        for name in columns
        if name != guess and any(_is_called(name, rank) for rank in SYNONYMS[field])
    ]
    if not passed_over:
        return note
    why = ", as SMS goes to mobiles" if field == "phone" else ""
    return f"{note}, preferred to {_quoted(passed_over)}{why}"


def _no_such_column(field: str, name: str, columns: Sequence[str], source: str) -> str:
    by_key = {_key(column): column for column in columns}
    close = difflib.get_close_matches(_key(name), by_key, n=1)
    hint = f", did you mean {_quoted([by_key[close[0]]])}?" if close else ""
    return (
        f"columns: {{{field}: {mask_text(name)}}} names no column of {source}{hint or ':'}"
        f" {_listed(columns)}"
    )


def _listed(columns: Sequence[str]) -> str:
    # Without a header line the "names" are somebody's number and name.
    if any(mask_text(name) != name for name in columns):
        return "its first line looks like a record, so it may need a line of column names"
    return f"columns are {_quoted(columns)}"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"“{mask_text(name)}”" for name in names)


# ------------------------------------------------------------------ dates as people write them

CLEAR = "clear"
AMBIGUOUS = "ambiguous"
UNREADABLE = "unreadable"

_ZONE = r"(?:Z|[+-]\d{2}(?::?\d{2})?)"
_ISO = (
    rf"\d{{4}}-\d{{2}}-\d{{2}}(?:[T ]\d{{2}}:\d{{2}}(?::\d{{2}}(?:\.\d{{1,9}})?)?{_ZONE}?)?"
    rf"|\d{{8}}(?:T\d{{4}}(?:\d{{2}})?{_ZONE}?)?"
)
# A blank before AM and PM is U+202F where the Unicode CLDR wrote it.
_DAY_CLOCK_ZONE = (
    r"^(?P<day>.*?)(?:[T,\s]+"
    r"(?P<clock>\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:[\s\x{00A0}\x{202F}]?[AaPp]\.?[Mm]\.?)?)"
    rf"\s?(?P<zone>UTC|GMT|{_ZONE})?)?$"
)
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}(?:\.\d+)?))?\s?(?:([ap])\.?m\.?)?", re.I)
_YEAR_FIRST = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})")
# No locale of the Unicode CLDR writes the month first with dots, so these are day first.
_DOTTED = re.compile(r"(\d{1,2})\.\s?(\d{1,2})\.\s?(\d{4})")
_EITHER_WAY = re.compile(r"(\d{1,2})([/-])(\d{1,2})\2(\d{4}|\d{2})|\d{1,2}\.\d{1,2}\.\d{2}")
_WEEKDAY = r"(?:[^\W\d]+\.?,?\s+)?"
_DAY_NAME = re.compile(
    _WEEKDAY + r"(\d{1,2})(?:st|nd|rd|th|\.)?[\s-]+(?:de\s)?([^\W\d]+)\.?,?[\s-]+(?:de\s)?(\d{4})"
)
_NAME_DAY = re.compile(_WEEKDAY + r"([^\W\d]+)\.?\s+(\d{1,2})(?:st|nd|rd|th)?,?\s+(\d{4})")
_MONTHS = (  # English, German, French, Spanish
    "jan january januar jänner janvier janv enero ene",
    "feb february februar février févr fév febrero",
    "mar march märz mär mrz mars marzo",
    "apr april avril avr abril abr",
    "may mai mayo",
    "jun june juni juin junio",
    "jul july juli juillet juil julio",
    "aug august août agosto ago",
    "sep sept september septembre septiembre",
    "oct october oktober okt octobre octubre",
    "nov november novembre noviembre",
    "dec december dezember dez décembre déc diciembre dic",
)


def _moments(text: "pd.Series[str]") -> "tuple[pd.Series[pd.Timestamp], pd.Series[str]]":
    """Read a column of dates and times to UTC, and say how well each could be read.

    Numbers of seconds are unreadable on purpose: a column of phone numbers would pass for them.
    """
    is_iso = text.str.fullmatch(_ISO)
    iso = text.where(is_iso)
    other = text[~is_iso & text.notna()]
    ambiguous = pd.Index([])
    if len(other):
        # pandas' own extract loops over rows.
        parts = pc.extract_regex(arrow_text(other), _DAY_CLOCK_ZONE)
        written = {
            name: pd.Series(parts.field(name), index=other.index, dtype="str")
            for name in ("day", "clock", "zone")
        }
        day = _translated(written["day"], _day)
        clock = _translated(written["clock"], _clock)
        zone = written["zone"].replace({"UTC": "Z", "GMT": "Z"})
        iso.loc[other.index] = day + "T" + clock + zone
        ambiguous = day.index[day == AMBIGUOUS]
    moment = pd.to_datetime(iso, format="ISO8601", utc=True, errors="coerce").dt.as_unit("us")
    reading = pd.Series(UNREADABLE, index=text.index, dtype="str").mask(moment.notna(), CLEAR)
    reading.loc[ambiguous] = AMBIGUOUS
    return moment, reading.where(text.notna())


def _day(text: str) -> str:
    """Return a written date as `YYYY-MM-DD`, or AMBIGUOUS, or UNREADABLE."""
    if found := _YEAR_FIRST.fullmatch(text):
        year, month, day = found[1], found[3], found[4]
    elif found := _DOTTED.fullmatch(text):
        day, month, year = found.groups()
    elif found := _EITHER_WAY.fullmatch(text):
        day, month, year = found[1], found[3], found[4]
        if not year or len(year) == 2 or (day != month and int(day) <= 12 and int(month) <= 12):
            return AMBIGUOUS
        if int(month) > 12:
            day, month = month, day
    elif found := _DAY_NAME.fullmatch(text):
        day, month, year = found[1], _month(found[2]), found[3]
    elif found := _NAME_DAY.fullmatch(text):
        month, day, year = _month(found[1]), found[2], found[3]
    else:
        return UNREADABLE
    return f"{year}-{month:0>2}-{day:0>2}"


def _month(name: str) -> str:
    word = name.casefold()
    return next((str(n) for n, names in enumerate(_MONTHS, 1) if word in names.split()), UNREADABLE)


def _clock(text: str) -> str:
    """Return a written time of day as `HH:MM:SS`, or UNREADABLE; without one it is midnight."""
    if not text:
        return "00:00"
    found = _CLOCK.fullmatch(text)
    if not found:
        return UNREADABLE
    hour, minute, second, half = int(found[1]), found[2], found[3] or "00", found[4]
    if half:
        if not 1 <= hour <= 12:
            return UNREADABLE
        hour = hour % 12 + (12 if half in "pP" else 0)
    return f"{hour:02}:{minute}:{second}"

"""Markdown for people: templates filled in, values escaped, money, times and pictures in words.

Here: how a value stands in a cell or line. Not here: which values stand where (reporting, preview).
"""

import base64
import re
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from tasks.validation import TEMPLATES

if TYPE_CHECKING:
    from jinja2 import Environment


class _Markdown(str):
    """Text that is Markdown already."""


# No character that could end the link or begin something else.
_ADDRESS = re.compile(r"https?://[\w.-]+(?::\d+)?(?:/[\w./?=&%+,;:@~#!*-]*[\w/=&%+#-])?", re.ASCII)
_SPECIAL = re.compile(r"[\\`*\[\]<>|~#&]|(?<![^\W_])_|_(?![^\W_])")
_BREAK = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


def escape(value: object) -> str:
    """Return a value as it may stand in any cell or line of Markdown; integers with commas."""
    if isinstance(value, _Markdown):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = "" if value is None else str(value)
    return _BREAK.sub("<br>", _SPECIAL.sub(r"\\\g<0>", text))


def linked(text: str) -> str:
    """Return text as it may stand anywhere, each web address in it a link called by its host."""
    shown, begin = [], 0
    for found in _ADDRESS.finditer(text):
        address = found[0]
        host = address.split("/")[2].removeprefix("www.")
        # Inside the brackets < > an address may hold what would otherwise end or emphasise.
        shown += [escape(text[begin : found.start()]), f"[{escape(host)}](<{address}>)"]
        begin = found.end()
    return _Markdown("".join([*shown, escape(text[begin:])]))


def render(template: str, **values: Any) -> str:
    """Fill in `data/templates/TEMPLATE.md.j2`; every value it shows is escaped."""
    text = _environment().get_template(f"{template}.md.j2").render(values)
    return re.sub(r"\n{3,}", "\n\n", text)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Whatever a template shows goes through `escape`; a template cannot forget to.
    environment = Environment(  # noqa: S701 - Markdown, not HTML
        loader=FileSystemLoader(TEMPLATES),
        finalize=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["instant"] = instant
    return environment


def instant(moment: datetime | None) -> str:
    """Return an instant to the minute; nothing where there is none."""
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"


def money(currency: str, amount: Decimal) -> str:
    """Return an amount with its currency, such as `USD 1,234.50`; small ones with four decimals."""
    places = 2 if abs(amount) >= 1 or not amount else 4
    return f"{currency} {amount:,.{places}f}".strip()


def duration(seconds: float) -> str:
    """Return a time such as `4.2 s`, `3 min 20 s` or `2 h 5 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"


def data_uri(picture: bytes) -> str:
    """Return a PNG as an address that holds the whole picture."""
    return _Markdown("data:image/png;base64," + base64.b64encode(picture).decode())


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a small frame as a template wants them."""
    return cast(list[dict[str, Any]], frame.to_dict("records"))

"""The feature matrix of all gateways as a Markdown table, made from their capabilities alone.

`uv run python -m adapters.gateways.matrix` renews it in README.md here. What the words stand for is
said at `Capabilities`.
"""

import sys
from datetime import timedelta
from pathlib import Path

from adapters.gateways import ADAPTERS
from adapters.gateways.base import Capabilities, Recovery

README = Path(__file__).parent / "README.md"
COMMAND = "uv run python -m adapters.gateways.matrix"
BEGIN = f"<!-- feature matrix: {COMMAND} -->"
END = "<!-- end of feature matrix -->"

COLUMNS = (
    *("gateway", "messages in one request", "our reference comes back", "after a crash"),
    *(
        "reports",
        "a callback proves itself by",
        "replies",
        "tells of opt-outs",
        "validity",
        "price",
    ),
    *("status can be asked", "longest text"),
)
BATCH = {"same_text": ", one text", "variables": ", one sender and deadline", "distinct": ""}
REFERENCE = {
    "field": "in a field",
    "callback_url": "in the callback address",
    "submission": "one for the request, with the number",
    "none": "no",
}
CALLBACKS = {
    "signed": "a signature",
    "token": "a token in the address",
    "bind": "our own connection",
}
PRICE = {"answer": "in the answer", "report": "in the report", "poll": "looked up", "none": "no"}
UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def matrix() -> str:
    """Return the table, with a row for each kind in the order of their names."""
    kinds = {
        settings.model_fields["kind"].default: adapter.capabilities
        for settings, adapter in ADAPTERS.items()
    }
    head = [_line(*COLUMNS), _line(*["---"] * len(COLUMNS))]
    return "\n".join(head + [row(kind, kinds[kind]) for kind in sorted(kinds)])


def in_readme() -> str:
    """Return the table that README.md has now. Raises `ValueError` where a marker is missing."""
    _, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    table, found, _ = rest.partition(END)
    if not found:
        raise ValueError(f"{README.name} needs the lines {BEGIN} and {END}")
    return table.strip()


def renew() -> None:
    """Put the table into README.md, between its two markers."""
    in_readme()
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n\n{matrix()}\n\n{END}{after}", encoding="utf-8")


def row(kind: str, can: Capabilities) -> str:
    """Return the row of a gateway kind."""
    return _line(
        f"`{kind}`",
        "1" if can.batch == "single" else f"{can.max_batch:,}{BATCH[can.batch]}",
        REFERENCE[can.reference],
        _recovery(can),
        "for each part" if can.parts else "for each message",
        CALLBACKS[can.callbacks],
        _yes(can.inbound),
        " and ".join(f"in the {place}" for place in can.opt_outs) or "no",
        _yes(can.validity),
        PRICE[can.price],
        _yes(can.polls),
        f"{can.max_text:,}",
    )


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _recovery(can: Capabilities) -> str:
    match can.recovery:
        case Recovery.RESEND:
            return f"may be sent again within {_span(can.resend_window)}: taken once"
        case Recovery.BY_REFERENCE:
            absence = f"; not there after {_span(can.absence_after)}: not taken"
            return "found by reference" + (absence if can.absence_after else "")
        case Recovery.BY_NUMBER:
            return "found by number and time"
        case _:
            return "only a report tells"


def _span(span: timedelta | None) -> str:
    seconds = int(span.total_seconds()) if span else 0
    size, unit = next((entry for entry in UNITS if seconds % entry[0] == 0), UNITS[-1])
    return f"{seconds // size} {unit}{'' if seconds == size else 's'}"


def _yes(can: bool) -> str:
    return "yes" if can else "no"


if __name__ == "__main__":
    renew()
    sys.stdout.write(f"{README}: renewed\n")

"""Values in Markdown: whatever they hold, they stay in their cell."""

from decimal import Decimal

import pytest

from tasks.markdown import duration, escape, linked, money


@pytest.mark.parametrize(
    ("value", "escaped"),
    [
        ("a|b", r"a\|b"),
        ("one\r\ntwo\nthree\u2028four", "one<br>two<br>three<br>four"),
        ("*x* `y` [z](u) <b> ~~s~~ &amp; \\", r"\*x\* \`y\` \[z\](u) \<b\> \~\~s\~\~ \&amp; \\"),
        ("snake_case and _emphasis_", r"snake_case and \_emphasis\_"),
        (1234567, "1,234,567"),
        (None, ""),
    ],
)
def test_values_cannot_break_out_of_a_cell(value: object, escaped: str) -> None:
    assert escape(value) == escaped


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("47 CFR 64, https://www.a.gov/x.html", "47 CFR 64, [a.gov](<https://www.a.gov/x.html>)"),
        ("https://a.b/c?x=1&y=2; and *so*", r"[a.b](<https://a.b/c?x=1&y=2>); and \*so\*"),
        ("see https://a.b/c.", "see [a.b](<https://a.b/c>)."),
        ("[x](javascript:alert(1))", r"\[x\](javascript:alert(1))"),
        ("https://a.b/c><img>", r"[a.b](<https://a.b/c>)\>\<img\>"),
        ("https://a.b/c|d", r"[a.b](<https://a.b/c>)\|d"),
        ("Product decision: why", "Product decision: why"),
    ],
)
def test_web_addresses_become_links_that_nothing_breaks_out_of(text: str, shown: str) -> None:
    assert linked(text) == shown
    assert escape(linked(text)) == shown


def test_times_and_amounts_read_well() -> None:
    assert [duration(seconds) for seconds in (0.25, 59.99, 61, 7_500)] == [
        *("0.2 s", "1 min 0 s", "1 min 1 s", "2 h 5 min")
    ]
    assert [money("USD", Decimal(each)) for each in ("1234.5", "0.0083", "0")] == [
        *("USD 1,234.50", "USD 0.0083", "USD 0.00")
    ]

"""What a message may contain, and the texts that come of it."""

import re

import jinja2.sandbox
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.composition import Template, TemplateError

COLUMNS = ["First Name", "city", "vip", "country"]


def frame(*rows: tuple[object, ...]) -> pd.DataFrame:
    padded = [(*row, *[None] * (len(COLUMNS) - len(row))) for row in rows]
    return pd.DataFrame(padded, columns=COLUMNS, dtype="str")


def text(source: str, *row: object) -> str | None:
    """Write one row; None where there is no text."""
    written = Template(source, COLUMNS).render(frame(row))["text"].iloc[0]
    return None if pd.isna(written) else written


def reason(source: str, *row: object) -> str:
    return str(Template(source, COLUMNS).render(frame(row))["reason"].iloc[0])


# --- writing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "row", "expected"),
    [
        ("Sale on Sunday", (), "Sale on Sunday"),
        ("Hi {{ first_name }}!", ("Ann",), "Hi Ann!"),
        ("Hi {{ first_name | default('there') }}", (None,), "Hi there"),
        ("Hi {{ first_name | d('there') }}", ("   ",), "Hi there"),
        ("Hi {{ first_name | upper | default('you') }}", ("ann",), "Hi ANN"),
        ("Hi {{ first_name | upper | default('you') }}", (None,), "Hi you"),
        ("Hi {{ first_name | default('you') | upper }}", (None,), "Hi YOU"),
        ("{{ first_name | title }}", ("jean-luc",), "Jean-Luc"),
        ("{{ first_name | capitalize }}", ("ANN",), "Ann"),
        ("{{ first_name | replace('a', 'o') | trim }}", ("ana",), "ono"),
        ("{{ first_name or city }}", (None, "Rome"), "Rome"),
        ("{{ first_name | default(city) }}", (None, "Rome"), "Rome"),
        ("{{ 'VIP' if vip == 'yes' else 'Hi' }}", ("Ann", "Rome", "yes"), "VIP"),
        ("Hi{{ ' VIP' if vip == 'yes' }}", ("Ann", "Rome", "no"), "Hi"),
        (
            "{% if vip == 'yes' %}Dear{% elif city %}Hi{% else %}Yo{% endif %}",
            ("Ann", "Rome"),
            "Hi",
        ),
        ("{% if country in ['US', 'CA'] %}$5{% endif %}", ("Ann", "Rome", "no", "CA"), "$5"),
        ("{% if 'om' in city and not vip %}x{% endif %}", ("Ann", "Rome"), "x"),
        ("{% if first_name is defined %}Hi {{ first_name }}{% else %}Hi{% endif %}", (None,), "Hi"),
        ("{# a note #}{% raw %}{{ city }}{% endraw %}", (), "{{ city }}"),
        ("<b>{{ first_name }}</b>", ("A & B",), "<b>A & B</b>"),  # nothing is escaped
    ],
)
def test_a_message_is_written(source: str, row: tuple[object, ...], expected: str) -> None:
    assert text(source, *row) == expected


def test_texts_keep_the_index_of_the_audience() -> None:
    audience = frame(("Ann",), ("Bob",)).set_axis([8, 8])
    written = Template("Hi {{ first_name }}", COLUMNS).render(audience)
    assert written.index.tolist() == [8, 8]
    assert written["text"].tolist() == ["Hi Ann", "Hi Bob"]
    assert written["reason"].tolist() == ["", ""]


@pytest.mark.parametrize(
    "source", ["Hi", "Hi {{ first_name }}", "{% if vip %}{{ city }}{% endif %}"]
)
def test_an_empty_partition_has_no_texts(source: str) -> None:
    written = Template(source, COLUMNS).render(frame())
    assert (len(written), list(written.columns)) == (0, ["text", "reason"])


def test_numbers_in_a_column_are_written_as_they_stand() -> None:
    written = Template("{{ points }} points", ["points"]).render(pd.DataFrame({"points": [7, 12]}))
    assert written["text"].tolist() == ["7 points", "12 points"]


def test_the_columns_that_a_message_uses_are_known() -> None:
    source = "{{ first_name }}{% if vip %}{{ city | default('x') }}{% endif %}{{ first_name }}"
    assert Template(source, COLUMNS).columns == ("First Name", "vip", "city")


# --- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("  Ann ", "Ann"),
        ("Ann\nReply YES to pay", "Ann Reply YES to pay"),
        ("Ann\r\n\u2028Lee\tJr", "Ann Lee Jr"),
        ("A\x00n\x1bn\x7f", "Ann"),
        ("\ufeffAnn\u200b", "Ann"),
        ("\u202eAnn\u202c", "Ann"),
        ("{{ 7*7 }}", "{{ 7*7 }}"),
        ("{% if 1 %}", "{% if 1 %}"),
    ],
)
def test_a_value_is_cleaned_and_never_evaluated(value: str, written: str) -> None:
    assert text("{{ first_name }}", value) == written
    assert text("{{ first_name if first_name else city }}", value) == written


def test_line_breaks_of_the_message_itself_are_kept() -> None:
    assert text("Hi {{ first_name }}\nBye", "Ann") == "Hi Ann\nBye"


# --- rows without a text -------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, "", "  \t", "\u200b", "\x00"])
@pytest.mark.parametrize(
    "source",
    [
        "Hi {{ first_name }}",
        "Hi {{ first_name | upper }}",
        "{% if first_name != 'x' %}Hi {{ first_name }}{% endif %}",
        "{{ city | default(first_name) }}",
    ],
)
def test_a_missing_value_is_a_reason_and_never_a_hole(source: str, value: str | None) -> None:
    assert text(source, value) is None
    assert reason(source, value) == "missing_value:first_name"


def test_a_missing_value_that_is_not_shown_is_no_reason() -> None:
    assert text("{% if vip == 'yes' %}{{ first_name }}{% else %}Hi{% endif %}") == "Hi"


def test_the_first_missing_value_is_the_reason() -> None:
    assert reason("{{ first_name }} {{ city }}") == "missing_value:first_name"


@pytest.mark.parametrize(
    ("source", "value", "expected"),
    [
        ("{{ first_name }}", "a" * 1_600, ""),
        ("{{ first_name }}", "a" * 1_601, "text_too_long"),
        ("{{ first_name }}!", "€" * 1_600, "text_too_long"),
        ("{{ first_name | default('') }}", None, "empty_text"),
        (" {% if vip %}Hi{% endif %}\n", "Ann", "empty_text"),
    ],
)
def test_texts_that_cannot_be_sent_are_missing_with_a_reason(
    source: str, value: str | None, expected: str
) -> None:
    assert reason(source, value) == expected
    assert (text(source, value) is None) == bool(expected)


def test_chained_replacements_cannot_fill_the_memory() -> None:
    bomb = "{{ first_name" + " | replace('a', 'aaaaaaaaaa')" * 30 + " }}"
    assert reason(bomb, "aaaa") == "text_too_long"


# --- columns by name -----------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["first_name", "First Name", "FIRST-NAME", " first  name (?) "])
def test_a_name_means_the_column_whatever_its_case_and_spaces(column: str) -> None:
    written = Template("Hi {{ first_name }}", [column]).render(pd.DataFrame({column: ["Ann"]}))
    assert written["text"].tolist() == ["Hi Ann"]


def test_the_exact_name_comes_first() -> None:
    assert Template("{{ name }}", ["Name", "name"]).columns == ("name",)


def test_an_ambiguous_name_is_refused() -> None:
    with pytest.raises(TemplateError, match='any of the columns "First Name", "first-name"'):
        Template("{{ first_name }}", ["First Name", "first-name"])


@pytest.mark.parametrize("column", ["self", "loop", "range", "v0", "имя", "true_"])
def test_no_column_name_collides_with_the_template_language(column: str) -> None:
    source = f"{{% if {column} %}}{{{{ {column} }}}}{{% endif %}}"
    written = Template(source, [column]).render(pd.DataFrame({column: ["x"]}))
    assert written["text"].tolist() == ["x"]


def test_an_unknown_column_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(TemplateError) as refused:
        Template("Hi {{ frist_name }}", COLUMNS)
    assert str(refused.value) == (
        "the message uses {{ frist_name }}, but the audience has no such column."
        " Did you mean first_name?"
    )


@pytest.mark.parametrize(
    "source", ["{{ zzz }}", "{% if zzz %}x{% endif %}", "{{ first_name | default(zzz) }}"]
)
def test_an_unknown_column_is_refused_wherever_it_stands(source: str) -> None:
    with pytest.raises(TemplateError, match=r"uses \{\{ zzz \}\}, but the audience has no such"):
        Template(source, COLUMNS)


def test_an_unknown_column_with_a_default_is_a_warning() -> None:
    template = Template("Hi {{ frist_name | title | default('you') }}", COLUMNS)
    assert template.render(frame(("Ann",)))["text"].tolist() == ["Hi you"]
    assert template.warnings == (
        "the message uses {{ frist_name }}, but the audience has no such column;"
        " every message gets the default. Did you mean first_name?",
    )


def test_a_column_that_later_data_lacks_is_an_error() -> None:
    with pytest.raises(TemplateError, match='needs the column "city"'):
        Template("{{ city }}", COLUMNS).render(pd.DataFrame({"name": ["Ann"]}))


# --- what a message may not contain --------------------------------------------------------------


@pytest.mark.parametrize(
    ("construct", "words"),
    [
        ("{% for c in city %}{{ c }}{% endfor %}", "loops are not allowed"),
        ("{% macro m() %}{% endmacro %}", "macros are not allowed"),
        ("{% set x = city %}", "variables are not allowed"),
        ("{% set x %}a{% endset %}", "variables are not allowed"),
        ("{% with x = city %}{% endwith %}", "variables are not allowed"),
        ("{% import 'x' as x %}", "imports are not allowed"),
        ("{% from 'x' import y %}", "imports are not allowed"),
        ("{% include 'x' %}", "imports are not allowed"),
        ("{% extends 'x' %}", "imports are not allowed"),
        ("{% block b %}{% endblock %}", "blocks are not allowed"),
        ("{% call city() %}{% endcall %}", "calls are not allowed"),
        ("{% filter upper %}x{% endfilter %}", "filter blocks are not allowed"),
        ("{{ range(9) }}", "calls are not allowed"),
        ("{{ city.format }}", "attributes (a.b) are not allowed"),
        ("{{ ''.__class__ }}", "attributes (a.b) are not allowed"),
        ("{{ city[0] }}", "subscripts (a[b]) are not allowed"),
        ("{{ city * 9 }}", "arithmetic is not allowed"),
        ("{{ 9 ** 9 }}", "arithmetic is not allowed"),
        ("{{ -city }}", "arithmetic is not allowed"),
        ("{{ city ~ vip }}", "the ~ operator is not allowed"),
        ("{{ {'a': city} }}", "Dict is not allowed"),
        ("{{ city, vip }}", "a list cannot be shown"),
        ("{{ [city] | upper }}", "a list cannot be shown"),
        ("{{ city == 'Rome' }}", "a condition would be shown as True or False"),
        ("{{ city is defined }}", "a condition would be shown as True or False"),
        ("{{ city | format }}", "the filter format is not allowed; there are default, upper"),
        ("{{ city | upper('x') }}", "the filter upper does not take these arguments"),
        ("{{ city | replace(old='a', new='b') }}", "the filter replace"),
        ("{{ city | default(*vip) }}", "* and ** are not allowed"),
        ("{% if city is string %}{% endif %}", "the test “is string” is not allowed"),
        ("{% if city > '5' %}{% endif %}", "<, > and the like are not allowed"),
        ("{% if city == 5 %}{% endif %}", "columns are text; compare with a text in quotes"),
        ("{% if city in [1, 2] %}{% endif %}", "columns are text; compare with a text in quotes"),
        ("{% if city in vip %}{% endif %}", "“in” takes a list"),
    ],
)
def test_a_construct_is_refused_with_its_line_and_what_to_do(construct: str, words: str) -> None:
    with pytest.raises(TemplateError) as refused:
        Template(f"Hi {{{{ first_name }}}}\n{construct}", COLUMNS)
    assert str(refused.value).startswith(f"line 2 of the message: {words}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("Hi {{ first name }}", "line 1 of the message cannot be read: .*written with _"),
        ("Hi\n{% if vip %}", "line 2 of the message cannot be read"),
        ("{% shout %}", "unknown tag 'shout'"),
        ("{{ " + "(" * 4_000 + "city" + ")" * 4_000 + " }}", "nested too deeply"),
        ("{% if vip %}" * 200 + "{% endif %}" * 200, "nested too deeply"),
        ("a" * 10_001, "10,001 characters; 10,000 are the most"),
    ],
)
def test_a_message_that_cannot_be_read_says_where(source: str, words: str) -> None:
    with pytest.raises(TemplateError, match=words):
        Template(source, COLUMNS)


# --- column by column equals row by row ----------------------------------------------------------

names = st.sampled_from(["first_name", "city", "vip"])
constants = st.sampled_from(["'there'", '"x y"', "''"])
filters = st.one_of(
    st.sampled_from(["upper", "lower", "title", "capitalize", "trim"]),
    constants.map(lambda constant: f"default({constant})"),
)
shown = st.builds(
    lambda name, chain: "{{ " + " | ".join([name, *chain]) + " }}",
    names,
    st.lists(filters, max_size=3),
)
branches = st.builds(
    lambda name, value, yes, no: (
        f"{{% if {name} == '{value}' %}}{yes}{{% else %}}{no}{{% endif %}}"
    ),
    names,
    st.sampled_from(["a", "Ann"]),
    shown,
    shown,
)
words = st.text(st.sampled_from("aB é€\n!'<&"), max_size=6)
sources = st.lists(st.one_of(words, shown, branches), max_size=5).map("".join)
values = st.one_of(
    st.none(),
    st.sampled_from(["a", "Ann", "ß", "ǆ", "o'neil-smith", "{{ city }}", " "]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)


class Hole(jinja2.Undefined):
    """A missing value in the reference: it passes through filters and cannot be shown."""

    def __str__(self) -> str:
        raise jinja2.UndefinedError


def clean(value: str) -> str:
    value = re.sub(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+", " ", value)
    hidden = r"[\x00-\x1f\x7f-\x9f\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069]"
    return re.sub(hidden, "", value).strip()


def row_by_row(source: str, row: dict[str, str | None]) -> str | None:
    """Write one row by stock Jinja2, as the reference."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(undefined=Hole)
    for name in ("upper", "lower", "title", "capitalize", "trim"):
        stock = environment.filters[name]
        environment.filters[name] = lambda value, stock=stock: (
            value if isinstance(value, Hole) else stock(value)
        )
    cleaned = {name: clean(value or "") for name, value in row.items()}
    present = {name: value for name, value in cleaned.items() if value}
    try:
        written = environment.from_string(source).render(present)
    except jinja2.UndefinedError:
        return None
    return written if written.strip() else None


@given(sources, st.lists(st.tuples(values, values, values), max_size=6))
def test_a_partition_is_written_as_jinja2_writes_each_row(
    source: str, rows: list[tuple[str | None, ...]]
) -> None:
    columns = ["first_name", "city", "vip"]
    written = Template(source, columns).render(pd.DataFrame(rows, columns=columns, dtype="str"))
    expected = [row_by_row(source, dict(zip(columns, row, strict=True))) for row in rows]
    assert [None if pd.isna(value) else value for value in written["text"]] == expected
    assert (written["reason"] != "").tolist() == [value is None for value in expected]

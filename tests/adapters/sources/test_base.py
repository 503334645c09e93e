"""What all sources share: the form's fields, the connections, and values as text."""

import datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from adapters.sources import base
from adapters.sources.base import Audience, CsvAudience, HttpConnection, SqlConnection

AUDIENCE: TypeAdapter[Any] = TypeAdapter(Audience)


def test_the_kind_tells_the_variants_apart_and_other_fields_do_not_disturb() -> None:
    audience = AUDIENCE.validate_python(
        {"kind": "csv", "path": "a.csv", "connection": "left over from another kind"}
    )
    assert isinstance(audience, CsvAudience)


def test_every_field_of_the_form_is_described() -> None:
    schema = AUDIENCE.json_schema()
    for model in schema["$defs"].values():
        for name, field in model["properties"].items():
            assert field.get("description"), f"{model['title']}.{name}"


def test_cleared_fields_count_as_not_given() -> None:
    audience = CsvAudience.model_validate(
        {
            "path": "a.csv",
            "encoding": "",
            "delimiter": "",
            "default_country": " ",
            "columns": {"phone": ""},
        }
    )
    assert (audience.encoding, audience.delimiter, audience.default_country) == (None, None, None)
    assert audience.columns.phone is None


@pytest.mark.parametrize(("given", "taken"), [("us", "US"), (" De ", "DE")])
def test_the_country_is_two_capital_letters(given: str, taken: str) -> None:
    assert CsvAudience(path="a", default_country=given).default_country == taken


@pytest.mark.parametrize(
    ("country", "advice"),
    [("UK", "the United Kingdom is GB"), ("USA", "two letters"), ("Germany", "two letters")],
)
def test_what_is_no_country_is_refused_with_advice(country: str, advice: str) -> None:
    with pytest.raises(ValidationError, match=advice):
        CsvAudience(path="a", default_country=country)


@pytest.mark.parametrize(("given", "taken"), [("tab", "\t"), ("\\t", "\t"), ("\t", "\t")])
def test_a_tab_can_be_written_as_a_word(given: str, taken: str) -> None:
    assert CsvAudience(path="a", delimiter=given).delimiter == taken


@pytest.mark.parametrize(
    "field", [{"delimiter": ";;"}, {"delimiter": '"'}, {"encoding": "klingon"}, {"path": ""}]
)
def test_what_no_file_can_be_read_with_is_refused(field: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        CsvAudience.model_validate({"path": "a.csv", **field})


@pytest.mark.parametrize(
    "query",
    [
        "select phone from contacts",
        "SELECT 'a;b', \"update\" FROM t -- ; drop table t\n;",
        "WITH x AS (SELECT 1) SELECT * FROM x",
        "/* insert; */ SELECT updated_at, $$delete;$$ FROM t",
    ],
)
def test_a_query_that_reads_is_taken(query: str) -> None:
    assert SqlConnection.model_validate({"url": "sqlite://", "query": query})


@pytest.mark.parametrize(
    "query",
    [
        "",
        "DELETE FROM contacts",
        "SELECT 1; DROP TABLE contacts",
        "WITH gone AS (DELETE FROM contacts RETURNING *) SELECT * FROM gone",
        "SELECT * INTO copied FROM contacts",
        "SELECT 1; -- '\nDROP TABLE contacts -- '",
        "selection",
    ],
)
def test_a_query_that_might_write_is_refused_without_being_shown(query: str) -> None:
    with pytest.raises(ValidationError, match="must be one SELECT statement") as error:
        SqlConnection.model_validate({"url": "sqlite://", "query": query})
    assert "contacts" not in str(error.value)


def test_secrets_are_masked() -> None:
    sql = SqlConnection.model_validate({"url": "postgresql://u:hunter2@db/x", "query": "select 1"})
    http = HttpConnection.model_validate({"url": "https://x", "headers": {"Key": "hunter2"}})
    assert "hunter2" not in f"{sql!r}{sql.model_dump_json()}{http!r}{http.model_dump_json()}"


@pytest.mark.parametrize("url", ["ftp://x/y", "file:///etc/passwd", "x", "https://"])
def test_only_web_addresses_are_taken(url: str) -> None:
    with pytest.raises(ValidationError):
        HttpConnection(url=url)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        ("NA", "NA"),
        (True, "true"),
        (7, "7"),
        (12125550123.0, "12125550123"),
        (0.5, "0.5"),
        (float("nan"), None),
        (Decimal("1E+3"), "1000"),
        (Decimal("0.10"), "0.10"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC), "2026-01-02T03:00:00+00:00"),
        (b"Zo\xc3\xab", "Zoë"),
        ({"a": [1, Decimal("2.5")]}, '{"a":[1,"2.5"]}'),
    ],
)
def test_a_value_becomes_the_text_a_person_would_write(value: object, text: str | None) -> None:
    assert base.to_text(value) == text

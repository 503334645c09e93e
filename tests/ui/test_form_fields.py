"""What the form sends, with every optional field left as it is, is what a campaign accepts."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from pydantic import TypeAdapter

from adapters.sources import Audience
from flows.campaign import Campaign

FORM = Campaign.model_json_schema()["properties"]
KINDS = [("csv", "path"), ("parquet", "path"), ("sql", "connection"), ("http", "connection")]


def untouched(fields: dict[str, Any]) -> dict[str, Any]:
    """The values of a form that nobody filled in."""
    return {
        name: untouched(field["properties"]) if "properties" in field else field["default"]
        for name, field in fields.items()
    }


@pytest.mark.parametrize(("kind", "needed"), KINDS)
def test_an_audience_of_each_kind_can_be_sent(kind: str, needed: str) -> None:
    sent = {**untouched(FORM["audience"]["properties"]), "kind": kind, needed: "somewhere"}
    assert Draft202012Validator(FORM["audience"]).is_valid(sent)
    audience = TypeAdapter(Audience).validate_python(sent)
    assert (audience.kind, audience.default_country) == (kind, None)


@pytest.mark.parametrize(("kind", "needed"), KINDS)
def test_the_field_that_a_kind_needs_is_asked_for(kind: str, needed: str) -> None:
    sent = {**untouched(FORM["audience"]["properties"]), "kind": kind}
    errors = Draft202012Validator(FORM["audience"]).iter_errors(sent)
    assert [list(error.path) for error in errors] == [[needed]]


def test_a_deadline_that_is_left_empty_is_not_sent() -> None:
    assert "default" not in FORM["not_after"]

"""Reading a file of consent: what becomes an event, what is rejected, and where."""

import json
from datetime import timedelta

import pandas as pd
import pytest

from data.consent_import import read_import
from data.consent_ledger import TYPES, ConsentError, fold
from data.database import now
from tests.data.consent_events import DAY, NOON, event, events, opt_in, opt_out


def imported(*rows: dict[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    index = pd.RangeIndex(1, len(rows) + 1, name="row")
    return read_import(pd.DataFrame(rows, index=index, dtype="str"))


def test_an_import_is_marked_as_one_whatever_its_method_says() -> None:
    told, _ = imported(
        {"phone": "1", "type": "opt_in", "method": "Web_Form"},
        {"phone": "2", "type": "opt_out"},
    )
    assert told["method"].tolist() == ["import:web_form", "import"]


def test_an_import_is_read_by_either_name_of_its_columns() -> None:
    told, rejects = imported(
        {
            "Phone": " 0171 5550100 ",
            "Type": "OPT_IN",
            "Purpose": "otp",
            "occurred_at": "2026-03-01T13:00:00+01:00",
            "basis": "express",
            "source": "shop",
        }
    )
    row = told.loc[1]
    assert (row["recipient"], row["type"], row["scope"]) == ("0171 5550100", "opt_in", "otp")
    assert (row["occurred_at"], row["basis"], row["source"]) == (NOON, "express", "shop")
    assert rejects.empty


def test_without_a_scope_an_opt_out_means_all_and_an_opt_in_marketing() -> None:
    told, _ = imported({"phone": "1", "type": "opt_out"}, {"phone": "2", "type": "opt_in"})
    assert told["scope"].tolist() == ["*", "marketing"]


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"type": "opt_in"}, "recipient"),
        ({"phone": "1", "type": "perhaps"}, "type"),
        ({"phone": "1"}, "type"),
        ({"phone": "1", "type": "opt_in", "scope": "newsletter"}, "scope"),
        ({"phone": "1", "type": "opt_in", "occurred_at": "01/03/2026"}, "occurred_at"),
        ({"phone": "1", "type": "opt_in", "occurred_at": "2026-03-01T12:00"}, "occurred_at"),
        ({"phone": "1", "type": "opt_in", "occurred_at": "2026-13-01T12:00Z"}, "occurred_at"),
        ({"phone": "1", "type": "opt_in", "occurred_at": "2999-03-01T12:00Z"}, "occurred_at"),
    ],
)
def test_a_record_that_claims_too_little_is_rejected(row: dict[str, str], column: str) -> None:
    told, rejects = imported({"phone": "9", "type": "opt_out"}, row)
    assert told.index.tolist() == [1]
    assert rejects[["row", "column"]].to_numpy().tolist() == [[2, column]]


@pytest.mark.parametrize(
    "row", [{"occurred_at": "yesterday"}, {"occurred_at": "2026-03-01"}, {"scope": "newsletter"}]
)
def test_an_opt_out_is_never_lost_over_a_date_or_scope(row: dict[str, str]) -> None:
    told, rejects = imported({"phone": "1", "type": "opt_out"} | row)
    assert rejects.empty
    assert told["occurred_at"].isna().all()
    assert told["scope"].tolist() == ["*"]
    assert next(iter(row.values())) in json.loads(told["evidence"].iloc[0]).values()


def test_a_file_without_a_type_column_is_refused() -> None:
    with pytest.raises(ConsentError, match="no column type"):
        imported({"phone": "1"})


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_of_event_can_be_imported(kind: str) -> None:
    told, rejects = imported({"phone": "1", "type": kind})
    assert told["type"].tolist() == [kind]
    assert rejects.empty


def test_what_a_record_brings_as_evidence_is_kept() -> None:
    told, _ = imported(
        {
            "phone": "1",
            "type": "relationship",
            "basis": "Soft_Opt_In",
            "evidence": '{"order": 7}',
            "contact_id": "c-9",
            "optout_offered_at_collection": "yes",
            "similar_products": "true",
            "own_products": "1",
            "wording": "Text me",
            "wording_version": "v1",
        },
        {"phone": "2", "type": "registry_check", "evidence": "ticket 3", "result": "listed"},
        {"phone": "3", "type": "opt_in"},
    )
    first, second, third = (json.loads(one) for one in told["evidence"])
    assert first["order"] == 7
    assert (first["contact_id"], first["own_products"]) == ("c-9", "1")
    assert second == {"evidence": "ticket 3", "result": "listed"}
    assert third == {}
    assert told[["wording", "wording_version"]].iloc[0].tolist() == ["Text me", "v1"]
    standing = fold(told.assign(id="e", number_key=told["recipient"]), "marketing")
    assert set(standing.consents["basis"]) == {"", "soft_opt_in"}
    assert standing.people.set_index("number_key").loc["2", "registry"] == "listed"


def test_a_basis_that_nobody_knows_is_rejected() -> None:
    _, rejects = imported({"phone": "1", "type": "opt_in", "basis": "verbal"})
    assert rejects[["row", "column"]].to_numpy().tolist() == [[1, "basis"]]


@pytest.mark.parametrize("kind", ["opt_out", "deactivated"])
def test_an_opt_out_of_the_future_has_no_date(kind: str) -> None:
    tomorrow = (now() + timedelta(1)).isoformat()
    told, rejects = imported({"phone": "1", "type": kind, "occurred_at": tomorrow})
    assert rejects.empty
    assert told["occurred_at"].isna().all()


def test_nobody_imports_for_the_answer_to_a_stop() -> None:
    _, rejects = imported({"phone": "1", "type": "opt_in", "scope": "optout_confirmation"})
    assert "optout_confirmation" not in rejects["reason"].iloc[0]


@pytest.mark.parametrize(
    "history",
    [
        [opt_out(NOON), opt_in(NOON + DAY)],
        [opt_in(NOON), opt_out(NOON + DAY)],
        [event("deactivated", NOON), opt_in(NOON + DAY)],
    ],
)
def test_an_import_twice_changes_nothing_and_revives_nobody(
    history: list[dict[str, object]],
) -> None:
    file, _ = imported(
        {"phone": "1", "type": "opt_in", "occurred_at": "2026-03-01T12:00:00Z"},
        {"phone": "1", "type": "opt_in", "occurred_at": "2026-09-01T12:00:00Z"},
        {"phone": "1", "type": "opt_out", "occurred_at": "2026-03-01T12:00:00Z"},
    )
    own = events(*history)
    once, twice = (
        fold(pd.concat([own, *[file] * times]).assign(number_key="k", id="e"), "marketing")
        for times in (1, 2)
    )
    alone = fold(own.assign(number_key="k", id="e"), "marketing")
    columns = ["opted_out", "deactivated", "opt_out_at"]
    pd.testing.assert_frame_equal(once.people[columns], twice.people[columns])
    pd.testing.assert_frame_equal(once.consents, twice.consents)
    assert once.people["opted_out"].iloc[0] or not alone.people["opted_out"].iloc[0]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("unsubscribed", "opt_out"),
        ("Unsubscribe", "opt_out"),
        ("opted_out", "opt_out"),
        ("Opted-Out", "opt_out"),
        ("opt out", "opt_out"),
        ("optout", "opt_out"),
        ("STOP", "opt_out"),
        ("subscribed", "opt_in"),
        ("opted_in", "opt_in"),
        ("opt-in", "opt_in"),
    ],
)
def test_words_of_other_systems_for_a_type_are_understood(written: str, meant: str) -> None:
    told, rejects = imported({"phone": "1", "type": written})
    assert rejects.empty
    scope = "*" if meant == "opt_out" else "marketing"
    assert told[["type", "scope"]].to_numpy().tolist() == [[meant, scope]]


def test_an_import_for_another_channel_gives_no_consent_and_its_opt_out_counts() -> None:
    told, _ = imported(
        {"phone": "1", "type": "opt_in", "channel": "email"},
        {"phone": "2", "type": "opt_in", "channel": "SMS"},
        {"phone": "3", "type": "opt_out", "channel": "email"},
        {"phone": "4", "type": "deactivated", "status": "SUSPEND"},
    )
    standing = fold(told.assign(id="e", number_key=told["recipient"]), "marketing")
    assert standing.consents["number_key"].tolist() == ["2"]
    people = standing.people.set_index("number_key")
    assert people.index[people["opted_out"] | people["deactivated"]].tolist() == ["3"]

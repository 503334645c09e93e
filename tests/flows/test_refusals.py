"""Campaigns that cannot be sent: one line that says what to mend, and nothing leaves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from data import runs
from tests.flows.campaigns import Desk, Said, run_of
from tests.flows.conftest import save_gateway
from tests.sandboxes import TOKEN


@pytest.fixture(autouse=True)
def accepted_before(desk: Desk) -> int:
    return desk.accepted()


@pytest.fixture
def refuse(desk: Desk, accepted_before: int) -> Callable[..., Said]:
    """Sends a campaign file that must be refused in one line with these words."""

    def check(campaign: Path, *words: str) -> Said:
        said = desk.sms("send", campaign)
        assert said.code == 1, said.out
        assert said.err.startswith("sms: ")
        assert said.err.count("\n") == 1, said.err
        assert [word for word in words if word not in said.err] == [], said.err
        assert desk.accepted() == accepted_before
        return said

    return check


def test_wrong_credentials_are_told_and_mended_and_the_run_goes_on(
    desk: Desk, refuse: Callable[..., Said]
) -> None:
    people = desk.people(2)
    save_gateway("mine", token="wrong-token")
    campaign = desk.campaign(desk.audience(people), gateway="mine")
    said = refuse(campaign, "mine", "auth_token")
    assert "wrong-token" not in said.err
    run = run_of(campaign)
    assert (run.state, said.err) == (runs.FAILED, f"sms: {run.note}\n")
    save_gateway("mine", token=TOKEN)
    resumed = desk.sms("resume", run.id)
    assert (resumed.code, resumed.err) == (0, "")
    assert resumed.out.splitlines()[-1] == f"run {run.id}"
    assert desk.messages(people) == [1, 1]
    assert runs.get_run(run.id).note == ""


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param({"gateway": "nobody"}, ["nobody", "sandbox", "sms gateway add"], id="gateway"),
        pytest.param({"gateway": None}, ["gateway", "sms gateway list"], id="no gateway"),
        pytest.param({"colour": "red"}, ["colour", "no such field", "message"], id="field"),
        pytest.param({"purpose": "spam"}, ["purpose", "marketing"], id="purpose"),
        pytest.param({"message": None}, ["message"], id="no message"),
        pytest.param({"message": ""}, ["message"], id="empty message"),
        pytest.param({"name": None}, ["name"], id="no name"),
        pytest.param({"audience": {"kind": "fax"}}, ["audience", "csv"], id="kind of audience"),
        pytest.param({"audience": None}, ["audience"], id="no audience"),
        pytest.param({"not_after": "tomorrow"}, ["not_after"], id="instant"),
        pytest.param({"max_invalid_share": "lots"}, ["max_invalid_share"], id="share"),
        pytest.param({"hours": "9-18"}, ["hours: '9-18'", "mon-fri 09:00-18:00"], id="hours"),
        pytest.param({"hours": "fun 9:00-18:00"}, ["hours: 'fun' is no weekday"], id="weekday"),
        pytest.param({"basis": "hope"}, ["basis", "express_written"], id="basis"),
        pytest.param({"content": ["booze"]}, ["content", "'booze'", "alcohol"], id="content"),
        pytest.param({"approval": "perhaps"}, ["approval"], id="approval"),
    ],
)
def test_a_campaign_file_names_the_field_at_fault(
    desk: Desk, refuse: Callable[..., Said], fields: dict[str, Any], words: list[str]
) -> None:
    campaign = desk.campaign(desk.audience(desk.people(1)), **fields)
    refuse(campaign, *words)
    with pytest.raises(runs.RunError):
        run_of(campaign)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"name: [unclosed\nkey: x", ["line"], id="not YAML"),
        pytest.param(b"- a\n- list\n", ["campaign"], id="a list"),
        pytest.param(b"", ["campaign"], id="empty"),
        pytest.param(b"[" * 1500, [], id="nested too deeply"),
        pytest.param(b"name: !!int many\n", [], id="a number that is none"),
        pytest.param(b"\x89PNG\r\n\x1a\n\0\0\0\xff", ["read"], id="binary"),
        pytest.param(b"name: !!python/object/apply:os.system [ls]\n", ["line 1"], id="a program"),
        pytest.param(None, ["there is no such file"], id="no file"),
    ],
)
def test_a_file_that_is_no_campaign_is_named(
    desk: Desk, refuse: Callable[..., Said], content: bytes | None, words: list[str]
) -> None:
    path = desk.folder / "campaign.yaml"
    if content is not None:
        path.write_bytes(content)
    refuse(path, str(path), *words)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        pytest.param("Hi {{ first_name", ["line 1"], id="unclosed"),
        pytest.param("Hi {{ nobody }}", ["nobody", "column"], id="no such column"),
        pytest.param(
            "{% for n in range(10**9) %}x{% endfor %}", ["line 1", "loops"], id="for ever"
        ),
        pytest.param("{{ 'x' * 10**9 }}", [], id="too much"),
        pytest.param("{{ phone.__class__.__mro__ }}", [], id="a way out"),
        pytest.param("{% include '/etc/passwd' %}", ["line 1", "imports"], id="a file"),
    ],
)
def test_a_message_that_cannot_be_written_is_refused(
    desk: Desk, refuse: Callable[..., Said], message: str, words: list[str]
) -> None:
    campaign = desk.campaign(desk.audience(desk.people(1)), message=message)
    said = refuse(campaign, *words)
    assert said.err == f"sms: {run_of(campaign).note}\n"
    assert run_of(campaign).state == runs.FAILED


def test_too_many_bad_rows_stop_it_and_say_which(desk: Desk, refuse: Callable[..., Said]) -> None:
    campaign = desk.campaign(desk.audience(["1", "2", "nobody"]))
    refuse(campaign, "3 of 3", "max_invalid_share")
    assert run_of(campaign).state == runs.FAILED


def test_a_pause_of_a_failed_run_is_refused(desk: Desk, refuse: Callable[..., Said]) -> None:
    campaign = desk.campaign(desk.folder / "missing.csv")
    refuse(campaign, "missing.csv")
    said = desk.sms("pause", yaml.safe_load(campaign.read_text())["key"])
    assert said.code == 1
    assert said.err.count("\n") == 1


def test_a_field_that_stands_there_twice_is_refused(
    refuse: Callable[..., Said], tmp_path: Path
) -> None:
    path = tmp_path / "campaign.yaml"
    path.write_text("name: Sale\napproval: true\napproval: false\n")
    refuse(path, "line 3: the field approval stands there twice")

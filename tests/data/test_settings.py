"""Settings: what lies in the installation's folder is private, and a wrong one is told in words."""

import os
import stat
from pathlib import Path

import pytest

from data.settings import SettingsError, settings


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_folder_and_its_key_are_for_nobody_else(home: Path) -> None:
    before = os.umask(0o022)
    try:
        assert settings().key
    finally:
        os.umask(before)
    assert (mode(home), mode(home / "secret.key")) == (0o700, 0o600)
    assert [path.name for path in home.iterdir()] == ["secret.key"]


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("SMS_UI_LOGIN", "hidden-word", "SMS_UI_LOGIN: write name:password"),
        ("SMS_UI_LOGIN", ":hidden-word", "SMS_UI_LOGIN: write name:password"),
        ("SMS_PREFECT_PORT", "hidden-word", "SMS_PREFECT_PORT: Input should be a valid integer"),
        ("SMS_BATCH_SIZE", "0", "SMS_BATCH_SIZE: Input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_setting_is_named_without_its_value(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, line: str
) -> None:
    monkeypatch.setenv(name, value)
    settings.cache_clear()
    with pytest.raises(SettingsError) as error:
        settings()
    assert str(error.value).startswith(line)
    assert "hidden-word" not in str(error.value)


def test_an_empty_login_is_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMS_UI_LOGIN", "")
    settings.cache_clear()
    assert settings().ui_login is None

"""A sender is known to be dead where its process is, and nowhere else."""

import subprocess
import sys

import psutil
import pytest

from data.senders import is_dead, process_of, this_process, this_sender


def test_a_living_sender_is_not_dead() -> None:
    assert not is_dead(this_sender())


def test_senders_of_one_process_have_names_of_their_own() -> None:
    assert this_sender() != this_sender()
    assert process_of(this_sender()) == this_process()


def test_a_clock_that_is_set_kills_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    before = this_sender()
    # What psutil tells when the time of day, and with it that of the boot, was moved.
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: 1.0)
    assert not is_dead(before)


def test_a_process_that_has_ended_is_dead() -> None:
    code = "from data.senders import this_sender; print(this_sender())"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert is_dead(ended.stdout.strip())


@pytest.mark.parametrize(
    "change",
    [
        pytest.param((2, "other-7"), id="another process of the same number"),
        pytest.param((1, "999999999"), id="no process of that number"),
    ],
)
def test_a_number_that_is_used_again_is_another_process(change: tuple[int, str]) -> None:
    parts = this_sender().split("|")
    parts[change[0]] = change[1]
    assert is_dead("|".join(parts))


@pytest.mark.parametrize("sender", ["another-host|1|boot-1|x", "nonsense", "", "me"])
def test_nobody_elsewhere_is_known_to_be_dead(sender: str) -> None:
    assert not is_dead(sender)

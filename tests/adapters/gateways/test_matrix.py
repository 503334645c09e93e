"""The feature matrix in the gateways' README is that of the adapters."""

from datetime import timedelta
from pathlib import Path

import pytest

from adapters.gateways import KINDS, matrix
from adapters.gateways.base import Capabilities, Recovery


def test_the_matrix_in_the_readme_is_that_of_the_adapters() -> None:
    assert matrix.in_readme() == matrix.matrix(), f"renew it: {matrix.COMMAND}"


def test_every_kind_has_a_row_as_wide_as_the_head() -> None:
    head, _, *rows = matrix.matrix().splitlines()
    assert [row.split(" ")[1] for row in rows] == [f"`{kind}`" for kind in sorted(KINDS)]
    assert {row.count("|") for row in rows} == {head.count("|")}


@pytest.mark.parametrize(
    ("can", "words"),
    [
        (Capabilities(), "| 1 | no | only a report tells | for each message | a signature |"),
        (Capabilities(batch="same_text", max_batch=1000), "| 1,000, one text |"),
        (Capabilities(batch="distinct", max_batch=100), "| 100 |"),
        (Capabilities(parts=True, callbacks="token"), "| for each part | a token in the address |"),
        (
            Capabilities(recovery=Recovery.RESEND, resend_window=timedelta(days=7)),
            "| may be sent again within 7 days: taken once |",
        ),
        (
            Capabilities(recovery=Recovery.BY_REFERENCE, absence_after=timedelta(seconds=90)),
            "| found by reference; not there after 90 seconds: not taken |",
        ),
        (Capabilities(recovery=Recovery.BY_REFERENCE), "| found by reference |"),
        (Capabilities(max_text=2500, polls=True), "| yes | 2,500 |"),
    ],
)
def test_a_capability_is_said_in_plain_words(can: Capabilities, words: str) -> None:
    assert words in matrix.row("kind", can)


@pytest.mark.parametrize("text", ["", matrix.BEGIN, matrix.END])
def test_a_readme_without_markers_is_not_written(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix, "README", tmp_path / "README.md")
    matrix.README.write_text(text)
    with pytest.raises(ValueError, match="needs the lines"):
        matrix.renew()
    assert matrix.README.read_text() == text


def test_renewing_changes_the_table_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "README", tmp_path / "README.md")
    matrix.README.write_text(f"before\n{matrix.BEGIN}\nold\n{matrix.END}\nafter\n")
    matrix.renew()
    around = matrix.README.read_text().split(f"\n\n{matrix.matrix()}\n\n")
    assert around == [f"before\n{matrix.BEGIN}", f"{matrix.END}\nafter\n"]

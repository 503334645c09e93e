"""Opening an audience: which files and connections may be read, and what is said if not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.sources import (
    CsvAudience,
    HttpAudience,
    HttpConnection,
    ParquetAudience,
    SourceError,
    SqlAudience,
    open_source,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "audiences"
    folder.mkdir()
    (folder / "list.csv").write_text("phone\n+12125550123\n")
    (tmp_path / "secret.csv").write_text("phone\n+12125550199\n")
    return folder


def opened(path: Path | str, folder: Path) -> object:
    return open_source(CsvAudience(path=str(path)), folders=[folder])


def test_a_file_in_an_allowed_folder_is_opened(folder: Path) -> None:
    source = open_source(CsvAudience(path=str(folder / "list.csv")), folders=[Path("/x"), folder])
    assert source.columns == ["phone"]
    assert source.name == str(folder / "list.csv")


def test_a_relative_path_starts_at_the_working_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    assert open_source(CsvAudience(path="audiences/list.csv"), folders=[Path("audiences")])


@pytest.mark.parametrize(
    "path",
    [
        *(
            "../secret.csv",
            "link.csv",
            "linked/secret.csv",
            "../nothing",
            "environ.csv",
            "zero.csv",
        ),
        *("list.csv/../../secret.csv", "/proc/self/environ", "/dev/zero", "//etc/passwd"),
    ],
)
def test_nothing_outside_the_folders_is_opened_or_revealed(folder: Path, path: str) -> None:
    (folder / "link.csv").symlink_to(folder.parent / "secret.csv")
    (folder / "linked").symlink_to(folder.parent)
    (folder / "environ.csv").symlink_to("/proc/self/environ")
    (folder / "zero.csv").symlink_to("/dev/zero")
    with pytest.raises(SourceError, match="is outside the folders for audiences") as error:
        opened(folder / path, folder)
    assert str(folder) in str(error.value)
    assert "SMS_AUDIENCE_FOLDERS" in str(error.value)


@pytest.mark.parametrize(
    "path",
    [
        *("s3://bucket/list.parquet", "http://127.0.0.1/list.csv", "file:///{folder}/list.csv"),
        *("~/list.csv", "$HOME/list.csv", "/proc/self/cwd/audiences/*.csv"),
    ],
)
@pytest.mark.parametrize("kind", [CsvAudience, ParquetAudience])
def test_an_address_is_a_path_and_nothing_is_expanded(
    folder: Path, path: str, kind: type[CsvAudience], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(SourceError, match=r"there is no such file|outside the folders"):
        open_source(kind(path=path.format(folder=folder)), folders=[folder])


@pytest.mark.parametrize("path", ["a" * 300 + ".csv", "a/" * 3_000 + "x.csv", "ä" * 200 + ".csv"])
def test_a_path_too_long_for_any_file_is_refused_without_repeating_it(
    folder: Path, path: str
) -> None:
    with pytest.raises(SourceError, match=r"^the path of the audience file is too long") as error:
        opened(folder / path, folder)
    assert len(str(error.value)) < 100


def test_a_folder_whose_name_only_starts_alike_is_outside(folder: Path) -> None:
    sibling = folder.parent / "audiences-private"
    sibling.mkdir()
    (sibling / "list.csv").write_text("phone\n1\n")
    with pytest.raises(SourceError, match="outside"):
        opened(sibling / "list.csv", folder)


def test_a_link_that_stays_inside_is_followed(folder: Path) -> None:
    (folder / "current.csv").symlink_to(folder / "list.csv")
    assert opened(folder / "current.csv", folder)


@pytest.mark.parametrize(
    ("path", "line"), [("missing.csv", "there is no such file"), (".", "is a folder")]
)
def test_what_is_no_file_is_named(folder: Path, path: str, line: str) -> None:
    for audience in (
        CsvAudience(path=str(folder / path)),
        ParquetAudience(path=str(folder / path)),
    ):
        with pytest.raises(SourceError, match=line):
            open_source(audience, folders=[folder])


@pytest.mark.parametrize("kind", [CsvAudience, ParquetAudience])
def test_a_pipe_is_no_file(folder: Path, kind: type[CsvAudience]) -> None:
    os.mkfifo(folder / "pipe.csv")
    with pytest.raises(SourceError, match="there is no such file"):
        open_source(kind(path=str(folder / "pipe.csv")), folders=[folder])


def test_a_link_to_itself_is_refused(folder: Path) -> None:
    (folder / "loop.csv").symlink_to(folder / "loop.csv")
    with pytest.raises(SourceError):
        opened(folder / "loop.csv", folder)


@pytest.mark.parametrize("path", ["a\nb.csv", "a\0b.csv"])
def test_a_path_with_control_characters_is_refused_in_one_line(folder: Path, path: str) -> None:
    with pytest.raises(SourceError, match=r"^[^\n]+$"):
        opened(path, folder)


def test_the_form_cannot_name_a_connection_of_another_kind() -> None:
    connections = {"crm": HttpConnection(url="http://127.0.0.1:9")}
    with pytest.raises(SourceError, match=r"crm: there is no connection .*\(there is none yet\)"):
        open_source(SqlAudience(connection="crm"), folders=[], connections=connections)
    with pytest.raises(SourceError, match=r"shop: there is no connection .*\(crm\)"):
        open_source(HttpAudience(connection="shop"), folders=[], connections=connections)


def test_the_form_brings_no_address_query_or_header_of_its_own() -> None:
    fields = {"query": "DROP TABLE people", "url": "sqlite:////etc/passwd", "headers": {"a": "b"}}
    for kind in (SqlAudience, HttpAudience):
        audience = kind(connection="crm", **fields)  # type: ignore[arg-type]
        assert set(audience.model_dump()) == {"kind", "connection", "default_country", "columns"}


def test_opening_a_file_imports_neither_prefect_nor_what_other_kinds_need() -> None:
    program = (
        "import sys, adapters.sources, adapters.sources.csv;"
        "print({'prefect', 'sqlalchemy', 'httpx'} & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "set()"

"""A backup holds everything as it was at one moment, and is restored whole or not at all."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Table, text

from data import backup as module
from data import runs
from data.backup import BackupError, backup, restore
from data.database import DatabaseError, reading, writing
from data.identity import number_keys
from data.migrate import _migrate, migrate, shape, shapes, upgrade
from data.settings import settings
from data.workspace import Workspace
from tests import plans, rows
from tests.places import Places

KINDS = ["sqlite", "postgresql"]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Where the backup goes."""
    return tmp_path / "backup.zip"


def begin(places: Places, kind: str = "sqlite") -> None:
    """Be in a new place whose database has the tables."""
    places.go(kind)
    _migrate.cache_clear()
    migrate()


def everything() -> dict[str, list[dict[str, Any]]]:
    with reading() as connection:
        return rows.stored(connection)


def rewrite(archive: Path, **members: bytes | None) -> None:
    """Replace members of an archive; None leaves one out. Dots are written as `_dot_`."""
    changed = {name.replace("_dot_", "."): held for name, held in members.items()}
    with zipfile.ZipFile(archive) as old:
        held = {name: old.read(name) for name in old.namelist()} | changed
    with zipfile.ZipFile(archive, "w") as new:
        for name, content in held.items():
            if content is not None:
                new.writestr(name, content)


def manifest(archive: Path) -> dict[str, Any]:
    with zipfile.ZipFile(archive) as held:
        return dict(json.loads(held.read("manifest.json")))


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("source", KINDS)
def test_every_row_comes_back_as_it_was_in_either_database(
    places: Places, archive: Path, source: str, target: str
) -> None:
    begin(places, source)
    with writing() as connection:
        rows.fill(connection)
    before = everything()
    made = backup(archive, {})
    places.go(target)
    restored = restore(archive, nothing_sent_since=True)
    assert everything() == before
    assert restored.manifest == made
    assert set(made.rows.values()) == {3}


@pytest.mark.parametrize("kind", KINDS)
def test_new_rows_are_numbered_after_the_restored_ones(
    places: Places, archive: Path, kind: str
) -> None:
    begin(places, kind)
    with writing() as connection:
        rows.fill(connection)
    backup(archive, {})
    places.go(kind)
    restore(archive, nothing_sent_since=True)
    statement = (
        "INSERT INTO delivery_event (gateway, source, status, received_at, raw)"
        " VALUES ('g', 'poll', 'sent', '2026-01-01 00:00:00', '') RETURNING id"
    )
    with writing() as connection:
        assert connection.execute(text(statement)).scalar_one() == 4


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_one_moment_although_others_go_on_writing(
    places: Places, archive: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(places, kind)
    with writing() as connection:
        rows.fill(connection)
    before, write = everything(), module._write_table
    written: list[str] = []

    def write_beside(held: zipfile.ZipFile, connection: Connection, table: Table) -> int:
        count = write(held, connection, table)
        if not written:
            with writing() as other:
                rows.fill(other, first=11)
        written.append(table.name)
        return count

    monkeypatch.setattr(module, "_write_table", write_beside)
    made = backup(archive, {})
    assert len(written) == len(before)
    assert all(len(found) == 6 for found in everything().values())
    places.go(kind)
    restore(archive, nothing_sent_since=True)
    assert everything() == before
    assert set(made.rows.values()) == {3}


def test_more_rows_than_one_chunk_come_back_in_bounded_pieces(
    places: Places, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 10)
    begin(places)
    run = plans.open_run()
    plans.add_messages(run, plans.numbers(25))
    before = everything()
    backup(archive, {})
    places.go("sqlite")
    restore(archive, nothing_sent_since=True)
    assert everything() == before


def test_the_key_and_the_reports_come_along_and_the_audience_does_not(
    places: Places, archive: Path, tmp_path: Path
) -> None:
    begin(places)
    keys = number_keys(["+12025550101"])
    folder = Workspace("a-run")
    folder.report("validation.html").write_text("<p>fine")
    folder.take()
    (folder.folder / "partitions").mkdir()
    (folder.folder / "partitions" / "pulled-00001.parquet").write_text("+12025550101")
    (tmp_path / "more").write_text("more")
    backup(archive, {"prefect/more.db": tmp_path / "more"})
    home = places.go("sqlite")
    restore(archive, nothing_sent_since=True)
    assert number_keys(["+12025550101"]) == keys
    found = {p.relative_to(home).as_posix() for p in home.rglob("*") if p.is_file()}
    assert found - {"sms.db", "sms.db-wal", "sms.db-shm"} == {
        "secret.key",
        "runs/a-run/validation.html",
        "prefect/more.db",
    }
    assert (home / "runs/a-run/validation.html").read_text() == "<p>fine"
    assert (home / "secret.key").stat().st_mode & 0o777 == 0o600


def test_nobody_else_can_read_the_archive_even_while_it_is_written(
    places: Places, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(places)
    modes: list[int] = []
    write = module._write_table

    def look(held: zipfile.ZipFile, connection: Connection, table: Table) -> int:
        modes.extend(p.stat().st_mode & 0o777 for p in archive.parent.glob("backup.zip*"))
        return write(held, connection, table)

    monkeypatch.setattr(module, "_write_table", look)
    backup(archive, {})
    assert {*modes, archive.stat().st_mode & 0o777} == {0o600}


def test_an_interrupted_backup_leaves_nothing_that_looks_like_one(
    places: Places, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(places)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write_table", full)
    with pytest.raises(BackupError, match=r"backup.zip cannot be written: No space left"):
        backup(archive, {})
    assert list(archive.parent.glob("backup.zip*")) == []


def test_an_archive_that_exists_is_not_replaced(places: Places, archive: Path) -> None:
    begin(places)
    archive.write_text("another")
    with pytest.raises(BackupError, match=r"backup.zip exists: name a new file"):
        backup(archive, {})
    assert archive.read_text() == "another"


def test_a_place_without_tables_has_nothing_to_back_up(places: Places, archive: Path) -> None:
    places.go("sqlite")
    with pytest.raises(BackupError, match="the database is empty"):
        backup(archive, {})
    assert not archive.exists()


# --- shapes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tables_there", [False, True], ids=["new", "migrated"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("revision", shapes()[:-1])
def test_a_backup_of_an_earlier_version_is_brought_up(
    places: Places, archive: Path, revision: str, kind: str, tables_there: bool
) -> None:
    places.go(kind)
    with writing() as connection:
        upgrade(connection, revision)
        rows.fill(connection)
    before = everything()
    backup(archive, {})
    assert manifest(archive)["shape"] == revision
    with reading() as connection:
        assert shape(connection) == revision, "a backup must change nothing"
    if tables_there:
        begin(places, kind)
    else:
        places.go(kind)
    restore(archive, nothing_sent_since=True)
    with reading() as connection:
        assert shape(connection) == shapes()[-1]
    after = everything()
    for table, old in before.items():
        assert [{name: row[name] for name in old[0]} for row in after[table]] == old


# --- refusals --------------------------------------------------------------------------------


@pytest.fixture
def taken(places: Places, archive: Path) -> Path:
    """A backup of a place with a run, and the test in a new place."""
    begin(places)
    plans.add_messages(plans.open_run(), plans.numbers(30))
    Workspace("a-run").report("validation.html").write_text("<p>fine")
    backup(archive, {})
    places.go("sqlite")
    return archive


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as held:
        content[held.getinfo("tables/message.arrow").header_offset + 1000] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def other_file(path: Path) -> None:
    path.write_text("phone\n+12025550101\n")


def other_zip(path: Path) -> None:
    path.unlink()
    with zipfile.ZipFile(path, "w") as held:
        held.writestr("photo.jpg", "")


def fewer_rows(path: Path) -> None:
    said = manifest(path)
    said["rows"]["message"] = 31
    rewrite(path, manifest_dot_json=json.dumps(said).encode())


def later(path: Path) -> None:
    rewrite(path, manifest_dot_json=json.dumps(manifest(path) | {"shape": "9999"}).encode())


def later_format(path: Path) -> None:
    rewrite(path, manifest_dot_json=json.dumps(manifest(path) | {"format": 2}).encode())


def keyless(path: Path) -> None:
    rewrite(path, **{"home/secret_dot_key": None})


def outside(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("home//tmp/escaped", b"anything")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (outside, "is no backup of sms-campaigns: home//tmp/escaped lies outside of it"),
        (flip, "is no backup or is damaged: nothing was restored"),
        (cut, "is no backup or is damaged: nothing was restored"),
        (other_file, "is no backup or is damaged: nothing was restored"),
        (other_zip, "is no backup or is damaged: nothing was restored"),
        (Path.unlink, "cannot be read: No such file or directory"),
        (fewer_rows, "holds 30 rows of message instead of 31: nothing was restored"),
        (later, "made by a newer version of sms-campaigns .*9999.*: update this installation"),
        (later_format, "made by a newer version of sms-campaigns"),
        (keyless, "does not hold its key, which was kept in SMS_SECRET_KEY: set that first"),
    ],
)
def test_what_cannot_be_restored_says_why_and_leaves_the_place_empty(
    taken: Path, spoil: Any, words: str
) -> None:
    kept = taken.with_name("kept.zip")
    shutil.copy(taken, kept)
    spoil(taken)
    with pytest.raises(BackupError, match=words) as said:
        restore(taken, nothing_sent_since=False)
    assert "\n" not in str(said.value)
    assert not (settings().home / "secret.key").exists()
    restore(kept, nothing_sent_since=False)
    assert len(everything()["message"]) == 30


def test_a_place_with_a_run_is_refused_and_keeps_it(places: Places, taken: Path) -> None:
    begin(places)
    run = plans.open_run("another")
    with pytest.raises(BackupError, match="is not empty: restore into a new one") as said:
        restore(taken, nothing_sent_since=False)
    assert "password" not in str(said.value)
    assert [run["id"] for run in everything()["campaign_run"]] == [run.id]
    assert not (settings().home / "runs").exists()


def test_a_database_with_tables_of_another_program_is_refused(places: Places, taken: Path) -> None:
    with writing() as connection:
        connection.execute(text("CREATE TABLE message (id INTEGER)"))
    with pytest.raises(BackupError, match="is not empty: restore into a new one"):
        restore(taken, nothing_sent_since=False)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("secret.key", "secret.key is not the key of .*: restore into an empty SMS_HOME"),
        ("runs/a-run/validation.html", "validation.html exists: restore into an empty SMS_HOME"),
    ],
)
def test_a_file_that_is_there_is_not_replaced(taken: Path, file: str, words: str) -> None:
    path = settings().home / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    with pytest.raises(BackupError, match=words):
        restore(taken, nothing_sent_since=False)
    assert path.read_text() == "mine"
    assert everything() == {}


def test_a_restore_that_fails_at_its_end_leaves_no_file(
    taken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = module._write_files

    def fail(*arguments: Any) -> None:
        write(*arguments)
        raise DatabaseError("the database went away")

    monkeypatch.setattr(module, "_write_files", fail)
    with pytest.raises(DatabaseError):
        restore(taken, nothing_sent_since=False)
    assert not (settings().home / "secret.key").exists()
    assert everything() == {}


def test_a_key_that_is_kept_elsewhere_is_not_in_the_archive_and_must_be_the_same(
    places: Places, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMS_SECRET_KEY", "kept-elsewhere")
    begin(places)
    plans.add_messages(plans.open_run(), plans.numbers(2))
    backup(archive, {})
    assert b"kept-elsewhere" not in archive.read_bytes()
    monkeypatch.delenv("SMS_SECRET_KEY")
    places.go("sqlite")
    with pytest.raises(BackupError, match="kept in SMS_SECRET_KEY: set that first"):
        restore(archive, nothing_sent_since=True)
    monkeypatch.setenv("SMS_SECRET_KEY", "another")
    places.go("sqlite")
    with pytest.raises(BackupError, match="SMS_SECRET_KEY is not the key of"):
        restore(archive, nothing_sent_since=True)
    monkeypatch.setenv("SMS_SECRET_KEY", "kept-elsewhere")
    home = places.go("sqlite")
    restore(archive, nothing_sent_since=True)
    assert not (home / "secret.key").exists()
    assert runs.list_runs()[0].key == "sale"

"""The audit of dependencies in .ci/audit, against a server that speaks OSV's wire format."""

import datetime
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
FIXED, UNFIXED = "GHSA-1111-2222-3333", "PYSEC-2026-2"
AFFECTED = {FIXED: "jinja2", UNFIXED: "rich"}
TOMORROW = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=1)


class Osv:
    """Advisories on loopback: `known` are told, `status` is what every request is answered with."""

    def __init__(self) -> None:
        self.known: list[str] = []
        self.status = 200
        self.asked: dict[str, str] = {}
        osv = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                packages = [(q["package"]["name"], q["version"]) for q in body["queries"]]
                osv.asked |= dict(packages)
                self.answer({"results": [osv.found(name) for name, _ in packages]})

            def do_GET(self) -> None:
                self.answer(osv.advisory(self.path.rpartition("/")[2]))

            def answer(self, content: Any) -> None:
                body = json.dumps(content).encode()
                self.send_response(osv.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def found(self, package: str) -> dict[str, Any]:
        ids = [name for name in self.known if AFFECTED[name] == package]
        return {"vulns": [{"id": name, "modified": "2026-01-01T00:00:00Z"} for name in ids]}

    def advisory(self, name: str) -> dict[str, Any]:
        fix = [{"fixed": "99.0"}] if name == FIXED else []
        return {
            "id": name,
            "modified": "2026-01-01T00:00:00Z",
            "aliases": [f"CVE-of-{name}"],
            "summary": "A way in",
            "affected": [
                {
                    "package": {"name": AFFECTED[name], "ecosystem": "PyPI"},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, *fix]}],
                }
            ],
        }


@pytest.fixture
def osv() -> Iterator[Osv]:
    served = Osv()
    yield served
    served.server.shutdown()
    served.server.server_close()


Audit = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def audit(osv: Osv, tmp_path: Path) -> Audit:
    """Runs the audit on a copy of this project's lock, with a list of accepted advisories."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "audit", tmp_path / ".ci")
    for name in ("pyproject.toml", "uv.lock", "README.md"):
        shutil.copy(ROOT / name, tmp_path)

    def run(*accepted: dict[str, object], url: str = osv.url) -> subprocess.CompletedProcess[str]:
        entries = [
            "\n".join(["[[advisory]]", *(f"{field} = {value}" for field, value in entry.items())])
            for entry in accepted
        ]
        (tmp_path / ".ci" / "accepted-advisories.toml").write_text("\n".join(entries))
        command = [sys.executable, ".ci/audit", "--service-url", url]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


def entry(name: str, until: datetime.date = TOMORROW) -> dict[str, object]:
    return {"id": f'"{name}"', "reason": '"nothing here calls it"', "until": until}


def test_without_a_known_vulnerability_it_passes(audit: Audit, osv: Osv) -> None:
    done = audit()
    assert (done.returncode, done.stderr) == (0, "")
    assert {"jinja2", "prefect", "pytest"} <= osv.asked.keys()


def test_a_vulnerability_with_a_fix_fails_and_names_package_and_version(
    audit: Audit, osv: Osv
) -> None:
    osv.known = [FIXED, UNFIXED]
    done = audit()
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("MEND")]
    assert [word for word in ("jinja2 3", FIXED, "A way in", "99.0") if word not in line] == []
    assert "uv lock --upgrade-package" in done.stderr


def test_a_vulnerability_that_nobody_has_mended_is_told_and_passes(audit: Audit, osv: Osv) -> None:
    osv.known = [UNFIXED]
    done = audit()
    assert done.returncode == 0
    assert "no fix    rich 1" in done.stdout
    assert UNFIXED in done.stdout


@pytest.mark.parametrize("name", [FIXED, f"CVE-of-{FIXED}"])
def test_an_accepted_one_passes_until_its_last_day(audit: Audit, osv: Osv, name: str) -> None:
    osv.known = [FIXED]
    done = audit(entry(name))
    assert done.returncode == 0
    assert "nothing here calls it" in done.stdout
    over = audit(entry(name, TOMORROW - datetime.timedelta(days=2)))
    assert over.returncode == 1
    assert "which is over" in over.stdout
    assert audit(entry("GHSA-of-another")).returncode == 1


@pytest.mark.parametrize("field", ["id", "reason", "until"])
def test_an_exception_needs_a_reason_and_a_last_day(audit: Audit, field: str) -> None:
    wanting = {name: value for name, value in entry(FIXED).items() if name != field}
    done = audit(wanting)
    assert done.returncode == 1
    assert "needs id, reason and until" in done.stderr


def test_an_advisory_server_that_is_away_is_a_loud_warning_and_no_failure(
    audit: Audit, osv: Osv
) -> None:
    osv.status = 503
    for url in ("http://127.0.0.1:1", osv.url):
        done = audit(url=url)
        assert (done.returncode, done.stdout) == (0, "")
        assert "WARNING: DEPENDENCIES WERE NOT AUDITED" in done.stderr


def test_a_lock_that_cannot_be_read_is_a_failure(audit: Audit, tmp_path: Path) -> None:
    (tmp_path / "uv.lock").write_text("version = ")
    done = audit()
    assert done.returncode == 1
    assert "NOT AUDITED" not in done.stderr


def test_what_this_project_accepts_is_written_as_it_must_be() -> None:
    command = [sys.executable, ROOT / ".ci" / "audit", "--service-url", "http://127.0.0.1:1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""Audiences and campaigns of one test, and commands given in this process or in a new one."""

import csv
import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from data import results, runs
from data.database import reading
from data.tables import CampaignRun
from flows import cli
from tests.sandboxes import ROOT, Sandbox

_keys = count(1)


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    stdout: bytes
    err: str

    @property
    def out(self) -> str:
        """Standard output as text."""
        return self.stdout.decode()

    @property
    def run_id(self) -> str:
        """The run that the last line of standard output names."""
        word, run_id = self.out.splitlines()[-1].split()
        assert word == "run"
        return run_id


@dataclass(frozen=True)
class Desk:
    """Where a test writes its campaigns, and gives its commands."""

    folder: Path
    sandbox: Sandbox

    def people(self, number: int) -> list[str]:
        """Return so many numbers that no other test has."""
        return [self.sandbox.number() for _ in range(number)]

    def audience(self, people: list[str], name: str = "audience.csv", **columns: str) -> Path:
        """Write a CSV audience of these people, with further columns of one value each."""
        with (self.folder / name).open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["phone", *columns])
            rows.writerows([phone, *columns.values()] for phone in people)
        return self.folder / name

    def campaign(self, source: Path | dict[str, Any], **fields: Any) -> Path:
        """Write a campaign file that sends at once; None leaves a field out."""
        if isinstance(source, Path):
            source = {"kind": source.suffix.removeprefix("."), "path": str(source)}
        described = {
            "name": "Test",
            "key": f"key-{next(_keys)}",
            "purpose": "transactional",
            "audience": {"default_country": "US", **source},
            "message": "Your order is ready. Reply STOP to opt out",
            "gateway": "sandbox",
            "approval": False,
            **fields,
        }
        path = self.folder / f"{described['key']}.yaml"
        kept = {name: value for name, value in described.items() if value is not None}
        path.write_text(yaml.safe_dump(kept, allow_unicode=True), encoding="utf-8")
        return path

    def sms(self, *arguments: object) -> Said:
        """Give a command in this process, where nothing has to be imported again."""
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
        argv = ["sms", *map(str, arguments)]
        code: Any = 0
        with mock.patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
            try:
                cli.main()
            except SystemExit as end:
                code = end.code or 0
        out.flush()
        err.flush()
        return Said(code, out.buffer.getvalue(), err.buffer.getvalue().decode())  # type: ignore[attr-defined]

    def process(self, *arguments: object, **environment: str) -> Said:
        """Give a command in a process of its own: some seconds."""
        done = subprocess.run(
            [sys.executable, "-m", "flows", *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr.decode())

    def accepted(self) -> int:
        """Return how many messages the sandbox has accepted in all."""
        return int(self.sandbox.client.get("/_stats").json()["accepted"])

    def messages(self, people: list[str]) -> list[int]:
        """Return how many messages the sandbox has accepted for each of them."""
        return [len(self.sandbox.accepted(phone)) for phone in people]


def outcomes(run_id: str) -> dict[str, int]:
    """The outcomes of a run. Raises where they do not add up to the records that were read."""
    with reading() as connection:
        return results.check(connection, run_id).outcomes


def run_of(campaign: Path) -> CampaignRun:
    """The run that a campaign file opened."""
    return runs.find_run(yaml.safe_load(campaign.read_text())["key"])

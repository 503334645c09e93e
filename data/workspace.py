"""A run's own folder: the pulled audience between the steps, and the reports that stay.

The partitions hold personal data and are deleted as soon as the plan is complete.
"""

import shutil
from pathlib import Path

import pandas as pd

from data.errors import SmsError
from data.senders import is_dead, this_process
from data.settings import settings


class TakenError(SmsError):
    """Another process prepares this run."""


class Workspace:
    """Files of one run, in `SMS_HOME/runs/RUN_ID`."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self.folder = settings().home / "runs" / run_id
        self._partitions = self.folder / "partitions"

    def write(self, step: str, number: int, frame: pd.DataFrame) -> None:
        """Store what `step` made of partition `number`; a second time replaces the first."""
        self._partitions.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._path(step, number)
        # Whole or not at all: an interrupted step must not leave half a partition behind.
        partial = path.with_suffix(".partial")
        frame.to_parquet(partial)
        partial.replace(path)

    def read(self, step: str, number: int, columns: list[str] | None = None) -> pd.DataFrame:
        """Return what `step` made of partition `number`, with the index it was stored with."""
        return pd.read_parquet(self._path(step, number), columns=columns)

    def numbers(self, step: str) -> list[int]:
        """Return the numbers of the partitions that `step` has stored."""
        found = self._partitions.glob(f"{step}-*.parquet")
        return sorted(int(path.stem.rpartition("-")[2]) for path in found)

    def take(self) -> None:
        """Take the preparation of this run for this process.

        Raises `TakenError` while another living process has it: two would spoil each other's work.
        """
        path = self.report("preparing")
        try:
            with path.open("x") as lock:
                lock.write(this_process())
        except FileExistsError:
            if self.is_taken():
                raise TakenError(
                    f"run {self._run_id} is being prepared by another process: wait for it,"
                    f" or end it by `sms cancel {self._run_id}`"
                ) from None
            path.write_text(this_process())

    def is_taken(self) -> bool:
        """Whether a living process other than this one prepares this run."""
        owner = self._owner()
        return owner not in {"", this_process()} and not is_dead(owner)

    def is_abandoned(self) -> bool:
        """Whether the process that prepared this run is known to have died of it."""
        owner = self._owner()
        return bool(owner) and is_dead(owner)

    def _owner(self) -> str:
        try:
            return self.report("preparing").read_text()
        except FileNotFoundError:
            return ""

    def leave(self) -> None:
        """Give the preparation back."""
        self.report("preparing").unlink(missing_ok=True)

    def report(self, name: str) -> Path:
        """Return the path of a report, its folder made."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / name

    def forget_partitions(self) -> None:
        """Delete the audience."""
        shutil.rmtree(self._partitions, ignore_errors=True)

    def _path(self, step: str, number: int) -> Path:
        return self._partitions / f"{step}-{number:05}.parquet"

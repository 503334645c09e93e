"""The report of a run in Markdown. Every number in it comes from that run."""

import os
import platform
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from tests.chaos.runner import Outcome

_PACKAGES = ("sqlalchemy", "psycopg", "aiohttp", "prefect", "uvicorn")
_HEAD = ("trials", "messages", "duplicates", "lost", "in flight", "in doubt", "settled", "left")


def report(outcomes: Sequence[Outcome], *, command: str, began: float) -> str:
    """Return the report of a run that began at this Unix time."""
    failed = [outcome for outcome in outcomes if outcome.failure]
    duplicates = sum(len(outcome.verdict.duplicates) for outcome in outcomes)
    lost = sum(len(outcome.verdict.lost) for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    lines = [
        "# Chaos: never twice, never lost",
        "",
        f"**{len(outcomes):,} trials, {duplicates} duplicates, {lost} lost,"
        f" {len(failed)} trials failed.**",
        "",
        f"    {command}",
        "",
        f"Seeds {_listed(outcome.plan.seed for outcome in outcomes)} ·"
        f" {datetime.fromtimestamp(began, UTC):%Y-%m-%d %H:%M} UTC ·"
        f" {seconds / 60:.0f} minutes, {seconds / max(1, len(outcomes)):.1f} s a trial.",
        f"{_machine()}. {_versions()}.",
        "",
        "Checked from outside: what the gateway wrote down before it answered, against what the"
        " ledger says. *In flight*: messages that were being sent at a fault, or whose request got"
        " no clear answer. *In doubt*: not settled when the recovery was through, before late"
        " reports; *settled*: by those reports; *left*: listed as `in_doubt` in the results.",
        "",
        "## By kind of trial",
        "",
        *_table("kind", _grouped(outcomes, lambda o: [f"{o.kind}, {o.plan.database}"])),
        "",
        "## By fault",
        "",
        "A trial has one to three faults and counts under each of them.",
        "",
        *_table("fault", _grouped(outcomes, lambda o: [fault.kind for fault in o.plan.faults])),
        "",
        *_most(outcomes),
    ]
    if failed:
        lines += ["", "## Failed", "", "```", *(outcome.failure for outcome in failed), "```"]
    return "\n".join(lines) + "\n"


def _grouped(
    outcomes: Iterable[Outcome], keys: Callable[[Outcome], list[str]]
) -> dict[str, list[Outcome]]:
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        for key in keys(outcome):
            groups.setdefault(key, []).append(outcome)
    return dict(sorted(groups.items()))


def _table(title: str, groups: dict[str, list[Outcome]]) -> list[str]:
    lines = [f"| {title} | {' | '.join(_HEAD)} |", "|---|" + "---:|" * len(_HEAD)]
    for name, outcomes in groups.items():
        verdicts = [outcome.verdict for outcome in outcomes]
        numbers = (
            len(outcomes),
            sum(outcome.plan.messages for outcome in outcomes),
            sum(len(verdict.duplicates) for verdict in verdicts),
            sum(len(verdict.lost) for verdict in verdicts),
            sum(verdict.in_flight for verdict in verdicts),
            sum(verdict.doubted for verdict in verdicts),
            sum(verdict.settled for verdict in verdicts),
            sum(verdict.left for verdict in verdicts),
        )
        lines.append(f"| {name} | {' | '.join(f'{number:,}' for number in numbers)} |")
    return lines


def _most(outcomes: Sequence[Outcome]) -> list[str]:
    """The trial with most in doubt, against what was in flight in it."""
    if not outcomes:
        return []
    most = max(outcomes, key=lambda outcome: outcome.verdict.doubted)
    return [
        f"Most in doubt in one trial: {most.verdict.doubted} of {most.plan.messages} messages, with"
        f" {most.verdict.in_flight} in flight (`--replay {most.name}`)."
    ]


def _machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores ({_processor()}), {memory:.0f} GB, {platform.platform()}"


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _versions() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {packages}"


def _listed(values: Iterable[int]) -> str:
    return ", ".join(str(value) for value in sorted(set(values)))

"""Measures the steps beside their plain alternatives and prints one table.

uv run python -m tests.benchmarks [prepare send gateways …] [--quick] [--prefect]
"""

import argparse
from collections.abc import Callable

from rich.console import Console

from tests.benchmarks import consent, gateways, phones, prepare, receive, reconcile, send
from tests.benchmarks.bench import Report, table

ALL: dict[str, Callable[..., Report]] = {
    "prepare": prepare.run,
    "send": send.run,
    "gateways": gateways.run,
    "receive": receive.run,
    "reconcile": reconcile.run,
    "phones": phones.run,
    "consent": consent.run,
}
QUICK: dict[str, dict[str, int]] = {
    "prepare": {"rows": 20_000, "sample": 1_000},
    "send": {"messages": 2_000, "sample": 1_000},
    "gateways": {"messages": 4_000},
    "receive": {"reports": 3_000, "sample": 1_000},
    "reconcile": {"reports": 20_000, "sample": 500},
    "phones": {"rows": 20_000, "sample": 1_000},
    "consent": {"rows": 60_000, "sample": 300},
}


def main() -> None:
    """Run what was named, or everything."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(ALL))
    parser.add_argument("--quick", action="store_true", help="a fifth of the size")
    parser.add_argument(
        "--prefect", action="store_true", help="also one Prefect task a recipient (a minute)"
    )
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(ALL):
        parser.error(f"there is no {', '.join(sorted(unknown))}: choose from {', '.join(ALL)}")
    reports = []
    for name in chosen.names or ALL:
        sizes = dict(QUICK[name] if chosen.quick else {})
        if name == "send" and chosen.prefect:
            sizes["prefect_tasks"] = 500
        reports.append(ALL[name](**sizes))
    console = Console()
    # A pipe has no width; 80 characters would cut the table.
    console.width = max(console.width, 110)
    console.print(table(reports))
    for report in reports:
        for note in report.notes:
            console.print(f"{report.what}: {note}")


if __name__ == "__main__":
    main()

"""Disturbs sending in every way there is and checks that nobody gets a message twice or not at all.

uv run python -m tests.chaos --seed 7 --trials 950 [--full 50] [--report FILE.md]
uv run python -m tests.chaos --replay 7:123
"""

import argparse
import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.chaos.bare import Bare
from tests.chaos.report import report
from tests.chaos.runner import Outcome, Trials, run_all


def say(line: str) -> None:
    """Tell the person who waits."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run what was asked for; 0: nothing broke, 1: something did."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--trials", type=int, default=0, help="with bare processes, 1-2 s each")
    parser.add_argument("--full", type=int, default=0, help="with the whole stack")
    parser.add_argument("--replay", metavar="SEED:NUMBER", help="one trial, as it was printed")
    parser.add_argument("--report", type=Path, metavar="FILE.md", help="write the report there")
    chosen = parser.parse_args()
    wanted = _wanted(chosen, parser)
    # So that what was started is stopped, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.time()
    outcomes: list[Outcome] = []

    def keep(outcome: Outcome) -> None:
        outcomes.append(outcome)
        _tell(outcome)

    # Stopped early, it still reports what it has seen.
    with suppress(KeyboardInterrupt, SystemExit):
        for kind, seed, numbers in wanted:
            say(f"seed {seed}: {len(numbers)} {kind} trials")
            with _trials(kind) as trials:
                run_all(trials, (trials.draw(seed, number) for number in numbers), keep)
    failed = [outcome for outcome in outcomes if outcome.failure]
    duplicates = sum(len(outcome.verdict.duplicates) for outcome in outcomes)
    lost = sum(len(outcome.verdict.lost) for outcome in outcomes)
    say(
        f"{len(outcomes)} trials in {time.time() - began:.0f} s: {duplicates} duplicates,"
        f" {lost} lost, {len(failed)} trials failed"
    )
    for outcome in failed:
        say(outcome.failure)
    if chosen.report:
        command = "uv run python -m tests.chaos " + " ".join(sys.argv[1:])
        chosen.report.write_text(report(outcomes, command=command, began=began))
    return 1 if failed else 0


def _wanted(
    chosen: argparse.Namespace, parser: argparse.ArgumentParser
) -> list[tuple[str, int, Sequence[int]]]:
    """Kinds of trial, each with seed and numbers."""
    if chosen.replay:
        seed, _, number = chosen.replay.partition(":")
        kind, digits = ("full", number[1:]) if number[:1] == "f" else ("bare", number)
        if not (seed.isdigit() and digits.isdigit()):
            parser.error("--replay takes SEED:NUMBER, as a failed trial prints it")
        return [(kind, int(seed), [int(digits)])]
    if not chosen.trials and not chosen.full:
        parser.error("how many? --trials N, --full N, or --replay SEED:NUMBER")
    counts = {"bare": chosen.trials, "full": chosen.full}
    return [(kind, chosen.seed, range(1, n + 1)) for kind, n in counts.items() if n]


def _trials(kind: str) -> Trials:
    if kind == "full":
        from tests.chaos.stack import Stack  # not before it is asked for: it imports Prefect

        full: Trials = Stack()
        return full
    return Bare()


def _tell(outcome: Outcome) -> None:
    if outcome.failure:
        say(f"\nFAILED\n{outcome.failure}")
    elif outcome.plan.number % 25 == 0:
        say(f"{outcome.plan.number} {outcome.kind} trials")


if __name__ == "__main__":
    sys.exit(main())

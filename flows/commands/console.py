"""Standard output for people: as wide as their terminal, never wrapped where a script reads it."""

import sys

from rich.console import Console

_NEVER_WRAPPED = 10_000


def output() -> Console:
    """Make a console on the standard output of now."""
    terminal = sys.stdout.isatty()
    return Console(
        width=None if terminal else _NEVER_WRAPPED,
        soft_wrap=not terminal,
        highlight=False,
        # A key or path may hold what Rich takes for the code of a picture, such as :100:.
        emoji=False,
    )

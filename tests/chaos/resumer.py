"""Runs `sms resume RUN` for whoever writes RUN on its standard input, each in a fork of its own.

The imports, ten seconds of them, are paid once; what runs after them is the command. Not here: when
it is run (`stack.py`).
"""

import os
import signal
import sys
from pathlib import Path


def main(folder: Path) -> None:
    """Serve until standard input ends. `folder/resume-N` gets what the Nth said."""
    from flows import cli, server

    server.prepare()
    # What the command imports on its way, and nothing that starts a thread or a connection.
    import great_expectations  # noqa: F401

    import adapters.blocks  # noqa: F401
    import flows.resume_campaign  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for number, line in enumerate(sys.stdin):
        process = os.fork()
        if process == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _resume(line.strip(), folder / f"resume-{number}", cli)
        sys.stdout.write(f"{process}\n")
        sys.stdout.flush()


def _resume(run: str, log: Path, cli: object) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = ["sms", "resume", run]
    code: object = 0
    try:
        cli.main()  # type: ignore[attr-defined]
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - whatever it was, the log has it
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.write(f"\nexit {code or 0}\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

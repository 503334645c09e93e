"""Who holds a claimed message, and whether that process can still be sending."""

import os
import secrets
import socket
from functools import cache
from pathlib import Path

import psutil


@cache
def _host() -> str:
    """This machine, as far as process numbers mean something: containers number their own."""
    namespace = Path("/proc/self/ns/pid")
    space = namespace.readlink().name if namespace.is_symlink() else ""
    return f"{socket.gethostname()}/{space}"


def this_sender() -> str:
    """Name a sender in this process: host, process number, start time, and a token of its own.

    Process numbers are used again, and one process sends several batches at a time.
    """
    return f"{this_process()}|{secrets.token_hex(4)}"


def this_process() -> str:
    """The part of a sender's name that is its process."""
    return f"{_host()}|{os.getpid()}|{_started(psutil.Process())}"


def _started(process: psutil.Process) -> str:
    """When a process began, by a clock that nobody sets.

    Linux counts from the boot, and psutil adds the boot's time of day, which moves with the clock.
    """
    stat = Path(f"/proc/{process.pid}/stat")
    if not stat.exists():
        return f"{process.create_time():.0f}"
    # The name, in brackets, may hold anything; the start is field 22 of all.
    ticks = stat.read_text().rpartition(")")[2].split()[19]
    return f"{_boot()}-{ticks}"


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]


def process_of(sender: str) -> str:
    """The process of a sender."""
    return sender.rpartition("|")[0]


def is_dead(sender: str) -> bool:
    """Whether a sender is known to have ended. One on another host never is: its lease decides."""
    try:
        host, number, started = sender.split("|")[:3]
        pid = int(number)
    except ValueError:
        return False
    if host != _host():
        return False
    try:
        process = psutil.Process(pid)
        if "-" not in started and "-" in _started(process):
            return False  # an earlier version wrote it: its lease decides
        return _started(process) != started or process.status() == psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return True

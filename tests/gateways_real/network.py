"""A network of its own for servers that listen on every address, as some of the programs here do.

Not here: any one program.
"""

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NETWORK = Path("/proc/thread-self/ns/net")
_NEW_NETWORK = 0x4000_0000  # CLONE_NEWNET
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 0x1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP


@contextmanager
def own_network() -> Iterator[bool]:
    """Move this thread, and what it starts, into a network that has nothing but loopback.

    Yields whether that was allowed: it takes Linux and root. Else all stays as it is.
    """
    if not _NETWORK.exists() or os.geteuid() != 0:
        yield False
        return
    libc = ctypes.CDLL(None)
    before = os.open(_NETWORK, os.O_RDONLY)
    try:
        if libc.unshare(_NEW_NETWORK) != 0:
            yield False
            return
        try:
            _raise_loopback()
            yield True
        finally:
            libc.setns(before, _NEW_NETWORK)
    finally:
        os.close(before)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = fcntl.ioctl(any_socket, _GET_FLAGS, struct.pack("16sH14x", b"lo", 0))
        (flags,) = struct.unpack_from("16xH", asked)
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH14x", b"lo", flags | _UP))

"""What can be said of a gateway's settings before anything is sent, whatever the gateway.

Each function returns the problem in one line that names the setting and the mend, or None. What
only one gateway knows (its account states, its codes) is in the adapter's file.
"""

import ipaddress
import re
from urllib.parse import urlsplit

from adapters.gateways.base import Addresses
from adapters.gateways.http import Reply

_SENDER = re.compile(
    r"\+[1-9][0-9]{6,14}|[0-9]{3,8}|(?=.*[A-Za-z])[A-Za-z0-9][A-Za-z0-9 &+_-]{,10}"
)
"""E.164, short code, alphanumeric sender."""


def mend(addresses: Addresses, kind: str, setting: str) -> str:
    """Return the command that changes a setting of a gateway."""
    return f"sms gateway add {addresses.gateway} {kind} --set {setting}=…"


def sender_problem(sender: str, how: str) -> str | None:
    """Whether a sender has none of the forms that networks know."""
    if not sender:
        return f"there is no sender: {how}"
    if _SENDER.fullmatch(sender):
        return None
    return (
        "the sender is no number with + and country code, no short code and no name of at most"
        f" 11 letters and digits: {how}"
    )


def receiver_problem(addresses: Addresses, base_url: str) -> str | None:
    """Whether a gateway elsewhere is to call back an address that only this machine has."""
    if _reach(addresses.receiver_url) >= _reach(base_url):
        return None
    return (
        f"{addresses.gateway} cannot reach the receiver at {addresses.receiver_url}:"
        " set SMS_PUBLIC_URL to its public address"
    )


def account_problem(
    reply: Reply, base_url: str, login: str, how: str, shows: str | None = None
) -> str | None:
    """Whether the look-up of an account that should succeed did not.

    `login` names the settings that log in, and `how` is the mend of the one that is most likely
    wrong. `shows` is a field that this gateway's answer has (`data.balance`): any web server may
    answer with some JSON.
    """
    if reply.status in {401, 403}:
        return f"{login} is wrong (HTTP {reply.status}): {how}"
    if reply.status == 404:
        return f"{base_url} knows no such account, so base_url or {login} is wrong: {how}"
    if 300 <= reply.status < 400:
        # Never followed: the credentials would go with it.
        return f"base_url {base_url} answers with a redirect; name the address it leads to: {how}"
    if reply.status != 200 or not reply.fields:
        return f"base_url {base_url} gave no account (HTTP {reply.status}): try again, or {how}"
    if shows and not _has(reply.fields, shows):
        return f"base_url {base_url} answers, but not as this gateway does (no {shows}): {how}"
    return None


def _has(fields: object, path: str) -> bool:
    for name in path.split("."):
        if not isinstance(fields, dict) or name not in fields:
            return False
        fields = fields[name]
    return True


def _reach(url: str) -> int:
    """From how far an address can be called: 0 this machine, 1 its own network, 2 everywhere."""
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # What is no address at all is told by the request to it.
        host = host.rstrip(".")
        if host == "localhost" or host.endswith(".localhost"):
            return 0
        return 1 if "." not in host or host.endswith((".local", ".internal")) else 2
    if address.is_loopback or address.is_unspecified:
        return 0
    return 1 if address.is_private or address.is_link_local else 2
